/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_LANE_POST_H
#define RJI_PAGESENDER_LANE_POST_H

#include "pagesender/lane.h"

/*
 * A lane's calls of its transport: timed, for who watches over lanes, and under a rate in turns. All return 0, or
 * negative with lane->err or because the session stops.
 */

/*
 * Post n extents, of that many bytes together: from where they lie, or the i-th from from[i]. What the arrays hold
 * afterwards is unspecified.
 */
int rji_lane_post(struct rji_lane_sender *lane, struct rji_extent *e, const void **from, uint32_t n,
		  uint64_t bytes);
/* Post what is not the pages themselves. */
int rji_lane_post_coded(struct rji_lane_sender *lane, const struct rji_coded *c, uint32_t n);
/* Wait until nothing that was posted is read any more. */
int rji_lane_drain(struct rji_lane_sender *lane);
/* Wait until the destination has all of it. */
int rji_lane_fence(struct rji_lane_sender *lane);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_LANE_FILTERED_H
#define RJI_PAGESENDER_LANE_FILTERED_H

#include "pagesender/lane.h"

/*
 * What a lane sends of a span besides pages from where they lie: clears, gathered into messages, and copies, in its
 * stage until that is full. All return 0, or negative with lane->err or because the session stops.
 */

/* Let the filter sort the span, and deal with what it takes; what is left in the span's bits goes as it is. */
int rji_lane_filter_and_post(struct rji_lane_sender *lane, struct rji_span *span,
			     uint32_t page_shift);
int rji_lane_post_clears(struct rji_lane_sender *lane);
/* Post what stands in the stage, and wait until nobody reads it. */
int rji_lane_post_stage(struct rji_lane_sender *lane);
/* What sending costs: by this the filter tells what would pay. */
void rji_lane_saw_sending(struct rji_lane_sender *lane, uint64_t bytes, uint64_t ns);
/* The round is over, whether or not all was sent. */
void rji_lane_forget_filtered(struct rji_lane_sender *lane);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_TRACKER_IMPL_H
#define RJI_PAGESENDER_DIRTY_TRACKER_IMPL_H

#include <ramjet/tracker.h>

/* What rj_tracker_create() makes; whoever harvests calls ops with t. */
struct rj_tracker {
	struct rj_tracker_ops ops;
	void *t;
};

#endif

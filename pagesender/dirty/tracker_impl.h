/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_TRACKER_IMPL_H
#define RJI_PAGESENDER_DIRTY_TRACKER_IMPL_H

#include <stdbool.h>

#include <ramjet/tracker.h>

/* What rj_tracker_create() makes; whoever harvests calls ops with t. */
struct rj_tracker {
	struct rj_tracker_ops ops;
	void *t;
};

/* Is it userfaultfd's? To it a page that is only pinned for writing was written. */
bool rji_tracker_is_uffd_wp(const struct rj_tracker *t);

#endif

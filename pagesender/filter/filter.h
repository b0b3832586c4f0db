/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_FILTER_H
#define RJI_PAGESENDER_FILTER_FILTER_H

#include "pagesender/filter/figures.h"
#include "pagesender/filter/stage.h"
#include "transport/file/memory_holes.h"

/*
 * What need not be sent, or not as it is. A lane gives each span it has taken, so re-armed, to its filter,
 * the cheapest look first:
 *
 *   free    hints (free_hint.c) have taken pages off before; some are to be cleared there
 *   hole    never touched: asked of the kernel, not read
 *   zero    read
 *   same, delta, zstd    copied (stage.c)
 *
 * Zero is relative: a page that reads as zero is passed over only while it is untouched at the destination,
 * and that promised zeros. Otherwise it is cleared there. Each look is taken where it pays, and now and
 * then where it does not, for that may have changed.
 */

/* Of a session: shared by its lanes. */
struct rji_filters {
	struct rji_pageset *set;
	struct rji_free_hints *hints;
	uint32_t on;		     /* enum rj_filter: what options, transport and peer allow */
	bool can_clear;		     /* at the destination */
	bool copy_always;	     /* for tests: mostly all pages, whether or not it pays */
	int hole_fd[RJ_MAX_REGIONS]; /* -1: nothing to ask */
	uint64_t hole_offset[RJ_MAX_REGIONS];
	uint64_t first_number[RJ_MAX_REGIONS];
	struct rji_same *same;
	struct rji_old_pages *old;
	struct rji_filter_figures figures[RJ_N_FILTERS];
	_Atomic uint64_t kinds[RJI_N_KINDS]; /* pages; but free, see hints */
	_Atomic uint64_t cleared_pages;
	_Atomic uint64_t lane_bytes; /* what lanes have for copies and codes */
};

struct rji_filters_opts {
	uint32_t on;
	bool can_clear;
	bool copy_always;
	uint64_t delta_cache_bytes;		/* 0: chosen */
	const struct rj_region *const *regions; /* as given */
};

/* Before the first round. -ENOMEM, -EIO. */
int rji_filters_init(struct rji_filters *f, struct rji_pageset *set, struct rji_free_hints *hints,
		     const struct rji_filters_opts *o);
/* Zeroed is fine. */
void rji_filters_fini(struct rji_filters *f);
uint64_t rji_filters_metadata_bytes(const struct rji_filters *f);
/*
 * Is all of a range a hole now? A guess that may be wrong by the time that lanes come, for what only
 * prepares.
 */
bool rji_filters_is_hole(const struct rji_filters *f, uint32_t region, uint64_t offset_bytes,
			 uint64_t len_bytes);

/* Of a lane. */
struct rji_lane_filter {
	struct rji_filters *f;
	struct rji_known_data known[RJ_MAX_REGIONS];
	uint32_t zero_tried, zero_found; /* halved now and then */
	struct rji_shrink shrink;
	uint64_t send_ns; /* what sending a page of 4096 bytes costs, on average */
	struct rji_filter_account account[RJ_N_FILTERS];
	uint64_t kinds[RJI_N_KINDS], cleared;
	uint64_t told_bytes;	 /* of its room, in f->lane_bytes */
	struct rji_stage *stage; /* NULL: no copies */
	/* what to do with the pages of the span, besides those left in its bits */
	uint64_t clear[RJI_SPAN_MAX_WORDS]; /* make zero */
	uint64_t copy[RJI_SPAN_MAX_WORDS];  /* copy, and look closer */
	bool want_old;
	uint32_t turn;
	enum rji_shrink_how how;
};

/* link: a connected lane; gives room for copies where it can. -ENOMEM. */
int rji_lane_filter_init(struct rji_lane_filter *lf, struct rji_filters *f,
			 const struct rji_transport_ops *ops, struct rji_lane *link);
void rji_lane_filter_fini(struct rji_lane_filter *lf);

/* Sort the span's pages: those still set in its bits are to be sent as they are. */
void rji_lane_filter_span(struct rji_lane_filter *lf, struct rji_span *span);
/* Tell the session what was counted since. */
void rji_lane_filter_tell(struct rji_lane_filter *lf);

#endif

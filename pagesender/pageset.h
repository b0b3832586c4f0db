/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_PAGESET_H
#define RJI_PAGESENDER_PAGESET_H

#include <stdbool.h>
#include <stdint.h>

#include <ramjet/session.h>

#include "base/fail.h"
#include "numa/topology.h"
#include "pagesender/dirty/plain.h"

/*
 * Which pages of a source still have to be sent. Each page is in one of three places:
 *
 *   clean ──(a tracker says dirty)──► pending ──(a lane takes it)──► unfenced ──(fence answered)──►
 *   clean
 *                                        ▲                               │
 *                                        └───────(lane failed, rollback)─┘
 *
 * and may be in several at once: a page written again while its last copy is unfenced is pending as
 * well.
 *
 * Threads: the control thread owns everything between rounds. During a round the words of a window
 * belong to the lane that opens it, then the words of each span to the lane that takes it;
 * harvest.c hands both on with release/acquire. marked and may_mark are anybody's, always.
 */

#define RJI_SPAN_BYTES (2ull << 20)
#define RJI_WINDOW_BYTES (64ull << 20)

struct rji_pageset_region {
	char name[RJ_NAME_BYTES];
	char *host;
	uint64_t len_bytes;
	uint32_t page_shift;
	uint32_t flags; /* enum rj_region_flags */
	uint64_t n_pages;
	uint64_t n_words;      /* of each bitmap */
	uint64_t span_pages;   /* multiples of 64 */
	uint64_t window_pages; /* a multiple of span_pages */
	uint64_t *pending;
	uint64_t *unfenced;
	uint8_t *span_node; /* of each span; NULL: not asked for */
	rji_plain_word *marked;
	/*
	 * What the destination has there, for the filters; NULL: not kept. Owned like pending. touched:
	 * something was done to the page, else it is as the destination gave it. known: it has the
	 * content by whose hash the source remembers it (filter/same.c), once fenced.
	 */
	uint64_t *touched, *known;
	bool given_zeroed; /* what was not touched reads as zeros there */
	bool uncertain;	   /* a lane failed: what was touched may not have come about */
	/* Hints of free pages, see free_hint.h; NULL until the first. Made under its lock. */
	_Atomic(struct rji_free_maps *) free_maps;
	uint32_t window_shift; /* window_pages, a power of two */
	uint32_t n_windows;
	/*
	 * A byte for each window: 0 says that it has no bit in pending, in marked; so that nobody
	 * walks the maps of a huge guest to find nothing. may_pend is the control thread's.
	 */
	uint8_t *may_pend;
	uint8_t *in_hand; /* opened by a lane in this round; under the lock of free_hint.h */
	_Atomic uint8_t *may_mark;
	uint32_t n_trackers; /* those which cover it */
	struct rji_attached {
		const struct rj_tracker_ops *ops;
		void *t;
	} trackers[16];
};

struct rji_pageset {
	uint32_t n_regions;
	struct rji_pageset_region region[RJ_MAX_REGIONS];
	uint64_t guest_bytes;
};

/* Add a region, with no page pending. -ENOMEM. */
int rji_pageset_add(struct rji_pageset *set, const struct rj_region *r);
void rji_pageset_fini(struct rji_pageset *set);

/* Keep touched, and known if asked for: before the first round. -ENOMEM. */
int rji_pageset_keep(struct rji_pageset *set, bool known);

/* Pages [first_page, first_page + n_pages) are to be sent. Control thread, between rounds. */
void rji_pageset_pend(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_pages);

/* Everything is to be sent: the bulk round. */
void rji_pageset_all_pending(struct rji_pageset *set);

/* What was not fenced is pending again, and what the destination has there not known; no lane is at work. */
void rji_pageset_unfenced_to_pending(struct rji_pageset *set);

/*
 * Ask the kernel on which node each span lies; node_bytes gets the bytes known to be on each. Takes
 * some tens of milliseconds for hundreds of GB. 0 also where the kernel does not tell; -ENOMEM.
 */
int rji_pageset_locate(struct rji_pageset *set, const struct rji_topology *t,
		       uint64_t node_bytes[RJI_MAX_NODES]);

/* Bytes used for bitmaps. */
uint64_t rji_pageset_metadata_bytes(const struct rji_pageset *set);

/* rj_mark_dirty(). -EINVAL outside the region. */
int rji_pageset_mark(struct rji_pageset *set, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes);

/* The destination itself changed this: what it has there is not known any more. No lane is at work. */
int rji_pageset_changed_there(struct rji_pageset *set, uint32_t region, uint64_t offset_bytes,
			      uint64_t len_bytes);

#endif

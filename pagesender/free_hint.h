/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FREE_HINT_H
#define RJI_PAGESENDER_FREE_HINT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "pagesender/pageset.h"

/*
 * Hints that pages are free (rj_mark_free). A hint may take a page off the pending set only when each
 * write after the guest gave it up leaves a trace that is found later, and wins:
 *
 *   dirty, pending      given up                  used again, written
 *   ─────────┼──────────────┼───────────────────────────┼──────────►
 *                 re-arm here, or           found by the next collect: pending
 *                 the write leaves no trace
 *
 *   reported   the guest waits for the hint to be taken: the range is re-armed in that call. What was
 *              found before is of the old content, which nobody wants.
 *   hinted     the guest waits for nothing: all that is pending was re-armed before the generation was
 *              given. From then on a page that a collect finds, or that goes out, is not armed for this
 *              generation any more, and a hint for it comes too late.
 *
 * A page that is left out is not re-armed once more when its window is opened: that could take away
 * the trace of a write since.
 *
 * Where the destination's memory is not known to be zero, a page left out that nothing was ever done to
 * could show there what somebody else had in that memory: it is cleared once.
 *
 * Threads: hints come from any; maps and generation are under the lock, which collect, the opening of a
 * window (harvest.c) and each hint hold for one region, window or range. The words of a window belong to
 * the lanes from its opening until the next round begins (in_hand, which is kept before any hint has
 * come: the first generation is asked for in the bulk round).
 */
struct rji_free_maps {
	uint64_t *hinted; /* free, as far as known */
	uint64_t *armed;  /* pending, re-armed for this generation, and nothing found since */
	uint64_t *found;  /* dirty; the collect under way takes it into pending */
	uint64_t *
		to_clear; /* pending, but to be cleared instead; the words are owned like pending */
};

struct rji_free_hints {
	pthread_mutex_t lock;
	pthread_mutex_t begin_lock; /* over one rji_free_begin(); taken first */
	struct rji_pageset *set;
	bool enabled;	     /* by the session; written before threads are there */
	bool open;	     /* trackers run, and hints are taken */
	uint64_t generation; /* 0: none is valid */
	uint64_t last_generation;
	_Atomic uint64_t skipped_pages, skipped_bytes;
	_Atomic uint64_t map_bytes;
};

void rji_free_hints_init(struct rji_free_hints *f, struct rji_pageset *set, bool enabled);
void rji_free_hints_fini(struct rji_free_hints *f);

/* Control thread: from here on hints are taken; from here on no more. */
void rji_free_hints_open(struct rji_free_hints *f, bool open);

/* rj_mark_free(), rj_free_begin(). */
int rji_free_mark(struct rji_free_hints *f, uint32_t region, uint64_t offset_bytes,
		  uint64_t len_bytes, uint64_t generation);
int rji_free_begin(struct rji_free_hints *f, uint64_t *generation_p);

/* Around whatever asks or re-arms trackers while hints may come. NULL: there are none. */
void rji_free_lock(struct rji_free_hints *f);
void rji_free_unlock(struct rji_free_hints *f);

/*
 * Those of a region, whole and for as long as hints are; NULL: no hint has come. Acquire: pairs with who makes them,
 * which may be while lanes are at work.
 */
static inline struct rji_free_maps *rji_free_maps_of(const struct rji_pageset_region *r)
{
	return atomic_load_explicit(&r->free_maps, memory_order_acquire);
}

/* --- harvest.c; with the lock --- */

/* Where collect is to OR what it finds: the region's pending, or a map that free_found() merges. */
uint64_t *rji_free_collect_into(struct rji_pageset_region *r);
void rji_free_found(struct rji_pageset_region *r);

/* The round begins: no window is in hand. */
void rji_free_begin_round(struct rji_free_hints *f);

/*
 * A window is opened, before it is re-armed: take off pending what need not go out. After: what has to
 * be cleared there goes back.
 */
void rji_free_leave_out(struct rji_free_hints *f, struct rji_pageset_region *r, uint64_t first_page,
			uint64_t n_pages);
void rji_free_put_back(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_pages);

/* Lane: the pages of a span's bits which are to be cleared; taken off to_clear. */
void rji_free_take_clears(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_words,
			  const uint64_t *bits, uint64_t *clears);

#endif

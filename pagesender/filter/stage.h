/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_STAGE_H
#define RJI_PAGESENDER_FILTER_STAGE_H

#include "pagesender/codec/zstd_block.h"
#include "pagesender/filter/figures.h"
#include "pagesender/filter/old_pages.h"
#include "pagesender/filter/same.h"
#include "pagesender/filter/shrink.h"
#include "pagesender/harvest.h"
#include "transport/transport.h"

/*
 * Pages that are copied before they are sent, one lane's. Hash, difference, compression and the wire all
 * use the copy: what the source remembers of a page is what the destination gets.
 *
 *   guest page ─copy─► room ─hash─► as known? ──► not sent
 *                        │
 *                        ├── an old copy? ──► difference ──► coded
 *                        └──────────────────► pages ──compress──► coded
 */
#define RJI_STAGE_BYTES (1u << 20)
#define RJI_STAGE_MAX_EXTENTS 256u
#define RJI_STAGE_PAGE_SHIFT 12u /* only regions with pages of this size */

struct rji_stage {
	struct rji_same *same;	   /* NULL: nothing is remembered */
	struct rji_old_pages *old; /* NULL: no differences */
	bool packs;		   /* what is put in now is going to be compressed */
	struct rji_zstd *zstd;	   /* NULL: no compression */
	const uint64_t
		*first_number; /* by region: of its first page, among all of the guest's, for old */
	uint8_t *room;	       /* the transport's, for copies */
	uint8_t *codes;	       /* as large; NULL: nothing is coded but zeros */
	uint32_t room_used, codes_used;
	uint32_t n_pages, n_coded; /* what waits to be posted */
	struct rji_extent pages[RJI_STAGE_MAX_EXTENTS];
	const void *from[RJI_STAGE_MAX_EXTENTS];
	struct rji_coded coded[2 * RJI_STAGE_MAX_EXTENTS];
	uint64_t page_ns;	     /* what copying and hashing a page costs, on average */
	uint64_t kinds[RJI_N_KINDS]; /* pages; the lane takes them away */
	struct rji_filter_account same_account, delta_account, zstd_account;
};

/*
 * Copy the pages of a span that are set in bits, as many as there is room for, and take their bits away:
 * what has to be sent of them stands in pages and coded then. want_old: keep them for a difference the
 * next time. True: that was all; false: post what there is, rji_stage_reset(), and call again.
 */
bool rji_stage_span(struct rji_stage *st, struct rji_pageset_region *r, const struct rji_span *span,
		    uint64_t *bits, bool want_old);

/*
 * Compress what stands in pages: all of it, or one piece to see. What becomes shorter moves to coded.
 * pages_p, bytes_p: what was compressed, and what became of it, moved or not.
 */
void rji_stage_pack(struct rji_stage *st, bool all, uint64_t *pages_p, uint64_t *bytes_p);

/* Before a piece is timed that is to stand for many: the compressor has its memory then, and its code is at hand. */
void rji_stage_warm_up(struct rji_stage *st);

/* Nobody reads the copies any more. */
void rji_stage_reset(struct rji_stage *st);

#endif

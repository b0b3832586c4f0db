/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/filter/stage.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "pagesender/codec/xbzrle.h"

#define PAGE_BYTES RJI_OLD_PAGE_BYTES

/*
 * A difference that is longer goes out as a page, which the destination places without a thought; or compressed, which
 * makes a quarter of most pages.
 */
#define MAX_DELTA_BYTES (PAGE_BYTES / 2)
#define MAX_DELTA_OR_PACKED_BYTES (PAGE_BYTES / 4)

/* Shorter by a sixteenth at least, or it is not worth decompressing. */
#define MAX_PACKED_BYTES(len) ((len) - (len) / 16)

/* Where a page comes from and goes to. */
struct staged_page {
	struct rji_extent e;
	uint8_t *copy;
	uint64_t page;	 /* of the region */
	uint64_t number; /* of the guest */
};

static void add_coded(struct rji_stage *st, const struct rji_extent *e, enum rji_coding coding,
		      uint32_t len_bytes)
{
	st->coded[st->n_coded++] = (struct rji_coded){ .extent = *e,
						       .coding = (uint16_t)coding,
						       .len_bytes = len_bytes,
						       .bytes = st->codes + st->codes_used };
	st->codes_used += len_bytes;
}

/* Its copy is the last in the room. Neighbours go together, as far as they may be compressed together. */
static void add_page(struct rji_stage *st, const struct staged_page *p)
{
	struct rji_extent *last = st->n_pages ? &st->pages[st->n_pages - 1] : NULL;

	if (last && last->region == p->e.region && last->len_bytes < RJI_CODED_PAGES_BYTES &&
	    last->offset_bytes + last->len_bytes == p->e.offset_bytes &&
	    (const uint8_t *)st->from[st->n_pages - 1] + last->len_bytes == p->copy) {
		last->len_bytes += p->e.len_bytes;
		return;
	}
	st->from[st->n_pages] = p->copy;
	st->pages[st->n_pages++] = p->e;
}

/* The page's place, if it is free and an old copy may be of use. */
static struct rji_old_page *take_old(const struct rji_stage *st, const struct staged_page *p)
{
	return st->old && p->e.len_bytes == PAGE_BYTES ? rji_old_page_take(st->old, p->number)
						       : NULL;
}

/* By the difference from what the destination has, if that is known and short. 0: no copy of that; 1: it is too long; 2: done. */
static int add_delta(struct rji_stage *st, struct rji_old_page *old, const struct staged_page *p,
		     const struct rji_hash128 *was)
{
	const uint8_t *copy = rji_old_page_find(st->old, old, p->number, was);
	int len;

	if (!copy)
		return 0;
	len = rji_xbzrle_encode(copy, p->copy, PAGE_BYTES, st->codes + st->codes_used,
				st->packs ? MAX_DELTA_OR_PACKED_BYTES : MAX_DELTA_BYTES);
	if (len <= 0)
		return 1;
	add_coded(st, &p->e, RJI_CODING_XBZRLE, (uint32_t)len);
	st->kinds[RJI_KIND_DELTA]++;
	st->delta_account.saved_bytes += PAGE_BYTES - (uint32_t)len;
	return 2;
}

/* What one span showed. */
struct seen {
	uint32_t checked, same, tried, shrunk;
};

static void send_page(struct rji_stage *st, const struct staged_page *p)
{
	add_page(st, p);
	st->room_used += p->e.len_bytes;
	st->kinds[RJI_KIND_NORMAL]++;
}

/* hash is the page's place for one, is_known whether it holds. */
static void sift(struct rji_stage *st, const struct staged_page *p, struct rji_hash128 *hash,
		 bool is_known, bool want_old, struct seen *seen)
{
	struct rji_hash128 now = rji_hash128(&st->same->secret, p->copy, p->e.len_bytes);
	struct rji_old_page *old;
	int delta = 0;

	seen->checked += is_known;
	if (is_known && rji_hash128_equal(now, *hash)) {
		seen->same++;
		st->kinds[RJI_KIND_SAME]++;
		st->same_account.saved_bytes += p->e.len_bytes;
		return;
	}
	old = take_old(st, p);
	if (old && is_known)
		delta = add_delta(st, old, p, hash);
	seen->tried += delta > 0;
	seen->shrunk += delta == 2;
	if (old && (want_old || delta))
		rji_old_page_put(st->old, old, p->number, &now, p->copy);
	if (old)
		rji_old_page_leave(old);
	*hash = now;
	if (delta < 2)
		send_page(st, p);
}

static bool has_room(const struct rji_stage *st, uint32_t len_bytes)
{
	return st->room_used + len_bytes <= RJI_STAGE_BYTES &&
	       st->n_pages < RJI_STAGE_MAX_EXTENTS && st->n_coded < RJI_STAGE_MAX_EXTENTS &&
	       st->codes_used + len_bytes <= RJI_STAGE_BYTES;
}

/* The next page of a word of bits. */
static struct staged_page next_page(const struct rji_stage *st, const struct rji_pageset_region *r,
				    const struct rji_span *span, uint64_t at)
{
	uint64_t page = span->first_page + at;

	return (struct staged_page){ .e = { .offset_bytes = page << r->page_shift,
					    .len_bytes = 1u << r->page_shift,
					    .region = span->region },
				     .copy = st->room + st->room_used,
				     .page = page,
				     .number = st->first_number[span->region] + page };
}

bool rji_stage_span(struct rji_stage *st, struct rji_pageset_region *r, const struct rji_span *span,
		    uint64_t *bits, bool want_old)
{
	struct rji_area *area = st->same ? rji_area_of(st->same, r, span->region, span->first_page)
					 : NULL;
	struct rji_hash128 *hash = area ? rji_area_hashes(st->same, r, area) : NULL;
	uint64_t n_words = rji_bitmap_words(span->n_pages), n = 0, began = rji_now_ns(), took;
	struct seen seen = { 0 };
	bool full = false;

	for (uint64_t w = 0; w < n_words && !full; w++) {
		while (bits[w] && !(full = !has_room(st, 1u << r->page_shift))) {
			unsigned int bit = (unsigned int)__builtin_ctzll(bits[w]);
			struct staged_page p = next_page(st, r, span, w * RJI_WORD_BITS + bit);
			uint64_t *known = r->known ? &r->known[p.page / RJI_WORD_BITS] : NULL;

			bits[w] &= bits[w] - 1;
			n++;
			memcpy(p.copy, r->host + p.e.offset_bytes, p.e.len_bytes);
			if (!hash) {
				if (known)
					*known &= ~(1ull << bit);
				send_page(st, &p);
				continue;
			}
			sift(st, &p, &hash[p.page & (r->window_pages - 1)], *known >> bit & 1,
			     want_old, &seen);
			*known |= 1ull << bit;
		}
	}
	took = rji_now_ns() - began;
	if (n)
		rji_average(&st->page_ns, took / n, 8);
	st->same_account.cost_ns += took;
	st->same_account.applied += n;
	st->delta_account.came += seen.checked - seen.same;
	st->delta_account.applied += seen.tried;
	if (seen.checked)
		rji_area_saw_same(st->same, area, seen.checked, seen.same);
	if (seen.tried)
		rji_area_saw_delta(st->same, area, seen.tried, seen.shrunk);
	return !full;
}

/* To behind the codes that are there: how long it is. Not above 0: not short enough to be sent, or no room. */
static int encode(struct rji_stage *st, const struct rji_extent *e, const void *from)
{
	if (st->codes_used + e->len_bytes > RJI_STAGE_BYTES)
		return -ENOSPC;
	return rji_zstd_encode(st->zstd, from, e->len_bytes, st->codes + st->codes_used,
			       MAX_PACKED_BYTES(e->len_bytes));
}

/* What it became, and whether that is short enough to be sent. */
static bool pack_one(struct rji_stage *st, const struct rji_extent *e, const void *from,
		     uint64_t *bytes)
{
	int len = encode(st, e, from);

	*bytes += len > 0 ? (uint32_t)len : e->len_bytes;
	if (len <= 0)
		return false;
	add_coded(st, e, RJI_CODING_ZSTD, (uint32_t)len);
	st->zstd_account.saved_bytes += e->len_bytes - (uint32_t)len;
	st->kinds[RJI_KIND_NORMAL] -= e->len_bytes / PAGE_BYTES;
	st->kinds[RJI_KIND_ZSTD] += e->len_bytes / PAGE_BYTES;
	return true;
}

void rji_stage_warm_up(struct rji_stage *st)
{
	if (st->n_pages)
		encode(st, &st->pages[0], st->from[0]);
}

void rji_stage_pack(struct rji_stage *st, bool all, uint64_t *pages_p, uint64_t *bytes_p)
{
	uint64_t pages = 0, bytes = 0, began = rji_now_ns();
	uint32_t kept = 0;

	for (uint32_t i = 0; i < st->n_pages; i++) {
		bool wanted = all || !pages;

		pages += wanted ? st->pages[i].len_bytes / PAGE_BYTES : 0;
		if (wanted && pack_one(st, &st->pages[i], st->from[i], &bytes))
			continue;
		st->pages[kept] = st->pages[i];
		st->from[kept++] = st->from[i];
	}
	st->n_pages = kept;
	st->zstd_account.applied += pages;
	st->zstd_account.cost_ns += rji_now_ns() - began;
	*pages_p = pages;
	*bytes_p = bytes;
}

void rji_stage_reset(struct rji_stage *st)
{
	st->room_used = st->codes_used = 0;
	st->n_pages = st->n_coded = 0;
}

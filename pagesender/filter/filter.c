/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/filter/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ramjet/session.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/zero.h"

/* By number of their bits in enum rj_filter. */
enum { HOLE, FREE, ZERO, SAME, DELTA, ZSTD };

/* The zero test pays when one page in so many is zero; with less, some pages of a span are tested. */
#define ZERO_PAYS 32u
#define ZERO_TELLING 1024u
#define ZERO_FORGET 16384u
#define ZERO_SAMPLE_BITS 0x0001000100010001ull

/* Copying and hashing a page, until it was measured. */
#define COPY_NS 800u
/* What keeping an old page and making a difference of it cost. */
#define DELTA_NS 700u

/* Unless the VMM says otherwise. */
#define CACHE_MAX_BYTES (512ull << 20)

/* --- of a session --- */

static void ask_for_holes(struct rji_filters *f, const struct rj_region *const *regions)
{
	for (uint32_t i = 0; i < f->set->n_regions; i++)
		f->hole_fd[i] = rji_memory_holes_open(regions[i], &f->hole_offset[i]);
}

static uint64_t cache_bytes(const struct rji_pageset *set, uint64_t asked)
{
	uint64_t bytes = asked ? asked : CACHE_MAX_BYTES;

	if (bytes > set->guest_bytes)
		bytes = set->guest_bytes;
	return bytes > RJI_OLD_PAGE_BYTES ? bytes : RJI_OLD_PAGE_BYTES;
}

int rji_filters_init(struct rji_filters *f, struct rji_pageset *set, struct rji_free_hints *hints,
		     const struct rji_filters_opts *o)
{
	uint64_t number = 0;
	int ret = 0;

	memset(f, 0, sizeof(*f));
	f->set = set;
	f->hints = hints;
	f->on = o->on;
	f->can_clear = o->can_clear;
	f->copy_always = o->copy_always;
	for (uint32_t i = 0; i < RJ_MAX_REGIONS; i++)
		f->hole_fd[i] = -1;
	for (uint32_t i = 0; i < set->n_regions; i++) {
		f->first_number[i] = number;
		number += set->region[i].n_pages;
	}
	if (!f->on)
		return 0;
	ret = rji_pageset_keep(set, f->on & RJ_FILTER_SAME);
	if (!ret && f->on & RJ_FILTER_HOLE)
		ask_for_holes(f, o->regions);
	if (!ret && f->on & RJ_FILTER_SAME)
		ret = rji_same_create(set, &f->same);
	if (!ret && f->on & RJ_FILTER_SAME && f->on & RJ_FILTER_DELTA) {
		f->old = rji_old_pages_create(cache_bytes(set, o->delta_cache_bytes));
		ret = f->old ? 0 : -ENOMEM;
	}
	return ret;
}

void rji_filters_fini(struct rji_filters *f)
{
	if (!f->set)
		return;
	for (uint32_t i = 0; i < RJ_MAX_REGIONS; i++) {
		if (f->hole_fd[i] >= 0)
			close(f->hole_fd[i]);
		f->hole_fd[i] = -1;
	}
	rji_old_pages_destroy(f->old);
	f->old = NULL;
	rji_same_destroy(&f->same);
}

uint64_t rji_filters_metadata_bytes(const struct rji_filters *f)
{
	return (f->same ? atomic_load_explicit(&f->same->hash_bytes, memory_order_relaxed) : 0) +
	       (f->old ? rji_old_pages_bytes(f->old) : 0) +
	       atomic_load_explicit(&f->lane_bytes, memory_order_relaxed);
}

bool rji_filters_is_hole(const struct rji_filters *f, uint32_t region, uint64_t offset_bytes,
			 uint64_t len_bytes)
{
	struct rji_known_data known = { 0 };
	uint64_t end = offset_bytes + len_bytes;

	if (!f->set || f->hole_fd[region] < 0)
		return false;
	rji_memory_holes_next(f->hole_fd[region], f->hole_offset[region],
			      f->set->region[region].host, &known, &offset_bytes, end);
	return offset_bytes == end;
}

/* --- of a lane --- */

static uint64_t room_bytes(const struct rji_stage *st)
{
	return sizeof(*st) + RJI_STAGE_BYTES + (st->codes ? RJI_STAGE_BYTES : 0) +
	       (st->zstd ? rji_zstd_bytes(st->zstd) : 0);
}

static void tell_room(struct rji_lane_filter *lf, uint64_t bytes)
{
	atomic_fetch_add_explicit(&lf->f->lane_bytes, bytes - lf->told_bytes, memory_order_relaxed);
	lf->told_bytes = bytes;
}

int rji_lane_filter_init(struct rji_lane_filter *lf, struct rji_filters *f,
			 const struct rji_transport_ops *ops, struct rji_lane *link)
{
	struct rji_stage *st;
	int ret = 0;

	memset(lf, 0, sizeof(*lf));
	lf->f = f;
	rji_shrink_init(&lf->shrink);
	if (!(f->on & (RJ_FILTER_SAME | RJ_FILTER_ZSTD)) || !ops->staging)
		return 0;
	st = calloc(1, sizeof(*st));
	if (!st)
		return -ENOMEM;
	lf->stage = st;
	st->same = f->same;
	st->old = f->old;
	st->first_number = f->first_number;
	st->room = ops->staging(link, RJI_STAGE_BYTES);
	if (!st->room) { /* no copies, then */
		rji_lane_filter_fini(lf);
		return 0;
	}
	if (f->on & (RJ_FILTER_DELTA | RJ_FILTER_ZSTD))
		st->codes = malloc(RJI_STAGE_BYTES);
	if (f->on & (RJ_FILTER_DELTA | RJ_FILTER_ZSTD) && !st->codes)
		ret = -ENOMEM;
	if (!ret && f->on & RJ_FILTER_ZSTD)
		ret = rji_zstd_create(RJI_ZSTD_LEVEL, &st->zstd);
	if (ret < 0)
		rji_lane_filter_fini(lf);
	else
		tell_room(lf, room_bytes(st));
	return ret;
}

void rji_lane_filter_fini(struct rji_lane_filter *lf)
{
	if (!lf->stage)
		return;
	tell_room(lf, 0);
	rji_zstd_destroy(&lf->stage->zstd);
	free(lf->stage->codes);
	free(lf->stage);
	lf->stage = NULL;
}

/* The bits of [from, to), offsets in the span's region, set in blank unless they are to stay. */
static void set_bits(uint64_t *map, uint64_t from_page, uint64_t to_page)
{
	if (from_page < to_page)
		rji_bitmap_set_range(map, from_page, to_page - from_page);
}

static void find_holes(struct rji_lane_filter *lf, const struct rji_pageset_region *r,
		       const struct rji_span *span, uint64_t *blank)
{
	uint64_t at = span->first_page << r->page_shift, begin = at;
	uint64_t end = at + (span->n_pages << r->page_shift);
	int fd = lf->f->hole_fd[span->region];

	while (at < end) {
		uint64_t hole = at, data_end;

		data_end = rji_memory_holes_next(fd, lf->f->hole_offset[span->region], r->host,
						 &lf->known[span->region], &at, end);
		/* Whole pages only: a hole's begin is rounded up, its end down. */
		set_bits(blank, (hole - begin + (1ull << r->page_shift) - 1) >> r->page_shift,
			 (at - begin) >> r->page_shift);
		at = data_end;
	}
}

static bool is_zero_page(const struct rji_pageset_region *r, const struct rji_span *span,
			 uint64_t at)
{
	return rji_is_zero(r->host + ((span->first_page + at) << r->page_shift),
			   1ull << r->page_shift);
}

/* Test the pages set in mask of word w; set those that are zero in blank. Returns how many. */
static uint32_t test_word(const struct rji_pageset_region *r, const struct rji_span *span,
			  uint64_t w, uint64_t mask, uint64_t *blank)
{
	uint64_t found = 0;

	for (; mask; mask &= mask - 1) {
		unsigned int bit = (unsigned int)__builtin_ctzll(mask);

		found |= (uint64_t)is_zero_page(r, span, w * RJI_WORD_BITS + bit) << bit;
	}
	blank[w] |= found;
	return (uint32_t)__builtin_popcountll(found);
}

static bool zero_pays(const struct rji_lane_filter *lf)
{
	return lf->zero_tried < ZERO_TELLING || lf->zero_found * ZERO_PAYS >= lf->zero_tried;
}

static void find_zeros(struct rji_lane_filter *lf, const struct rji_pageset_region *r,
		       const struct rji_span *span, uint64_t *blank)
{
	uint64_t n_words = rji_bitmap_words(span->n_pages), began = rji_now_ns();
	struct rji_filter_account *account = &lf->account[ZERO];
	bool all = zero_pays(lf);

	for (uint64_t w = 0; w < n_words; w++) {
		uint64_t come = span->bits[w] & ~blank[w];
		uint64_t tested =
			all ? come
			    : come & ZERO_SAMPLE_BITS
						<< (span->first_page / RJI_WORD_BITS + w) % 16;
		uint32_t found = test_word(r, span, w, tested, blank);

		if (found && !all) { /* then there are more */
			found += test_word(r, span, w, come & ~tested, blank);
			tested = come;
		}
		account->came += (uint64_t)__builtin_popcountll(come);
		account->applied += (uint64_t)__builtin_popcountll(tested);
		lf->zero_tried += (uint32_t)__builtin_popcountll(tested);
		lf->zero_found += found;
	}
	account->cost_ns += rji_now_ns() - began;
	if (lf->zero_tried > ZERO_FORGET) {
		lf->zero_tried /= 2;
		lf->zero_found /= 2;
	}
}

/*
 * Pages that read as zero, or are free and to be cleared: pass over what reads as zero there anyway, clear the
 * others; or, where that cannot be done, send them.
 */
static void settle_blank(struct rji_lane_filter *lf, const struct rji_pageset_region *r,
			 struct rji_span *span, const uint64_t *blank, enum rji_kind kind,
			 struct rji_filter_account *account)
{
	uint64_t first = span->first_page / RJI_WORD_BITS, n = rji_bitmap_words(span->n_pages);

	for (uint64_t w = 0; w < n; w++) {
		uint64_t pages = blank[w] & span->bits[w];
		uint64_t over = r->given_zeroed ? pages & ~r->touched[first + w] : 0;
		uint64_t clear = lf->f->can_clear ? pages & ~over : 0;
		uint64_t done = over | clear, n_done = (uint64_t)__builtin_popcountll(done);

		if (!done)
			continue;
		lf->clear[w] |= clear;
		lf->cleared += (uint64_t)__builtin_popcountll(clear);
		lf->kinds[kind] += n_done;
		account->saved_bytes += n_done << r->page_shift;
		span->bits[w] &= ~done;
	}
}

static void sort_blank(struct rji_lane_filter *lf, struct rji_pageset_region *r,
		       struct rji_span *span)
{
	uint64_t n = rji_bitmap_words(span->n_pages), blank[RJI_SPAN_MAX_WORDS];
	uint64_t began;

	if (rji_free_maps_of(r)) {
		rji_free_take_clears(r, span->first_page, n, span->bits, blank);
		settle_blank(lf, r, span, blank, RJI_KIND_FREE, &lf->account[FREE]);
	}
	if (lf->f->hole_fd[span->region] >= 0) {
		began = rji_now_ns();
		memset(blank, 0, n * sizeof(*blank));
		find_holes(lf, r, span, blank);
		settle_blank(lf, r, span, blank, RJI_KIND_HOLE, &lf->account[HOLE]);
		lf->account[HOLE].came += span->n_pages;
		lf->account[HOLE].applied += span->n_pages;
		lf->account[HOLE].cost_ns += rji_now_ns() - began;
	}
	if (lf->f->on & RJ_FILTER_ZERO) {
		memset(blank, 0, n * sizeof(*blank));
		find_zeros(lf, r, span, blank);
		settle_blank(lf, r, span, blank, RJI_KIND_ZERO, &lf->account[ZERO]);
	}
}

/* Would it pay to copy and remember all pages here? A share of 1/1024 of them is not sent the next time. */
static bool pays(uint32_t share, uint64_t send_ns, uint64_t cost_ns)
{
	return send_ns * share > cost_ns * 1024;
}

/*
 * One page of each span is copied and remembered in any case, to see whether that would pay for the others: another one
 * in each span but the same each time, so that where it lies is no pattern of the guest's.
 */
static void sample(const struct rji_span *span, uint64_t *bits)
{
	uint64_t at =
		(span->first_page / RJI_WORD_BITS * 0x9e3779b97f4a7c15ull >> 40) % span->n_pages;

	bits[at / RJI_WORD_BITS] |= span->bits[at / RJI_WORD_BITS] & 1ull << at % RJI_WORD_BITS;
}

/* Which of the span's pages are to be copied. */
static void choose_copies(struct rji_lane_filter *lf, const struct rji_pageset_region *r,
			  const struct rji_span *span)
{
	uint64_t n = rji_bitmap_words(span->n_pages), came = 0;
	const struct rji_filters *f = lf->f;
	const struct rji_area *area;
	bool all, always = f->copy_always && lf->turn++ % 4;
	uint64_t copy_ns;

	memset(lf->copy, 0, n * sizeof(*lf->copy));
	lf->how = RJI_SHRINK_NO;
	lf->want_old = false;
	if (!lf->stage || r->page_shift != RJI_STAGE_PAGE_SHIFT)
		return;
	for (uint64_t w = 0; w < n; w++)
		came += (uint64_t)__builtin_popcountll(span->bits[w]);
	if (!came)
		return;
	if (lf->stage->zstd)
		lf->how = rji_shrink_next(&lf->shrink);
	lf->account[ZSTD].came += lf->stage->zstd ? came : 0;
	lf->account[SAME].came += f->same ? came : 0;
	all = lf->how == RJI_SHRINK_ALL || always;
	if (f->same) {
		area = rji_area_of(f->same, r, span->region, span->first_page);
		copy_ns = lf->stage->page_ns ? lf->stage->page_ns : COPY_NS;
		lf->want_old = f->old && (always || pays(rji_area_delta_share(f->same, area),
							 lf->send_ns, copy_ns + DELTA_NS));
		all = all || lf->want_old ||
		      pays(rji_area_same_share(f->same, area), lf->send_ns, copy_ns);
		if (!all)
			sample(span, lf->copy);
		lf->want_old = lf->want_old || (f->old && !all);
	}
	if (always && lf->stage->zstd && span->first_page / r->span_pages % 2)
		lf->how = RJI_SHRINK_ALL;
	if (all)
		memcpy(lf->copy, span->bits, n * sizeof(*lf->copy));
	else if (lf->how == RJI_SHRINK_PIECE)
		lf->copy[0] |= span->bits[0] & 0xffff;
}

void rji_lane_filter_span(struct rji_lane_filter *lf, struct rji_span *span)
{
	struct rji_pageset_region *r = &lf->f->set->region[span->region];
	uint64_t first = span->first_page / RJI_WORD_BITS, n = rji_bitmap_words(span->n_pages);

	memset(lf->clear, 0, n * sizeof(*lf->clear));
	sort_blank(lf, r, span);
	choose_copies(lf, r, span);
	for (uint64_t w = 0; w < n; w++) {
		r->touched[first + w] |= lf->clear[w] | span->bits[w];
		span->bits[w] &= ~lf->copy[w];
		if (r->known) /* whatever is not remembered below */
			r->known[first + w] &= ~(lf->clear[w] | span->bits[w]);
		lf->kinds[RJI_KIND_NORMAL] += (uint64_t)__builtin_popcountll(span->bits[w]);
	}
}

static void tell(struct rji_lane_filter *lf, int filter, struct rji_filter_account *account)
{
	rji_figures_add(&lf->f->figures[filter], account);
	*account = (struct rji_filter_account){ 0 };
}

static void tell_kinds(struct rji_lane_filter *lf, uint64_t *kinds)
{
	for (int i = 0; i < RJI_N_KINDS; i++) {
		if (kinds[i])
			atomic_fetch_add_explicit(&lf->f->kinds[i], kinds[i], memory_order_relaxed);
		kinds[i] = 0;
	}
}

void rji_lane_filter_tell(struct rji_lane_filter *lf)
{
	for (int i = 0; i < RJ_N_FILTERS; i++)
		tell(lf, i, &lf->account[i]);
	tell_kinds(lf, lf->kinds);
	rji_figure_add(&lf->f->cleared_pages, lf->cleared);
	lf->cleared = 0;
	if (!lf->stage)
		return;
	tell(lf, SAME, &lf->stage->same_account);
	tell(lf, DELTA, &lf->stage->delta_account);
	tell(lf, ZSTD, &lf->stage->zstd_account);
	tell_kinds(lf, lf->stage->kinds);
	tell_room(lf, room_bytes(lf->stage)); /* zstd's grows */
}

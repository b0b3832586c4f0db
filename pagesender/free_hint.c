/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/free_hint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"

/* A window's words, whatever the size of its pages, as far as re-arming looks at once. */
#define MAX_WINDOW_WORDS (RJI_WINDOW_BYTES / 4096 / RJI_WORD_BITS)

void rji_free_hints_init(struct rji_free_hints *f, struct rji_pageset *set, bool enabled)
{
	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->begin_lock, NULL);
	f->set = set;
	f->enabled = enabled;
}

static void free_maps(const struct rji_pageset_region *r, struct rji_free_maps *m)
{
	if (!m)
		return;
	rji_bitmap_free(m->hinted, r->n_pages);
	rji_bitmap_free(m->armed, r->n_pages);
	rji_bitmap_free(m->found, r->n_pages);
	rji_bitmap_free(m->to_clear, r->n_pages);
	free(m);
}

void rji_free_hints_fini(struct rji_free_hints *f)
{
	for (uint32_t i = 0; i < f->set->n_regions; i++) {
		struct rji_pageset_region *r = &f->set->region[i];

		free_maps(r, rji_free_maps_of(r));
		atomic_store_explicit(&r->free_maps, NULL, memory_order_relaxed);
	}
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->begin_lock);
}

void rji_free_lock(struct rji_free_hints *f)
{
	if (f && f->enabled)
		pthread_mutex_lock(&f->lock);
}

void rji_free_unlock(struct rji_free_hints *f)
{
	if (f && f->enabled)
		pthread_mutex_unlock(&f->lock);
}

void rji_free_hints_open(struct rji_free_hints *f, bool open)
{
	pthread_mutex_lock(&f->lock);
	f->open = open && f->enabled;
	f->generation = 0;
	pthread_mutex_unlock(&f->lock);
}

/* With the lock. A round may be under way, and lanes do not take the lock to look. */
static int need_maps(struct rji_free_hints *f, struct rji_pageset_region *r)
{
	struct rji_free_maps *m;

	if (rji_free_maps_of(r))
		return 0;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->hinted = rji_bitmap_alloc(r->n_pages);
	m->armed = rji_bitmap_alloc(r->n_pages);
	m->found = rji_bitmap_alloc(r->n_pages);
	m->to_clear = r->given_zeroed ? NULL : rji_bitmap_alloc(r->n_pages);
	if (!m->hinted || !m->armed || !m->found || (!m->to_clear && !r->given_zeroed)) {
		free_maps(r, m);
		return -ENOMEM;
	}
	atomic_store_explicit(&r->free_maps, m, memory_order_release);
	atomic_fetch_add_explicit(
		&f->map_bytes, (m->to_clear ? 4 : 3) * r->n_words * sizeof(uint64_t) + sizeof(*m),
		memory_order_relaxed);
	return 0;
}

/*
 * All trackers of a region forget these pages. What they find in the same step besides is dirty, and kept
 * for the next collect, by whichever of them it was found: the others may fail, and the session go on.
 */
static int rearm(const struct rji_pageset_region *r, uint32_t region, uint64_t first_page,
		 uint64_t n_pages, const uint64_t *pages)
{
	uint64_t bits[MAX_WINDOW_WORDS], n = rji_bitmap_words(n_pages);
	uint64_t *found = rji_free_maps_of(r)->found + first_page / RJI_WORD_BITS;
	int ret = 0;

	memcpy(bits, pages, n * sizeof(*bits));
	for (uint32_t i = 0; ret >= 0 && i < r->n_trackers; i++) {
		const struct rji_attached *a = &r->trackers[i];

		ret = a->ops->rearm ? a->ops->rearm(a->t, region, first_page, n_pages, bits) : 0;
	}
	for (uint64_t i = 0; i < n; i++)
		found[i] |= bits[i] & ~pages[i];
	if (ret < 0)
		return RJ_E_TRACKER;
	rji_plain_rearm(r->marked + first_page / RJI_WORD_BITS, n, pages);
	return 0;
}

/* One window's part of a range. */
struct part {
	uint32_t region;
	uint64_t first_page, end_page; /* of the range */
	uint64_t from_page,
		n_pages; /* from the word that has first_page to the one before end_page */
};

static uint64_t mask_of(const struct part *p, uint64_t word)
{
	uint64_t at = p->from_page + word * RJI_WORD_BITS;
	unsigned int from = p->first_page > at ? (unsigned int)(p->first_page - at) : 0;
	unsigned int to = p->end_page - at < RJI_WORD_BITS ? (unsigned int)(p->end_page - at)
							   : RJI_WORD_BITS;

	return rji_word_mask(from, to);
}

/* The guest cannot use the range before we return. With the lock. */
static int take_reported(struct rji_pageset_region *r, const struct part *p)
{
	uint64_t pages[MAX_WINDOW_WORDS] = { 0 }, n = rji_bitmap_words(p->n_pages);
	uint64_t *hinted = rji_free_maps_of(r)->hinted + p->from_page / RJI_WORD_BITS, news = 0;
	int ret;

	for (uint64_t i = 0; i < n; i++)
		pages[i] = mask_of(p, i);
	ret = rearm(r, p->region, p->from_page, p->n_pages, pages);
	for (uint64_t i = 0; !ret && i < n; i++) {
		news += (uint64_t)__builtin_popcountll(pages[i] & ~hinted[i]);
		hinted[i] |= pages[i];
	}
	return ret < 0 ? ret : (int)news;
}

/* It may be using it again already: only what is still as it was when the generation was given. */
static int take_hinted(const struct rji_pageset_region *r, const struct part *p)
{
	uint64_t word = p->from_page / RJI_WORD_BITS, n = rji_bitmap_words(p->n_pages), news = 0;
	uint64_t *hinted = rji_free_maps_of(r)->hinted + word;
	const uint64_t *armed = rji_free_maps_of(r)->armed + word;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t mask = mask_of(p, i) & armed[i];

		news += (uint64_t)__builtin_popcountll(mask & ~hinted[i]);
		hinted[i] |= mask;
	}
	return (int)news;
}

static int mark_part(struct rji_free_hints *f, const struct part *p, uint64_t generation)
{
	struct rji_pageset_region *r = &f->set->region[p->region];
	int ret;

	pthread_mutex_lock(&f->lock);
	ret = f->open ? need_maps(f, r) : 0;
	if (!ret && f->open)
		ret = !generation		    ? take_reported(r, p)
		      : generation == f->generation ? take_hinted(r, p)
						    : -EINVAL;
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int rji_free_mark(struct rji_free_hints *f, uint32_t region, uint64_t offset_bytes,
		  uint64_t len_bytes, uint64_t generation)
{
	const struct rji_pageset_region *r = region < f->set->n_regions ? &f->set->region[region]
									: NULL;
	uint64_t page, end, pages = 0;

	if (!r || offset_bytes > r->len_bytes || len_bytes > r->len_bytes - offset_bytes ||
	    (offset_bytes | len_bytes) & ((1ull << r->page_shift) - 1))
		return -EINVAL;
	page = offset_bytes >> r->page_shift;
	end = page + (len_bytes >> r->page_shift);
	while (page < end) {
		uint64_t window_end = ((page >> r->window_shift) + 1) << r->window_shift;
		struct part p = { .region = region,
				  .first_page = page,
				  .end_page = min_u64(end, window_end),
				  .from_page = page / RJI_WORD_BITS * RJI_WORD_BITS };
		int ret;

		p.n_pages = min_u64(rji_bitmap_words(p.end_page) * RJI_WORD_BITS, r->n_pages) -
			    p.from_page;
		ret = mark_part(f, &p, generation);
		if (ret < 0)
			return ret;
		pages += (uint64_t)ret;
		page = p.end_page;
	}
	return pages < INT32_MAX ? (int)pages : INT32_MAX;
}

/*
 * Re-arm what is pending in a window, unless the lanes have it: it is on its way then. But not what is hinted already
 * and will be left out: that would take away the trace of a write since. With the lock.
 */
static int arm_window(struct rji_pageset_region *r, uint32_t region, uint32_t window)
{
	uint64_t first = (uint64_t)window << r->window_shift;
	uint64_t n_pages = min_u64(r->n_pages - first, r->window_pages);
	uint64_t word = first / RJI_WORD_BITS, n = rji_bitmap_words(n_pages);
	const uint64_t *hinted = rji_free_maps_of(r)->hinted;
	uint64_t *armed = rji_free_maps_of(r)->armed + word;

	memset(armed, 0, n * sizeof(*armed));
	if (r->in_hand[window] || !r->may_pend[window])
		return 0;
	for (uint64_t i = 0; i < n; i++)
		armed[i] = r->pending[word + i] & ~hinted[word + i];
	return rearm(r, region, first, n_pages, armed);
}

static int arm_region(struct rji_free_hints *f, uint32_t region)
{
	struct rji_pageset_region *r = &f->set->region[region];
	int ret = 0;

	for (uint32_t w = 0; !ret && w < r->n_windows; w++) {
		pthread_mutex_lock(&f->lock);
		ret = !f->open ? RJ_E_STATE : need_maps(f, r);
		if (!ret)
			ret = arm_window(r, region, w);
		pthread_mutex_unlock(&f->lock);
	}
	return ret;
}

int rji_free_begin(struct rji_free_hints *f, uint64_t *generation_p)
{
	int ret = 0;

	pthread_mutex_lock(&f->begin_lock);
	pthread_mutex_lock(&f->lock);
	f->generation = 0;
	pthread_mutex_unlock(&f->lock);
	for (uint32_t i = 0; !ret && i < f->set->n_regions; i++)
		ret = arm_region(f, i);
	pthread_mutex_lock(&f->lock);
	if (!ret && f->open)
		*generation_p = f->generation = ++f->last_generation;
	else if (!ret)
		ret = RJ_E_STATE;
	pthread_mutex_unlock(&f->lock);
	pthread_mutex_unlock(&f->begin_lock);
	return ret;
}

/* --- the harvest's side --- */

uint64_t *rji_free_collect_into(struct rji_pageset_region *r)
{
	struct rji_free_maps *m = rji_free_maps_of(r);

	return m ? m->found : r->pending;
}

void rji_free_found(struct rji_pageset_region *r)
{
	struct rji_free_maps *m = rji_free_maps_of(r);

	if (!m)
		return;
	for (uint64_t i = 0; i < r->n_words; i++) {
		uint64_t found = m->found[i];

		if (!found)
			continue;
		r->pending[i] |= found;
		m->hinted[i] &= ~found;
		m->armed[i] &= ~found;
		m->found[i] = 0;
		if (m->to_clear)
			m->to_clear[i] &= ~found;
	}
}

void rji_free_begin_round(struct rji_free_hints *f)
{
	for (uint32_t i = 0; f && i < f->set->n_regions; i++) {
		const struct rji_pageset_region *r = &f->set->region[i];

		memset(r->in_hand, 0, r->n_windows);
	}
}

void rji_free_leave_out(struct rji_free_hints *f, struct rji_pageset_region *r, uint64_t first_page,
			uint64_t n_pages)
{
	uint64_t first = first_page / RJI_WORD_BITS, n = rji_bitmap_words(n_pages), skipped = 0;
	struct rji_free_maps *m = rji_free_maps_of(r);

	r->in_hand[first_page >> r->window_shift] = 1;
	if (!m)
		return;
	for (uint64_t i = first; i < first + n; i++) {
		uint64_t out = r->pending[i] & m->hinted[i];

		m->armed[i] = 0;
		m->hinted[i] = 0;
		r->pending[i] &= ~out;
		if (m->to_clear) { /* these the lane counts that deals with them */
			uint64_t clear = r->uncertain ? out : out & ~r->touched[i];

			m->to_clear[i] |= clear;
			out &= ~clear;
		}
		skipped += (uint64_t)__builtin_popcountll(out);
	}
	atomic_fetch_add_explicit(&f->skipped_pages, skipped, memory_order_relaxed);
	atomic_fetch_add_explicit(&f->skipped_bytes, skipped << r->page_shift,
				  memory_order_relaxed);
}

void rji_free_put_back(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_pages)
{
	uint64_t first = first_page / RJI_WORD_BITS, n = rji_bitmap_words(n_pages);
	struct rji_free_maps *m = rji_free_maps_of(r);

	for (uint64_t i = first; m && m->to_clear && i < first + n; i++) {
		m->to_clear[i] &= ~r->pending[i]; /* found dirty while it was re-armed */
		r->pending[i] |= m->to_clear[i];
	}
}

void rji_free_take_clears(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_words,
			  const uint64_t *bits, uint64_t *clears)
{
	uint64_t first = first_page / RJI_WORD_BITS;
	struct rji_free_maps *m = rji_free_maps_of(r);

	for (uint64_t i = 0; i < n_words; i++) {
		clears[i] = m && m->to_clear ? m->to_clear[first + i] & bits[i] : 0;
		if (clears[i])
			m->to_clear[first + i] &= ~clears[i];
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/pageset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "numa/residency.h"

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void region_fini(struct rji_pageset_region *r)
{
	rji_bitmap_free(r->pending, r->n_pages);
	rji_bitmap_free(r->unfenced, r->n_pages);
	rji_bitmap_free((uint64_t *)r->marked, r->n_pages);
	rji_bitmap_free(r->touched, r->n_pages);
	rji_bitmap_free(r->known, r->n_pages);
	r->touched = r->known = NULL;
	free(r->span_node);
	free(r->in_hand);
	free(r->may_pend);
	free((void *)r->may_mark);
}

int rji_pageset_add(struct rji_pageset *set, const struct rj_region *desc)
{
	struct rji_pageset_region *r = &set->region[set->n_regions];

	memset(r, 0, sizeof(*r));
	snprintf(r->name, sizeof(r->name), "%s", desc->name);
	r->host = desc->host;
	r->len_bytes = desc->len_bytes;
	r->flags = desc->flags;
	r->page_shift = (uint32_t)__builtin_ctz(desc->page_bytes);
	r->n_pages = r->len_bytes >> r->page_shift;
	r->n_words = rji_bitmap_words(r->n_pages);
	r->span_pages = max_u64(RJI_SPAN_BYTES >> r->page_shift, RJI_WORD_BITS);
	r->window_pages = max_u64(RJI_WINDOW_BYTES >> r->page_shift, r->span_pages);
	r->window_shift = (uint32_t)__builtin_ctzll(r->window_pages);
	r->n_windows = (uint32_t)((r->n_pages + r->window_pages - 1) >> r->window_shift);
	r->may_pend = calloc(r->n_windows, sizeof(*r->may_pend));
	r->may_mark = calloc(r->n_windows, sizeof(*r->may_mark));
	r->in_hand = calloc(r->n_windows, sizeof(*r->in_hand));
	r->pending = rji_bitmap_alloc(r->n_pages);
	r->unfenced = rji_bitmap_alloc(r->n_pages);
	r->marked = (rji_plain_word *)rji_bitmap_alloc(r->n_pages);
	if (!r->pending || !r->unfenced || !r->marked || !r->may_pend || !r->may_mark ||
	    !r->in_hand) {
		region_fini(r);
		return -ENOMEM;
	}
	set->guest_bytes += r->len_bytes;
	set->n_regions++;
	return 0;
}

void rji_pageset_fini(struct rji_pageset *set)
{
	for (uint32_t i = 0; i < set->n_regions; i++)
		region_fini(&set->region[i]);
	set->n_regions = 0;
}

int rji_pageset_keep(struct rji_pageset *set, bool known)
{
	for (uint32_t i = 0; i < set->n_regions; i++) {
		struct rji_pageset_region *r = &set->region[i];

		if (!r->touched)
			r->touched = rji_bitmap_alloc(r->n_pages);
		if (known && !r->known)
			r->known = rji_bitmap_alloc(r->n_pages);
		if (!r->touched || (known && !r->known))
			return -ENOMEM;
	}
	return 0;
}

void rji_pageset_pend(struct rji_pageset_region *r, uint64_t first_page, uint64_t n_pages)
{
	uint64_t first = first_page >> r->window_shift;
	uint64_t last = (first_page + n_pages - 1) >> r->window_shift;

	rji_bitmap_set_range(r->pending, first_page, n_pages);
	memset(r->may_pend + first, 1, last - first + 1);
}

void rji_pageset_all_pending(struct rji_pageset *set)
{
	for (uint32_t i = 0; i < set->n_regions; i++)
		rji_pageset_pend(&set->region[i], 0, set->region[i].n_pages);
}

void rji_pageset_unfenced_to_pending(struct rji_pageset *set)
{
	for (uint32_t i = 0; i < set->n_regions; i++) {
		struct rji_pageset_region *r = &set->region[i];

		for (uint64_t w = 0; w < r->n_words; w++) {
			if (r->unfenced[w]) {
				r->pending[w] |= r->unfenced[w];
				if (r->known)
					r->known[w] &= ~r->unfenced[w];
				r->unfenced[w] = 0;
				r->uncertain = true;
				r->may_pend[w * RJI_WORD_BITS >> r->window_shift] = 1;
			}
		}
	}
}

static uint64_t n_spans(const struct rji_pageset_region *r)
{
	return (r->n_pages + r->span_pages - 1) / r->span_pages;
}

/* The last span may be short. */
static void add_bytes(const struct rji_pageset_region *r, uint64_t node_bytes[RJI_MAX_NODES])
{
	uint64_t left = r->len_bytes, span_bytes = r->span_pages << r->page_shift;

	for (uint64_t i = 0; left; i++) {
		uint64_t bytes = left < span_bytes ? left : span_bytes;

		if (r->span_node[i] != RJI_NODE_UNKNOWN)
			node_bytes[r->span_node[i]] += bytes;
		left -= bytes;
	}
}

int rji_pageset_locate(struct rji_pageset *set, const struct rji_topology *t,
		       uint64_t node_bytes[RJI_MAX_NODES])
{
	memset(node_bytes, 0, RJI_MAX_NODES * sizeof(*node_bytes));
	for (uint32_t i = 0; i < set->n_regions; i++) {
		struct rji_pageset_region *r = &set->region[i];

		if (!r->span_node)
			r->span_node = malloc(n_spans(r));
		if (!r->span_node)
			return -ENOMEM;
		if (rji_residency_ask(t, r->host, r->len_bytes, r->span_pages << r->page_shift,
				      r->span_node) < 0)
			return 0; /* nor does it for the others, all of whose spans stay unknown */
		add_bytes(r, node_bytes);
	}
	return 0;
}

uint64_t rji_pageset_metadata_bytes(const struct rji_pageset *set)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < set->n_regions; i++)
		bytes += (3 + !!set->region[i].touched + !!set->region[i].known) *
				 set->region[i].n_words * sizeof(uint64_t) +
			 3 * set->region[i].n_windows +
			 (set->region[i].span_node ? n_spans(&set->region[i]) : 0);
	return bytes;
}

/* The pages that a range touches. 1; 0: none; -EINVAL outside of the region. */
static int pages_of(const struct rji_pageset *set, uint32_t region, uint64_t offset_bytes,
		    uint64_t len_bytes, uint64_t *first_p, uint64_t *last_p)
{
	const struct rji_pageset_region *r = region < set->n_regions ? &set->region[region] : NULL;

	if (!r || offset_bytes > r->len_bytes || len_bytes > r->len_bytes - offset_bytes)
		return -EINVAL;
	if (!len_bytes)
		return 0;
	*first_p = offset_bytes >> r->page_shift;
	*last_p = (offset_bytes + len_bytes - 1) >> r->page_shift;
	return 1;
}

int rji_pageset_changed_there(struct rji_pageset *set, uint32_t region, uint64_t offset_bytes,
			      uint64_t len_bytes)
{
	uint64_t first, last;
	int ret = pages_of(set, region, offset_bytes, len_bytes, &first, &last);
	struct rji_pageset_region *r;

	if (ret <= 0)
		return ret;
	r = &set->region[region];
	if (r->touched)
		rji_bitmap_set_range(r->touched, first, last - first + 1);
	if (r->known)
		rji_bitmap_clear_range(r->known, first, last - first + 1);
	return 0;
}

int rji_pageset_mark(struct rji_pageset *set, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes)
{
	struct rji_pageset_region *r;
	uint64_t first, last;
	int ret = pages_of(set, region, offset_bytes, len_bytes, &first, &last);

	if (ret <= 0)
		return ret;
	r = &set->region[region];
	rji_plain_mark(r->marked, first, last - first + 1);
	/* After the bits: pairs with collect_marked() and rearm_marked() in harvest.c. */
	for (uint64_t w = first >> r->window_shift; w <= last >> r->window_shift; w++)
		atomic_store_explicit(&r->may_mark[w], 1, memory_order_release);
	return 0;
}

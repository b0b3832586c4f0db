/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/hold.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"

int rji_holds_init(struct rji_holds *h)
{
	int ret;

	memset(h, 0, sizeof(*h));
	ret = pthread_mutex_init(&h->lock, NULL);
	if (ret)
		return -ret;
	ret = pthread_cond_init(&h->acknowledged, NULL);
	if (ret)
		pthread_mutex_destroy(&h->lock);
	return -ret;
}

void rji_holds_fini(struct rji_holds *h)
{
	pthread_cond_destroy(&h->acknowledged);
	pthread_mutex_destroy(&h->lock);
}

static bool overlaps(const struct rji_held *a, const struct rji_held *b)
{
	return a->region == b->region && a->asked_offset < b->asked_offset + b->asked_len &&
	       b->asked_offset < a->asked_offset + a->asked_len;
}

static struct rji_held *same_asked(struct rji_holds *h, const struct rji_held *held)
{
	for (uint32_t i = 0; i < h->n; i++) {
		struct rji_held *at = &h->held[i];

		if (at->region == held->region && at->asked_offset == held->asked_offset &&
		    at->asked_len == held->asked_len)
			return at;
	}
	return NULL;
}

static bool all_acknowledged(const struct rji_holds *h, uint64_t generation)
{
	for (uint32_t i = 0; i < RJ_MAX_LANES; i++) {
		if (h->lane[i].in_round && h->lane[i].seen < generation)
			return false;
	}
	return true;
}

int rji_holds_add(struct rji_holds *h, const struct rji_held *held)
{
	uint64_t generation;
	int ret = 0;

	pthread_mutex_lock(&h->lock);
	for (uint32_t i = 0; i < h->n; i++) {
		if (overlaps(&h->held[i], held))
			ret = -EBUSY;
	}
	if (!ret && h->n == RJI_MAX_HOLDS)
		ret = -ENOSPC;
	if (!ret) {
		h->held[h->n] = *held;
		atomic_store_explicit(&h->n, h->n + 1, memory_order_relaxed);
		generation = h->generation + 1;
		/*
		 * Pairs with rji_holds_changed(): a lane that sees it finds the hold under the
		 * lock.
		 */
		atomic_store_explicit(&h->generation, generation, memory_order_release);
		while (!all_acknowledged(h, generation))
			pthread_cond_wait(&h->acknowledged, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return ret;
}

void rji_holds_narrow(struct rji_holds *h, const struct rji_held *held)
{
	struct rji_held *at;

	pthread_mutex_lock(&h->lock);
	at = same_asked(h, held);
	if (at)
		*at = *held;
	pthread_mutex_unlock(&h->lock);
}

int rji_holds_find(struct rji_holds *h, uint32_t region, uint64_t asked_offset, uint64_t asked_len,
		   struct rji_held *held_p)
{
	const struct rji_held asked = { .region = region,
					.asked_offset = asked_offset,
					.asked_len = asked_len };
	const struct rji_held *at;

	pthread_mutex_lock(&h->lock);
	at = same_asked(h, &asked);
	if (at)
		*held_p = *at;
	pthread_mutex_unlock(&h->lock);
	return at ? 0 : -ENOENT;
}

void rji_holds_remove(struct rji_holds *h, const struct rji_held *held)
{
	struct rji_held *at;

	pthread_mutex_lock(&h->lock);
	at = same_asked(h, held);
	if (at) {
		*at = h->held[h->n - 1];
		atomic_store_explicit(&h->n, h->n - 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&h->lock);
}

void rji_holds_enter(struct rji_holds *h, uint32_t lane)
{
	pthread_mutex_lock(&h->lock);
	h->lane[lane].in_round = true;
	h->lane[lane].seen = h->generation;
	pthread_mutex_unlock(&h->lock);
}

void rji_holds_leave(struct rji_holds *h, uint32_t lane)
{
	pthread_mutex_lock(&h->lock);
	h->lane[lane].in_round = false;
	pthread_cond_broadcast(&h->acknowledged);
	pthread_mutex_unlock(&h->lock);
}

void rji_holds_acknowledge(struct rji_holds *h, uint32_t lane)
{
	pthread_mutex_lock(&h->lock);
	h->lane[lane].seen = h->generation;
	pthread_cond_broadcast(&h->acknowledged);
	pthread_mutex_unlock(&h->lock);
}

void rji_holds_mask(struct rji_holds *h, uint32_t region, uint64_t first_page, uint64_t n_pages,
		    uint64_t *bits)
{
	uint64_t end = first_page + n_pages;

	/*
	 * A lane that acknowledged a hold sees n; one that did not yet may miss it, and is waited
	 * for.
	 */
	if (!atomic_load_explicit(&h->n, memory_order_relaxed))
		return;
	pthread_mutex_lock(&h->lock);
	for (uint32_t i = 0; i < h->n; i++) {
		const struct rji_held *at = &h->held[i];
		uint64_t from = at->first_page > first_page ? at->first_page : first_page;
		uint64_t to = at->first_page + at->n_pages < end ? at->first_page + at->n_pages
								 : end;

		if (at->region == region && from < to)
			rji_bitmap_clear_range(bits, from - first_page, to - from);
	}
	pthread_mutex_unlock(&h->lock);
}

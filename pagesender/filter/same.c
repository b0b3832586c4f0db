/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/filter/same.h"

#include <errno.h>
#include <stdlib.h>

/* Then what was long ago counts half. */
#define FORGET 1024u
/* With fewer an area says less than all areas together. */
#define TELLING 16u
/* Before anything is known: one page in so many. */
#define GUESS 16u

int rji_same_create(const struct rji_pageset *set, struct rji_same **s_p)
{
	struct rji_same *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	if (rji_hash128_secret_init(&s->secret) < 0) {
		free(s);
		return -EIO;
	}
	s->hash_bytes = sizeof(*s);
	for (; s->n_regions < set->n_regions; s->n_regions++) {
		uint32_t i = s->n_regions, n = set->region[i].n_windows;

		s->area[i] = calloc(n, sizeof(struct rji_area));
		if (!s->area[i]) {
			rji_same_destroy(&s);
			return -ENOMEM;
		}
		s->n_areas[i] = n;
		s->hash_bytes += n * sizeof(struct rji_area);
	}
	*s_p = s;
	return 0;
}

void rji_same_destroy(struct rji_same **s_p)
{
	struct rji_same *s = *s_p;

	if (!s)
		return;
	for (uint32_t i = 0; i < s->n_regions; i++) {
		for (uint32_t a = 0; a < s->n_areas[i]; a++)
			free(atomic_load_explicit(&s->area[i][a].hash, memory_order_relaxed));
		free(s->area[i]);
	}
	free(s);
	*s_p = NULL;
}

/* Lanes that share a window may come at the same time: the first wins. */
struct rji_hash128 *rji_area_hashes(struct rji_same *s, const struct rji_pageset_region *r,
				    struct rji_area *a)
{
	struct rji_hash128 *hash = atomic_load_explicit(&a->hash, memory_order_acquire);
	struct rji_hash128 *made;

	if (hash)
		return hash;
	made = calloc(r->window_pages, sizeof(*made));
	if (!made)
		return NULL;
	if (!atomic_compare_exchange_strong_explicit(&a->hash, &hash, made, memory_order_acq_rel,
						     memory_order_acquire)) {
		free(made);
		return hash;
	}
	atomic_fetch_add_explicit(&s->hash_bytes, r->window_pages * sizeof(*made),
				  memory_order_relaxed);
	return made;
}

/* Several lanes may count at once; a count that is lost to that does not matter. */
static void count(_Atomic uint32_t *of, uint32_t n_of, _Atomic uint32_t *hits, uint32_t n_hits)
{
	uint32_t total = atomic_load_explicit(of, memory_order_relaxed) + n_of;
	uint32_t hit = atomic_load_explicit(hits, memory_order_relaxed) + n_hits;
	uint32_t halve = total > FORGET;

	atomic_store_explicit(of, total >> halve, memory_order_relaxed);
	atomic_store_explicit(hits, hit >> halve, memory_order_relaxed);
}

void rji_area_saw_same(struct rji_same *s, struct rji_area *a, uint32_t checked, uint32_t same)
{
	count(&a->checked, checked, &a->same, same);
	count(&s->all.checked, checked, &s->all.same, same);
}

void rji_area_saw_delta(struct rji_same *s, struct rji_area *a, uint32_t tried, uint32_t shrunk)
{
	count(&a->tried, tried, &a->shrunk, shrunk);
	count(&s->all.tried, tried, &s->all.shrunk, shrunk);
}

static uint32_t share(const _Atomic uint32_t *of, const _Atomic uint32_t *hits,
		      const _Atomic uint32_t *of_all, const _Atomic uint32_t *hits_of_all)
{
	uint32_t n = atomic_load_explicit(of, memory_order_relaxed);
	uint32_t hit = atomic_load_explicit(hits, memory_order_relaxed);

	if (n < TELLING) {
		n = atomic_load_explicit(of_all, memory_order_relaxed) + GUESS;
		hit = atomic_load_explicit(hits_of_all, memory_order_relaxed) + 1;
	}
	return (uint32_t)(1024ull * hit / n);
}

uint32_t rji_area_same_share(const struct rji_same *s, const struct rji_area *a)
{
	return share(&a->checked, &a->same, &s->all.checked, &s->all.same);
}

uint32_t rji_area_delta_share(const struct rji_same *s, const struct rji_area *a)
{
	return share(&a->tried, &a->shrunk, &s->all.tried, &s->all.shrunk);
}

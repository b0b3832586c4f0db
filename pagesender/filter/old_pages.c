/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/filter/old_pages.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct rji_old_page {
	atomic_bool taken;
	bool used;
	uint64_t number;
	struct rji_hash128 hash; /* of the copy */
};

struct rji_old_pages {
	uint64_t n;
	uint8_t *copies;
	_Atomic uint64_t n_used;
	struct rji_old_page page[];
};

struct rji_old_pages *rji_old_pages_create(uint64_t bytes)
{
	uint64_t n = bytes / RJI_OLD_PAGE_BYTES;
	struct rji_old_pages *o = calloc(1, sizeof(*o) + n * sizeof(o->page[0]));
	void *copies;

	if (!o)
		return NULL;
	copies = mmap(NULL, n * RJI_OLD_PAGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (copies == MAP_FAILED) {
		free(o);
		return NULL;
	}
	o->n = n;
	o->copies = copies;
	return o;
}

void rji_old_pages_destroy(struct rji_old_pages *o)
{
	if (!o)
		return;
	munmap(o->copies, o->n * RJI_OLD_PAGE_BYTES);
	free(o);
}

uint64_t rji_old_pages_bytes(const struct rji_old_pages *o)
{
	return sizeof(*o) + o->n * sizeof(o->page[0]) +
	       atomic_load_explicit(&o->n_used, memory_order_relaxed) * RJI_OLD_PAGE_BYTES;
}

/* Acquire and release: one lane's copy is read by another. */
struct rji_old_page *rji_old_page_take(struct rji_old_pages *o, uint64_t number)
{
	struct rji_old_page *p = &o->page[number % o->n];

	return atomic_exchange_explicit(&p->taken, true, memory_order_acquire) ? NULL : p;
}

void rji_old_page_leave(struct rji_old_page *p)
{
	atomic_store_explicit(&p->taken, false, memory_order_release);
}

static uint8_t *copy_of(struct rji_old_pages *o, const struct rji_old_page *p)
{
	return o->copies + (uint64_t)(p - o->page) * RJI_OLD_PAGE_BYTES;
}

uint8_t *rji_old_page_find(struct rji_old_pages *o, struct rji_old_page *p, uint64_t number,
			   const struct rji_hash128 *hash)
{
	bool is_it = p->used && p->number == number && rji_hash128_equal(p->hash, *hash);

	return is_it ? copy_of(o, p) : NULL;
}

void rji_old_page_put(struct rji_old_pages *o, struct rji_old_page *p, uint64_t number,
		      const struct rji_hash128 *hash, const void *page)
{
	if (!p->used)
		atomic_fetch_add_explicit(&o->n_used, 1, memory_order_relaxed);
	p->used = true;
	p->number = number;
	p->hash = *hash;
	memcpy(copy_of(o, p), page, RJI_OLD_PAGE_BYTES);
}

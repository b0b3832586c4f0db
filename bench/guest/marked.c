/* SPDX-License-Identifier: BSD-2-Clause */
#include <endian.h>
#include <stdio.h>

#include "bench/guest/guest_impl.h"

/* Sparse memory, far larger than the machine's: nothing is written, it is only said. What arrives
 * are zeros. */

#define CHUNK_PAGES 256u
#define TAG_MARKS 17u
#define GIB (1ull << 30)

static int marked_create(struct guest *g, bool empty, char *why, size_t why_bytes)
{
	int ret = guest_memory_reserve(&g->mem, g->o.size_bytes, why, why_bytes);

	if (ret)
		return ret;
	g->n_regions = 1;
	g->regions[0].name = "ram";
	g->regions[0].len_bytes = g->mem.len_bytes;
	g->regions[0].gpa = 0;
	return 0;
}

static void marked_destroy(struct guest *g)
{
}

static int marked_track(struct guest *g, char *why, size_t why_bytes)
{
	return 0;
}

static void mark_chunk(struct guest_ticker *gt, uint64_t n)
{
	pthread_rwlock_rdlock(&gt->g->marking);
	for (uint64_t end = gt->done + n; gt->done < end;) {
		uint64_t page = guest_page_of(&gt->writes, ++gt->done);

		guest_mark(gt->g, page * GUEST_PAGE_BYTES, GUEST_PAGE_BYTES);
	}
	pthread_rwlock_unlock(&gt->g->marking);
}

static int marked_tick(void *arg, struct ticker *t, uint64_t n_pages)
{
	struct guest_ticker *gt = arg;

	while (n_pages) {
		uint64_t n = n_pages < CHUNK_PAGES ? n_pages : CHUNK_PAGES;

		if (ticker_must_stop(t))
			return 1;
		mark_chunk(gt, n);
		n_pages -= n;
	}
	if ((atomic_fetch_add(&gt->g->counter, 1) + 1) % 4 == 0)
		guest_device_ring(gt->g);
	return 0;
}

static int marked_save(struct guest *g, struct guest_state *st)
{
	uint64_t done = htole64(g->tickers[0].done);

	guest_state_put(st, TAG_MARKS, &done, sizeof(done));
	return 0;
}

static int marked_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	uint64_t done;
	int ret = guest_state_take(st, TAG_MARKS, &done, sizeof(done), why, why_bytes);

	if (!ret)
		ret = guest_state_taken(st, why, why_bytes);
	if (!ret)
		g->tickers[0].done = le64toh(done);
	return ret;
}

/* There is nothing that could be lost. */
static int marked_check(const struct guest *g, char *why, size_t why_bytes)
{
	return 0;
}

const struct guest_ops guest_marked_ops = {
	.name = "marked",
	.size_max_bytes = 65536 * GIB,
	.n_tickers = 1,
	.ticker_name = "guest-marker",
	.create = marked_create,
	.destroy = marked_destroy,
	.track = marked_track,
	.tick = marked_tick,
	.save = marked_save,
	.load = marked_load,
	.check = marked_check,
};

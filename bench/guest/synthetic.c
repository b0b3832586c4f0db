/* SPDX-License-Identifier: BSD-2-Clause */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/guest/guest_impl.h"

/*
 * Threads of this process that write memory, each every N_WRITERS-th page, so that each page has
 * one writer and its writes an order. Tracked by userfaultfd where the kernel can, else every write
 * is marked. The first thread also is the guest's clock and rings the device, which writes through
 * a mapping of its own that no userfaultfd watches (private memory has only one).
 */

#define N_WRITERS 2u
#define CHUNK_PAGES 64u
#define TAG_WRITERS 16u
#define GIB (1ull << 30)

static int synthetic_create(struct guest *g, bool empty, char *why, size_t why_bytes)
{
	int ret = guest_memory_alloc(&g->mem, &g->o, why, why_bytes);
	void *alias;

	if (ret)
		return ret;
	g->n_regions = 1;
	g->regions[0].name = "ram";
	g->regions[0].len_bytes = g->mem.len_bytes;
	g->regions[0].gpa = 0;
	/* Memory that comes lazily is used by the region's addresses only. */
	alias = g->mem.fd < 0 || g->o.lazy ? g->mem.host
					   : mmap(NULL, GUEST_LOW_BYTES, PROT_READ | PROT_WRITE,
						  MAP_SHARED, g->mem.fd, 0);
	if (alias == MAP_FAILED) {
		ret = -errno;
		snprintf(why, why_bytes, "cannot map guest RAM for the device");
		return ret;
	}
	g->dev.ram = alias;
	ret = empty ? 0 : guest_fill(g->mem.host, &g->o);
	if (ret)
		snprintf(why, why_bytes, "cannot start a thread to fill guest RAM");
	return ret;
}

static void synthetic_destroy(struct guest *g)
{
	if (g->dev.ram && g->dev.ram != g->mem.host)
		munmap(g->dev.ram, GUEST_LOW_BYTES);
}

/* Without one, every write is marked: userfaultfd tracks huge pages whole, and these are 4 KiB. */
static int synthetic_track(struct guest *g, char *why, size_t why_bytes)
{
	if (g->o.memory == GUEST_MEMORY_HUGETLB || rj_uffd_wp_create(&g->tracker) < 0)
		g->tracker = NULL;
	return 0;
}

/* Write s. payload.S does the same. */
AS_GUESTS_DO static void write_page(const struct guest_workload *w, volatile uint64_t *words,
				    uint64_t s)
{
	switch (w->kind) {
	case WORKLOAD_SAME: words[0] = words[0]; break;
	case WORKLOAD_ABA: words[0] ^= GUEST_MIX_1; break;
	case WORKLOAD_SPARSE:
		for (uint32_t i = 0; i < GUEST_PAGE_WORDS; i += GUEST_PAGE_BYTES / w->change_bytes)
			words[i] = s;
		break;
	default: words[0] = s; break;
	}
}

AS_GUESTS_DO static void write_chunk(struct guest_ticker *gt, uint64_t n)
{
	struct guest *g = gt->g;
	bool mark = g->tracked_by_marks;

	pthread_rwlock_rdlock(&g->marking);
	for (uint64_t end = gt->done + n; gt->done < end;) {
		uint64_t page = guest_page_of(&gt->writes, ++gt->done);

		write_page(&g->o.workload,
			   (volatile uint64_t *)(g->mem.host + page * GUEST_PAGE_BYTES), gt->done);
		if (mark)
			guest_mark(g, page * GUEST_PAGE_BYTES, GUEST_PAGE_BYTES);
	}
	pthread_rwlock_unlock(&g->marking);
}

static int synthetic_tick(void *arg, struct ticker *t, uint64_t n_pages)
{
	struct guest_ticker *gt = arg;
	uint64_t beat;

	while (n_pages) {
		uint64_t n = n_pages < CHUNK_PAGES ? n_pages : CHUNK_PAGES;

		if (ticker_must_stop(t))
			return 1;
		write_chunk(gt, n);
		n_pages -= n;
	}
	if (gt->number)
		return 0;
	if (gt->g->hints.area.n) {
		pthread_rwlock_rdlock(&gt->g->marking);
		guest_hints_tick(gt->g, guest_hints_of_tick(gt->g));
		pthread_rwlock_unlock(&gt->g->marking);
	}
	beat = atomic_fetch_add(&gt->g->counter, 1) + 1;
	if (beat % 4 == 0)
		guest_device_ring(gt->g);
	return 0;
}

static int synthetic_save(struct guest *g, struct guest_state *st)
{
	uint64_t done[N_WRITERS];

	for (uint32_t i = 0; i < N_WRITERS; i++)
		done[i] = htole64(g->tickers[i].done);
	guest_state_put(st, TAG_WRITERS, done, sizeof(done));
	return 0;
}

static int synthetic_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	uint64_t done[N_WRITERS];
	int ret = guest_state_take(st, TAG_WRITERS, done, sizeof(done), why, why_bytes);

	if (!ret)
		ret = guest_state_taken(st, why, why_bytes);
	for (uint32_t i = 0; i < N_WRITERS && !ret; i++)
		g->tickers[i].done = le64toh(done[i]);
	return ret;
}

static int synthetic_check(const struct guest *g, char *why, size_t why_bytes)
{
	struct guest_writes writes[N_WRITERS];
	uint64_t done[N_WRITERS];
	int ret = guest_device_check(g, why, why_bytes);

	if (ret)
		return ret;
	for (uint32_t i = 0; i < N_WRITERS; i++) {
		writes[i] = g->tickers[i].writes;
		done[i] = g->tickers[i].done;
	}
	return guest_check_writes(&g->o, g->mem.host, writes, done, N_WRITERS, why, why_bytes);
}

const struct guest_ops guest_synthetic_ops = {
	.name = "synthetic",
	.size_max_bytes = 4096 * GIB,
	.n_tickers = N_WRITERS,
	.ticker_name = "guest-writer",
	.create = synthetic_create,
	.destroy = synthetic_destroy,
	.track = synthetic_track,
	.tick = synthetic_tick,
	.save = synthetic_save,
	.load = synthetic_load,
	.check = synthetic_check,
};

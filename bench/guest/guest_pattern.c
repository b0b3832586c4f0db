/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_pattern.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <pthread.h>

/* Unless asked for all of it, the filling leaves the last of this many 2 MiB blocks alone, so that a
 * guest has zero pages and holes, too. */
#define FILL_BLOCKS 16u
#define BLOCK_PAGES 512u
#define N_FILLERS 2u

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	return x * GUEST_MIX_2;
}

void guest_writes_init(struct guest_writes *gw, const struct guest_opts *o, uint32_t i, uint32_t n)
{
	uint64_t area = o->size_bytes - GUEST_LOW_BYTES;

	if (o->workload.kind == WORKLOAD_HOT && o->workload.hot_bytes < area)
		area = o->workload.hot_bytes;
	*gw = (struct guest_writes){
		.sweep = o->workload.kind == WORKLOAD_SWEEP,
		.seed = o->seed + i,
		.first = GUEST_LOW_BYTES / GUEST_PAGE_BYTES + i,
		.step = n,
		.n_pages = (area / GUEST_PAGE_BYTES + n - 1 - i) / n,
	};
}

/* payload.S does the same. */
uint64_t guest_page_of(const struct guest_writes *gw, uint64_t s)
{
	uint64_t i;

	if (gw->sweep)
		i = (s - 1) % gw->n_pages;
	else
		i = (uint64_t)(((unsigned __int128)mix(gw->seed + s * GUEST_MIX_1) * gw->n_pages) >>
			       64);
	return gw->first + i * gw->step;
}

static uint64_t word_of(uint64_t base, uint32_t i)
{
	return mix(base + i * GUEST_MIX_1);
}

static uint64_t base_of(uint64_t seed, uint64_t number)
{
	return mix(mix(seed + 1) + number * GUEST_MIX_1);
}

void guest_page_fill(uint64_t *words, uint64_t seed, uint64_t number, uint64_t first_word)
{
	uint64_t base = base_of(seed, number);

	words[0] = first_word;
	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		words[i] = word_of(base, i);
}

bool guest_page_is(const uint64_t *words, uint64_t seed, uint64_t number, uint64_t first_word)
{
	uint64_t base = base_of(seed, number), differs = words[0] ^ first_word;

	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		differs |= words[i] ^ word_of(base, i);
	return !differs;
}

static bool is_filled(const struct guest_opts *o, uint64_t page)
{
	if (o->used_bytes && page >= o->used_bytes / GUEST_PAGE_BYTES)
		return false;
	return o->fill_all || page / BLOCK_PAGES % FILL_BLOCKS != FILL_BLOCKS - 1;
}

struct filler {
	pthread_t thread;
	uint64_t *ram;
	const struct guest_opts *o;
	uint64_t first, end;
};

static void *fill_thread(void *arg)
{
	struct filler *f = arg;

	for (uint64_t p = f->first; p < f->end; p++)
		if (is_filled(f->o, p))
			guest_page_fill(f->ram + p * GUEST_PAGE_WORDS, f->o->seed, p, 0);
	return NULL;
}

int guest_fill(void *ram, const struct guest_opts *o)
{
	uint64_t first = GUEST_LOW_BYTES / GUEST_PAGE_BYTES;
	uint64_t n = o->size_bytes / GUEST_PAGE_BYTES - first;
	struct filler f[N_FILLERS];
	int ret = 0;
	uint32_t i;

	for (i = 0; i < N_FILLERS && !ret; i++) {
		f[i] = (struct filler){ .ram = ram, .o = o };
		f[i].first = first + n * i / N_FILLERS;
		f[i].end = first + n * (i + 1) / N_FILLERS;
		ret = -pthread_create(&f[i].thread, NULL, fill_thread, &f[i]);
	}
	if (ret)
		i--;
	while (i--)
		pthread_join(f[i].thread, NULL);
	return ret;
}

static bool page_is_zero_but(const uint64_t *words, uint64_t first_word)
{
	uint64_t differs = words[0] ^ first_word;

	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		differs |= words[i];
	return !differs;
}

static int say_bad(const uint64_t *words, uint64_t page, uint64_t want, char *why, size_t why_bytes)
{
	if (words[0] < want)
		snprintf(why, why_bytes,
			 "page %" PRIu64 " is stale or lost: it holds write %" PRIu64
			 ", the guest's newest to it was %" PRIu64,
			 page, words[0], want);
	else
		snprintf(why, why_bytes,
			 "page %" PRIu64 " is not what the guest left: first word %" PRIu64
			 ", expected %" PRIu64,
			 page, words[0], want);
	return -EIO;
}

static int check_pages(const struct guest_opts *o, const uint64_t *ram, const uint64_t *newest,
		       char *why, size_t why_bytes)
{
	uint64_t n_pages = o->size_bytes / GUEST_PAGE_BYTES;

	for (uint64_t p = GUEST_LOW_BYTES / GUEST_PAGE_BYTES; p < n_pages; p++) {
		const uint64_t *words = ram + p * GUEST_PAGE_WORDS;
		bool good = is_filled(o, p) ? guest_page_is(words, o->seed, p, newest[p])
					    : page_is_zero_but(words, newest[p]);

		if (!good)
			return say_bad(words, p, newest[p], why, why_bytes);
	}
	return 0;
}

/* A sweep's past rounds need not be walked through. */
static uint64_t first_of_interest(const struct guest_writes *gw, uint64_t done)
{
	return gw->sweep && done > gw->n_pages ? done - gw->n_pages + 1 : 1;
}

int guest_check_writes(const struct guest_opts *o, const void *ram, const struct guest_writes *gw,
		       const uint64_t *done, uint32_t n, char *why, size_t why_bytes)
{
	size_t bytes = o->size_bytes / GUEST_PAGE_BYTES * sizeof(uint64_t);
	uint64_t *newest = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret;

	if (newest == MAP_FAILED) {
		snprintf(why, why_bytes, "no memory for checking %zu bytes of records", bytes);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint64_t s = first_of_interest(&gw[i], done[i]); s <= done[i]; s++)
			newest[guest_page_of(&gw[i], s)] = s;
	ret = check_pages(o, ram, newest, why, why_bytes);
	munmap(newest, bytes);
	return ret;
}

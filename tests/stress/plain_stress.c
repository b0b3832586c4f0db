/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rj_mark_dirty() against a harvest: writers write a page and mark it, a harvester collects,
 * re-arms and copies at the same time. In many short phases: when the writers of one are done, one
 * more harvest must bring the copy up to date. A mark that was lost on the way leaves an old page
 * behind, unless the page is written again.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/bitmap.h"
#include "pagesender/dirty/plain.h"

#define N_PAGES 1024u
#define N_WORDS (N_PAGES / 64)
#define N_WRITERS 3
#define N_WRITES 400u /* in a phase, each */
#define N_PHASES 300u

static _Atomic uint64_t memory[N_PAGES]; /* a page's version; relaxed, as guest memory is */
static uint64_t copy[N_PAGES];
static rji_plain_word marked[N_WORDS];
static atomic_int n_writing;
static pthread_barrier_t begin, end;

static void write_some(uint64_t *random)
{
	for (uint32_t i = 0; i < N_WRITES; i++) {
		uint64_t first, n;

		*random ^= *random << 13;
		*random ^= *random >> 7;
		*random ^= *random << 17;
		first = *random % N_PAGES;
		n = 1 + (*random >> 40) % 3;
		if (n > N_PAGES - first)
			n = N_PAGES - first;
		for (uint64_t p = first; p < first + n; p++)
			atomic_fetch_add_explicit(&memory[p], 1, memory_order_relaxed);
		rji_plain_mark(marked, first, n);
	}
}

static void *write_pages(void *arg)
{
	uint64_t random = (uintptr_t)arg * 88172645463325252ull;

	for (uint32_t phase = 0; phase < N_PHASES; phase++) {
		pthread_barrier_wait(&begin);
		write_some(&random);
		atomic_fetch_sub(&n_writing, 1);
		pthread_barrier_wait(&end);
	}
	return NULL;
}

static uint64_t harvest(void)
{
	uint64_t bits[N_WORDS] = { 0 }, first = 0, n, pages = 0;

	rji_plain_collect(marked, N_WORDS, bits);
	rji_plain_rearm(marked, N_WORDS, bits);
	while ((n = rji_bitmap_next_run(bits, &first, N_PAGES))) {
		for (uint64_t p = first; p < first + n; p++)
			copy[p] = atomic_load_explicit(&memory[p], memory_order_relaxed);
		first += n;
		pages += n;
	}
	return pages;
}

static int count_stale(uint32_t phase)
{
	int stale = 0;

	for (uint32_t p = 0; p < N_PAGES; p++) {
		if (copy[p] == memory[p])
			continue;
		fprintf(stderr, "phase %u: page %u was copied at %lu, is %lu\n", phase, p, copy[p],
			memory[p]);
		stale++;
	}
	return stale;
}

int main(void)
{
	pthread_t writer[N_WRITERS];
	uint64_t rounds = 0, pages = 0;
	int failures = 0;

	pthread_barrier_init(&begin, NULL, N_WRITERS + 1);
	pthread_barrier_init(&end, NULL, N_WRITERS + 1);
	for (uintptr_t i = 0; i < N_WRITERS; i++)
		pthread_create(&writer[i], NULL, write_pages, (void *)(i + 1));
	for (uint32_t phase = 0; phase < N_PHASES; phase++) {
		atomic_store(&n_writing, N_WRITERS);
		pthread_barrier_wait(&begin);
		do {
			pages += harvest();
			rounds++;
		} while (atomic_load(&n_writing));
		pthread_barrier_wait(&end);
		pages += harvest();
		failures += count_stale(phase);
		if (harvest()) {
			fprintf(stderr, "phase %u: a page is dirty that nobody wrote\n", phase);
			failures++;
		}
		if (failures)
			break;
	}
	printf("%lu rounds, %lu pages, %d failures\n", rounds, pages, failures);
	if (failures)
		return 1; /* the writers may wait for ever */
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(writer[i], NULL);
	return 0;
}

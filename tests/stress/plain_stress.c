/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rj_mark_dirty() against a harvest: writers write a page and mark it, a harvester collects,
 * re-arms and copies, for ever at the same time. When the writers are done, one more harvest must
 * bring the copy up to date: a mark that was lost on the way leaves an old page behind.
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
#define N_ROUNDS 3000u

static _Atomic uint64_t memory[N_PAGES]; /* a page's version; relaxed, as guest memory is */
static uint64_t copy[N_PAGES];
static rji_plain_word marked[N_WORDS];
static atomic_bool quit;

static void *write_pages(void *arg)
{
	uint64_t random = (uintptr_t)arg * 88172645463325252ull;

	while (!atomic_load_explicit(&quit, memory_order_relaxed)) {
		uint64_t first, n;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		first = random % N_PAGES;
		n = 1 + (random >> 40) % 80;
		if (n > N_PAGES - first)
			n = N_PAGES - first;
		for (uint64_t p = first; p < first + n; p += 1 + (random >> 50) % 16)
			atomic_fetch_add_explicit(&memory[p], 1, memory_order_relaxed);
		rji_plain_mark(marked, first, n);
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

int main(void)
{
	pthread_t writer[N_WRITERS];
	uint64_t rounds = 0, pages = 0;
	int failures = 0;

	for (uintptr_t i = 0; i < N_WRITERS; i++)
		pthread_create(&writer[i], NULL, write_pages, (void *)(i + 1));
	while (rounds < N_ROUNDS || pages < 20 * N_PAGES) {
		pages += harvest();
		rounds++;
	}
	atomic_store(&quit, true);
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(writer[i], NULL);
	pages += harvest();
	for (uint32_t p = 0; p < N_PAGES; p++) {
		if (copy[p] == memory[p])
			continue;
		fprintf(stderr, "page %u: copied at %lu, is %lu\n", p, copy[p], memory[p]);
		failures++;
	}
	printf("%lu rounds, %lu pages, %d stale\n", rounds, pages, failures);
	if (harvest()) {
		fprintf(stderr, "a page is dirty that nobody wrote\n");
		failures++;
	}
	return failures ? 1 : 0;
}

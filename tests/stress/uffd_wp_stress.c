/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "pagesender/dirty/tracker_impl.h"

/*
 * Writers against the two steps of the uffd tracker: lanes collect, re-arm and then copy what is
 * dirty to a mirror. Once the writers stopped, one more pass must make both equal: else a write was
 * lost.
 */

#define PAGE 4096ul
#define N_PAGES 8192ul
#define N_WORDS (N_PAGES / 64)
#define N_WRITERS 2
#define N_LANES 2
#define LANE_PAGES (N_PAGES / N_LANES)

static char *ram, *mirror;
static struct rj_tracker *t;
static atomic_bool writers_stop;
static uint64_t bits[N_WORDS];

static void *writer(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)arg * 0x9e3779b97f4a7c15ull + 1;

	while (!atomic_load(&writers_stop)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__atomic_fetch_add((uint64_t *)(ram + x % N_PAGES * PAGE), 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Relaxed atomic words: the copy races with the writers, as a lane's does. */
static void copy_page(uint64_t page)
{
	for (uint64_t i = 0; i < PAGE; i += 8) {
		uint64_t v = __atomic_load_n((uint64_t *)(ram + page * PAGE + i), __ATOMIC_RELAXED);

		memcpy(mirror + page * PAGE + i, &v, 8);
	}
}

static void *lane(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg * LANE_PAGES;
	uint64_t *mine = bits + first / 64, at = 0, n;

	if (t->ops.rearm(t->t, 0, first, LANE_PAGES, mine))
		abort();
	while ((n = rji_bitmap_next_run(mine, &at, LANE_PAGES)))
		for (; n; n--)
			copy_page(first + at++);
	return NULL;
}

static uint64_t pass(void)
{
	pthread_t lanes[N_LANES];

	memset(bits, 0, sizeof(bits));
	if (t->ops.collect(t->t, 0, 0, N_PAGES, bits))
		abort();
	for (uintptr_t i = 0; i < N_LANES; i++)
		pthread_create(&lanes[i], NULL, lane, (void *)i);
	for (uintptr_t i = 0; i < N_LANES; i++)
		pthread_join(lanes[i], NULL);
	return rji_bitmap_weight(bits, N_WORDS);
}

static int run(int flags)
{
	struct rj_region r = { .size = sizeof(r),
			       .name = "ram",
			       .page_bytes = PAGE,
			       .fd = -1,
			       .len_bytes = N_PAGES * PAGE };
	pthread_t writers[N_WRITERS];
	uint64_t pages = 0;
	char why[256] = "";

	ram = mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	mirror = calloc(N_PAGES, PAGE);
	r.host = ram;
	atomic_store(&writers_stop, false);
	if (t->ops.attach(t->t, 0, &r, why, sizeof(why)) != 1 || t->ops.start(t->t)) {
		fprintf(stderr, "attach: %s\n", why);
		return 1;
	}
	for (uintptr_t i = 0; i < N_WRITERS; i++)
		pthread_create(&writers[i], NULL, writer, (void *)i);
	for (int i = 0; i < (getenv("RJ_TEST_LONG") ? 1000 : 50); i++)
		pages += pass();
	atomic_store(&writers_stop, true);
	for (uintptr_t i = 0; i < N_WRITERS; i++)
		pthread_join(writers[i], NULL);
	pages += pass();
	printf("%lu pages copied\n", pages);
	if (memcmp(ram, mirror, N_PAGES * PAGE)) {
		fprintf(stderr, "a write was lost\n");
		return 1;
	}
	t->ops.stop(t->t);
	munmap(ram, N_PAGES * PAGE);
	free(mirror);
	return 0;
}

int main(void)
{
	int ret = rj_uffd_wp_create(&t);

	if (ret == -ENOTSUP || ret == -EPERM)
		return 77;
	if (ret)
		return 1;
	ret = run(MAP_SHARED) || run(MAP_PRIVATE);
	rj_tracker_destroy(&t);
	return ret;
}

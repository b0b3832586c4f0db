/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several lanes in one harvest, writers and a holder at the same time. Pages are version numbers.
 *
 *   - In a round a page is handed out at most once, and what was pending exactly once.
 *   - A window's re-arming happens before any of its pages is handed out: the fake tracker writes a
 *     plain field per window, the lanes read it, TSan watches.
 *   - Nothing is lost: after the writers are done a last round makes the copy equal.
 *   - Between rji_holds_add() and rji_holds_remove() no lane reads a held page.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "pagesender/harvest.h"

#define N_PAGES 70000u /* five windows, the last ends inside a word */
#define N_WORDS ((N_PAGES + 63) / 64)
#define WINDOW_PAGES 16384u
#define N_LANES 4
#define N_WRITERS 2
#define N_WRITES 3000u /* in a phase, each */
#define N_HOLDS 20u    /* in a phase */
#define N_PHASES 30u

static _Atomic uint64_t memory[N_PAGES];
static _Atomic uint64_t copy[N_PAGES];
static _Atomic uint64_t dirty[N_WORDS];
static _Atomic uint32_t taken_in[N_PAGES]; /* round in which it was handed out last */
static _Atomic bool held[N_PAGES];
static uint64_t asked[N_WORDS];				/* what rearm was asked for in this round */
static uint32_t rearmed_in[N_PAGES / WINDOW_PAGES + 1]; /* plain on purpose */
static uint64_t allowed[N_WORDS];			/* and what it left to be sent */
static atomic_uint failures;

static struct rji_pageset set;
static struct rji_holds holds;
static struct rji_harvest harvest;
static uint32_t round_number;
static uint32_t n_groups = 1; /* of lanes; changes between phases */
static pthread_barrier_t begin, end;
static atomic_bool quit;
static atomic_int n_busy; /* writers and the holder */
static uint64_t sent_pages[N_LANES];

static void fail(const char *what, uint64_t page)
{
	if (atomic_fetch_add(&failures, 1) < 10)
		fprintf(stderr, "round %u: %s: page %lu\n", round_number, what, page);
}

static uint64_t next(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

/* --- a tracker like KVM's log --- */

static int collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	for (uint64_t i = 0; i < N_WORDS; i++)
		bits[i] |= atomic_load_explicit(&dirty[i], memory_order_relaxed);
	return 0;
}

/* Clears what it is asked for; in some words takes along what else it finds. */
static int rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	uint64_t at = first_page / 64;

	sched_yield(); /* long enough for others to help too soon */
	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++) {
		asked[at + i] |= bits[i];
		if (i % 7 == 0)
			bits[i] |= atomic_load_explicit(&dirty[at + i], memory_order_relaxed);
		atomic_fetch_and_explicit(&dirty[at + i], ~bits[i], memory_order_acquire);
		allowed[at + i] = bits[i];
	}
	rearmed_in[first_page / WINDOW_PAGES] = round_number;
	return 0;
}

static const struct rj_tracker_ops ops = { .size = sizeof(ops),
					   .name = "fake",
					   .collect = collect,
					   .rearm = rearm };

/* --- writers and the holder --- */

static void *write_pages(void *arg)
{
	uint64_t random = (uintptr_t)arg * 88172645463325252ull;

	for (uint32_t i = 0; i < N_WRITES; i++) {
		uint64_t page = next(&random) % N_PAGES;

		atomic_fetch_add_explicit(&memory[page], 1, memory_order_relaxed);
		if (random >> 60 & 1)
			rji_pageset_mark(&set, 0, page * 4096, 1);
		else
			atomic_fetch_or_explicit(&dirty[page / 64], 1ull << page % 64,
						 memory_order_release);
	}
	atomic_fetch_sub(&n_busy, 1);
	return NULL;
}

static void *hold_pages(void *arg)
{
	uint64_t random = (uintptr_t)arg * 4711;

	for (uint32_t i = 0; i < N_HOLDS; i++) {
		uint64_t first = next(&random) % N_PAGES, n = 1 + next(&random) % (N_PAGES - first);
		struct rji_held h = { 0, first, n, first * 4096, n * 4096 };

		if (rji_holds_add(&holds, &h) < 0)
			fail("cannot be held", first);
		for (uint64_t p = first; p < first + n; p++)
			atomic_store_explicit(&held[p], true, memory_order_relaxed);
		sched_yield();
		for (uint64_t p = first; p < first + n; p++)
			atomic_store_explicit(&held[p], false, memory_order_relaxed);
		rji_pageset_mark(&set, 0, first * 4096, n * 4096);
		rji_holds_remove(&holds, &h);
	}
	atomic_fetch_sub(&n_busy, 1);
	return NULL;
}

/* --- lanes --- */

static void send_span(const struct rji_span *span, uint32_t lane)
{
	if (rearmed_in[span->first_page / WINDOW_PAGES] != round_number)
		fail("handed out before it was re-armed", span->first_page);
	for (uint64_t i = 0; i < span->n_pages; i++) {
		uint64_t page = span->first_page + i;

		if (!rji_bitmap_test(span->bits, i))
			continue;
		if (atomic_exchange(&taken_in[page], round_number) == round_number)
			fail("handed out twice", page);
		if (atomic_load_explicit(&held[page], memory_order_relaxed))
			fail("read while held", page);
		atomic_store_explicit(&copy[page],
				      atomic_load_explicit(&memory[page], memory_order_relaxed),
				      memory_order_relaxed);
		sent_pages[lane]++;
	}
}

static void *lane_thread(void *arg)
{
	uint32_t lane = (uint32_t)(uintptr_t)arg;
	struct rji_harvest_cursor c;
	struct rji_span span;
	struct rj_error err;

	rji_error_init(&err);
	for (;;) {
		pthread_barrier_wait(&begin);
		if (atomic_load(&quit))
			return NULL;
		rji_harvest_cursor_init(&c, lane % n_groups);
		rji_holds_enter(&holds, lane);
		while (rji_harvest_next(&harvest, &c, &span, &err) == 1) {
			send_span(&span, lane);
			if (rji_holds_changed(&holds, lane))
				rji_holds_acknowledge(&holds, lane);
		}
		rji_holds_leave(&holds, lane);
		pthread_barrier_wait(&end);
	}
}

/* --- rounds --- */

static uint64_t send_round(struct rj_error *err)
{
	uint64_t *before = malloc(sizeof(asked));
	struct rji_dirt dirt;

	round_number++;
	if (rji_harvest_collect(&harvest, &dirt, err) < 0)
		fail("collect", 0);
	memcpy(before, set.region[0].pending, sizeof(asked));
	memset(asked, 0, sizeof(asked));
	memset(allowed, 0, sizeof(allowed));
	rji_harvest_begin_round(&harvest);
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	for (uint64_t p = 0; p < N_PAGES; p++) {
		bool was_pending = rji_bitmap_test(before, p);
		bool is_pending = rji_bitmap_test(set.region[0].pending, p);

		if (was_pending != rji_bitmap_test(asked, p))
			fail("re-armed and pending differ", p);
		if (was_pending && !is_pending && taken_in[p] != round_number)
			fail("was pending and not handed out", p);
		if (taken_in[p] == round_number && !rji_bitmap_test(set.region[0].unfenced, p))
			fail("handed out and not unfenced", p);
		if (taken_in[p] == round_number && !rji_bitmap_test(allowed, p))
			fail("handed out and not re-armed", p);
	}
	rji_harvest_fenced(&harvest);
	free(before);
	return dirt.pending_pages;
}

/* Spans of two nodes and of none, mixed within windows; lanes of two groups. */
static void set_groups(void)
{
	static const uint8_t group_of_node[RJI_MAX_NODES] = { 0, 1 };
	static const uint8_t node[] = { 0, 1, RJI_NODE_UNKNOWN, 1, 0 };
	struct rji_pageset_region *r = &set.region[0];

	r->span_node = malloc(r->n_pages / r->span_pages + 1);
	for (uint64_t i = 0; i <= r->n_pages / r->span_pages; i++)
		r->span_node[i] = node[i % 5];
	n_groups = 2;
	if (rji_harvest_set_groups(&harvest, n_groups, group_of_node) < 0)
		fail("no memory for the groups", 0);
}

static void set_up(void)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = "ram";
	r.host = memory; /* never touched through it */
	r.len_bytes = N_PAGES * 4096ull;
	rji_pageset_add(&set, &r);
	set.region[0].trackers[set.region[0].n_trackers++] = (struct rji_attached){ &ops, NULL };
	rji_holds_init(&holds);
	rji_harvest_init(&harvest, &set, &holds);
	rji_pageset_all_pending(&set);
}

/* Writers and the holder at work, then all quiet: what was written has arrived. */
static void run_phase(struct rj_error *err, uint32_t phase)
{
	pthread_t writer[N_WRITERS], holder;

	atomic_store(&n_busy, N_WRITERS + 1);
	for (uintptr_t i = 0; i < N_WRITERS; i++)
		pthread_create(&writer[i], NULL, write_pages, (void *)(phase * N_WRITERS + i + 1));
	pthread_create(&holder, NULL, hold_pages, (void *)(uintptr_t)(phase + 1));
	while (atomic_load(&n_busy))
		send_round(err);
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(writer[i], NULL);
	pthread_join(holder, NULL);
	send_round(err);
	if (send_round(err))
		fail("pending though nobody writes", 0);
	for (uint32_t p = 0; p < N_PAGES; p++) {
		if (copy[p] != memory[p])
			fail("stale when all is quiet", p);
	}
}

int main(void)
{
	pthread_t lane[N_LANES];
	struct rj_error err;
	uint64_t n = 0;

	rji_error_init(&err);
	set_up();
	pthread_barrier_init(&begin, NULL, N_LANES + 1);
	pthread_barrier_init(&end, NULL, N_LANES + 1);
	for (uintptr_t i = 0; i < N_LANES; i++)
		pthread_create(&lane[i], NULL, lane_thread, (void *)i);
	for (uint32_t phase = 0; phase < N_PHASES && !failures; phase++) {
		if (phase == N_PHASES / 2)
			set_groups();
		run_phase(&err, phase);
	}
	atomic_store(&quit, true);
	pthread_barrier_wait(&begin);
	for (int i = 0; i < N_LANES; i++) {
		pthread_join(lane[i], NULL);
		n += sent_pages[i];
	}
	printf("%u rounds, %lu pages, %u failures\n", round_number, n, failures);
	rji_harvest_fini(&harvest);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	return failures ? 1 : 0;
}

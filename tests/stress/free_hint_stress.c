/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that frees pages, says so in both ways that VMMs have, and uses them again, while lanes send it. Each
 * guest thread has pages of its own; their contents are version numbers.
 *
 *   - Nothing is lost: when all is quiet the copy of each page in use is as the page.
 *   - A free page's copy is of this page: nothing, or what it was some time ago; never what somebody else had there.
 *   - The words of maps belong to who says so: TSan watches.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "pagesender/harvest.h"

#define N_PAGES 70000u /* five windows, the last ends inside a word */
#define N_WORDS ((N_PAGES + 63) / 64)
#define N_LANES 3
#define N_GUESTS 3
#define RUN 32u /* pages that are freed and used together */
#define N_RUNS (N_PAGES / RUN)
#define N_STEPS 4000u /* in a phase, each */
#define N_PHASES 30u
#define STRANGE                                                                                    \
	UINT64_MAX /* what is in the destination's memory at first, where that is not known to be zero */

static _Atomic uint64_t memory[N_PAGES]; /* page in the upper half, version below */
static _Atomic uint64_t copy[N_PAGES];
static _Atomic uint64_t dirty[N_WORDS];
static bool in_use[N_RUNS]; /* each its guest thread's */
static atomic_uint failures;
static _Atomic uint64_t generation; /* 0: none to hint by */
static _Atomic uint64_t n_taken, n_cleared;

static struct rji_pageset set;
static struct rji_pageset_region *ram;
static struct rji_free_hints hints;
static struct rji_holds holds;
static struct rji_harvest harvest;
static pthread_barrier_t begin, end;
static atomic_bool quit;
static atomic_int n_busy;
static uint32_t round_number;

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

/* --- a tracker like KVM's log, which in some words takes along what else it finds --- */

static int collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	for (uint64_t i = 0; i < N_WORDS; i++)
		bits[i] |= atomic_load_explicit(&dirty[i], memory_order_relaxed);
	return 0;
}

static int rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	uint64_t at = first_page / 64;

	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++) {
		if ((at + i) % 7 == 0)
			bits[i] |= atomic_load_explicit(&dirty[at + i], memory_order_relaxed);
		if (bits[i])
			atomic_fetch_and_explicit(&dirty[at + i], ~bits[i], memory_order_acquire);
	}
	return 0;
}

static const struct rj_tracker_ops ops = { .size = sizeof(ops),
					   .name = "fake",
					   .collect = collect,
					   .rearm = rearm };

/* --- the guest --- */

static void write_page(uint64_t page, bool by_vmm)
{
	uint64_t was = atomic_load_explicit(&memory[page], memory_order_relaxed);

	atomic_store_explicit(&memory[page], page << 32 | ((was & UINT32_MAX) + 1),
			      memory_order_relaxed);
	if (by_vmm)
		rji_pageset_mark(&set, 0, page * 4096, 1);
	else
		atomic_fetch_or_explicit(&dirty[page / 64], 1ull << page % 64,
					 memory_order_release);
}

static void use_run(uint64_t run, uint64_t random)
{
	for (uint64_t i = 0; i < RUN; i++)
		write_page(run * RUN + i, random >> i & 1);
	in_use[run] = true;
}

/* Hints may come from several threads at once: each for its own. */
static void hint(uint64_t run, uint64_t by)
{
	int ret = rji_free_mark(&hints, 0, run * RUN * 4096, RUN * 4096ull, by);

	if (ret > 0)
		atomic_fetch_add_explicit(&n_taken, (uint64_t)ret, memory_order_relaxed);
	if (ret < 0 && !(by && ret == -EINVAL)) /* another generation meanwhile */
		fail("a hint is refused", run * RUN);
}

static void free_run(uint64_t run, uint64_t random)
{
	uint64_t by = random & 1 ? atomic_load_explicit(&generation, memory_order_acquire)
				 : RJ_FREE_REPORTED;

	in_use[run] = false;
	if (by && random & 2) /* used again before its hint arrives */
		use_run(run, random >> 8);
	hint(run, by);
}

static void *guest_thread(void *arg)
{
	uint64_t number = (uintptr_t)arg % N_GUESTS;
	uint64_t random = (uintptr_t)arg * 88172645463325252ull + 1;

	for (uint32_t i = 0; i < N_STEPS; i++) {
		uint64_t run = next(&random) % (N_RUNS / N_GUESTS) * N_GUESTS + number;
		uint64_t what = next(&random);

		if (!in_use[run])
			use_run(run, what);
		else if (what % 4 == 0)
			write_page(run * RUN + what / 4 % RUN, what >> 40 & 1);
		else
			free_run(run, what >> 8);
	}
	atomic_fetch_sub(&n_busy, 1);
	return NULL;
}

/* The VMM asks for hints now and then. */
static void *vmm_thread(void *arg)
{
	for (int i = 0; i < 30; i++) {
		uint64_t g;

		atomic_store_explicit(&generation, 0, memory_order_relaxed);
		if (rji_free_begin(&hints, &g) < 0)
			fail("no generation", 0);
		else
			atomic_store_explicit(&generation, g, memory_order_release);
		for (int k = 0; k < 50; k++)
			sched_yield();
	}
	atomic_fetch_sub(&n_busy, 1);
	return NULL;
}

/* --- lanes --- */

static void send_span(const struct rji_span *span)
{
	uint64_t first = span->first_page / 64, n = rji_bitmap_words(span->n_pages);
	uint64_t clears[RJI_SPAN_MAX_WORDS];

	rji_free_take_clears(ram, span->first_page, n, span->bits, clears);
	for (uint64_t i = 0; i < n; i++)
		ram->touched[first + i] |= span->bits[i];
	for (uint64_t i = 0; i < span->n_pages; i++) {
		uint64_t page = span->first_page + i;

		if (!rji_bitmap_test(span->bits, i))
			continue;
		if (rji_bitmap_test(clears, i))
			atomic_fetch_add_explicit(&n_cleared, 1, memory_order_relaxed);
		atomic_store_explicit(&copy[page],
				      rji_bitmap_test(clears, i)
					      ? 0
					      : atomic_load_explicit(&memory[page],
								     memory_order_relaxed),
				      memory_order_relaxed);
	}
}

static void *lane_thread(void *arg)
{
	struct rji_harvest_cursor c;
	struct rji_span span;
	struct rj_error err;
	uint32_t n = 0;

	rji_error_init(&err);
	for (;;) {
		pthread_barrier_wait(&begin);
		if (atomic_load(&quit))
			return NULL;
		rji_harvest_cursor_init(&c, 0);
		while (rji_harvest_next(&harvest, &c, &span, &err) == 1) {
			if (arg && ++n % 101 == 0) { /* as if the lane failed with this span */
				atomic_store(&harvest.abort, true);
				break;
			}
			send_span(&span);
		}
		pthread_barrier_wait(&end);
	}
}

/* --- rounds --- */

static uint64_t send_round(struct rj_error *err)
{
	struct rji_dirt dirt;

	round_number++;
	if (rji_harvest_collect(&harvest, &dirt, err) < 0)
		fail("collect", 0);
	rji_harvest_begin_round(&harvest);
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	if (!atomic_load(&harvest.abort)) {
		rji_harvest_fenced(&harvest);
		return dirt.pending_pages;
	}
	rji_free_lock(&hints);
	rji_pageset_unfenced_to_pending(&set);
	rji_free_unlock(&hints);
	return UINT64_MAX;
}

static void compare(void)
{
	for (uint64_t p = 0; p < N_RUNS * RUN; p++) {
		uint64_t there = copy[p], here = memory[p];

		if (in_use[p / RUN] ? there != here : there && (there >> 32 != p || there > here))
			fail(in_use[p / RUN] ? "a write is lost" : "not of this page", p);
	}
}

/* Guests at work, then all quiet. */
static void run_phase(struct rj_error *err, uint32_t phase)
{
	pthread_t guest[N_GUESTS], vmm;

	atomic_store(&n_busy, N_GUESTS + 1);
	for (uintptr_t i = 0; i < N_GUESTS; i++)
		pthread_create(&guest[i], NULL, guest_thread, (void *)(phase * N_GUESTS + i));
	pthread_create(&vmm, NULL, vmm_thread, NULL);
	while (atomic_load(&n_busy))
		send_round(err);
	for (int i = 0; i < N_GUESTS; i++)
		pthread_join(guest[i], NULL);
	pthread_join(vmm, NULL);
	while (send_round(err)) /* the last ones send what the ones before them left */
		;
	compare();
}

static void set_up(bool given_zeroed)
{
	struct rj_region r;

	memset(&set, 0, sizeof(set));
	rj_region_init(&r);
	r.name = "ram";
	r.host = memory; /* never touched through it */
	r.len_bytes = N_PAGES * 4096ull;
	rji_pageset_add(&set, &r);
	rji_pageset_keep(&set, false);
	ram = &set.region[0];
	ram->given_zeroed = given_zeroed;
	ram->trackers[ram->n_trackers++] = (struct rji_attached){ &ops, NULL };
	rji_free_hints_init(&hints, &set, true);
	rji_holds_init(&holds);
	rji_harvest_init(&harvest, &set, &holds);
	harvest.hints = &hints;
	rji_pageset_all_pending(&set);
	memset(dirty, 0xff, sizeof(dirty)); /* as KVM's log begins */
	dirty[N_WORDS - 1] = (1ull << N_PAGES % 64) - 1;
	for (uint64_t p = 0; p < N_PAGES; p++) {
		memory[p] = p << 32;
		copy[p] = given_zeroed ? 0 : STRANGE;
	}
	memset(in_use, 0, sizeof(in_use));
	rji_free_hints_open(&hints, true);
}

static void tear_down(void)
{
	rji_free_hints_open(&hints, false);
	rji_harvest_fini(&harvest);
	rji_free_hints_fini(&hints);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
}

static void run_session(struct rj_error *err, bool given_zeroed)
{
	pthread_t lane[N_LANES];

	set_up(given_zeroed);
	atomic_store(&quit, false);
	for (uintptr_t i = 0; i < N_LANES; i++)
		pthread_create(&lane[i], NULL, lane_thread, (void *)i);
	for (uint32_t phase = 0; phase < N_PHASES && !failures; phase++)
		run_phase(err, phase);
	atomic_store(&quit, true);
	pthread_barrier_wait(&begin);
	for (int i = 0; i < N_LANES; i++)
		pthread_join(lane[i], NULL);
	tear_down();
}

int main(void)
{
	struct rj_error err;

	rji_error_init(&err);
	pthread_barrier_init(&begin, NULL, N_LANES + 1);
	pthread_barrier_init(&end, NULL, N_LANES + 1);
	for (int i = 0; i < 4; i++)
		run_session(&err, i % 2);
	if (!n_taken || !n_cleared)
		fail("no hint was of use", 0);
	printf("%u rounds, %lu pages hinted, %lu cleared, %u failures\n", round_number, n_taken,
	       n_cleared, failures);
	return failures ? 1 : 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM's dirty ring under several lanes, with a real virtual machine: its ring is so small that it
 * is full all the time, lanes re-arm windows and copy, all at once. When the guest stands still and
 * two more rounds are over, the copy has to equal its memory, but for what the VMM's device wrote.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "bench/guest/guest.h"
#include "pagesender/dirty/tracker_impl.h"
#include "pagesender/harvest.h"
#include "tests/support/fake_session.h"
#include "tests/support/guest_checks.h"

#define SIZE (256ul << 20) /* four windows */
#define N_PAGES (SIZE / 4096)
#define N_LANES 3
#define N_ROUNDS 60
#define RING_PAGES 1024u
#define DEVICE_FIRST 0x80u /* pages the VMM itself writes: not the ring's business */
#define DEVICE_END 0x200u
#define SKIPPED 77

static struct rji_pageset set;
static struct rji_holds holds;
static struct rji_harvest harvest;
static pthread_barrier_t begin, end;
static atomic_bool quit;
static atomic_ulong n_copied;
static uint64_t *copy;
static struct rj_region region;

/* The guest writes at the same time. */
__attribute__((no_sanitize("thread"))) static void copy_page(uint64_t page)
{
	const volatile uint64_t *from = (const uint64_t *)region.host + page * 512;

	for (int i = 0; i < 512; i++)
		copy[page * 512 + i] = from[i];
}

static void *lane_thread(void *arg)
{
	struct rji_harvest_cursor c;
	struct rji_span span;
	struct rj_error err;

	rji_error_init(&err);
	for (;;) {
		pthread_barrier_wait(&begin);
		if (atomic_load(&quit))
			return arg;
		rji_harvest_cursor_init(&c, 0);
		while (rji_harvest_next(&harvest, &c, &span, &err) == 1) {
			for (uint64_t i = 0; i < span.n_pages; i++) {
				if (!rji_bitmap_test(span.bits, i))
					continue;
				copy_page(span.first_page + i);
				atomic_fetch_add(&n_copied, 1);
			}
		}
		CHECK(!err.code);
		pthread_barrier_wait(&end);
	}
}

static void send_round(void)
{
	struct rj_error err;
	struct rji_dirt dirt;

	rji_error_init(&err);
	CHECK(!rji_harvest_collect(&harvest, &dirt, &err));
	rji_harvest_begin_round(&harvest);
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	rji_harvest_fenced(&harvest);
}

static void compare(void)
{
	const uint64_t *ram = region.host;

	for (uint64_t p = 0; p < N_PAGES; p++) {
		if (p >= DEVICE_FIRST && p < DEVICE_END)
			continue;
		snprintf(why, sizeof(why), "page %lu is lost or stale", p);
		CHECK(!memcmp(copy + p * 512, ram + p * 512, 4096));
	}
}

static struct guest *make_guest(const char *workload)
{
	struct guest_opts o = {
		.kind = GUEST_KVM,
		.size_bytes = SIZE,
		.seed = 7,
		.tracker = GUEST_TRACKER_RING,
		.ring_pages = RING_PAGES,
	};
	struct guest *g;

	CHECK(!guest_parse_workload(workload, &o.workload, why, sizeof(why)));
	if (guest_create(&o, &g, why, sizeof(why)) < 0) {
		printf("skipped: %s\n", why);
		exit(SKIPPED);
	}
	return g;
}

static void set_up(struct guest *g)
{
	struct rj_tracker *t;

	fake_session_reset();
	CHECK(guest_attach(g, fake_session(), why, sizeof(why)) == 0);
	t = fake.tracker;
	guest_region(g, 0, &region);
	CHECK(rji_pageset_add(&set, &region) == 0);
	set.region[0].trackers[set.region[0].n_trackers++] = (struct rji_attached){ &t->ops, t->t };
	rji_holds_init(&holds);
	CHECK(rji_harvest_init(&harvest, &set, &holds) == 0);
	CHECK(t->ops.attach(t->t, 0, &region, why, sizeof(why)) == 1);
	CHECK(t->ops.start(t->t) == 0);
	rji_pageset_all_pending(&set);
	copy = malloc(SIZE);
}

static void try(const char *workload)
{
	struct guest *g = make_guest(workload);
	pthread_t lane[N_LANES];

	CHECK(guest_run(g) == 0);
	set_up(g);
	for (int i = 0; i < N_LANES; i++)
		pthread_create(&lane[i], NULL, lane_thread, NULL);
	for (int i = 0; i < N_ROUNDS; i++) {
		uint64_t beat = guest_counter(g);

		send_round();
		while (guest_counter(g) < beat + 2) /* so that each round has something to do */
			usleep(100);
	}
	CHECK(guest_pause(g) == RJ_WAS_RUNNING);
	send_round();
	send_round();
	compare();
	atomic_store(&quit, true);
	pthread_barrier_wait(&begin);
	for (int i = 0; i < N_LANES; i++)
		pthread_join(lane[i], NULL);
	atomic_store(&quit, false);
	CHECK(fake.tracker->ops.stop(fake.tracker->t) == 0);
	guest_detach(g);
	printf("%s: %d rounds, %lu pages copied\n", workload, N_ROUNDS + 2,
	       atomic_exchange(&n_copied, 0));
	rji_harvest_fini(&harvest);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	guest_destroy(&g);
	free(copy);
}

/* Scattered writes fill the ring; a hot area fits into it, and nothing but rearm resets it. */
int main(void)
{
	pthread_barrier_init(&begin, NULL, N_LANES + 1);
	pthread_barrier_init(&end, NULL, N_LANES + 1);
	try("uniform:1G");
	try("hot:1M:400M");
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "bench/guest/guest.h"
#include "pagesender/dirty/tracker_impl.h"
#include "tests/support/fake_session.h"
#include "tests/support/guest_checks.h"

/*
 * Guests under their trackers, without a session. First by hand: do the pages that a tracker
 * reports equal those that changed? Then the shortest live migration: collect, re-arm, copy, while
 * the guest runs; and again with each rule broken, which the guest at the other end must notice.
 */

#define PAGE 4096ul
#define SIZE (64ul << 20)
#define N_PAGES (SIZE / PAGE)
#define N_WORDS (N_PAGES / 64)
#define LOW_PAGES 512u /* the payload writes one page of these, the device others */
#define CONTROL_PAGE 1u
#define RING_PAGES 1024u /* small, so that it gets full all the time */

static uint64_t bits[N_WORDS];
static struct rj_tracker *t;
static enum guest_tracker tracker;
static uint64_t free_bytes; /* of guests to come; reused as fast as they can */

static char *ram_of(const struct guest *g)
{
	struct rj_region r;

	guest_region(g, 0, &r);
	return r.host;
}

static struct guest *make_source(enum guest_kind kind, const char *workload, bool broken)
{
	struct guest_opts o = {
		.kind = kind,
		.size_bytes = SIZE,
		.seed = 7,
		.tracker = tracker,
		.ring_pages = RING_PAGES,
		.break_device_tracking = broken,
		.free_bytes = free_bytes,
		.hints = free_bytes ? GUEST_HINTS_REPORTING : GUEST_HINTS_NONE,
		.reuse_bytes_per_s = free_bytes ? 50u << 20 : 0,
	};
	struct guest *g;

	CHECK(guest_parse_workload(workload, &o.workload, why, sizeof(why)) == 0);
	CHECK(guest_create(&o, &g, why, sizeof(why)) == 0);
	return g;
}

/* t is NULL if every write is marked and there is no tracker. */
static void attach(struct guest *g)
{
	struct rj_region r;

	fake_session_reset();
	CHECK(guest_attach(g, fake_session(), why, sizeof(why)) == 0);
	t = fake.tracker;
	if (!t)
		return;
	guest_region(g, 0, &r);
	CHECK(t->ops.attach(t->t, 0, &r, why, sizeof(why)) == 1);
	CHECK(t->ops.start(t->t) == 0);
}

static void detach(struct guest *g)
{
	if (t)
		CHECK(t->ops.stop(t->t) == 0);
	guest_detach(g);
}

static void rearm(void)
{
	CHECK(!t || t->ops.rearm(t->t, 0, 0, N_PAGES, bits) == 0);
}

static uint64_t collect(void)
{
	memset(bits, 0, sizeof(bits));
	CHECK(!t || t->ops.collect(t->t, 0, 0, N_PAGES, bits) == 0);
	return rji_bitmap_weight(bits, N_WORDS);
}

/* The log against the memory itself. */
static void check_by_hand(enum guest_kind kind, const char *workload)
{
	struct guest *g = make_source(kind, workload, false);
	char *ram = ram_of(g), *old = malloc(SIZE);
	uint64_t n = 0, extra = 0;

	CHECK(guest_run(g) == 0);
	usleep(20000);
	attach(g);
	if (!t)
		goto out;
	CHECK(guest_pause(g) == RJ_WAS_RUNNING);
	memset(bits, 0xff, sizeof(bits));
	rearm();
	CHECK(collect() == 0);
	memcpy(old, ram, SIZE);
	CHECK(guest_run(g) == 0);
	usleep(100000);
	CHECK(guest_pause(g) == RJ_WAS_RUNNING);
	n = collect();
	for (uint64_t p = 0; p < N_PAGES; p++) {
		bool changed = memcmp(ram + p * PAGE, old + p * PAGE, PAGE) != 0;
		bool device = p < LOW_PAGES && p != CONTROL_PAGE;

		CHECK(!changed || device || rji_bitmap_test(bits, p));
		/* AMD's nested paging takes a walk through the guest's page tables for a write. */
		extra += p >= LOW_PAGES && !changed && rji_bitmap_test(bits, p);
	}
	/* The device's own pages are no business of this tracker, which shows that they need
	 * another one. */
	for (uint64_t p = 0x100; p < 0x200; p++)
		CHECK(!rji_bitmap_test(bits, p));
	printf("%d %s: %lu pages written, %lu of them reported without need\n", (int)kind, workload,
	       n, extra);
	CHECK(!extra);
out:
	free(old);
	detach(g);
	guest_destroy(&g);
}

enum fault { NO_FAULT, COPY_BEFORE_REARM, DEVICE_NOT_ANNOUNCED, NO_HARVEST_AFTER_SAVE, N_FAULTS };

static const char *const fault_names[] = { "no fault", "copy before re-arm", "device not announced",
					   "no harvest after save" };

/* Word by word: the guest writes at the same time. */
__attribute__((no_sanitize("thread"))) static void copy_dirty(char *to, const char *from)
{
	for (uint64_t p = 0; p < N_PAGES; p++)
		if (rji_bitmap_test(bits, p))
			for (uint64_t i = p * PAGE; i < (p + 1) * PAGE; i += 8)
				*(uint64_t *)(to + i) = *(const volatile uint64_t *)(from + i);
}

static uint64_t round_trip(char *to, const char *from, enum fault fault)
{
	collect();
	fake_session_take_marks(bits, N_PAGES);
	if (fault == COPY_BEFORE_REARM) {
		copy_dirty(to, from);
		usleep(2000); /* it would not take long in the field, either */
		rearm();
	} else {
		rearm();
		copy_dirty(to, from);
	}
	return rji_bitmap_weight(bits, N_WORDS);
}

static struct guest *make_destination(const struct guest *source)
{
	struct guest_opts o;
	struct guest *g;
	uint8_t blob[256];
	int len = guest_describe(source, blob, sizeof(blob));

	CHECK(len > 0 && guest_understand(blob, (size_t)len, &o, why, sizeof(why)) == 0);
	CHECK(guest_create_empty(&o, &g, why, sizeof(why)) == 0);
	return g;
}

static void migrate(enum guest_kind kind, const char *workload, enum fault fault)
{
	struct guest *a = make_source(kind, workload, fault == DEVICE_NOT_ANNOUNCED), *b;
	uint64_t pages = 0, last, counter;

	CHECK(guest_run(a) == 0);
	usleep(20000);
	attach(a);
	b = make_destination(a);
	memset(bits, 0xff, sizeof(bits));
	rearm();
	copy_dirty(ram_of(b), ram_of(a));
	for (int i = 0; i < 20; i++)
		pages += round_trip(ram_of(b), ram_of(a), fault);
	CHECK(guest_pause(a) == RJ_WAS_RUNNING);
	if (fault == NO_HARVEST_AFTER_SAVE)
		round_trip(ram_of(b), ram_of(a), fault);
	CHECK(guest_save(a, fake_session()) == 0);
	last = fault == NO_HARVEST_AFTER_SAVE ? 0 : round_trip(ram_of(b), ram_of(a), NO_FAULT);
	CHECK(guest_load(b, fake_session(), why, sizeof(why)) == 0);
	why[0] = '\0';
	CHECK(!guest_check(b, why, sizeof(why)) == (fault == NO_FAULT));
	printf("%d %s, %s: %lu + %lu pages %s\n", (int)kind, workload, fault_names[fault], pages,
	       last, why);
	counter = guest_counter(b);
	if (fault == NO_FAULT) {
		CHECK(memcmp(ram_of(a), ram_of(b), SIZE) == 0);
		CHECK(guest_run(b) == 0);
		for (int i = 0; guest_counter(b) < counter + 5 && i < 5000; i++)
			usleep(1000);
		guest_pause(b);
		CHECK(guest_counter(b) >= counter + 5);
		CHECK(guest_check(b, why, sizeof(why)) == 0);
	}
	guest_destroy(&b);
	detach(a);
	guest_destroy(&a);
}

/* So far, or not at all. */
static void gets_on(const struct guest *g, uint64_t beats)
{
	uint64_t until = guest_counter(g) + beats;

	for (int i = 0; guest_counter(g) < until && i < 5000; i++)
		usleep(1000);
}

/*
 * Free pages are filled by string instructions. Some machines emulate them, their rings overflow, and what was written
 * is not known: who sends has to hear of it, and the vCPU must come back in any case.
 */
static void fill_free_pages_under_a_ring(void)
{
	struct guest *g;
	int ret = 0;

	free_bytes = 16u << 20;
	g = make_source(GUEST_KVM, "uniform:50M", false);
	attach(g);
	CHECK(guest_run(g) == 0);
	gets_on(g, 100);
	CHECK(guest_pause(g) >= 0);
	memset(bits, 0, sizeof(bits));
	ret = t->ops.collect(t->t, 0, 0, N_PAGES, bits);
	CHECK(!ret || ret == -EOVERFLOW);
	printf("the ring %s\n", ret ? "overflowed" : "kept up");
	detach(g);
	guest_destroy(&g);
	if (!ret)
		migrate(GUEST_KVM, "uniform:50M", NO_FAULT);
	free_bytes = 0;
}

static void migrate_with_free_pages(enum guest_kind kind)
{
	free_bytes = 16u << 20;
	migrate(kind, "uniform:50M", NO_FAULT);
	free_bytes = 0;
}

/* As on a kernel without userfaultfd, for the rest of this process. */
static void without_userfaultfd(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
}

/* KVM may be missing, or have no ring. */
static bool is_here(enum guest_kind kind)
{
	struct guest *g;
	struct guest_opts o = {
		.kind = kind,
		.size_bytes = SIZE,
		.tracker = tracker,
		.ring_pages = RING_PAGES,
	};

	if (kind != GUEST_KVM)
		return true;
	if (guest_create(&o, &g, why, sizeof(why)) < 0) {
		printf("left out: %s\n", why);
		return false;
	}
	guest_destroy(&g);
	return true;
}

static void try_all(enum guest_kind kind, const char *const *workloads, int rounds)
{
	for (size_t w = 0; w < 4; w++)
		check_by_hand(kind, workloads[w]);
	for (int i = 0; i < rounds; i++)
		for (size_t w = 0; w < 4; w++)
			migrate(kind, workloads[w], NO_FAULT);
	/* Marks are re-armed as they are collected: the first fault needs a tracker. */
	for (enum fault f = t ? COPY_BEFORE_REARM : DEVICE_NOT_ANNOUNCED; f < N_FAULTS; f++)
		migrate(kind, "uniform:100M", f);
}

int main(void)
{
	static const struct {
		enum guest_kind kind;
		enum guest_tracker tracker;
	} kinds[] = {
		{ GUEST_KVM, GUEST_TRACKER_LOG },
		{ GUEST_KVM, GUEST_TRACKER_RING },
		{ GUEST_SYNTHETIC, GUEST_TRACKER_LOG },
	};
	static const char *const workloads[] = { "idle", "uniform:100M", "hot:1M:50M",
						 "sweep:50M" };
	int rounds = getenv("RJ_TEST_LONG") ? 50 : 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		tracker = kinds[i].tracker;
		if (!is_here(kinds[i].kind))
			continue;
		printf("tracker %d\n", (int)tracker);
		try_all(kinds[i].kind, workloads, rounds);
		if (tracker == GUEST_TRACKER_RING)
			fill_free_pages_under_a_ring();
		else
			migrate_with_free_pages(kinds[i].kind);
	}
	without_userfaultfd();
	for (size_t w = 0; w < 4; w++)
		migrate(GUEST_SYNTHETIC, workloads[w], NO_FAULT);
	CHECK(!t);
	migrate(GUEST_SYNTHETIC, "idle", DEVICE_NOT_ANNOUNCED);
	return 0;
}

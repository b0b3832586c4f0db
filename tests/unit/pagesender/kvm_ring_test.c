/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <ramjet/region.h>

#include "base/bitmap.h"
#include "pagesender/dirty/kvm_ring.h"
#include "pagesender/dirty/tracker_impl.h"

/*
 * A KVM with two vCPUs: a page that is watched gets an entry in its writer's ring when it is
 * written, and is watched again once that entry was reset. As virt/kvm/dirty_ring.c.
 */
#define N_VCPUS 2u
#define RING 256u /* entries: one page of memory */
#define N_PAGES 40000u
#define SLOT_FIRST 100u /* page of the region where slot 1 begins: not on a word */
#define SLOT 0x10001u	/* of address space 1 */
#define MAP_OFFSET (KVM_DIRTY_LOG_PAGE_OFFSET * 4096)

static struct fake_vcpu {
	int fd;
	struct kvm_dirty_gfn *ring;
	uint32_t dirty_index, reset_index;
} vcpus[N_VCPUS];

static bool ring_enabled, logging, watched[N_PAGES], write_in_reset;
static int max_bytes, reset_at_once, n_resets, fail_reset;
static uint64_t manual_protect, random_state;
static uint64_t memory[SLOT_FIRST + N_PAGES]; /* versions, by page of the region */

static uint64_t next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static bool is_full(const struct fake_vcpu *v)
{
	return v->dirty_index - v->reset_index >= RING - 16;
}

static void push(struct fake_vcpu *v, uint32_t slot, uint64_t offset)
{
	struct kvm_dirty_gfn *gfn = &v->ring[v->dirty_index++ % RING];

	cr_assert_eq(gfn->flags, 0);
	gfn->slot = slot;
	gfn->offset = offset;
	gfn->flags = KVM_DIRTY_GFN_F_DIRTY;
}

static void guest_writes(struct fake_vcpu *v, uint64_t page)
{
	memory[SLOT_FIRST + page]++;
	if (logging && watched[page])
		push(v, SLOT, page);
	watched[page] = false;
}

static int fake_reset(void)
{
	int n = 0;

	n_resets++;
	if (fail_reset)
		return fail_reset;
	for (uint32_t i = 0; i < N_VCPUS; i++) {
		struct fake_vcpu *v = &vcpus[i];
		struct kvm_dirty_gfn *gfn;

		while ((gfn = &v->ring[v->reset_index % RING])->flags & KVM_DIRTY_GFN_F_RESET) {
			if (reset_at_once && n == reset_at_once)
				return n; /* a signal */
			gfn->flags = 0;
			if (gfn->slot == SLOT && gfn->offset < N_PAGES)
				watched[gfn->offset] = true;
			v->reset_index++;
			n++;
		}
		if (write_in_reset && !is_full(v))
			guest_writes(v, next() % N_PAGES);
	}
	return n;
}

static int fake_kvm(int fd, unsigned long request, void *arg)
{
	const struct kvm_userspace_memory_region *m = arg;

	switch (request) {
	case KVM_CHECK_EXTENSION: return (uintptr_t)arg == KVM_CAP_DIRTY_LOG_RING ? max_bytes : 0;
	case KVM_GET_DIRTY_LOG: return ring_enabled ? -ENXIO : -ENOENT;
	case KVM_ENABLE_CAP:
		cr_assert_eq(((struct kvm_enable_cap *)arg)->cap,
			     KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
		manual_protect = ((struct kvm_enable_cap *)arg)->args[0];
		return 0;
	case KVM_SET_USER_MEMORY_REGION:
		cr_assert_eq(m->slot, SLOT);
		if (!logging)
			memset(watched, true, sizeof(watched));
		logging = m->flags & KVM_MEM_LOG_DIRTY_PAGES;
		return 0;
	case KVM_RESET_DIRTY_RINGS: return fake_reset();
	default: return -EINVAL;
	}
}

static const struct rj_kvm_slot slot = {
	.slot = SLOT,
	.gpa = 0,
	.len_bytes = N_PAGES * 4096ull,
	.host = (void *)(0x40000000ul + SLOT_FIRST * 4096ul),
};
static struct rj_region region;
static struct rj_tracker *t;
static char why[256];

static void make_tracker(void)
{
	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 1, &t), 0);
	for (uint32_t i = 0; i < N_VCPUS; i++)
		cr_assert_eq(rj_kvm_ring_add_vcpu(t, vcpus[i].fd), 0);
	cr_assert_eq(t->ops.attach(t->t, 0, &region, why, sizeof(why)), 1, "%s", why);
	cr_assert_eq(t->ops.start(t->t), 0);
}

static void set_up(void)
{
	for (uint32_t i = 0; i < N_VCPUS; i++) {
		struct fake_vcpu *v = &vcpus[i];

		v->fd = memfd_create("vcpu", 0);
		cr_assert_eq(ftruncate(v->fd, MAP_OFFSET + RING * 16), 0);
		v->ring = mmap(NULL, RING * 16, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd,
			       MAP_OFFSET);
		cr_assert_neq(v->ring, MAP_FAILED);
	}
	ring_enabled = true;
	max_bytes = 65536 * 16;
	random_state = 88172645463325252ull;
	rj_region_init(&region);
	region.name = "ram";
	region.host = (void *)0x40000000ul; /* never touched here */
	region.len_bytes = (SLOT_FIRST + N_PAGES) * 4096ull;
	make_tracker();
}

static void tear_down(void)
{
	rj_tracker_destroy(&t);
}

TestSuite(kvm_ring, .init = set_up, .fini = tear_down);

#define N_WORDS ((SLOT_FIRST + N_PAGES + 63) / 64)
#define WINDOW 16384u

static uint64_t bits[N_WORDS];

static uint64_t collect(void)
{
	memset(bits, 0, sizeof(bits));
	cr_assert_eq(t->ops.collect(t->t, 0, 0, SLOT_FIRST + N_PAGES, bits), 0);
	return rji_bitmap_weight(bits, N_WORDS);
}

/* One window of the region. */
static void rearm(uint64_t first_page, uint64_t *map)
{
	uint64_t n = SLOT_FIRST + N_PAGES - first_page;

	cr_assert_eq(t->ops.rearm(t->t, 0, first_page, n < WINDOW ? n : WINDOW, map), 0);
}

static bool is_dirty(uint64_t page)
{
	return rji_bitmap_test(bits, SLOT_FIRST + page);
}

Test(kvm_ring, what_is_missing_is_told)
{
	struct rj_tracker *other;
	int closed = dup(0);

	close(closed);
	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 0, &other), -EINVAL);
	cr_assert_eq(rj_kvm_ring_add_vcpu(t, vcpus[0].fd), -EEXIST);
	cr_assert_eq(rj_kvm_ring_add_vcpu(t, closed), -EBADF);
	cr_assert_eq(rj_kvm_ring_full(t, closed), -EINVAL);
	ring_enabled = false;
	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 1, &other), -ENXIO);
	max_bytes = 0;
	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 1, &other), -ENOTSUP);
}

Test(kvm_ring, vcpu_without_a_ring_is_refused)
{
	int fd = memfd_create("vcpu", 0);

	cr_assert_eq(ftruncate(fd, MAP_OFFSET), 0);
	cr_assert_eq(rj_kvm_ring_add_vcpu(t, fd), -ENXIO);
}

Test(kvm_ring, ring_that_somebody_else_collects_from_is_refused)
{
	struct rj_tracker *other;

	guest_writes(&vcpus[0], 1);
	vcpus[0].ring[0].flags = KVM_DIRTY_GFN_F_RESET;
	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 1, &other), 0);
	cr_assert_eq(rj_kvm_ring_add_vcpu(other, vcpus[0].fd), -EBUSY);
	cr_assert_eq(rj_kvm_ring_add_vcpu(other, vcpus[1].fd), 0);
	vcpus[0].ring[0].flags = KVM_DIRTY_GFN_F_DIRTY;
	rj_tracker_destroy(&other);
}

Test(kvm_ring, region_without_vcpus_is_refused)
{
	struct rj_tracker *other;

	cr_assert_eq(rji_kvm_ring_create(fake_kvm, 3, &slot, 1, &other), 0);
	cr_assert_eq(other->ops.attach(other->t, 0, &region, why, sizeof(why)), -EINVAL);
	cr_assert_not_null(strstr(why, "rj_kvm_ring_add_vcpu"), "%s", why);
	rj_tracker_destroy(&other);
}

Test(kvm_ring, initially_all_set_is_turned_off_and_stop_leaves_nothing)
{
	manual_protect = 3;
	cr_assert_eq(t->ops.stop(t->t), 0);
	cr_assert_not(logging);
	cr_assert_eq(t->ops.start(t->t), 0);
	cr_assert_eq(manual_protect, 0);
	cr_assert(logging);
	guest_writes(&vcpus[0], 7);
	guest_writes(&vcpus[1], 8);
	cr_assert_eq(t->ops.stop(t->t), 0);
	for (uint32_t i = 0; i < N_VCPUS; i++)
		cr_assert_eq(vcpus[i].reset_index, vcpus[i].dirty_index);
}

Test(kvm_ring, collect_tells_both_rings_and_forgets_nothing)
{
	guest_writes(&vcpus[0], 0);
	guest_writes(&vcpus[1], N_PAGES - 1);
	guest_writes(&vcpus[1], 20000);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(collect(), 3);
		cr_assert(is_dirty(0) && is_dirty(20000) && is_dirty(N_PAGES - 1));
	}
	cr_assert_eq(n_resets, 0, "nothing is re-armed before it is to be read");
}

Test(kvm_ring, entries_of_other_slots_and_outside_are_dropped)
{
	push(&vcpus[0], SLOT + 1, 5);
	push(&vcpus[0], SLOT, N_PAGES);
	push(&vcpus[0], SLOT, UINT64_MAX);
	push(&vcpus[0], SLOT, 6);
	cr_assert_eq(collect(), 1);
	cr_assert(is_dirty(6));
}

/* What is read after rearm has to be watched by then, or the next write to it is lost. */
Test(kvm_ring, pages_are_watched_when_rearm_returns)
{
	guest_writes(&vcpus[0], 3);
	collect();
	guest_writes(&vcpus[0], 3);
	cr_assert_not(watched[3]);
	rearm(0, bits);
	cr_assert(watched[3]);
	guest_writes(&vcpus[0], 3);
	cr_assert_eq(collect(), 1);
}

Test(kvm_ring, page_written_before_rearm_is_sent_once)
{
	guest_writes(&vcpus[0], 3);
	collect();
	guest_writes(&vcpus[1], 4);
	rearm(0, bits);
	cr_assert(is_dirty(3) && is_dirty(4), "found in the same step");
	cr_assert(watched[4]);
	cr_assert_eq(collect(), 0);
}

Test(kvm_ring, other_windows_cost_no_reset)
{
	guest_writes(&vcpus[0], 39000);
	collect();
	rearm(0, bits);
	rearm(WINDOW, bits + WINDOW / 64);
	cr_assert_eq(n_resets, 0);
	rearm(2 * WINDOW, bits + 2 * WINDOW / 64);
	cr_assert_eq(n_resets, 1);
	cr_assert(watched[39000]);
}

Test(kvm_ring, full_ring_is_emptied_and_its_pages_are_told)
{
	uint64_t page = 0;

	for (int i = 0; i < 5; i++) {
		while (!is_full(&vcpus[0]))
			guest_writes(&vcpus[0], page++);
		cr_assert_eq(rj_kvm_ring_full(t, vcpus[0].fd), 0);
		cr_assert_not(is_full(&vcpus[0]));
	}
	cr_assert_eq(collect(), page);
	cr_assert_eq(n_resets, 5);
}

Test(kvm_ring, reset_cut_short_by_signals_is_finished)
{
	reset_at_once = 7;
	for (uint64_t p = 0; p < 100; p++)
		guest_writes(&vcpus[p % 2], p);
	collect();
	rearm(0, bits);
	for (uint64_t p = 0; p < 100; p++)
		cr_assert(watched[p], "%lu", p);
}

Test(kvm_ring, failing_reset_is_told)
{
	guest_writes(&vcpus[0], 3);
	collect();
	fail_reset = -EFAULT;
	cr_assert_eq(t->ops.rearm(t->t, 0, 0, WINDOW, bits), -EFAULT);
	fail_reset = 0;
}

Test(kvm_ring, somebody_else_resetting_is_noticed)
{
	guest_writes(&vcpus[0], 3);
	collect();
	fake_reset();
	cr_assert_eq(t->ops.rearm(t->t, 0, 0, WINDOW, bits), -EIO);
}

/* KVM emulates instructions that store many words, and looks later whether there is room. */
static void guest_stores_words(struct fake_vcpu *v, uint64_t page, uint32_t n_words)
{
	for (uint32_t i = 0; i < n_words; i++) {
		v->ring[v->dirty_index % RING].flags = 0;
		push(v, SLOT, page);
	}
	memory[SLOT_FIRST + page]++;
	watched[page] = false;
}

static void fill_up(struct fake_vcpu *v)
{
	while (!is_full(v))
		guest_writes(v, next() % N_PAGES);
}

static void check_overflow_is_told(void)
{
	memset(bits, 0, sizeof(bits));
	cr_assert_eq(t->ops.collect(t->t, 0, 0, SLOT_FIRST + N_PAGES, bits), -EOVERFLOW);
	cr_assert_eq(t->ops.rearm(t->t, 0, 0, WINDOW, bits), -EOVERFLOW);
}

static void check_vcpu_gets_on(struct fake_vcpu *v)
{
	for (int i = 0; i < 9; i++) {
		fill_up(v);
		cr_assert_eq(rj_kvm_ring_full(t, v->fd), 0);
		cr_assert_not(is_full(v));
	}
}

Test(kvm_ring, overflow_is_told_and_the_vcpu_gets_on)
{
	fill_up(&vcpus[0]);
	guest_stores_words(&vcpus[0], 5, 40);
	cr_assert_eq(rj_kvm_ring_full(t, vcpus[0].fd), 0);
	check_overflow_is_told();
	check_vcpu_gets_on(&vcpus[0]);
	check_overflow_is_told();
	t->ops.stop(t->t);
	cr_assert_eq(t->ops.start(t->t), -EOVERFLOW);
}

Test(kvm_ring, overflow_into_what_waits_for_a_reset_is_told)
{
	fill_up(&vcpus[0]);
	collect();
	guest_stores_words(&vcpus[0], 5, 40);
	check_overflow_is_told();
}

Test(kvm_ring, ring_with_one_clean_entry_has_not_overflowed)
{
	guest_stores_words(&vcpus[0], 5, RING - 1);
	cr_assert_eq(collect(), 1);
	rearm(0, bits);
	check_vcpu_gets_on(&vcpus[0]);
	collect();
}

/* Somebody collects between the exit of the vCPU and its call. */
Test(kvm_ring, full_ring_that_was_just_collected_has_not_overflowed)
{
	fill_up(&vcpus[0]);
	collect();
	cr_assert_eq(rj_kvm_ring_full(t, vcpus[0].fd), 0);
	cr_assert_not(is_full(&vcpus[0]));
	collect(); /* and nothing was lost */
}

Test(kvm_ring, vcpu_that_does_not_get_on_is_told)
{
	int ret = 0;

	guest_writes(&vcpus[0], 5);
	cr_assert_eq(collect(), 1);
	vcpus[0].dirty_index += RING; /* they were pushed over others, which have been reset */
	for (int i = 0; i < 5000 && !ret; i++)
		ret = rj_kvm_ring_full(t, vcpus[0].fd);
	cr_assert_eq(ret, -EOVERFLOW);
}

/* KVM goes on in the ring where it was; a new tracker has to find out where. */
Test(kvm_ring, next_tracker_goes_on_where_the_ring_is)
{
	for (int i = 0; i < 40; i++) {
		for (int k = 0; k < 97; k++)
			guest_writes(&vcpus[0], next() % N_PAGES);
		rj_tracker_destroy(&t);
		make_tracker();
		guest_writes(&vcpus[0], 11);
		guest_writes(&vcpus[0], 12);
		cr_assert_eq(collect(), 2);
		cr_assert(is_dirty(11) && is_dirty(12));
	}
}

/* --- all of it at random: what is read must be what was there, when all is quiet --- */

static uint64_t copy[SLOT_FIRST + N_PAGES], pending[N_WORDS];

static void send_window(uint64_t first_page)
{
	uint64_t *map = pending + first_page / 64;
	uint64_t n = SLOT_FIRST + N_PAGES - first_page;

	n = n < WINDOW ? n : WINDOW;
	rearm(first_page, map);
	for (uint64_t i = 0; i < n; i++) {
		if (!rji_bitmap_test(map, i))
			continue;
		copy[first_page + i] = memory[first_page + i];
		/* the guest goes on between two reads */
		if (next() % 16 == 0 && !is_full(&vcpus[0]))
			guest_writes(&vcpus[0], next() % N_PAGES);
	}
	memset(map, 0, rji_bitmap_words(n) * 8);
}

static void send_round(void)
{
	collect();
	for (uint64_t i = 0; i < N_WORDS; i++)
		pending[i] |= bits[i];
	for (uint64_t p = 0; p < SLOT_FIRST + N_PAGES; p += WINDOW) {
		if (next() % 4)
			send_window(p);
	}
}

Test(kvm_ring, random_writes_are_never_lost)
{
	for (int trial = 0; trial < 20; trial++) {
		write_in_reset = true;
		reset_at_once = trial % 3 ? 0 : 5;
		for (int i = 0; i < 200; i++) {
			struct fake_vcpu *v = &vcpus[next() % N_VCPUS];

			if (next() % 8 == 0)
				send_round();
			for (uint64_t n = next() % 64; n && !is_full(v); n--)
				guest_writes(v, next() % (i % 2 ? 50 : N_PAGES));
			if (is_full(v))
				cr_assert_eq(rj_kvm_ring_full(t, v->fd), 0);
		}
		write_in_reset = false;
		for (int i = 0; i < 100 && (i < 20 || collect()); i++)
			send_round();
		cr_assert(!memcmp(copy, memory, sizeof(copy)), "trial %d", trial);
	}
}

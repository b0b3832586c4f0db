/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <ramjet/region.h>

#include "base/bitmap.h"
#include "pagesender/dirty/kvm_log.h"
#include "pagesender/dirty/tracker_impl.h"

/* A KVM that is as strict as the real one, with logs that a test can look into. */
#define MAX_PAGES 300000u
#define MAX_SLOTS 3u

static struct fake_slot {
	bool exists, logging;
	uint64_t n_pages;
	uint64_t bits[MAX_PAGES / 64 + 1];
} slots[MAX_SLOTS];
static int protect_flags, enabled_flags, n_clears;
static bool ring;
static int fail_set_on_slot;

static int fake_set(const struct kvm_userspace_memory_region *m)
{
	struct fake_slot *s = &slots[m->slot];

	if ((int)m->slot == fail_set_on_slot && (m->flags & KVM_MEM_LOG_DIRTY_PAGES))
		return -ENOMEM;
	s->exists = true;
	s->n_pages = m->memory_size / 4096;
	if (!s->logging && (m->flags & KVM_MEM_LOG_DIRTY_PAGES))
		memset(s->bits, enabled_flags & KVM_DIRTY_LOG_INITIALLY_SET ? 0xff : 0,
		       sizeof(s->bits));
	s->logging = m->flags & KVM_MEM_LOG_DIRTY_PAGES;
	return 0;
}

static int fake_get(const struct kvm_dirty_log *g)
{
	struct fake_slot *s = &slots[g->slot];

	if (ring)
		return -ENXIO;
	if (!s->logging)
		return -ENOENT;
	memcpy(g->dirty_bitmap, s->bits, rji_bitmap_words(s->n_pages) * 8);
	return 0;
}

/* As kvm_clear_dirty_log_protect() in virt/kvm/kvm_main.c. */
static int fake_clear(const struct kvm_clear_dirty_log *c)
{
	struct fake_slot *s = &slots[c->slot];
	const uint64_t *bits = c->dirty_bitmap;

	if (!s->logging)
		return -ENOENT;
	if (c->first_page % 64 || c->first_page > s->n_pages ||
	    c->num_pages > s->n_pages - c->first_page ||
	    (c->first_page + c->num_pages != s->n_pages && c->num_pages % 64))
		return -EINVAL;
	for (uint64_t i = 0; i < rji_bitmap_words(c->num_pages); i++)
		s->bits[c->first_page / 64 + i] &= ~bits[i];
	n_clears++;
	return 0;
}

static int fake_kvm(int fd, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_CHECK_EXTENSION: return protect_flags;
	case KVM_ENABLE_CAP: enabled_flags = (int)((struct kvm_enable_cap *)arg)->args[0]; return 0;
	case KVM_SET_USER_MEMORY_REGION: return fake_set(arg);
	case KVM_GET_DIRTY_LOG: return fake_get(arg);
	case KVM_CLEAR_DIRTY_LOG: return fake_clear(arg);
	}
	return -ENOTTY;
}

static struct rj_tracker *t;
static char why[256];
static char *const base = (char *)0x100000000ull;

/* A slot of n_pages that begins at page of the region at base. */
static struct rj_kvm_slot slot_at(uint32_t slot, uint64_t page, uint64_t n_pages)
{
	return (struct rj_kvm_slot){
		.slot = slot,
		.gpa = 0x1000000ull * (slot + 1),
		.len_bytes = n_pages * 4096,
		.host = base + page * 4096,
	};
}

static int attach(uint32_t region, uint64_t page, uint64_t n_pages, uint32_t page_bytes)
{
	struct rj_region r = {
		.size = sizeof(r),
		.name = "ram",
		.host = base + page * 4096,
		.len_bytes = n_pages * 4096,
		.page_bytes = page_bytes,
		.fd = -1,
	};

	return t->ops.attach(t->t, region, &r, why, sizeof(why));
}

static void setup(void)
{
	protect_flags = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	fail_set_on_slot = -1;
}

static void teardown(void)
{
	rj_tracker_destroy(&t);
}

static void make(const struct rj_kvm_slot *s, uint32_t n)
{
	cr_assert_eq(rji_kvm_log_create(fake_kvm, 3, s, n, &t), 0);
}

TestSuite(kvm_log, .init = setup, .fini = teardown);

Test(kvm_log, needs_manual_protect)
{
	struct rj_kvm_slot s = slot_at(0, 0, 64);

	protect_flags = 0;
	cr_assert_eq(rji_kvm_log_create(fake_kvm, 3, &s, 1, &t), -ENOTSUP);
	cr_assert_null(t);
}

Test(kvm_log, dirty_ring_is_busy)
{
	struct rj_kvm_slot s = slot_at(0, 0, 64);

	ring = true;
	cr_assert_eq(rji_kvm_log_create(fake_kvm, 3, &s, 1, &t), -EBUSY);
}

Test(kvm_log, refuses_bad_slots)
{
	struct rj_kvm_slot good = slot_at(0, 0, 64), bad[4] = { good, good, good, good };

	bad[0].len_bytes = 0;
	bad[1].gpa = 12;
	bad[2].host = NULL;
	bad[3].len_bytes = 4095;
	for (int i = 0; i < 4; i++)
		cr_assert_eq(rji_kvm_log_create(fake_kvm, 3, &bad[i], 1, &t), -EINVAL);
	cr_assert_eq(rji_kvm_log_create(fake_kvm, 3, &good, 0, &t), -EINVAL);
}

Test(kvm_log, finds_regions_by_address)
{
	struct rj_kvm_slot s[2] = { slot_at(0, 100, 64), slot_at(1, 1000, 64) };

	make(s, 2);
	cr_assert_eq(attach(0, 0, 100, 4096), 0);
	cr_assert_eq(attach(1, 100, 64, 4096), 1);
	cr_assert_lt(attach(2, 1000, 63, 4096), 0);
	cr_assert(strstr(why, "slot 1"));
	cr_assert_lt(attach(2, 900, 1024, 8192), 0);
	cr_assert(strstr(why, "4096"));
	cr_assert_eq(attach(2, 900, 1000, 4096), 1);
}

Test(kvm_log, without_initially_set)
{
	struct rj_kvm_slot s = slot_at(0, 0, 64);

	protect_flags = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	make(&s, 1);
	cr_assert_eq(attach(0, 0, 64, 4096), 1);
	cr_assert_eq(t->ops.start(t->t), 0);
	cr_assert_eq(enabled_flags, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
}

Test(kvm_log, a_slot_that_cannot_log_undoes_the_start)
{
	struct rj_kvm_slot s[2] = { slot_at(0, 0, 64), slot_at(1, 64, 64) };

	make(s, 2);
	cr_assert_eq(attach(0, 0, 128, 4096), 1);
	fail_set_on_slot = 1;
	cr_assert_eq(t->ops.start(t->t), -ENOMEM);
	cr_assert(!slots[0].logging);
}

Test(kvm_log, slots_of_no_region_are_left_alone)
{
	struct rj_kvm_slot s[2] = { slot_at(0, 0, 64), slot_at(1, 64, 64) };

	make(s, 2);
	cr_assert_eq(attach(0, 0, 64, 4096), 1);
	cr_assert_eq(t->ops.start(t->t), 0);
	cr_assert(slots[0].logging && !slots[1].logging);
	cr_assert_eq(t->ops.stop(t->t), 0);
	cr_assert(!slots[0].logging);
}

/* Any place of a slot in its region, any part of the region: the same bits as with a plain loop. */
static void check_shift(uint64_t at, uint64_t n_pages, uint64_t from, uint64_t n)
{
	uint64_t words = rji_bitmap_words(n), before[MAX_PAGES / 64 + 1];
	uint64_t *bits = calloc(words, 8);

	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++)
		slots[0].bits[i] = ((uint64_t)rand() << 40) ^ ((uint64_t)rand() << 20) ^
				   (uint64_t)rand();
	memcpy(before, slots[0].bits, sizeof(before));
	cr_assert_eq(t->ops.collect(t->t, 0, from, n, bits), 0);
	for (uint64_t p = from; p < from + n; p++) {
		bool dirty = p >= at && p < at + n_pages && rji_bitmap_test(before, p - at);

		cr_assert_eq(rji_bitmap_test(bits, p - from), dirty, "page %lu", p);
	}
	cr_assert(memcmp(before, slots[0].bits, sizeof(before)) == 0); /* clears nothing */

	for (uint64_t i = 0; i < words; i++) /* re-arm some of them */
		bits[i] &= 0x5a5a5a5a5a5a5a5aull;
	cr_assert_eq(t->ops.rearm(t->t, 0, from, n, bits), 0);
	for (uint64_t p = at; p < at + n_pages; p++) {
		bool given = p >= from && p < from + n && rji_bitmap_test(bits, p - from);

		cr_assert_eq(rji_bitmap_test(slots[0].bits, p - at),
			     rji_bitmap_test(before, p - at) && !given, "page %lu", p);
	}
	free(bits);
}

Test(kvm_log, any_alignment)
{
	static const uint64_t ats[] = { 0, 1, 63, 64, 65, 130 };
	static const uint64_t sizes[] = { 1, 63, 64, 65, 1000, 1024 };

	for (size_t a = 0; a < 6; a++) {
		for (size_t b = 0; b < 6; b++) {
			struct rj_kvm_slot s = slot_at(0, ats[a], sizes[b]);

			make(&s, 1);
			cr_assert_eq(attach(0, 0, 1300, 4096), 1);
			cr_assert_eq(t->ops.start(t->t), 0);
			for (uint64_t from = 0; from < 1280; from += 192) {
				check_shift(ats[a], sizes[b], from, 20);
				check_shift(ats[a], sizes[b], from, 1300 - from);
			}
			rj_tracker_destroy(&t);
		}
	}
}

Test(kvm_log, a_large_slot_is_cleared_in_pieces)
{
	struct rj_kvm_slot s = slot_at(0, 7, 299001);

	make(&s, 1);
	cr_assert_eq(attach(0, 0, 300000, 4096), 1);
	cr_assert_eq(t->ops.start(t->t), 0);
	check_shift(7, 299001, 0, 300000);
	cr_assert_eq(n_clears, (299001 + 1023) / 1024);
}

Test(kvm_log, nothing_set_calls_nothing)
{
	struct rj_kvm_slot s = slot_at(0, 0, 640);
	uint64_t bits[10] = { 0 };

	make(&s, 1);
	cr_assert_eq(attach(0, 0, 640, 4096), 1);
	cr_assert_eq(t->ops.start(t->t), 0);
	cr_assert_eq(t->ops.rearm(t->t, 0, 0, 640, bits), 0);
	cr_assert_eq(n_clears, 0);
}

Test(kvm_log, aliases_add_up)
{
	struct rj_kvm_slot s[2] = { slot_at(0, 0, 64), slot_at(1, 32, 64) };
	uint64_t bits[2] = { 0 };

	make(s, 2);
	cr_assert_eq(attach(0, 0, 128, 4096), 1);
	cr_assert_eq(t->ops.start(t->t), 0);
	slots[0].bits[0] = 1ull << 40;
	slots[1].bits[0] = 1ull << 8 | 1ull << 63;
	cr_assert_eq(t->ops.collect(t->t, 0, 0, 128, bits), 0);
	cr_assert_eq(bits[0], 1ull << 40);
	cr_assert_eq(bits[1], 1ull << (32 + 63 - 64));
	cr_assert_eq(t->ops.rearm(t->t, 0, 0, 128, bits), 0);
	cr_assert_eq(slots[0].bits[0] | slots[1].bits[0], 0);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "bench/guest/guest_pattern.h"

#define SIZE (16ull << 20)
#define N_PAGES (SIZE / GUEST_PAGE_BYTES)
#define LOW_PAGES (GUEST_LOW_BYTES / GUEST_PAGE_BYTES)

static struct guest_opts opts(enum workload_kind kind, uint64_t hot_bytes)
{
	return (struct guest_opts){
		.size_bytes = SIZE,
		.workload = { kind, 1 << 20, hot_bytes, kind == WORKLOAD_SPARSE ? 64 : 0 },
		.seed = 99,
	};
}

Test(guest_pattern, writes_stay_in_their_share)
{
	static const enum workload_kind kinds[] = { WORKLOAD_UNIFORM, WORKLOAD_HOT,
						    WORKLOAD_SWEEP };
	struct guest_writes gw;

	for (int k = 0; k < 3; k++) {
		uint64_t hot = kinds[k] == WORKLOAD_HOT ? 1 << 20 : 0;
		uint64_t end = hot ? LOW_PAGES + hot / 4096 : N_PAGES;
		struct guest_opts o = opts(kinds[k], hot);

		for (uint32_t i = 0; i < 3; i++) {
			guest_writes_init(&gw, &o, i, 3);
			for (uint64_t s = 1; s < 20000; s++) {
				uint64_t p = guest_page_of(&gw, s);

				cr_assert(p >= LOW_PAGES && p < end, "%lu", p);
				cr_assert_eq((p - LOW_PAGES) % 3, i);
			}
		}
	}
}

Test(guest_pattern, a_hot_area_larger_than_the_guest)
{
	struct guest_opts o = opts(WORKLOAD_HOT, 1ull << 40);
	struct guest_writes gw;

	guest_writes_init(&gw, &o, 0, 1);
	cr_assert_eq(gw.n_pages, N_PAGES - LOW_PAGES);
}

/* Every page, about equally often. */
Test(guest_pattern, uniform_is_uniform)
{
	static uint32_t hits[N_PAGES];
	struct guest_opts o = opts(WORKLOAD_UNIFORM, 0);
	struct guest_writes gw;

	guest_writes_init(&gw, &o, 0, 1);
	for (uint64_t s = 1; s <= 100 * gw.n_pages; s++)
		hits[guest_page_of(&gw, s)]++;
	for (uint64_t p = LOW_PAGES; p < N_PAGES; p++)
		cr_assert(hits[p] > 40 && hits[p] < 180, "page %lu: %u", p, hits[p]);
}

Test(guest_pattern, sweep_sweeps)
{
	struct guest_opts o = opts(WORKLOAD_SWEEP, 0);
	struct guest_writes gw;

	guest_writes_init(&gw, &o, 0, 1);
	cr_assert_eq(guest_page_of(&gw, 1), LOW_PAGES);
	cr_assert_eq(guest_page_of(&gw, gw.n_pages), N_PAGES - 1);
	cr_assert_eq(guest_page_of(&gw, gw.n_pages + 1), LOW_PAGES);
}

Test(guest_pattern, zero_blocks_only_if_not_all_is_filled)
{
	const uint64_t size = 32ull << 20; /* 16 blocks */
	struct guest_opts o = opts(WORKLOAD_SWEEP, 0);
	uint64_t *ram = aligned_alloc(4096, size), n_zero[2] = { 0, 0 };

	o.size_bytes = size;
	for (int all = 0; all < 2; all++) {
		o.fill_all = all;
		memset(ram, 0, size);
		cr_assert_eq(guest_fill(ram, &o), 0);
		for (uint64_t p = LOW_PAGES; p < size / GUEST_PAGE_BYTES; p++)
			n_zero[all] += !ram[p * GUEST_PAGE_WORDS + 1];
	}
	cr_assert_eq(n_zero[0], 512);
	cr_assert_eq(n_zero[1], 0);
	free(ram);
}

static void write_once(enum workload_kind kind, uint64_t *words, uint64_t s)
{
	if (kind == WORKLOAD_SPARSE)
		for (uint32_t i = 0; i < 8; i++)
			words[i * 64] = s;
	else if (kind == WORKLOAD_ABA)
		words[0] = words[0] ? 0 : GUEST_MIX_1;
	else if (kind != WORKLOAD_SAME)
		words[0] = s;
}

/* Memory after n writes; each single damage to it is found and the page named. */
static void check_writes(enum workload_kind kind, uint64_t n)
{
	struct guest_opts o = opts(kind, 0);
	uint64_t *ram = aligned_alloc(4096, SIZE), done = n;
	struct guest_writes gw;
	char why[256] = "", page[32];

	memset(ram, 0, SIZE);
	cr_assert_eq(guest_fill(ram, &o), 0);
	guest_writes_init(&gw, &o, 0, 1);
	for (uint64_t s = 1; s <= n; s++)
		write_once(kind, ram + guest_page_of(&gw, s) * GUEST_PAGE_WORDS, s);
	cr_assert_eq(guest_check_writes(&o, ram, &gw, &done, 1, why, sizeof(why)), 0, "%s", why);
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t p = LOW_PAGES + (uint64_t)rand() % (N_PAGES - LOW_PAGES);
		uint64_t *word = &ram[p * GUEST_PAGE_WORDS + (i % 2 ? i : 0)];

		(*word)--;
		cr_assert_eq(guest_check_writes(&o, ram, &gw, &done, 1, why, sizeof(why)), -EIO);
		snprintf(page, sizeof(page), "page %lu ", p);
		cr_assert(strstr(why, page), "%s: %s", page, why);
		(*word)++;
	}
	/* One write more was made than the memory shows. */
	done++;
	if (kind == WORKLOAD_SAME)
		done = 0, ram[GUEST_LOW_BYTES / 8] = 1;
	cr_assert_eq(guest_check_writes(&o, ram, &gw, &done, 1, why, sizeof(why)), -EIO);
	free(ram);
}

Test(guest_pattern, every_damage_is_found)
{
	check_writes(WORKLOAD_UNIFORM, 5000);
	check_writes(WORKLOAD_SWEEP, 100);
	check_writes(WORKLOAD_SWEEP, 50000);
	check_writes(WORKLOAD_SAME, 5000);
	check_writes(WORKLOAD_ABA, 5000);
	check_writes(WORKLOAD_ABA, 5001);
	check_writes(WORKLOAD_SPARSE, 5000);
}

/* What is used, free, zero and untouched, in this order. */
Test(guest_pattern, parts_of_memory)
{
	static uint64_t ram[32 << 20 >> 3];
	struct guest_opts o = opts(WORKLOAD_UNIFORM, 0);
	struct guest_areas a;
	struct guest_writes gw;
	uint64_t n = 0;
	char why[256];

	o.size_bytes = sizeof(ram);
	o.used_bytes = 5 << 20;
	o.free_bytes = 9 << 20;
	o.zero_bytes = 3 << 20;
	o.fill_all = true;
	guest_areas_init(&a, &o);
	cr_assert_eq(a.work_end, 5 * 256);
	cr_assert_eq(a.free_end, 14 * 256);
	cr_assert_eq(a.zero_end, 17 * 256);
	memset(ram, 0xff, sizeof(ram));
	cr_assert_eq(guest_fill(ram, &o), 0);
	for (uint64_t p = 2 * 256; p < 32 * 256; p++) {
		uint64_t want = p < a.free_end ? 0 : p < a.zero_end ? 2 : 3, is;

		is = ram[p * 512] == UINT64_MAX ? 3 : ram[p * 512 + 7] ? 0 : 2;
		cr_assert_eq(is, want, "page %lu", p);
	}
	guest_writes_init(&gw, &o, 0, 1);
	cr_assert_eq(gw.n_pages, 3 * 256);
	memset(ram + a.zero_end * 512, 0, 15 << 20);
	cr_assert_eq(guest_check_writes(&o, ram, &gw, &n, 1, why, sizeof(why)), 0, "%s", why);
	ram[a.zero_end * 512 - 1] = 1;
	cr_assert_eq(guest_check_writes(&o, ram, &gw, &n, 1, why, sizeof(why)), -EIO);
}

/* Letters, of which 8 make a word, and few words are many. */
Test(guest_pattern, text_is_text)
{
	uint64_t words[GUEST_PAGE_WORDS];
	struct guest_opts o = opts(WORKLOAD_IDLE, 0);
	const char *text = (const char *)words;
	uint32_t n_again = 0;

	o.fill_text = true;
	guest_filling(words, &o, 1000);
	for (uint32_t i = 8; i < sizeof(words); i++)
		cr_assert((text[i] >= 'a' && text[i] <= 'z') || strchr(" ,.0123456789", text[i]));
	for (uint32_t i = 2; i < GUEST_PAGE_WORDS; i++)
		for (uint32_t k = 1; k < i; k++)
			if (words[k] == words[i]) {
				n_again++;
				break;
			}
	cr_assert(n_again > 200 && n_again < 330, "%u", n_again);
}

Test(guest_pattern, pages_differ)
{
	uint64_t a[GUEST_PAGE_WORDS], b[GUEST_PAGE_WORDS];

	guest_page_fill(a, 1, 10, 5);
	cr_assert(guest_page_is(a, 1, 10, 5));
	cr_assert(!guest_page_is(a, 1, 10, 6));
	cr_assert(!guest_page_is(a, 1, 11, 5));
	cr_assert(!guest_page_is(a, 2, 10, 5));
	guest_page_fill(b, 1, 11, 5);
	for (int i = 1; i < 512; i++)
		cr_assert_neq(a[i], b[i]);
}

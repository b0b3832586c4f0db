/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "pagesender/filter/same.h"

static struct rji_pageset set;
static struct rji_same *same;

static void add(uint64_t len_bytes)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = "ram";
	r.host = (void *)0x40000000; /* never touched here */
	r.len_bytes = len_bytes;
	cr_assert_eq(rji_pageset_add(&set, &r), 0);
}

static void set_up(void)
{
	add(100 << 20);
	add(4096);
	cr_assert_eq(rji_same_create(&set, &same), 0);
}

static void tear_down(void)
{
	rji_same_destroy(&same);
	cr_assert_null(same);
	rji_same_destroy(&same);
	rji_pageset_fini(&set);
}

TestSuite(same, .init = set_up, .fini = tear_down);

static struct rji_area *area(uint64_t page)
{
	return rji_area_of(same, &set.region[0], 0, page);
}

Test(same, area_is_a_window)
{
	cr_assert_eq(area(0), area(16383));
	cr_assert_neq(area(16383), area(16384));
	cr_assert_eq(area(16384), area(25599));
	cr_assert_neq(rji_area_of(same, &set.region[1], 1, 0), area(0));
}

Test(same, hashes_are_made_once_where_they_are_needed_and_counted)
{
	uint64_t before = same->hash_bytes;
	struct rji_hash128 *hash = rji_area_hashes(same, &set.region[0], area(20000));

	cr_assert_not_null(hash);
	hash[16383].lo = 5; /* all of a window, though the region ends before */
	cr_assert_eq(rji_area_hashes(same, &set.region[0], area(20001)), hash);
	cr_assert_eq(same->hash_bytes, before + 16384 * 16);
	cr_assert_null(area(0)->hash);
}

Test(same, share_of_an_area_is_its_own_once_it_tells)
{
	cr_assert_eq(rji_area_same_share(same, area(0)), 64, "a guess: one in 16");
	rji_area_saw_same(same, area(0), 100, 75);
	cr_assert_eq(rji_area_same_share(same, area(0)), 768);
	cr_assert_eq(rji_area_delta_share(same, area(0)), 64, "another matter");
	rji_area_saw_delta(same, area(0), 16, 4);
	cr_assert_eq(rji_area_delta_share(same, area(0)), 256);
}

Test(same, area_that_does_not_tell_is_as_all_are)
{
	rji_area_saw_same(same, area(0), 1000, 0);
	cr_assert_leq(rji_area_same_share(same, area(16384)), 1);
	rji_area_saw_same(same, area(0), 8000, 8000);
	cr_assert_geq(rji_area_same_share(same, area(16384)), 512);
}

Test(same, what_was_long_ago_is_forgotten)
{
	for (int i = 0; i < 1000; i++)
		rji_area_saw_same(same, area(0), 4, 4);
	cr_assert_geq(rji_area_same_share(same, area(0)), 1000);
	for (int i = 0; i < 1000; i++)
		rji_area_saw_same(same, area(0), 4, 0);
	cr_assert_lt(rji_area_same_share(same, area(0)), 100);
}

Test(same, secrets_are_of_a_session)
{
	const uint8_t page[4096] = { 1 };
	struct rji_same *other;

	cr_assert_eq(rji_same_create(&set, &other), 0);
	cr_assert_not(rji_hash128_equal(rji_hash128(&same->secret, page, sizeof(page)),
					rji_hash128(&other->secret, page, sizeof(page))));
	rji_same_destroy(&other);
}

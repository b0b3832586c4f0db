/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "pagesender/filter/old_pages.h"

#define PLACES 8u

static struct rji_old_pages *old;
static uint8_t page[RJI_OLD_PAGE_BYTES];
static const struct rji_hash128 a = { 1, 2 }, b = { 1, 3 }, c = { 2, 2 };

static void set_up(void)
{
	old = rji_old_pages_create(PLACES * RJI_OLD_PAGE_BYTES);
	cr_assert_not_null(old);
}

static void tear_down(void)
{
	rji_old_pages_destroy(old);
}

TestSuite(old_pages, .init = set_up, .fini = tear_down);

static void put(uint64_t number, const struct rji_hash128 *hash, int fill)
{
	struct rji_old_page *p = rji_old_page_take(old, number);

	cr_assert_not_null(p);
	memset(page, fill, sizeof(page));
	rji_old_page_put(old, p, number, hash, page);
	memset(page, 0, sizeof(page));
	rji_old_page_leave(p);
}

/* The byte it is full of; -1: it is not there. */
static int find(uint64_t number, const struct rji_hash128 *hash)
{
	struct rji_old_page *p = rji_old_page_take(old, number);
	const uint8_t *copy;
	int fill;

	cr_assert_not_null(p);
	copy = rji_old_page_find(old, p, number, hash);
	fill = copy ? copy[0] : -1;
	for (uint32_t i = 0; copy && i < RJI_OLD_PAGE_BYTES; i++)
		cr_assert_eq(copy[i], fill);
	rji_old_page_leave(p);
	return fill;
}

Test(old_pages, copy_is_found_by_number_and_hash)
{
	cr_assert_eq(find(3, &a), -1);
	put(3, &a, 0x11);
	cr_assert_eq(find(3, &a), 0x11);
	cr_assert_eq(find(3, &b), -1, "both halves count");
	cr_assert_eq(find(3, &c), -1);
	cr_assert_eq(find(3 + PLACES, &a), -1, "another page of this place");
	cr_assert_eq(find(4, &a), -1);
}

Test(old_pages, untouched_place_is_not_a_page_of_number_0_and_hash_0)
{
	const struct rji_hash128 zero = { 0, 0 };

	cr_assert_eq(find(0, &zero), -1);
}

Test(old_pages, later_page_takes_the_place)
{
	put(3, &a, 0x11);
	put(3 + PLACES, &b, 0x22);
	cr_assert_eq(find(3, &a), -1);
	cr_assert_eq(find(3 + PLACES, &b), 0x22);
	put(3 + PLACES, &c, 0x33);
	cr_assert_eq(find(3 + PLACES, &b), -1);
	cr_assert_eq(find(3 + PLACES, &c), 0x33);
}

Test(old_pages, place_in_use_is_passed_by)
{
	struct rji_old_page *p = rji_old_page_take(old, 3);

	cr_assert_not_null(p);
	cr_assert_null(rji_old_page_take(old, 3));
	cr_assert_null(rji_old_page_take(old, 3 + 5 * PLACES));
	rji_old_page_leave(p);
	cr_assert_eq(find(3, &a), -1, "it is free again");
}

Test(old_pages, bytes_are_those_of_the_copies_that_are_there)
{
	uint64_t none = rji_old_pages_bytes(old);

	put(0, &a, 1);
	put(1, &a, 1);
	put(1, &b, 1);
	cr_assert_eq(rji_old_pages_bytes(old), none + 2 * RJI_OLD_PAGE_BYTES);
	cr_assert_lt(none, 1024);
}

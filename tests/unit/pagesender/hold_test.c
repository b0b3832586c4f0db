/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "pagesender/hold.h"

static struct rji_holds h;

static void set_up(void)
{
	cr_assert_eq(rji_holds_init(&h), 0);
}

static void tear_down(void)
{
	rji_holds_fini(&h);
}

TestSuite(hold, .init = set_up, .fini = tear_down, .timeout = 10);

/* Pages [first, first + n), asked for in bytes of 4096 each. */
static struct rji_held pages(uint32_t region, uint64_t first, uint64_t n)
{
	return (struct rji_held){ region, first, n, first * 4096, n * 4096 };
}

static int add(uint32_t region, uint64_t first, uint64_t n)
{
	struct rji_held held = pages(region, first, n);

	return rji_holds_add(&h, &held);
}

/* The pages of [first_page, first_page + 128) which lanes may read. */
static void mask(uint32_t region, uint64_t first_page, uint64_t bits[2])
{
	bits[0] = bits[1] = ~0ull;
	rji_holds_mask(&h, region, first_page, 128, bits);
}

Test(hold, held_pages_are_masked_where_spans_and_holds_meet)
{
	uint64_t bits[2];

	cr_assert_eq(add(1, 100, 200), 0); /* [100, 300) */
	mask(1, 64, bits);		   /* begins inside */
	cr_assert_eq(bits[0], (1ull << 36) - 1);
	cr_assert_eq(bits[1], 0);
	mask(1, 128, bits); /* all of it */
	cr_assert_eq(bits[0] | bits[1], 0);
	mask(1, 256, bits); /* ends inside */
	cr_assert_eq(bits[0], ~0ull << 44);
	cr_assert_eq(bits[1], ~0ull);
	mask(1, 320, bits); /* behind */
	cr_assert_eq(bits[0] & bits[1], ~0ull);
	mask(0, 128, bits); /* of another region */
	cr_assert_eq(bits[0] & bits[1], ~0ull);
}

Test(hold, small_one_inside_a_span)
{
	uint64_t bits[2];

	add(0, 70, 1);
	add(0, 3, 2);
	mask(0, 0, bits);
	cr_assert_eq(bits[0], ~0x18ull);
	cr_assert_eq(bits[1], ~0x40ull);
}

Test(hold, ranges_that_overlap_are_refused)
{
	cr_assert_eq(add(0, 10, 10), 0);
	cr_assert_eq(add(0, 10, 10), -EBUSY);
	cr_assert_eq(add(0, 5, 6), -EBUSY);
	cr_assert_eq(add(0, 19, 1), -EBUSY);
	cr_assert_eq(add(0, 0, 100), -EBUSY);
	cr_assert_eq(add(0, 12, 2), -EBUSY);
	cr_assert_eq(add(0, 20, 5), 0, "touches only");
	cr_assert_eq(add(0, 5, 5), 0);
	cr_assert_eq(add(1, 10, 10), 0, "of another region");
	cr_assert_eq(h.n, 4);
}

Test(hold, no_more_than_fit)
{
	for (uint32_t i = 0; i < RJI_MAX_HOLDS; i++)
		cr_assert_eq(add(0, i, 1), 0);
	cr_assert_eq(add(0, RJI_MAX_HOLDS, 1), -ENOSPC);
	cr_assert_eq(add(0, 3, 1), -EBUSY, "the better news");
}

Test(hold, is_found_by_what_was_asked_and_no_other_way)
{
	struct rji_held held = pages(2, 8, 4), got = { 0 };

	held.first_page = 0; /* lanes stay out of more than was asked */
	held.n_pages = 512;
	cr_assert_eq(rji_holds_add(&h, &held), 0);
	cr_assert_eq(rji_holds_find(&h, 2, 8 * 4096, 4 * 4096, &got), 0);
	cr_assert_eq(got.n_pages, 512);
	cr_assert_eq(rji_holds_find(&h, 2, 8 * 4096, 3 * 4096, &got), -ENOENT);
	cr_assert_eq(rji_holds_find(&h, 2, 0, 4 * 4096, &got), -ENOENT);
	cr_assert_eq(rji_holds_find(&h, 1, 8 * 4096, 4 * 4096, &got), -ENOENT);
}

Test(hold, narrowed_to_what_was_asked)
{
	struct rji_held held = pages(0, 8, 4);
	uint64_t bits[2];

	held.first_page = 0;
	held.n_pages = 128;
	rji_holds_add(&h, &held);
	mask(0, 0, bits);
	cr_assert_eq(bits[0] | bits[1], 0);
	held.first_page = 8;
	held.n_pages = 4;
	rji_holds_narrow(&h, &held);
	mask(0, 0, bits);
	cr_assert_eq(bits[0], ~0xf00ull);
	cr_assert_eq(bits[1], ~0ull);
}

Test(hold, removed_one_masks_no_more_and_the_others_stay)
{
	struct rji_held held[3] = { pages(0, 0, 1), pages(0, 2, 1), pages(0, 4, 1) };
	uint64_t bits[2];

	for (int i = 0; i < 3; i++)
		rji_holds_add(&h, &held[i]);
	rji_holds_remove(&h, &held[0]);
	mask(0, 0, bits);
	cr_assert_eq(bits[0], ~0x14ull);
	rji_holds_remove(&h, &held[0]);
	cr_assert_eq(h.n, 2, "once");
	rji_holds_remove(&h, &held[2]);
	rji_holds_remove(&h, &held[1]);
	mask(0, 0, bits);
	cr_assert_eq(bits[0], ~0ull);
	cr_assert_eq(add(0, 0, 5), 0);
}

Test(hold, lane_learns_of_one_once)
{
	rji_holds_enter(&h, 0);
	cr_assert_not(rji_holds_changed(&h, 0));
	rji_holds_leave(&h, 0);
	add(0, 1, 1);
	cr_assert(rji_holds_changed(&h, 0));
	rji_holds_acknowledge(&h, 0);
	cr_assert_not(rji_holds_changed(&h, 0));
	add(0, 5, 1);
	rji_holds_enter(&h, 0);
	cr_assert_not(rji_holds_changed(&h, 0), "entering is as good as acknowledging");
	rji_holds_leave(&h, 0);
}

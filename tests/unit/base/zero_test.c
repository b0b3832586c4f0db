/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "base/zero.h"

static _Alignas(64) unsigned char page[4 * 4096];

Test(zero, a_page_of_zeros_is_zero)
{
	memset(page, 0, sizeof(page));
	cr_assert(rji_is_zero(page, sizeof(page)));
	cr_assert(rji_is_zero(page, 0));
}

Test(zero, any_single_bit_is_found)
{
	memset(page, 0, sizeof(page));
	for (size_t i = 0; i < sizeof(page); i++) {
		page[i] = (unsigned char)(1u << (i % 8));
		cr_assert_not(rji_is_zero(page, sizeof(page)), "byte %zu", i);
		page[i] = 0;
	}
}

Test(zero, only_the_length_given_is_looked_at)
{
	memset(page, 0, sizeof(page));
	page[RJI_ZERO_BLOCK_BYTES] = 1;
	cr_assert(rji_is_zero(page, RJI_ZERO_BLOCK_BYTES));
	cr_assert_not(rji_is_zero(page, 2 * RJI_ZERO_BLOCK_BYTES));
	for (size_t len = 5 * RJI_ZERO_BLOCK_BYTES; len < 12 * RJI_ZERO_BLOCK_BYTES;
	     len += RJI_ZERO_BLOCK_BYTES) {
		memset(page, 0, sizeof(page));
		cr_assert(rji_is_zero(page, len));
		page[len - 1] = 1;
		cr_assert_not(rji_is_zero(page, len));
		page[len - 1] = 0;
		page[len] = 1;
		cr_assert(rji_is_zero(page, len));
	}
}

Test(zero, pages_are_counted_up_to_the_first_that_is_not)
{
	memset(page, 0, sizeof(page));
	cr_assert_eq(rji_leading_zero_pages(page, 4096, 4), 4);
	cr_assert_eq(rji_leading_zero_pages(page, 4096, 0), 0);
	for (size_t i = 0; i < sizeof(page); i++) {
		page[i] = 1;
		cr_assert_eq(rji_leading_zero_pages(page, 4096, 4), i / 4096, "byte %zu", i);
		cr_assert_eq(rji_leading_zero_pages(page, 4096, i / 4096), i / 4096);
		page[i] = 0;
	}
}

Test(zero, what_comes_after_the_first_does_not_count)
{
	memset(page, 0, sizeof(page));
	page[4096 + 17] = page[2 * 4096] = page[4 * 4096 - 1] = 1;
	cr_assert_eq(rji_leading_zero_pages(page, 4096, 4), 1);
	cr_assert_eq(rji_leading_zero_pages(page, sizeof(page), 1), 0);
}

Test(zero, memory_aligned_to_8_will_do)
{
	memset(page, 0, sizeof(page));
	cr_assert(rji_is_zero(page + 8, 4096));
	page[7] = page[8 + 4096] = 1;
	cr_assert(rji_is_zero(page + 8, 4096));
	page[8 + 4095] = 1;
	cr_assert_not(rji_is_zero(page + 8, 4096));
}

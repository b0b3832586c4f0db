/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "pagesender/dirty/plain.h"

#define N_WORDS 4u
#define N_PAGES (N_WORDS * 64u)

Test(plain, marks_exactly_the_range)
{
	for (uint64_t first = 0; first < N_PAGES; first += 7) {
		for (uint64_t n = 0; first + n <= N_PAGES; n++) {
			rji_plain_word map[N_WORDS] = { 0 };
			uint64_t bits[N_WORDS] = { 0 };

			rji_plain_mark(map, first, n);
			rji_plain_collect(map, N_WORDS, bits);
			for (uint64_t p = 0; p < N_PAGES; p++)
				cr_assert_eq(bits[p / 64] >> (p % 64) & 1,
					     p >= first && p < first + n, "[%lu, +%lu) %lu", first,
					     n, p);
		}
	}
}

Test(plain, collect_forgets_nothing_and_keeps_what_was_there)
{
	rji_plain_word map[N_WORDS] = { 0 };
	uint64_t bits[N_WORDS] = { 0, 0, 0xf0, 0 };

	rji_plain_mark(map, 60, 10);
	for (int i = 0; i < 2; i++) {
		rji_plain_collect(map, N_WORDS, bits);
		cr_assert_eq(bits[0], 0xfull << 60);
		cr_assert_eq(bits[1], 0x3full);
		cr_assert_eq(bits[2], 0xf0);
		cr_assert_eq(map[0], 0xfull << 60);
	}
}

Test(plain, rearm_clears_exactly_the_bits_given)
{
	rji_plain_word map[N_WORDS] = { 0xff, 0xff00, 0, ~0ull };
	const uint64_t bits[N_WORDS] = { 0x0f, 0, ~0ull, 1ull << 63 };

	rji_plain_rearm(map, N_WORDS, bits);
	cr_assert_eq(map[0], 0xf0);
	cr_assert_eq(map[1], 0xff00);
	cr_assert_eq(map[2], 0);
	cr_assert_eq(map[3], ~0ull >> 1);
}

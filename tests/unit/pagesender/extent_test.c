/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/extent.h"

static uint64_t bits[RJI_SPAN_MAX_WORDS];

static struct rji_span span_of(uint64_t first_page, uint64_t n_pages)
{
	return (struct rji_span){
		.region = 3, .first_page = first_page, .n_pages = n_pages, .bits = bits
	};
}

Test(extent, neighbours_become_one)
{
	struct rji_span span = span_of(1024, 512);
	struct rji_extent e[8];
	uint64_t page = 0;

	bits[0] = 0x8000000000000007; /* 0 to 2; 63 goes on in the next word */
	bits[1] = 0x1;
	bits[7] = 1ull << 63;
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &page, e, 8), 3);
	cr_assert_eq(e[0].region, 3);
	cr_assert_eq(e[0].offset_bytes, 1024 * 4096);
	cr_assert_eq(e[0].len_bytes, 3 * 4096);
	cr_assert_eq(e[1].offset_bytes, (1024 + 63) * 4096);
	cr_assert_eq(e[1].len_bytes, 2 * 4096);
	cr_assert_eq(e[2].offset_bytes, (1024 + 511) * 4096);
	cr_assert_eq(e[2].len_bytes, 4096);
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &page, e, 8), 0);
}

Test(extent, goes_on_where_the_room_ended)
{
	struct rji_span span = span_of(0, 64);
	struct rji_extent all[32], e;
	uint64_t page = 0, at = 0;

	bits[0] = 0x5555555555555555;
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &page, all, 32), 32);
	for (int i = 0; i < 32; i++) {
		cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &at, &e, 1), 1);
		cr_assert_eq(e.offset_bytes, all[i].offset_bytes);
		cr_assert_eq(e.len_bytes, 4096);
	}
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &at, &e, 1), 0);
	page = 0;
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &page, &e, 0), 0,
		     "no room");
}

Test(extent, runs_are_cut_at_the_longest_asked_for)
{
	struct rji_span span = span_of(0, 64);
	struct rji_extent e[8];
	uint64_t page = 0;

	bits[0] = 0x3f; /* six pages */
	cr_assert_eq(rji_extents_of_span(&span, 12, 16384, &page, e, 8), 2);
	cr_assert_eq(e[0].len_bytes, 16384);
	cr_assert_eq(e[1].offset_bytes, 16384);
	cr_assert_eq(e[1].len_bytes, 8192);
	page = 0;
	cr_assert_eq(rji_extents_of_span(&span, 12, 1, &page, e, 8), 6, "but a page at least");
}

Test(extent, pages_past_the_span_are_not_its)
{
	struct rji_span span = span_of(0, 70);
	struct rji_extent e[4];
	uint64_t page = 0;

	memset(bits, 0xff, sizeof(bits));
	cr_assert_eq(rji_extents_of_span(&span, 12, RJI_EXTENT_MAX_BYTES, &page, e, 4), 1);
	cr_assert_eq(e[0].len_bytes, 70 * 4096);
}

Test(extent, huge_pages_are_cut_to_what_an_extent_may_be)
{
	struct rji_span span = span_of(0, 64);
	struct rji_extent e[64];
	uint64_t page = 0, total = 0;
	uint32_t n;

	memset(bits, 0xff, sizeof(bits));
	n = rji_extents_of_span(&span, 30, RJI_EXTENT_MAX_BYTES, &page, e, 64);
	cr_assert_eq(n, 64);
	for (uint32_t i = 0; i < n; i++) {
		cr_assert_eq(e[i].offset_bytes, total);
		cr_assert_leq(e[i].len_bytes, RJI_EXTENT_MAX_BYTES);
		total += e[i].len_bytes;
	}
	cr_assert_eq(total, 64ull << 30);

	page = 0;
	cr_assert_eq(rji_extents_of_span(&span, 29, RJI_EXTENT_MAX_BYTES, &page, e, 64), 32);
	cr_assert_eq(e[0].len_bytes, 1u << 30);
}

static uint64_t random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Long runs, single pages, full and empty words, in any order. */
static uint64_t some_word(uint64_t *state)
{
	uint64_t a = random_word(state), b = random_word(state);

	switch (b % 5) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return a;
	case 3: return ~0ull << a % 64;
	default: return ~0ull >> a % 64;
	}
}

/* Page by page: is it set, and does the extent under way go on? */
static uint32_t by_pages(const struct rji_span *span, uint64_t max_pages, struct rji_extent *e)
{
	uint64_t run = 0;
	uint32_t n = 0;

	for (uint64_t i = 0; i < span->n_pages; i++) {
		if (!rji_bitmap_test(span->bits, i)) {
			run = 0;
			continue;
		}
		if (run == 0 || run == max_pages) {
			e[n++] = (struct rji_extent){ .offset_bytes = (span->first_page + i) << 12,
						      .region = 3 };
			run = 0;
		}
		e[n - 1].len_bytes += 4096;
		run++;
	}
	return n;
}

Test(extent, any_bits_in_any_room_give_what_page_by_page_gives)
{
	static struct rji_extent want[512], got[512];
	uint64_t state = 4711;

	for (int round = 0; round < 20000; round++) {
		struct rji_span span = span_of(round * 64ull, 1 + random_word(&state) % 512);
		uint64_t max_pages = 1 + random_word(&state) % 130, page = 0;
		uint32_t n_want, n_got = 0, n;

		for (int i = 0; i < RJI_SPAN_MAX_WORDS; i++)
			bits[i] = some_word(&state);
		n_want = by_pages(&span, max_pages, want);
		do {
			uint32_t room = 1 + (uint32_t)(random_word(&state) % 40);

			n = rji_extents_of_span(&span, 12, (uint32_t)max_pages << 12, &page,
						got + n_got,
						room < 512 - n_got ? room : 512 - n_got);
			n_got += n;
		} while (n);
		cr_assert_eq(n_got, n_want, "round %d: %u extents for %u", round, n_got, n_want);
		cr_assert_arr_eq(got, want, n_want * sizeof(*want), "round %d", round);
	}
}

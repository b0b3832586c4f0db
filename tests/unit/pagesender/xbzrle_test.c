/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "pagesender/codec/xbzrle.h"
#include "tests/support/sim_random.h"

#define PAGE 4096u
#define GUARD 0xa5

static uint8_t old[PAGE], now[PAGE], code[2 * PAGE];

static void pages_equal_and_random(uint64_t seed)
{
	struct sim_random r = { seed };

	for (uint32_t i = 0; i < PAGE; i++)
		now[i] = old[i] = (uint8_t)sim_next(&r);
}

static int encode(void)
{
	return rji_xbzrle_encode(old, now, PAGE, code, sizeof(code));
}

/* By a page and a code of exactly their sizes, so that ASan sees a byte too far. */
static int decode(const uint8_t *from, uint32_t n, uint32_t len_bytes, uint8_t *result)
{
	uint8_t *page = malloc(len_bytes), *copy = malloc(n ? n : 1);
	int rc;

	memcpy(page, old, len_bytes);
	memcpy(copy, from, n);
	rc = rji_xbzrle_decode(copy, n, page, len_bytes);
	if (result)
		memcpy(result, page, len_bytes);
	free(copy);
	free(page);
	return rc;
}

static void check_round_trip(uint32_t len_bytes)
{
	uint8_t got[PAGE];
	int n = rji_xbzrle_encode(old, now, len_bytes, code, sizeof(code));

	cr_assert_geq(n, 0);
	if (!memcmp(old, now, len_bytes)) {
		cr_assert_eq(n, 0);
		return;
	}
	cr_assert_gt(n, 0);
	cr_assert_eq(decode(code, (uint32_t)n, len_bytes, got), 0);
	cr_assert_arr_eq(got, now, len_bytes);
}

Test(xbzrle, equal_pages_have_no_code)
{
	pages_equal_and_random(1);
	cr_assert_eq(encode(), 0);
	cr_assert_eq(rji_xbzrle_encode(old, now, PAGE, code, 0), 0);
	cr_assert_eq(rji_xbzrle_encode(old, now, 0, code, 0), 0);
}

Test(xbzrle, any_single_byte_is_found_and_coded_in_three_or_four)
{
	pages_equal_and_random(2);
	for (uint32_t i = 0; i < PAGE; i++) {
		now[i] ^= 0x10;
		cr_assert_eq(encode(), i < 128 ? 3 : 4, "byte %u", i);
		check_round_trip(PAGE);
		now[i] ^= 0x10;
	}
}

/* What QEMU would send, by hand: the bytes are a promise. */
Test(xbzrle, code_is_as_documented)
{
	static const uint8_t expected[] = {
		0x00, 0x02, 0xc1, 0xc2, /* bytes 0 and 1 */
		0xc6, 0x01, 0x01, 0xc3, /* 198 equal, then byte 200 */
		0xb6, 0x1e, 0x01, 0xc4, /* 3894 equal, then byte 4095 */
	};

	now[0] = 0xc1;
	now[1] = 0xc2;
	now[200] = 0xc3;
	now[4095] = 0xc4;
	cr_assert_eq(encode(), (int)sizeof(expected));
	cr_assert_arr_eq(code, expected, sizeof(expected));
}

Test(xbzrle, a_whole_page_costs_three_bytes_more)
{
	for (uint32_t i = 0; i < PAGE; i++)
		now[i] = (uint8_t)(i | 1);
	cr_assert_eq(encode(), PAGE + 3);
	check_round_trip(PAGE);
}

Test(xbzrle, few_equal_bytes_are_taken_along_and_four_are_not)
{
	now[100] = now[104] = 1;
	cr_assert_eq(encode(), 1 + 1 + 5);
	now[104] = 0;
	now[105] = 1;
	cr_assert_eq(encode(), 1 + 1 + 1 + 1 + 1 + 1);
	check_round_trip(PAGE);
}

/* The low half of each word: as counters and pointers change. */
Test(xbzrle, changes_in_part_of_each_word_do_not_cost_the_page)
{
	for (uint32_t i = 0; i < PAGE; i += 8)
		now[i] = now[i + 1] = 7;
	cr_assert_eq(encode(), (int)(PAGE / 8 * 4));
	check_round_trip(PAGE);
}

Test(xbzrle, what_does_not_fit_is_refused_and_nothing_is_written_past_the_room)
{
	pages_equal_and_random(3);
	for (uint32_t i = 0; i < PAGE; i += 100)
		now[i] ^= 1;
	int n = encode();

	cr_assert_eq(n, 41 * 3);
	for (uint32_t room = 0; room < (uint32_t)n; room++) {
		memset(code, GUARD, sizeof(code));
		cr_assert_eq(rji_xbzrle_encode(old, now, PAGE, code, room), -ENOSPC);
		for (uint32_t i = room; i < sizeof(code); i++)
			cr_assert_eq(code[i], GUARD);
	}
	cr_assert_eq(rji_xbzrle_encode(old, now, PAGE, code, (uint32_t)n), n);
}

Test(xbzrle, any_pages_come_back)
{
	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct sim_random r = sim_split(seed, 4);
		uint32_t len = sim_chance(&r, 50) ? PAGE : (uint32_t)sim_below(&r, PAGE);
		uint64_t n_changes = sim_below(&r, 200);

		pages_equal_and_random(seed);
		while (n_changes--) {
			uint64_t at = sim_below(&r, PAGE), n = 1 + sim_below(&r, 30);

			while (n-- && at < PAGE)
				now[at++] += (uint8_t)sim_below(&r, 3);
		}
		check_round_trip(len);
	}
}

Test(xbzrle, what_is_no_code_is_refused)
{
	static const struct {
		uint8_t n, bytes[8];
	} bad[] = {
		{ 0, { 0 } },
		{ 1, { 0 } },			/* cut after the first count */
		{ 1, { 0x80 } },		/* cut in it */
		{ 2, { 0, 0 } },		/* nothing changed */
		{ 2, { 0, 1 } },		/* cut before the bytes */
		{ 3, { 0, 2, 9 } },		/* cut in them */
		{ 6, { 1, 1, 9, 0, 1, 9 } },	/* 0 equal, not at the start */
		{ 5, { 1, 1, 9, 1, 0 } },	/* nothing changed, later */
		{ 4, { 0x80, 0, 1, 9 } },	/* a byte more than needed */
		{ 4, { 0, 0x81, 0, 9 } },	/* the same for the other count */
		{ 4, { 0x80, 0x20, 1, 9 } },	/* 4096 equal: behind the page */
		{ 4, { 0x81, 0x20, 1, 9 } },	/* 4097 equal */
		{ 5, { 0xff, 0x1f, 2, 9, 9 } }, /* 4095 equal, then two */
		{ 7, { 0xff, 0xff, 0xff, 0x7f, 1, 9, 9 } },
		{ 7, { 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 9 } }, /* five bytes of a count */
		{ 8, { 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 9, 9 } },
		{ 4, { 0, 1, 9, 5 } }, /* something behind the last change */
	};
	static const uint8_t last[] = { 0xff, 0x1f, 1, 9 }; /* 4095 equal, then one */

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(decode(bad[i].bytes, bad[i].n, PAGE, NULL), -EBADMSG, "%zu", i);
	cr_assert_eq(decode(last, sizeof(last), PAGE, NULL), 0);
	cr_assert_eq(decode(last, sizeof(last), PAGE - 1, NULL), -EBADMSG);
}

Test(xbzrle, a_code_that_is_cut_or_damaged_never_reaches_outside)
{
	pages_equal_and_random(5);
	for (uint32_t i = 0; i < PAGE; i += 37)
		now[i] ^= 1;
	int n = encode();

	/* 3 bytes a change: what is cut elsewhere is noticed. */
	for (uint32_t cut = 0; cut < (uint32_t)n; cut++)
		cr_assert_eq(decode(code, cut, PAGE, NULL), cut && cut % 3 == 0 ? 0 : -EBADMSG);
	for (uint32_t bit = 0; bit < (uint32_t)n * 8; bit++) {
		int rc;

		code[bit / 8] ^= (uint8_t)(1 << bit % 8);
		rc = decode(code, (uint32_t)n, PAGE, NULL);
		cr_assert(rc == 0 || rc == -EBADMSG);
		code[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

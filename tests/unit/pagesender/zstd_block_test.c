/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "pagesender/codec/zstd_block.h"
#include "tests/support/sim_random.h"

#define PAGE 4096u
#define GUARD 0xa5

static uint8_t page[16 * PAGE], code[32 * PAGE];

/* One of 16 words after another: a third of its size. */
static void text(uint64_t seed)
{
	static const char words[16][8] = { "page  ", "guest ", "dirty ", "the   ",
					   "round ", "lane  ", "fence ", "memory",
					   "to    ", "sends ", "writes", "before",
					   "after ", "is    ", "and   ", "not   " };
	struct sim_random r = { seed };

	for (uint32_t i = 0; i + 6 <= sizeof(page); i += 6)
		memcpy(page + i, words[sim_below(&r, 16)], 6);
}

static void noise(uint64_t seed)
{
	struct sim_random r = { seed };

	for (uint32_t i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)sim_next(&r);
}

static struct rji_zstd *create(int level)
{
	struct rji_zstd *z = NULL;

	cr_assert_eq(rji_zstd_create(level, &z), 0);
	return z;
}

/* By blocks of exactly their sizes, so that ASan sees a byte too far. */
static int decode(struct rji_zstd *z, uint32_t code_bytes, uint32_t len_bytes, uint8_t *result)
{
	uint8_t *from = malloc(code_bytes ? code_bytes : 1),
		*to = malloc(len_bytes ? len_bytes : 1);
	int rc;

	memcpy(from, code, code_bytes);
	rc = rji_zstd_decode(z, from, code_bytes, to, len_bytes);
	if (!rc)
		memcpy(result, to, len_bytes);
	free(from);
	free(to);
	return rc;
}

static void check_round_trip(struct rji_zstd *z, uint32_t len_bytes)
{
	uint8_t *got = malloc(len_bytes);
	int n = rji_zstd_encode(z, page, len_bytes, code, sizeof(code));

	cr_assert_gt(n, 0);
	cr_assert_eq(decode(z, (uint32_t)n, len_bytes, got), 0);
	cr_assert_arr_eq(got, page, len_bytes);
	free(got);
}

Test(zstd_block, what_was_coded_comes_back)
{
	static const int levels[] = { -5, -1, 1, 3 };

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct rji_zstd *z = create(levels[i]);

		for (uint32_t len = PAGE; len <= sizeof(page); len *= 2) {
			text(len);
			check_round_trip(z, len);
			noise(len);
			check_round_trip(z, len);
		}
		memset(page, 0, sizeof(page));
		check_round_trip(z, PAGE);
		check_round_trip(z, 1);
		rji_zstd_destroy(&z);
		cr_assert_null(z);
	}
}

Test(zstd_block, text_shrinks_and_the_frame_around_is_nine_bytes)
{
	struct rji_zstd *z = create(1);
	int n;

	text(1);
	n = rji_zstd_encode(z, page, PAGE, code, sizeof(code));
	cr_assert(n > 0 && n < (int)PAGE / 2, "%d", n);
	/* Magic, descriptor, window, and the head of a block: no content size, no checksum. */
	noise(1);
	cr_assert_eq(rji_zstd_encode(z, page, PAGE, code, sizeof(code)), PAGE + 9);
	rji_zstd_destroy(&z);
}

Test(zstd_block, what_does_not_fit_is_refused_and_nothing_is_written_past_the_room)
{
	struct rji_zstd *z = create(1);
	int n;

	noise(2);
	cr_assert_eq(rji_zstd_encode(z, page, PAGE, code, PAGE - 1), -ENOSPC);
	text(2);
	n = rji_zstd_encode(z, page, PAGE, code, sizeof(code));
	for (uint32_t room = 0; room < (uint32_t)n; room += 7) {
		memset(code, GUARD, sizeof(code));
		cr_assert_eq(rji_zstd_encode(z, page, PAGE, code, room), -ENOSPC, "%u", room);
		for (uint32_t i = room; i < PAGE; i++)
			cr_assert_eq(code[i], GUARD);
	}
	/* And goes on. */
	check_round_trip(z, PAGE);
	rji_zstd_destroy(&z);
}

Test(zstd_block, another_length_than_was_coded_is_refused)
{
	struct rji_zstd *z = create(1);
	uint8_t got[2 * PAGE];
	int n;

	text(3);
	n = rji_zstd_encode(z, page, PAGE, code, sizeof(code));
	cr_assert_eq(decode(z, (uint32_t)n, PAGE - 1, got), -EBADMSG);
	cr_assert_eq(decode(z, (uint32_t)n, PAGE + 1, got), -EBADMSG);
	cr_assert_eq(decode(z, (uint32_t)n, 0, got), -EBADMSG);
	cr_assert_eq(decode(z, (uint32_t)n, PAGE, got), 0);
	rji_zstd_destroy(&z);
}

Test(zstd_block, a_code_that_is_cut_or_damaged_never_reaches_outside)
{
	struct rji_zstd *z = create(1);
	uint8_t got[PAGE];
	int n, n_refused = 0;

	text(4);
	n = rji_zstd_encode(z, page, PAGE, code, sizeof(code));
	for (uint32_t cut = 0; cut < (uint32_t)n; cut++)
		cr_assert_eq(decode(z, cut, PAGE, got), -EBADMSG, "%u", cut);
	for (uint32_t bit = 0; bit < (uint32_t)n * 8; bit++) {
		int rc;

		code[bit / 8] ^= (uint8_t)(1 << bit % 8);
		rc = decode(z, (uint32_t)n, PAGE, got);
		cr_assert(rc == 0 || rc == -EBADMSG, "%d", rc);
		n_refused += rc == -EBADMSG;
		code[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	cr_assert_gt(n_refused, 0);
	/* And goes on. */
	check_round_trip(z, PAGE);
	rji_zstd_destroy(&z);
}

Test(zstd_block, a_level_nobody_has_is_refused)
{
	struct rji_zstd *z = (void *)&page;

	cr_assert_eq(rji_zstd_create(23, &z), -EINVAL);
	cr_assert_eq(rji_zstd_create(-200000, &z), -EINVAL);
	cr_assert_eq((void *)z, (void *)&page);
	z = NULL;
	rji_zstd_destroy(&z);
}

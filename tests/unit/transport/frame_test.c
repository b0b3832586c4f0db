/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "transport/frame.h"

#define LEN_0 0x100000u
#define LEN_2 0x5000u

static const struct rji_memory regions[3] = {
	{ .region = 0, .name = "a", .len_bytes = LEN_0 },
	{ .region = 1 },
	{ .region = 2, .name = "c", .len_bytes = LEN_2 },
};

Test(frame, heads_have_these_bytes)
{
	static const uint8_t pages[] = { 1, 0, 2, 1, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1 };
	static const uint8_t fence[] = { 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0 };
	uint8_t bytes[RJI_FRAME_HEAD_BYTES];
	struct rji_frame f;

	cr_assert_eq(sizeof(pages), RJI_FRAME_HEAD_BYTES);
	rji_frame_encode(&(struct rji_frame){ RJI_FRAME_PAGES, 0x102, 0x0102030405060708 }, bytes);
	cr_assert_arr_eq(bytes, pages, sizeof(pages));
	rji_frame_encode(&(struct rji_frame){ .type = RJI_FRAME_FENCE, .value = 9 }, bytes);
	cr_assert_arr_eq(bytes, fence, sizeof(fence));
	cr_assert_eq(rji_frame_decode(fence, &f, NULL), 0);
	cr_assert_eq(f.type, RJI_FRAME_FENCE);
	cr_assert_eq(f.n_extents, 0);
	cr_assert_eq(f.value, 9);
}

Test(frame, extents_have_these_bytes)
{
	static const uint8_t expected[] = { 0x00, 0x10, 0x32, 0x54, 0x06, 0, 0, 0,
					    0x00, 0x20, 0x01, 0x00, 0x02, 0, 0, 0 };
	const struct rji_extent e = { 0x654321000, 0x12000, 2 };
	uint8_t bytes[RJI_FRAME_EXTENT_BYTES];

	rji_frame_encode_extents(&e, 1, bytes);
	cr_assert_arr_eq(bytes, expected, sizeof(expected));
}

/* Which heads are refused; what is said of them. */
static const struct {
	struct rji_frame f;
	const char *text;
} bad_heads[] = {
	{ { 0, 0, 0 }, "unknown" },
	{ { 6, 0, 0 }, "unknown" },
	{ { 0xffff, 1, 0 }, "unknown" },
	{ { RJI_FRAME_PAGES, 0, 0 }, "0 extents" },
	{ { RJI_FRAME_PAGES, RJI_FRAME_MAX_EXTENTS + 1, 4096 }, "257 extents" },
	{ { RJI_FRAME_PAGES, 0xffff, 4096 }, "65535 extents" },
	{ { RJI_FRAME_FENCE, 1, 0 }, "1 extents" },
	{ { RJI_FRAME_FENCED, 1, 0 }, "1 extents" },
	{ { RJI_FRAME_BYE, 1, 0 }, "1 extents" },
	{ { RJI_FRAME_CODED, 0, 0 }, "0 extents" },
	{ { RJI_FRAME_CODED, RJI_FRAME_MAX_EXTENTS + 1, 0 }, "257 extents" },
	{ { RJI_FRAME_CODED, 1, RJI_FRAME_MAX_CODES_BYTES + 1 }, "1048577 bytes of codes" },
};

Test(frame, bad_heads_are_refused)
{
	for (size_t i = 0; i < sizeof(bad_heads) / sizeof(*bad_heads); i++) {
		uint8_t bytes[RJI_FRAME_HEAD_BYTES];
		struct rji_frame f = { 77, 77, 77 };
		struct rj_error err;

		rji_error_init(&err);
		rji_frame_encode(&bad_heads[i].f, bytes);
		cr_assert_eq(rji_frame_decode(bytes, &f, &err), RJ_E_PROTOCOL, "%zu", i);
		cr_assert_not_null(strstr(err.text, bad_heads[i].text), "%s", err.text);
		cr_assert_eq(f.type, 77, "not written");
	}
}

Test(frame, every_byte_that_must_be_zero_is_checked)
{
	for (size_t i = 4; i < 8; i++) {
		uint8_t bytes[RJI_FRAME_HEAD_BYTES];
		struct rji_frame f;

		rji_frame_encode(&(struct rji_frame){ .type = RJI_FRAME_BYE }, bytes);
		cr_assert_eq(rji_frame_decode(bytes, &f, NULL), 0);
		bytes[i] = 1;
		cr_assert_eq(rji_frame_decode(bytes, &f, NULL), RJ_E_PROTOCOL, "byte %zu", i);
	}
}

static int decode(const struct rji_extent *e, uint16_t n, uint64_t total, struct rji_extent *out,
		  struct rj_error *err)
{
	const struct rji_frame f = { RJI_FRAME_PAGES, n, total };
	uint8_t bytes[RJI_FRAME_MAX_BYTES];

	rji_error_init(err);
	rji_frame_encode_extents(e, n, bytes);
	return rji_frame_decode_extents(bytes, &f, regions, 3, out, err);
}

Test(frame, largest_table_comes_back)
{
	struct rji_extent e[RJI_FRAME_MAX_EXTENTS], got[RJI_FRAME_MAX_EXTENTS];
	struct rj_error err;
	uint64_t total = 0;

	for (uint32_t i = 0; i < RJI_FRAME_MAX_EXTENTS; i++) {
		e[i] = (struct rji_extent){ .offset_bytes = i * 0x1000u, .len_bytes = 0x1000 };
		total += e[i].len_bytes;
	}
	cr_assert_eq(decode(e, RJI_FRAME_MAX_EXTENTS, total, got, &err), 0, "%s", err.text);
	for (uint32_t i = 0; i < RJI_FRAME_MAX_EXTENTS; i++) {
		cr_assert_eq(got[i].offset_bytes, e[i].offset_bytes);
		cr_assert_eq(got[i].len_bytes, e[i].len_bytes);
		cr_assert_eq(got[i].region, e[i].region);
	}
}

/* Extents at and past the bounds of guest memory. */
static const struct {
	struct rji_extent e;
	bool good;
} bounds[] = {
	{ { 0, LEN_0, 0 }, true },
	{ { LEN_0 - 1, 1, 0 }, true },
	{ { 0, LEN_2, 2 }, true },
	{ { 0, LEN_0 + 1, 0 }, false },
	{ { 1, LEN_0, 0 }, false },
	{ { LEN_0, 1, 0 }, false },
	{ { LEN_0, 0, 0 }, false },
	{ { 0, 0, 0 }, false },
	{ { LEN_0 + 1, 1, 0 }, false },
	{ { UINT64_MAX, 1, 0 }, false },
	{ { UINT64_MAX - 0xfff, 0x2000, 0 }, false },
	{ { 0, UINT32_MAX, 0 }, false },
	{ { 0, LEN_2 + 1, 2 }, false },
	{ { 0, 0x1000, 1 }, false },
	{ { 0, 0x1000, 3 }, false },
	{ { 0, 0x1000, UINT32_MAX }, false },
};

Test(frame, extents_stay_inside_their_region)
{
	for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++) {
		struct rji_extent e[2] = { { 0, 0x1000, 0 }, bounds[i].e }, got[2];
		uint64_t total = 0x1000 + (uint64_t)bounds[i].e.len_bytes;
		struct rj_error err;

		cr_assert_eq(decode(e, 2, total, got, &err), bounds[i].good ? 0 : RJ_E_PROTOCOL,
			     "%zu", i);
		cr_assert(bounds[i].good || strstr(err.text, "outside guest memory"), "%s",
			  err.text);
	}
}

Test(frame, total_must_be_that_of_the_extents)
{
	const struct rji_extent e[2] = { { 0, 0x1000, 0 }, { 0x3000, 0x2000, 0 } };
	struct rji_extent got[2];
	struct rj_error err;

	cr_assert_eq(decode(e, 2, 0x3000, got, &err), 0);
	cr_assert_eq(decode(e, 2, 0x2fff, got, &err), RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "12287 bytes for extents of 12288"), "%s", err.text);
	cr_assert_eq(decode(e, 2, 0x3001, got, &err), RJ_E_PROTOCOL);
	cr_assert_eq(decode(e, 2, 0, got, &err), RJ_E_PROTOCOL);
	cr_assert_eq(decode(e, 2, (1ull << 32) + 0x3000, got, &err), RJ_E_PROTOCOL);
}

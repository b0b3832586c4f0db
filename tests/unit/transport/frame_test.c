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

/* --- tables of changes --- */

Test(frame, coded_entries_have_these_bytes)
{
	static const uint8_t expected[] = { 0x00, 0x10, 0x32, 0x54, 0x06, 0,	0, 0,
					    0x00, 0x10, 0x00, 0x00, 0x02, 0,	0, 0,
					    0x02, 0x00, 0x00, 0x00, 0x34, 0x02, 0, 0 };
	const struct rji_coded c = { { 0x654321000, 0x1000, 2 }, RJI_CODING_XBZRLE, 0x234, "" };
	uint8_t bytes[RJI_FRAME_CODED_BYTES];

	rji_frame_encode_coded(&c, 1, bytes);
	cr_assert_arr_eq(bytes, expected, sizeof(expected));
}

static int decode_coded(const struct rji_coded *c, uint16_t n, uint64_t total,
			struct rji_coded *out, struct rj_error *err)
{
	const struct rji_frame f = { RJI_FRAME_CODED, n, total };
	uint8_t bytes[RJI_FRAME_MAX_BYTES];

	rji_error_init(err);
	rji_frame_encode_coded(c, n, bytes);
	return rji_frame_decode_coded(bytes, &f, regions, 3, out, err);
}

Test(frame, largest_table_of_changes_comes_back)
{
	struct rji_coded c[RJI_FRAME_MAX_EXTENTS], got[RJI_FRAME_MAX_EXTENTS];
	struct rj_error err;
	uint64_t total = 0;

	for (uint32_t i = 0; i < RJI_FRAME_MAX_EXTENTS; i++) {
		c[i] = (struct rji_coded){ .extent = { i * 0x1000u, 0x1000, 0 },
					   .coding = (uint16_t)(1 + i % 3),
					   .len_bytes = i % 3 ? i : 0 };
		total += c[i].len_bytes;
	}
	cr_assert_eq(decode_coded(c, RJI_FRAME_MAX_EXTENTS, total, got, &err), 0, "%s", err.text);
	for (uint32_t i = 0; i < RJI_FRAME_MAX_EXTENTS; i++) {
		cr_assert_eq(got[i].extent.offset_bytes, c[i].extent.offset_bytes);
		cr_assert_eq(got[i].extent.len_bytes, c[i].extent.len_bytes);
		cr_assert_eq(got[i].coding, c[i].coding);
		cr_assert_eq(got[i].len_bytes, c[i].len_bytes);
		cr_assert_null(got[i].bytes);
	}
}

#define ZEROS RJI_CODING_ZEROS
#define DELTA RJI_CODING_XBZRLE
#define ZSTD RJI_CODING_ZSTD

/* Changes at and past what is allowed; what is said of those that are not. */
static const struct {
	struct rji_coded c;
	const char *text; /* NULL: it is allowed */
} changes[] = {
	{ { { 0, LEN_0, 0 }, ZEROS, 0, NULL }, NULL },
	{ { { LEN_0 - 0x1000, 0x1000, 0 }, ZEROS, 0, NULL }, NULL },
	{ { { 0, 0x1000, 0 }, DELTA, 1, NULL }, NULL },
	{ { { 0, 0x1000, 0 }, DELTA, 0x1000, NULL }, NULL },
	{ { { 0, RJI_CODED_PAGES_BYTES, 0 }, ZSTD, RJI_CODED_PAGES_BYTES, NULL }, NULL },
	/* where */
	{ { { 0, 0x1000, 1 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { 0, 0x1000, 3 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { 0, LEN_2 + 0x1000, 2 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { LEN_0, 0x1000, 0 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { UINT64_MAX - 0xfff, 0x2000, 0 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { 0, 0, 0 }, ZEROS, 0, NULL }, "outside guest memory" },
	{ { { 0, 0, 0 }, ZSTD, 1, NULL }, "outside guest memory" },
	/* zeros are made page by page: a part of one would reach beyond it */
	{ { { 0, 1, 0 }, ZEROS, 0, NULL }, "of coding 1" },
	{ { { LEN_0 - 1, 1, 0 }, ZEROS, 0, NULL }, "of coding 1" },
	{ { { LEN_0 - 0x800, 0x800, 0 }, ZEROS, 0, NULL }, "of coding 1" },
	{ { { LEN_0 - 0x1800, 0x1000, 0 }, ZEROS, 0, NULL }, "of coding 1" },
	{ { { 8, 0x1000, 0 }, ZEROS, 0, NULL }, "of coding 1" },
	{ { { 0, 0x1000, 0 }, ZEROS, 1, NULL }, "1 bytes of coding 1" },
	/* how much */
	{ { { 0, 0x1000, 0 }, DELTA, 0, NULL }, "0 bytes of coding 2" },
	{ { { 0, 0x1000, 0 }, DELTA, 0x1001, NULL }, "4097 bytes of coding 2" },
	{ { { 0, RJI_CODED_PAGES_BYTES + 0x1000, 0 }, ZSTD, 1, NULL }, "of coding 3" },
	{ { { 0, 0x1000, 0 }, ZSTD, 0, NULL }, "0 bytes of coding 3" },
	{ { { 0, 0x1000, 0 }, ZSTD, UINT32_MAX, NULL }, "of coding 3" },
	/* what */
	{ { { 0, 0x1000, 0 }, 0, 0, NULL }, "of coding 0" },
	{ { { 0, 0x1000, 0 }, 0, 1, NULL }, "of coding 0" },
	{ { { 0, 0x1000, 0 }, ZSTD + 1, 1, NULL }, "of coding 4" },
	{ { { 0, 0x1000, 0 }, 0xffff, 1, NULL }, "of coding 65535" },
};

Test(frame, changes_are_what_and_where_they_may_be)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		struct rji_coded c[2] = { { { 0x3000, 0x1000, 0 }, DELTA, 7, NULL }, changes[i].c };
		struct rji_coded got[2];
		struct rj_error err;
		int ret = decode_coded(c, 2, 7ull + c[1].len_bytes, got, &err);

		cr_assert_eq(ret, changes[i].text ? RJ_E_PROTOCOL : 0, "%zu: %s", i, err.text);
		cr_assert(!changes[i].text || strstr(err.text, changes[i].text), "%zu: %s", i,
			  err.text);
	}
}

Test(frame, every_byte_of_a_change_that_must_be_zero_is_checked)
{
	const struct rji_frame f = { RJI_FRAME_CODED, 1, 9 };
	const struct rji_coded c = { { 0, 0x1000, 0 }, DELTA, 9, NULL };

	for (size_t i = 18; i < 20; i++) {
		uint8_t bytes[RJI_FRAME_CODED_BYTES];
		struct rji_coded got;

		rji_frame_encode_coded(&c, 1, bytes);
		cr_assert_eq(rji_frame_decode_coded(bytes, &f, regions, 3, &got, NULL), 0);
		bytes[i] = 1;
		cr_assert_eq(rji_frame_decode_coded(bytes, &f, regions, 3, &got, NULL),
			     RJ_E_PROTOCOL, "byte %zu", i);
	}
}

Test(frame, total_must_be_that_of_the_codes)
{
	const struct rji_coded c[2] = { { { 0, 0x1000, 0 }, DELTA, 0x100, NULL },
					{ { 0x1000, 0x1000, 0 }, ZSTD, 0x200, NULL } };
	struct rji_coded got[2];
	struct rj_error err;

	cr_assert_eq(decode_coded(c, 2, 0x300, got, &err), 0);
	cr_assert_eq(decode_coded(c, 2, 0x2ff, got, &err), RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "767 bytes for extents of 768"), "%s", err.text);
	cr_assert_eq(decode_coded(c, 2, 0x301, got, &err), RJ_E_PROTOCOL);
	cr_assert_eq(decode_coded(c, 2, 0, got, &err), RJ_E_PROTOCOL);
}

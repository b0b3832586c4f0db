/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/cursor.h"

Test(cursor, integers_are_little_endian)
{
	static const uint8_t expected[] = { 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
					    0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08 };
	uint8_t bytes[sizeof(expected)];
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, sizeof(bytes));
	rji_put_u8(&c, 0x01);
	rji_put_u16(&c, 0x0203);
	rji_put_u32(&c, 0x04050607);
	rji_put_u64(&c, 0x08090a0b0c0d0e0f);
	cr_assert(rji_cursor_done(&c));
	cr_assert_arr_eq(bytes, expected, sizeof(expected));

	rji_cursor_init_const(&c, expected, sizeof(expected));
	cr_assert_eq(rji_get_u8(&c), 0x01);
	cr_assert_eq(rji_get_u16(&c), 0x0203);
	cr_assert_eq(rji_get_u32(&c), 0x04050607);
	cr_assert_eq(rji_get_u64(&c), 0x08090a0b0c0d0e0f);
	cr_assert(rji_cursor_done(&c));
}

Test(cursor, first_access_out_of_bounds_spoils_all_that_follow)
{
	const uint8_t bytes[5] = { 1, 2, 3, 4, 5 };
	struct rji_cursor c;

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	cr_assert_eq(rji_get_u64(&c), 0);
	cr_assert(c.bad);
	cr_assert_eq(rji_get_u8(&c), 0, "there would be room for it");
	cr_assert_null(rji_get_view(&c, 1));
	cr_assert_eq(rji_cursor_left(&c), 0);
	cr_assert_not(rji_cursor_done(&c));
}

Test(cursor, nothing_is_written_past_the_end)
{
	uint8_t bytes[8];
	struct rji_cursor c;

	memset(bytes, 0xaa, sizeof(bytes));
	rji_cursor_init(&c, bytes, 3);
	rji_put_u16(&c, 0x1111);
	rji_put_u32(&c, 0x22222222);
	rji_put_u8(&c, 0x33);
	cr_assert(c.bad);
	cr_assert_eq(bytes[0], 0x11);
	for (int i = 2; i < 8; i++)
		cr_assert_eq(bytes[i], 0xaa);
}

Test(cursor, bytes_that_are_not_there_read_as_zeros)
{
	const uint8_t bytes[2] = { 1, 2 };
	uint8_t got[4] = { 9, 9, 9, 9 };
	struct rji_cursor c;

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	rji_get_bytes(&c, got, sizeof(got));
	for (int i = 0; i < 4; i++)
		cr_assert_eq(got[i], 0);
}

Test(cursor, length_that_would_wrap_is_out_of_bounds)
{
	const uint8_t bytes[8] = { 0 };
	struct rji_cursor c;

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	rji_get_u32(&c);
	cr_assert_null(rji_get_view(&c, SIZE_MAX));
	cr_assert(c.bad);
	cr_assert_eq(c.pos, 4);
}

Test(cursor, message_without_bytes_reads_as_zero)
{
	struct rji_cursor c;
	uint8_t none;

	rji_cursor_init_const(&c, NULL, 0);
	cr_assert(rji_cursor_done(&c));
	rji_get_bytes(&c, &none, 0);
	cr_assert_eq(rji_get_u32(&c), 0);
	cr_assert(c.bad);
}

Test(cursor, strings_come_back)
{
	static const char *const texts[] = { "", "a", "ram0", "mit Umlaut: \xc3\xa4" };
	uint8_t bytes[256];

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct rji_cursor c;
		char got[64];

		rji_cursor_init(&c, bytes, sizeof(bytes));
		rji_put_string(&c, texts[i]);
		cr_assert_eq(c.pos, 2 + strlen(texts[i]));
		rji_cursor_init_const(&c, bytes, c.pos);
		rji_get_string(&c, got, sizeof(got));
		cr_assert(rji_cursor_done(&c));
		cr_assert_str_eq(got, texts[i]);
	}
}

/* What a string may not be, with room for seven characters. */
static const struct {
	const char *what;
	uint8_t bytes[12];
	size_t len_bytes;
} bad_strings[] = {
	{ "no length", { 0 }, 0 },
	{ "half a length", { 3 }, 1 },
	{ "shorter than it says", { 3, 0, 'a', 'b' }, 4 },
	{ "longer than the room", { 8, 0, '1', '2', '3', '4', '5', '6', '7', '8' }, 10 },
	{ "a NUL inside", { 3, 0, 'a', 0, 'b' }, 5 },
	{ "a NUL at the end", { 3, 0, 'a', 'b', 0 }, 5 },
};

Test(cursor, bad_strings_are_empty_and_spoil_the_message)
{
	for (size_t i = 0; i < sizeof(bad_strings) / sizeof(*bad_strings); i++) {
		uint8_t *bytes = malloc(bad_strings[i].len_bytes ?: 1);
		struct rji_cursor c;
		char got[8] = "before";

		memcpy(bytes, bad_strings[i].bytes, bad_strings[i].len_bytes);
		rji_cursor_init_const(&c, bytes, bad_strings[i].len_bytes);
		rji_get_string(&c, got, sizeof(got));
		cr_assert(c.bad, "%s", bad_strings[i].what);
		cr_assert_str_eq(got, "", "%s", bad_strings[i].what);
		free(bytes);
	}
}

Test(cursor, string_that_just_fits)
{
	const uint8_t bytes[] = { 7, 0, '1', '2', '3', '4', '5', '6', '7' };
	struct rji_cursor c;
	char got[8];

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	rji_get_string(&c, got, sizeof(got));
	cr_assert(rji_cursor_done(&c));
	cr_assert_str_eq(got, "1234567");
}

Test(cursor, string_too_long_for_its_length_field_is_not_written)
{
	char *text = malloc(UINT16_MAX + 2);
	uint8_t *bytes = malloc(UINT16_MAX + 16);
	struct rji_cursor c;

	memset(text, 'x', UINT16_MAX + 1);
	text[UINT16_MAX + 1] = '\0';
	rji_cursor_init(&c, bytes, UINT16_MAX + 16);
	rji_put_string(&c, text);
	cr_assert(c.bad);
	cr_assert_eq(c.pos, 0);
	free(text);
	free(bytes);
}

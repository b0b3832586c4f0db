/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/random.h"

Test(random, all_bytes_are_filled_and_differ_each_time)
{
	size_t len = 100000;
	uint8_t *a = calloc(1, len), *b = calloc(1, len);
	size_t seen[256] = { 0 };

	cr_assert_eq(rji_random_bytes(a, len), 0);
	cr_assert_eq(rji_random_bytes(b, len), 0);
	cr_assert(memcmp(a, b, len) != 0);
	for (size_t i = len / 2; i < len; i++)
		seen[a[i]]++;
	/* 195 expected; a value that is missing, or as many zeros as unfilled bytes leave, is not. */
	for (int v = 0; v < 256; v++)
		cr_assert(seen[v] > 50 && seen[v] < 500, "%d: %zu", v, seen[v]);
	free(a);
	free(b);
}

Test(random, no_bytes_touch_nothing)
{
	uint8_t byte = 7;

	cr_assert_eq(rji_random_bytes(&byte, 0), 0);
	cr_assert_eq(byte, 7);
}

Test(random, secrets_differ_wherever_they_differ)
{
	uint8_t a[32], b[32];

	rji_random_bytes(a, sizeof(a));
	memcpy(b, a, sizeof(a));
	cr_assert(rji_secret_equal(a, b, sizeof(a)));
	for (size_t i = 0; i < sizeof(a); i++) {
		for (int bit = 0; bit < 8; bit++) {
			b[i] ^= (uint8_t)(1 << bit);
			cr_assert_not(rji_secret_equal(a, b, sizeof(a)));
			b[i] ^= (uint8_t)(1 << bit);
		}
	}
	cr_assert(rji_secret_equal(a, b, 0));
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"

#define N_BITS 300u
#define N_WORDS 5u

/* xorshift64: the sequence is the seed's. */
static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A bitmap and, beside it, one byte for each bit. */
struct model {
	uint64_t map[N_WORDS];
	bool bit[N_WORDS * 64];
};

static void model_check(const struct model *m, uint64_t seed)
{
	uint64_t weight = 0;

	for (unsigned int i = 0; i < N_WORDS * 64; i++) {
		cr_assert_eq(rji_bitmap_test(m->map, i), m->bit[i], "seed %lu bit %u", seed, i);
		weight += m->bit[i];
	}
	cr_assert_eq(rji_bitmap_weight(m->map, N_WORDS), weight, "seed %lu", seed);
}

static void model_change(struct model *m, uint64_t *random)
{
	uint64_t first = next(random) % N_BITS, n = next(random) % (N_BITS - first + 1);
	bool value = next(random) & 1;

	/* Short ranges too: they often stay in a word, or begin or end where one does. */
	if (next(random) & 1)
		n = n < 70 ? n : n % 70;
	if (value)
		rji_bitmap_set_range(m->map, first, n);
	else
		rji_bitmap_clear_range(m->map, first, n);
	for (uint64_t i = first; i < first + n; i++)
		m->bit[i] = value;
}

static uint64_t model_next_run(const struct model *m, uint64_t *first, uint64_t end)
{
	uint64_t at = *first, n = 0;

	while (at < end && !m->bit[at])
		at++;
	while (at + n < end && m->bit[at + n])
		n++;
	if (n)
		*first = at;
	return n;
}

Test(bitmap, ranges_do_what_a_naive_model_does)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct model m = { 0 };
		uint64_t random = seed;

		for (int i = 0; i < 12; i++)
			model_change(&m, &random);
		model_check(&m, seed);
	}
}

Test(bitmap, runs_are_those_of_a_naive_model)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct model m = { 0 };
		uint64_t random = seed;

		for (int i = 0; i < 12; i++)
			model_change(&m, &random);
		for (int i = 0; i < 100; i++) {
			uint64_t end = next(&random) % (N_BITS + 1);
			uint64_t first = next(&random) % (N_BITS + 1), expected = first;
			uint64_t n = model_next_run(&m, &expected, end);

			cr_assert_eq(rji_bitmap_next_run(m.map, &first, end), n, "seed %lu", seed);
			cr_assert_eq(first, expected, "seed %lu", seed);
		}
	}
}

Test(bitmap, all_runs_together_are_the_map)
{
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct model m = { 0 };
		uint64_t random = seed, copy[N_WORDS] = { 0 }, first = 0, n, before = 0;

		for (int i = 0; i < 12; i++)
			model_change(&m, &random);
		while ((n = rji_bitmap_next_run(m.map, &first, N_BITS))) {
			cr_assert(before == 0 || first > before, "runs that touch are one run");
			rji_bitmap_set_range(copy, first, n);
			first += n;
			before = first;
		}
		cr_assert_arr_eq(copy, m.map, sizeof(copy));
	}
}

Test(bitmap, run_over_whole_words_is_one)
{
	uint64_t map[4] = { ~0ull, ~0ull, ~0ull, 0x7 }, first = 5;

	cr_assert_eq(rji_bitmap_next_run(map, &first, 256), 190);
	cr_assert_eq(first, 5);
}

Test(bitmap, no_run_leaves_the_position)
{
	uint64_t map[2] = { 0, 0 }, first = 7;

	cr_assert_eq(rji_bitmap_next_run(map, &first, 128), 0);
	cr_assert_eq(first, 7);
	first = 200;
	cr_assert_eq(rji_bitmap_next_run(map, &first, 128), 0, "begins past the end");
}

Test(bitmap, run_does_not_read_past_its_last_word)
{
	uint64_t *map = malloc(sizeof(*map)), first = 0;

	*map = ~0ull;
	cr_assert_eq(rji_bitmap_next_run(map, &first, 64), 64);
	first = 64;
	cr_assert_eq(rji_bitmap_next_run(map, &first, 64), 0);
	free(map);
}

Test(bitmap, mask_of_every_pair_of_bounds)
{
	for (unsigned int from = 0; from < 64; from++) {
		for (unsigned int to = from + 1; to <= 64; to++) {
			uint64_t expected = 0;

			for (unsigned int i = from; i < to; i++)
				expected |= 1ull << i;
			cr_assert_eq(rji_word_mask(from, to), expected, "[%u, %u)", from, to);
		}
	}
}

Test(bitmap, empty_ranges_change_nothing)
{
	uint64_t map[2] = { 0xf0f0, 0x1 };

	for (uint64_t at = 0; at < 128; at++) {
		rji_bitmap_set_range(map, at, 0);
		rji_bitmap_clear_range(map, at, 0);
	}
	cr_assert_eq(map[0], 0xf0f0);
	cr_assert_eq(map[1], 0x1);
}

Test(bitmap, words_are_rounded_up)
{
	cr_assert_eq(rji_bitmap_words(0), 0);
	cr_assert_eq(rji_bitmap_words(1), 1);
	cr_assert_eq(rji_bitmap_words(64), 1);
	cr_assert_eq(rji_bitmap_words(65), 2);
}

Test(bitmap, fresh_map_is_zero_and_an_empty_one_can_be_freed)
{
	uint64_t *map = rji_bitmap_alloc(100000), *none = rji_bitmap_alloc(0);

	cr_assert_not_null(map);
	cr_assert_eq(rji_bitmap_weight(map, rji_bitmap_words(100000)), 0);
	rji_bitmap_set(map, 99999);
	cr_assert(rji_bitmap_test(map, 99999));
	rji_bitmap_free(map, 100000);
	cr_assert_not_null(none);
	rji_bitmap_free(none, 0);
	rji_bitmap_free(NULL, 64);
}

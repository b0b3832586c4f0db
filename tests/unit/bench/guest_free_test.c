/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "bench/guest/guest_free.h"
#include "bench/guest/guest_pattern.h"

static struct guest_opts opts(uint64_t free_bytes, uint64_t seed)
{
	return (struct guest_opts){
		.size_bytes = 64 << 20,
		.free_bytes = free_bytes,
		.seed = seed,
		.fill_all = true,
	};
}

Test(guest_free, blocks_are_many_and_the_area_is_whole)
{
	static const uint64_t sizes[] = { 65536, 69632, 1 << 20, (5 << 20) + 4096, 60 << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct guest_opts o = opts(sizes[i], 1);
		struct guest_free f;
		uint64_t n = 0;

		guest_free_init(&f, &o);
		cr_assert_eq(f.n, sizes[i] / 4096);
		cr_assert_eq(f.first + f.n, (64 << 20) / 4096);
		cr_assert(f.n_blocks >= 16 && (f.n_blocks - 1) * f.block < f.n &&
			  f.n_blocks * f.block >= f.n);
		cr_assert(f.n_turning >= 16 && f.n_turning <= f.n_blocks &&
			  !(f.n_turning & (f.n_turning - 1)));
		for (uint64_t p = 0; p < (64 << 20) / 4096; p++)
			n += guest_free_is(&f, 0, 0, p);
		cr_assert_eq(n, f.n - f.n_turning);
	}
}

/* Against a list of who is free. */
Test(guest_free, two_numbers_tell_who_is_free_and_what_it_holds)
{
	static uint64_t ram[64 << 20 >> 3];
	struct guest_opts o = opts(2 << 20, 7);
	uint64_t freed = 0, taken = 0, p, was_one = 0, was_all = 0;
	static bool is_free[512];
	struct guest_free f;

	guest_free_init(&f, &o);
	cr_assert_eq(guest_fill(ram, &o), 0);
	for (uint64_t i = 0; i < f.n; i++)
		is_free[i] = i % f.block || i / f.block >= f.n_turning;
	for (int step = 0; step < 5000; step++) {
		while (freed - taken < guest_free_target(&f, taken))
			is_free[freed++ % f.n_turning * f.block] = true;
		cr_assert(freed - taken <= f.n_turning);
		was_one += freed - taken == 1;
		was_all += freed - taken == f.n_turning;
		p = taken++ % f.n_turning * f.block;
		cr_assert(is_free[p]);
		is_free[p] = false;
		for (uint32_t i = 0; i < 512; i++)
			ram[(f.first + p) * 512 + i] = f.key + taken;
		cr_assert_eq(guest_free_n(&f, freed, taken), f.n - f.n_turning + freed - taken);
		for (uint64_t i = 0; i < f.n; i++)
			cr_assert_eq(guest_free_is(&f, freed, taken, f.first + i), is_free[i]);
		if (step % 500 == 0)
			for (uint64_t i = 0; i < f.n; i++)
				cr_assert_eq(guest_free_content(&f, &o, taken, f.first + i,
								ram + (f.first + i) * 512),
					     GUEST_CONTENT_NEWEST);
	}
	cr_assert(was_one && was_all);
}

Test(guest_free, older_content_is_told_from_zeros_and_from_anothers)
{
	struct guest_opts o = opts(2 << 20, 7), other = opts(2 << 20, 8);
	uint64_t words[512], filling[512], page, key;
	struct guest_free f, g;

	guest_free_init(&f, &o);
	guest_free_init(&g, &other);
	cr_assert_neq(f.key, g.key);
	page = f.first + 3 * f.block; /* taken by 4, 4 + n_turning … */
	key = f.key + 4;
	guest_filling(filling, &o, page);
#define CONTENT(taken) guest_free_content(&f, &o, taken, page, words)
	memcpy(words, filling, sizeof(words));
	cr_assert_eq(CONTENT(3), GUEST_CONTENT_NEWEST);
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_OLDER);
	for (uint32_t i = 0; i < 100; i++)
		words[i] = key;
	cr_assert_eq(CONTENT(3), GUEST_CONTENT_WRONG); /* of the future */
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_OLDER); /* torn */
	for (uint32_t i = 100; i < 512; i++)
		words[i] = key;
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_NEWEST);
	cr_assert_eq(CONTENT(4 + f.n_turning), GUEST_CONTENT_OLDER);
	words[511] = key + f.n_turning;
	cr_assert_eq(CONTENT(4 + f.n_turning), GUEST_CONTENT_OLDER);
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_WRONG);
	words[511] = key + 1; /* of the next page */
	cr_assert_eq(CONTENT(4 + f.n_turning), GUEST_CONTENT_WRONG);
	words[511] = 0; /* neither zeros nor content */
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_WRONG);
	memset(words, 0, sizeof(words));
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_ZERO);
	guest_filling(words, &other, page);
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_WRONG);
	for (uint32_t i = 0; i < 512; i++)
		words[i] = g.key + 4;
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_WRONG);
	guest_filling(words, &o, page + 1);
	cr_assert_eq(CONTENT(4), GUEST_CONTENT_WRONG);
}

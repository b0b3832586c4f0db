/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>
#include <xxhash.h>

#include "base/hash.h"

/* Values are in files: of XXH3's own test vectors. */
Test(hash, is_xxh3_of_64_bits)
{
	cr_assert_eq(rji_hash64("", 0), 0x2d06800538d394c2ull);
}

Test(hash128, any_single_bit_changes_both_halves)
{
	static unsigned char page[4096];
	struct rji_hash128_secret secret;
	struct rji_hash128 before, after;

	cr_assert_eq(rji_hash128_secret_init(&secret), 0);
	before = rji_hash128(&secret, page, sizeof(page));
	for (size_t bit = 0; bit < 8 * sizeof(page); bit++) {
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
		after = rji_hash128(&secret, page, sizeof(page));
		cr_assert_not(rji_hash128_equal(before, after));
		cr_assert(before.lo != after.lo && before.hi != after.hi, "bit %zu", bit);
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	after = rji_hash128(&secret, page, sizeof(page));
	cr_assert(rji_hash128_equal(before, after));
}

Test(hash128, the_length_counts)
{
	static unsigned char page[4096];
	struct rji_hash128_secret secret;

	cr_assert_eq(rji_hash128_secret_init(&secret), 0);
	cr_assert_not(rji_hash128_equal(rji_hash128(&secret, page, 4096),
					rji_hash128(&secret, page, 4095)));
}

/* Who knows the values of one session knows nothing of the next. */
Test(hash128, each_secret_has_values_of_its_own)
{
	static unsigned char page[4096];
	struct rji_hash128_secret a, b;
	struct rji_hash128 ha, hb;

	cr_assert_eq(rji_hash128_secret_init(&a), 0);
	cr_assert_eq(rji_hash128_secret_init(&b), 0);
	cr_assert(memcmp(&a, &b, sizeof(a)));
	ha = rji_hash128(&a, page, sizeof(page));
	hb = rji_hash128(&b, page, sizeof(page));
	cr_assert(ha.lo != hb.lo && ha.hi != hb.hi);
}

Test(hash128, either_half_tells_two_apart)
{
	struct rji_hash128 a = { .lo = 1, .hi = 2 };

	cr_assert(rji_hash128_equal(a, (struct rji_hash128){ .lo = 1, .hi = 2 }));
	cr_assert_not(rji_hash128_equal(a, (struct rji_hash128){ .lo = 3, .hi = 2 }));
	cr_assert_not(rji_hash128_equal(a, (struct rji_hash128){ .lo = 1, .hi = 3 }));
}

/* They are in files, which are read on other machines. */
Test(hash, values_are_the_same_on_any_cpu)
{
	static unsigned char page[4096];
	struct rji_hash128_secret secret;

	cr_assert_eq(rji_hash128_secret_init(&secret), 0);
	for (size_t len = 0; len <= sizeof(page); len += len < 300 ? 1 : 61) {
		struct rji_hash128 h = rji_hash128(&secret, page, len);
		XXH128_hash_t x =
			XXH3_128bits_withSecret(page, len, secret.bytes, sizeof(secret.bytes));

		cr_assert(h.lo == x.low64 && h.hi == x.high64, "%zu bytes", len);
		cr_assert_eq(rji_hash64(page, len), XXH3_64bits(page, len), "%zu bytes", len);
		page[len % sizeof(page)] = (unsigned char)(len * 7 + 1);
	}
}

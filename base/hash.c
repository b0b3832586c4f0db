/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/hash.h"

#include <xxhash.h>

#include "base/hash_avx2.h"
#include "base/random.h"

_Static_assert(sizeof(struct rji_hash128_secret) >= XXH3_SECRET_SIZE_MIN, "too short for XXH3");

static inline bool use_avx2(void)
{
#ifdef __x86_64__
	return rji_hash_avx2_built && __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

uint64_t rji_hash64(const void *p, size_t len_bytes)
{
	return use_avx2() ? rji_hash64_avx2(p, len_bytes) : XXH3_64bits(p, len_bytes);
}

int rji_hash128_secret_init(struct rji_hash128_secret *secret)
{
	return rji_random_bytes(secret->bytes, sizeof(secret->bytes));
}

struct rji_hash128 rji_hash128(const struct rji_hash128_secret *secret, const void *p,
			       size_t len_bytes)
{
	XXH128_hash_t h;

	if (use_avx2())
		return rji_hash128_avx2(secret, p, len_bytes);
	h = XXH3_128bits_withSecret(p, len_bytes, secret->bytes, sizeof(secret->bytes));

	return (struct rji_hash128){ .lo = h.low64, .hi = h.high64 };
}

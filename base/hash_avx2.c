/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * XXH3 as its header compiles where there is AVX2, which is more than twice as fast as what the shared library has for any
 * x86-64. CMakeLists.txt has this file compiled for such a CPU: nothing else belongs in here.
 */
#include "base/hash_avx2.h"

#ifdef __AVX2__

#define XXH_INLINE_ALL
#include <xxhash.h>

const bool rji_hash_avx2_built = true;

uint64_t rji_hash64_avx2(const void *p, size_t len_bytes)
{
	return XXH3_64bits(p, len_bytes);
}

struct rji_hash128 rji_hash128_avx2(const struct rji_hash128_secret *secret, const void *p,
				    size_t len_bytes)
{
	XXH128_hash_t h =
		XXH3_128bits_withSecret(p, len_bytes, secret->bytes, sizeof(secret->bytes));

	return (struct rji_hash128){ .lo = h.low64, .hi = h.high64 };
}

#else

const bool rji_hash_avx2_built = false;

uint64_t rji_hash64_avx2(const void *p, size_t len_bytes)
{
	return 0;
}

struct rji_hash128 rji_hash128_avx2(const struct rji_hash128_secret *secret, const void *p,
				    size_t len_bytes)
{
	return (struct rji_hash128){ 0 };
}

#endif

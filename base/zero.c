/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One way a machine, chosen by the compiler. ramjet-scan measures others: where memory is larger than the caches, 128
 * bytes at a time by SSE2 is as fast as reading them. AVX2 is a tenth faster in the caches only, and no faster in memory,
 * so that there is nothing to choose at run time.
 */
#include "base/zero.h"

#include <assert.h>
#include <stdint.h>

/* RJI_ZERO_PORTABLE: a test of what other machines run. */
#if defined(__SSE2__) && !defined(RJI_ZERO_PORTABLE)
#include <emmintrin.h>

static inline __m128i pair_or(const uint8_t *p)
{
	const __m128i *v = (const __m128i *)(const void *)p;

	return _mm_or_si128(_mm_loadu_si128(v), _mm_loadu_si128(v + 1));
}

static inline __m128i block_or(const uint8_t *p)
{
	return _mm_or_si128(pair_or(p), pair_or(p + 32));
}

static inline bool is_zero(__m128i any)
{
	return _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) == 0xffff;
}

static inline bool two_are_zero(const uint8_t *p)
{
	return is_zero(_mm_or_si128(block_or(p), block_or(p + RJI_ZERO_BLOCK_BYTES)));
}

static inline bool one_is_zero(const uint8_t *p)
{
	return is_zero(block_or(p));
}

#else

static inline bool one_is_zero(const uint8_t *p)
{
	const uint64_t *w = (const uint64_t *)(const void *)p;

	return !(w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]);
}

static inline bool two_are_zero(const uint8_t *p)
{
	return one_is_zero(p) && one_is_zero(p + RJI_ZERO_BLOCK_BYTES);
}

#endif

/* Up to the block, or the pair of blocks, that has something else. */
static inline size_t leading_zero_bytes(const uint8_t *p, size_t len_bytes)
{
	size_t at = 0;

	assert((uintptr_t)p % sizeof(uint64_t) == 0 && len_bytes % RJI_ZERO_BLOCK_BYTES == 0);
	/* Most pages have something here: then the second line need not be waited for. */
	if (len_bytes && !one_is_zero(p))
		return 0;
	for (; len_bytes - at >= (size_t)2 * RJI_ZERO_BLOCK_BYTES; at += 2 * RJI_ZERO_BLOCK_BYTES) {
		if (!two_are_zero(p + at))
			return at;
	}
	if (at < len_bytes && one_is_zero(p + at))
		at = len_bytes;
	return at;
}

bool rji_is_zero(const void *p, size_t len_bytes)
{
	return leading_zero_bytes(p, len_bytes) == len_bytes;
}

size_t rji_leading_zero_pages(const void *p, size_t page_bytes, size_t n_pages)
{
	return leading_zero_bytes(p, n_pages * page_bytes) / page_bytes;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "base/zero.h"
#include "bench/scan/scan.h"

/*
 * Reading, copying, and the zero test: the library's, and those it could have had.
 *
 * The variants for AVX2 are of vectors that the compiler knows, with one intrinsic where it would not find the
 * instruction.
 */

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_AVX2 1
#endif

bool scan_has_avx2(void)
{
#ifdef HAS_AVX2
	return __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

/* Each word, and nothing else: four at a time, since one sum would wait for itself. */
static int64_t read_words(struct scan_worker *w, uint64_t i)
{
	const uint64_t *p = (const uint64_t *)(const void *)scan_now(w, i);
	uint64_t a = 0, b = 0, c = 0, d = 0;

	for (uint32_t k = 0; k < SCAN_PAGE_BYTES / sizeof(*p); k += 4) {
		a += p[k];
		b += p[k + 1];
		c += p[k + 2];
		d += p[k + 3];
	}
	w->sink += a + b + c + d;
	return SCAN_PAGE_BYTES;
}

static int64_t copy(struct scan_worker *w, uint64_t i)
{
	uint8_t *to = scan_staging(w, i);

	memcpy(to, scan_now(w, i), SCAN_PAGE_BYTES);
	w->sink += to[i % SCAN_PAGE_BYTES];
	return SCAN_PAGE_BYTES;
}

static int64_t zero_library(struct scan_worker *w, uint64_t i)
{
	return rji_is_zero(scan_now(w, i), SCAN_PAGE_BYTES) ? 0 : SCAN_PAGE_BYTES;
}

/* The pages of a span in one call, as far as they are zero. */
static int64_t zero_run(struct scan_worker *w, uint64_t i)
{
	uint64_t n = w->n_pages - i < 512 ? w->n_pages - i : 512;

	if (i && w->sink > i)
		return 0; /* found already */
	n = rji_leading_zero_pages(scan_now(w, i), SCAN_PAGE_BYTES, n);
	w->sink = i + n;
	return n ? 0 : SCAN_PAGE_BYTES;
}

static int64_t zero_words(struct scan_worker *w, uint64_t i)
{
	const uint64_t *p = (const uint64_t *)(const void *)scan_now(w, i);

	for (uint32_t k = 0; k < SCAN_PAGE_BYTES / sizeof(*p); k += 4) {
		if (p[k] | p[k + 1] | p[k + 2] | p[k + 3])
			return SCAN_PAGE_BYTES;
	}
	return 0;
}

#ifdef HAS_AVX2

__attribute__((target("avx2"))) static int64_t read_avx2(struct scan_worker *w, uint64_t i)
{
	const __m256i *p = (const __m256i *)(const void *)scan_now(w, i);
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;

	for (uint32_t k = 0; k < SCAN_PAGE_BYTES / sizeof(*p); k += 4) {
		a = _mm256_or_si256(a, p[k]);
		b = _mm256_or_si256(b, p[k + 1]);
		c = _mm256_or_si256(c, p[k + 2]);
		d = _mm256_or_si256(d, p[k + 3]);
	}
	a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
	w->sink += (uint64_t)_mm256_testz_si256(a, a);
	return SCAN_PAGE_BYTES;
}

__attribute__((target("avx2"))) static int64_t zero_avx2(struct scan_worker *w, uint64_t i)
{
	const __m256i *p = (const __m256i *)(const void *)scan_now(w, i);

	for (uint32_t k = 0; k < SCAN_PAGE_BYTES / sizeof(*p); k += 4) {
		__m256i any = _mm256_or_si256(_mm256_or_si256(p[k], p[k + 1]),
					      _mm256_or_si256(p[k + 2], p[k + 3]));

		if (!_mm256_testz_si256(any, any))
			return SCAN_PAGE_BYTES;
	}
	return 0;
}

#endif

const struct scan_stage scan_look_stages[] = {
	{ .stage = "read", .variant = "words", .page = read_words, .is_read = true },
#ifdef HAS_AVX2
	{ .stage = "read",
	  .variant = "avx2",
	  .page = read_avx2,
	  .usable = scan_has_avx2,
	  .is_read = true },
#endif
	{ .stage = "copy", .variant = "memcpy", .page = copy },
	{ .stage = "zero", .variant = "library", .page = zero_library },
	{ .stage = "zero", .variant = "run", .page = zero_run },
	{ .stage = "zero", .variant = "words", .page = zero_words },
#ifdef HAS_AVX2
	{ .stage = "zero", .variant = "avx2", .page = zero_avx2, .usable = scan_has_avx2 },
#endif
};
const size_t scan_n_look_stages = sizeof(scan_look_stages) / sizeof(*scan_look_stages);

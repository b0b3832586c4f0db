/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/bitmap.h"

#include <sys/mman.h>

/* Call op(word, mask) for each word that [first, first + n) touches. */
#define FOR_EACH_MASK(first, n, word, mask)                                                        \
	for (uint64_t bit_ = (first), end_ = (first) + (n), word, mask;                            \
	     bit_ < end_ &&                                                                        \
	     (word = bit_ / RJI_WORD_BITS,                                                         \
	     mask = rji_word_mask(bit_ % RJI_WORD_BITS,                                            \
				  end_ - word * RJI_WORD_BITS < RJI_WORD_BITS                      \
					  ? (unsigned int)(end_ - word * RJI_WORD_BITS)            \
					  : RJI_WORD_BITS),                                        \
	     1);                                                                                   \
	     bit_ = (word + 1) * RJI_WORD_BITS)

void rji_bitmap_set_range(uint64_t *map, uint64_t first, uint64_t n)
{
	FOR_EACH_MASK(first, n, word, mask)
		map[word] |= mask;
}

void rji_bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t n)
{
	FOR_EACH_MASK(first, n, word, mask)
		map[word] &= ~mask;
}

/* The first word at or after i that may be other than 0; most are, so eight are tried at a time. */
static uint64_t skip_zeros(const uint64_t *map, uint64_t i, uint64_t n_words)
{
	while (i % 8 == 0 && i + 8 <= n_words) {
		uint64_t any = 0;

		for (int k = 0; k < 8; k++)
			any |= map[i + k];
		if (any)
			break;
		i += 8;
	}
	return i;
}

uint64_t rji_bitmap_weight(const uint64_t *map, uint64_t n_words)
{
	uint64_t weight = 0;

	for (uint64_t i = skip_zeros(map, 0, n_words); i < n_words;
	     i = skip_zeros(map, i + 1, n_words))
		weight += (uint64_t)__builtin_popcountll(map[i]);
	return weight;
}

/* n (1 to 64) bits from any position; reads no word that none of them is in. */
static uint64_t load_bits(const uint64_t *map, uint64_t bit, unsigned int n)
{
	unsigned int shift = bit % RJI_WORD_BITS;
	uint64_t v = map[bit / RJI_WORD_BITS] >> shift;

	if (shift && shift + n > RJI_WORD_BITS)
		v |= map[bit / RJI_WORD_BITS + 1] << (RJI_WORD_BITS - shift);
	return v & rji_word_mask(0, n);
}

static bool or_words(uint64_t *dst, const uint64_t *src, uint64_t n_words)
{
	uint64_t any = 0;

	for (uint64_t i = skip_zeros(src, 0, n_words); i < n_words;
	     i = skip_zeros(src, i + 1, n_words)) {
		any |= src[i];
		dst[i] |= src[i];
	}
	return any;
}

bool rji_bitmap_or_range(uint64_t *dst, uint64_t dst_bit, const uint64_t *src, uint64_t src_bit,
			 uint64_t n)
{
	uint64_t any = 0;

	if (dst_bit % RJI_WORD_BITS == 0 && src_bit % RJI_WORD_BITS == 0) {
		uint64_t whole = n / RJI_WORD_BITS * RJI_WORD_BITS;

		any = or_words(dst + dst_bit / RJI_WORD_BITS, src + src_bit / RJI_WORD_BITS,
			       whole / RJI_WORD_BITS);
		dst_bit += whole;
		src_bit += whole;
		n -= whole;
	}
	while (n) {
		unsigned int shift = dst_bit % RJI_WORD_BITS;
		unsigned int step = RJI_WORD_BITS - shift;
		uint64_t v;

		if (step > n)
			step = (unsigned int)n;
		v = load_bits(src, src_bit, step);
		any |= v;
		if (v)
			dst[dst_bit / RJI_WORD_BITS] |= v << shift;
		dst_bit += step;
		src_bit += step;
		n -= step;
	}
	return any;
}

/* The first bit at or after bit, below end, whose value is wanted; end if there is none. */
static uint64_t next_bit(const uint64_t *map, uint64_t bit, uint64_t end, bool wanted)
{
	while (bit < end) {
		uint64_t word = map[bit / RJI_WORD_BITS];
		uint64_t hits = (wanted ? word : ~word) >> (bit % RJI_WORD_BITS);

		if (hits) {
			bit += (uint64_t)__builtin_ctzll(hits);
			return bit < end ? bit : end;
		}
		bit = (bit / RJI_WORD_BITS + 1) * RJI_WORD_BITS;
	}
	return end;
}

uint64_t rji_bitmap_next_run(const uint64_t *map, uint64_t *first, uint64_t end)
{
	uint64_t start = next_bit(map, *first, end, true);

	if (start >= end)
		return 0;
	*first = start;
	return next_bit(map, start, end, false) - start;
}

static size_t map_bytes(uint64_t n_bits)
{
	size_t bytes = rji_bitmap_words(n_bits) * sizeof(uint64_t);

	return bytes ? bytes : sizeof(uint64_t);
}

uint64_t *rji_bitmap_alloc(uint64_t n_bits)
{
	void *map = mmap(NULL, map_bytes(n_bits), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

void rji_bitmap_free(uint64_t *map, uint64_t n_bits)
{
	if (map)
		munmap(map, map_bytes(n_bits));
}

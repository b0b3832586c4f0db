/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_BITMAP_H
#define RJI_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bitmaps of pages: bit n of the map is bit n % 64 of word n / 64. */

#define RJI_WORD_BITS 64u

static inline uint64_t rji_bitmap_words(uint64_t n_bits)
{
	return (n_bits + RJI_WORD_BITS - 1) / RJI_WORD_BITS;
}

static inline bool rji_bitmap_test(const uint64_t *map, uint64_t bit)
{
	return map[bit / RJI_WORD_BITS] >> (bit % RJI_WORD_BITS) & 1;
}

/* The bits [from, to) of one word, 0 <= from < to <= 64. */
static inline uint64_t rji_word_mask(unsigned int from, unsigned int to)
{
	return (to == RJI_WORD_BITS ? ~0ull : (1ull << to) - 1) & ~0ull << from;
}

static inline void rji_bitmap_set(uint64_t *map, uint64_t bit)
{
	map[bit / RJI_WORD_BITS] |= 1ull << (bit % RJI_WORD_BITS);
}

void rji_bitmap_set_range(uint64_t *map, uint64_t first, uint64_t n);
void rji_bitmap_clear_range(uint64_t *map, uint64_t first, uint64_t n);

/* dst[dst_bit...] |= src[src_bit...], n bits. Whether any was set in src. */
bool rji_bitmap_or_range(uint64_t *dst, uint64_t dst_bit, const uint64_t *src, uint64_t src_bit,
			 uint64_t n);

/* Number of bits set in whole words. */
uint64_t rji_bitmap_weight(const uint64_t *map, uint64_t n_words);

/*
 * Find the next run of set bits at or after *first and below end. Return its length and set *first
 * to where it begins, or return 0.
 *
 *   first      *first'                end
 *     | 0 0 0 0 | 1 1 1 1 1 | 0 ...    |
 *                <- return ->
 */
uint64_t rji_bitmap_next_run(const uint64_t *map, uint64_t *first, uint64_t end);

/*
 * A zeroed map whose pages the kernel gives only when touched; release with rji_bitmap_free().
 * NULL: no memory.
 */
uint64_t *rji_bitmap_alloc(uint64_t n_bits);
void rji_bitmap_free(uint64_t *map, uint64_t n_bits);

#endif

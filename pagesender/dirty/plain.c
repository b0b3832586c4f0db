/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/plain.h"

#include "base/bitmap.h"

void rji_plain_mark(rji_plain_word *map, uint64_t first_page, uint64_t n_pages)
{
	uint64_t end = first_page + n_pages;

	while (first_page < end) {
		uint64_t word = first_page / RJI_WORD_BITS;
		uint64_t next = (word + 1) * RJI_WORD_BITS;
		uint64_t mask = rji_word_mask(first_page % RJI_WORD_BITS,
					      next <= end ? RJI_WORD_BITS
							  : (unsigned int)(end % RJI_WORD_BITS));

		/* pairs with rearm */
		atomic_fetch_or_explicit(&map[word], mask, memory_order_release);
		first_page = next;
	}
}

void rji_plain_collect(const rji_plain_word *map, uint64_t n_words, uint64_t *bits)
{
	for (uint64_t i = 0; i < n_words; i++) {
		/* rearm orders */
		uint64_t word = atomic_load_explicit(&map[i], memory_order_relaxed);

		if (word)
			bits[i] |= word;
	}
}

bool rji_plain_rearm(rji_plain_word *map, uint64_t n_words, const uint64_t *bits)
{
	uint64_t left = 0;

	for (uint64_t i = 0; i < n_words; i++) {
		uint64_t word = atomic_load_explicit(&map[i], memory_order_relaxed);

		if (word & bits[i])
			/* pairs with mark */
			word = atomic_fetch_and_explicit(&map[i], ~bits[i], memory_order_acquire);
		left |= word & ~bits[i];
	}
	return left;
}

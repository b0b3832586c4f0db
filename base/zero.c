/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/zero.h"

#include <stdint.h>

/* A cache line: fixed, so that compilers make vector instructions of the loop. */
#define WORDS (RJI_ZERO_BLOCK_BYTES / sizeof(uint64_t))

static uint64_t block_or(const uint64_t *w)
{
	uint64_t any = 0;

	for (size_t i = 0; i < WORDS; i++)
		any |= w[i];
	return any;
}

bool rji_is_zero(const void *p, size_t len_bytes)
{
	const uint64_t *w = p, *end = w + len_bytes / sizeof(uint64_t);

	while (end - w >= (ptrdiff_t)(4 * WORDS)) {
		if (block_or(w) | block_or(w + WORDS) | block_or(w + 2 * WORDS) |
		    block_or(w + 3 * WORDS))
			return false;
		w += 4 * WORDS;
	}
	for (; w < end; w += WORDS) {
		if (block_or(w))
			return false;
	}
	return true;
}

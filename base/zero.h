/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_ZERO_H
#define RJI_BASE_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Are all bytes 0? p is aligned to 8, lengths are multiples of RJI_ZERO_BLOCK_BYTES. Both leave near the first block that has
 * something else, which for most pages is the first one. The memory may be written meanwhile; then the answer is for some
 * bytes before and some after.
 */
#define RJI_ZERO_BLOCK_BYTES 64u

bool rji_is_zero(const void *p, size_t len_bytes);

/* How many pages from p on are zero, before the first that is not: n_pages at most. */
size_t rji_leading_zero_pages(const void *p, size_t page_bytes, size_t n_pages);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_PLAIN_H
#define RJI_PAGESENDER_DIRTY_PLAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The tracker that every region has: a bitmap that rj_mark_dirty() sets bits in, from any thread,
 * wait-free. It works in the two steps of all trackers. Writers mark after they wrote: a mark that
 * comes before its write could be re-armed, and the page read, before the write happens.
 */
typedef _Atomic uint64_t rji_plain_word;

/* Set [first, first + n). */
void rji_plain_mark(rji_plain_word *map, uint64_t first_page, uint64_t n_pages);

/* OR n_words of map into bits, clearing nothing. */
void rji_plain_collect(const rji_plain_word *map, uint64_t n_words, uint64_t *bits);

/*
 * Clear what is set in bits. What was written before its mark is seen by reads after this. Whether
 * marks are left.
 */
bool rji_plain_rearm(rji_plain_word *map, uint64_t n_words, const uint64_t *bits);

#endif

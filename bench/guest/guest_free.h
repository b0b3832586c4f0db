/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_FREE_H
#define BENCH_GUEST_GUEST_FREE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/guest/guest.h"

/*
 * The area of RAM that a guest has free, with what was in it when it was used.
 *
 *   | t s s s s s s s | t s s s s s s s | … | s s s s s s s s | s s s |   blocks of block pages
 *
 * The first page of each of the first n_turning blocks (t) turns over: it is taken into use, filled
 * anew and freed again, in the order of the blocks, over and over. The others (s) stay free. So two
 * numbers tell which pages are free and what each must hold: how many times one was freed, and how many
 * times one was taken, in all. All turning pages are in use at first.
 *
 * Taking number n (1, 2, …) fills the page with the word key + n.
 */
struct guest_free {
	uint64_t first, n; /* pages */
	uint64_t block, n_blocks;
	uint64_t n_turning; /* a power of two */
	uint64_t key;	    /* another one in each guest */
};

/* At most so many pages turn over. */
#define GUEST_TURNING_MAX 256u

void guest_free_init(struct guest_free *f, const struct guest_opts *o);

/* After so many. A page outside the area is not free. */
bool guest_free_is(const struct guest_free *f, uint64_t freed, uint64_t taken, uint64_t page);
uint64_t guest_free_n(const struct guest_free *f, uint64_t freed, uint64_t taken);

/*
 * How many of them shall be free after so many were taken: between 1 and all, so that a page is now
 * taken right after it was freed and now long after.
 */
uint64_t guest_free_target(const struct guest_free *f, uint64_t taken);

enum guest_content {
	GUEST_CONTENT_WRONG,
	GUEST_CONTENT_NEWEST,
	GUEST_CONTENT_OLDER, /* words of it at least */
	GUEST_CONTENT_ZERO,
};

/* What a page of the area holds, by what this guest has ever had in it. */
enum guest_content guest_free_content(const struct guest_free *f, const struct guest_opts *o,
				      uint64_t taken, uint64_t page, const uint64_t *words);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_BEATS_H
#define BENCH_GUEST_BEATS_H

#include <stdint.h>

#include "bench/guest/guest.h"

/* 16 steps for each power of two: a percentile is at most 1/16 too large. */
#define BEATS_STEPS 16u
#define BEATS_BUCKETS (61u * BEATS_STEPS)

/*
 * Intervals between heartbeats, in a histogram of fixed size. One thread writes; any may read at
 * the same time, and then sees each count as it was at some moment.
 */
struct beats {
	uint64_t last_ns; /* 0: not running, so that the next beat ends no interval */
	uint64_t n, gap_max_ns;
	uint64_t buckets[BEATS_BUCKETS];
};

void beats_start(struct beats *b, uint64_t now_ns); /* it runs from now on */
void beats_beat(struct beats *b, uint64_t now_ns);
void beats_stop(struct beats *b,
		uint64_t now_ns); /* an interval cut off counts only if it is the longest */

/* Statistics over several. */
void beats_sum(const struct beats *const *all, uint32_t n, struct guest_beats *sum_p);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/beats.h"

/* Relaxed is enough: the counts are statistics, nothing else is published by them. */
static uint64_t load(const uint64_t *v)
{
	return __atomic_load_n(v, __ATOMIC_RELAXED);
}

static void store(uint64_t *v, uint64_t x)
{
	__atomic_store_n(v, x, __ATOMIC_RELAXED);
}

/* Values below BEATS_STEPS have a bucket each, then each power of two has BEATS_STEPS. */
static uint32_t bucket_of(uint64_t ns)
{
	unsigned int shift;

	if (ns < BEATS_STEPS)
		return (uint32_t)ns;
	shift = 63u - (unsigned int)__builtin_clzll(ns) - 4;
	return (shift + 1) * BEATS_STEPS + (uint32_t)(ns >> shift) - BEATS_STEPS;
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_top(uint32_t bucket)
{
	uint32_t shift;

	if (bucket < BEATS_STEPS)
		return bucket;
	shift = bucket / BEATS_STEPS - 1;
	return (((uint64_t)(bucket % BEATS_STEPS + BEATS_STEPS) + 1) << shift) - 1;
}

void beats_start(struct beats *b, uint64_t now_ns)
{
	b->last_ns = now_ns;
}

static void note_max(struct beats *b, uint64_t gap)
{
	if (gap > b->gap_max_ns)
		store(&b->gap_max_ns, gap);
}

void beats_beat(struct beats *b, uint64_t now_ns)
{
	uint64_t gap = now_ns - b->last_ns;
	uint64_t *bucket = &b->buckets[bucket_of(gap)];

	note_max(b, gap);
	store(bucket, *bucket + 1);
	store(&b->n, b->n + 1);
	b->last_ns = now_ns;
}

void beats_stop(struct beats *b, uint64_t now_ns)
{
	note_max(b, now_ns - b->last_ns);
	b->last_ns = 0;
}

/* The value that 99 of 100 do not exceed. */
static uint64_t p99(const uint64_t *buckets, uint64_t n)
{
	uint64_t beyond = n / 100, seen = 0;

	for (uint32_t i = BEATS_BUCKETS; i-- > 0;) {
		seen += buckets[i];
		if (seen > beyond)
			return bucket_top(i);
	}
	return 0;
}

void beats_sum(const struct beats *const *all, uint32_t n, struct guest_beats *sum_p)
{
	uint64_t buckets[BEATS_BUCKETS] = { 0 }, total = 0, max = 0, top;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t one = load(&all[i]->gap_max_ns);

		max = one > max ? one : max;
		for (uint32_t k = 0; k < BEATS_BUCKETS; k++) {
			uint64_t v = load(&all[i]->buckets[k]);

			buckets[k] += v;
			total += v;
		}
	}
	top = p99(buckets, total);
	*sum_p = (struct guest_beats){
		.n = total,
		.gap_max_ns = max,
		.gap_p99_ns = top < max ? top : max,
	};
}

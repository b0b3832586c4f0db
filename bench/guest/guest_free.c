/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_free.h"

#include <string.h>

#include "bench/guest/guest_pattern.h"

#define BLOCK_MAX 512u
#define BLOCKS_MIN 16u
#define USE_KEY 1u

void guest_free_init(struct guest_free *f, const struct guest_opts *o)
{
	struct guest_areas a;

	guest_areas_init(&a, o);
	*f = (struct guest_free){
		.first = a.work_end,
		.n = a.free_end - a.work_end,
		.block = BLOCK_MAX,
		.n_turning = GUEST_TURNING_MAX,
		.key = guest_own_number(o, USE_KEY),
	};
	while (f->block > 1 && f->n / f->block < BLOCKS_MIN)
		f->block /= 2;
	f->n_blocks = (f->n + f->block - 1) / f->block;
	while (f->n_turning > f->n_blocks)
		f->n_turning /= 2;
}

/* How many of the numbers 1, 2, … up to n fall to turning page k. */
static uint64_t n_of(const struct guest_free *f, uint64_t n, uint64_t k)
{
	return n > k ? (n - 1 - k) / f->n_turning + 1 : 0;
}

static bool turns(const struct guest_free *f, uint64_t page, uint64_t *k_p)
{
	uint64_t i = page - f->first;

	*k_p = i / f->block;
	return i % f->block == 0 && *k_p < f->n_turning;
}

bool guest_free_is(const struct guest_free *f, uint64_t freed, uint64_t taken, uint64_t page)
{
	uint64_t k;

	if (page < f->first || page - f->first >= f->n)
		return false;
	return !turns(f, page, &k) || n_of(f, freed, k) > n_of(f, taken, k);
}

uint64_t guest_free_n(const struct guest_free *f, uint64_t freed, uint64_t taken)
{
	return f->n - f->n_turning + freed - taken;
}

/* payload.S does the same. */
uint64_t guest_free_target(const struct guest_free *f, uint64_t taken)
{
	uint64_t up = taken & (2 * f->n_turning - 1), down = 2 * f->n_turning - up;
	uint64_t n = up < down ? up : down;

	return n ? n : 1;
}

static bool are_all(const uint64_t *words, uint64_t word)
{
	for (uint32_t i = 0; i < GUEST_PAGE_WORDS; i++)
		if (words[i] != word)
			return false;
	return true;
}

/* Word by word: what was read while the guest filled the page is of two contents. */
static bool are_old(const struct guest_free *f, const uint64_t *words, const uint64_t *filling,
		    uint64_t k, uint64_t n_taken)
{
	for (uint32_t i = 0; i < GUEST_PAGE_WORDS; i++) {
		uint64_t number = words[i] - f->key;
		bool was_taken = number && (number - 1) % f->n_turning == k &&
				 (number - 1) / f->n_turning < n_taken;

		if (words[i] != filling[i] && !was_taken)
			return false;
	}
	return true;
}

enum guest_content guest_free_content(const struct guest_free *f, const struct guest_opts *o,
				      uint64_t taken, uint64_t page, const uint64_t *words)
{
	uint64_t filling[GUEST_PAGE_WORDS], k, n_taken = turns(f, page, &k) ? n_of(f, taken, k) : 0;

	guest_filling(filling, o, page);
	if (n_taken ? are_all(words, f->key + (n_taken - 1) * f->n_turning + k + 1)
		    : !memcmp(words, filling, sizeof(filling)))
		return GUEST_CONTENT_NEWEST;
	if (are_all(words, 0))
		return GUEST_CONTENT_ZERO;
	return are_old(f, words, filling, k, n_taken) ? GUEST_CONTENT_OLDER : GUEST_CONTENT_WRONG;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_RANDOM_H
#define RJ_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* Numbers from a seed (splitmix64). */
struct sim_random {
	uint64_t state;
};

static inline uint64_t sim_next(struct sim_random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* One of 0 … n - 1. */
static inline uint64_t sim_below(struct sim_random *r, uint64_t n)
{
	return n ? sim_next(r) % n : 0;
}

static inline bool sim_chance(struct sim_random *r, unsigned int percent)
{
	return sim_below(r, 100) < percent;
}

/* A stream of its own for somebody who shares a seed. */
static inline struct sim_random sim_split(uint64_t seed, uint64_t who)
{
	struct sim_random r = { seed ^ who * 0xd1342543de82ef95ull };

	sim_next(&r);
	return r;
}

#endif

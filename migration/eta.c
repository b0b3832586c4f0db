/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/eta.h"

#include "base/clock.h"

/* More rounds than this are no expectation any more. */
#define ROUNDS_MAX 1000

static uint64_t share(uint64_t a, uint64_t of, uint64_t by)
{
	__uint128_t v = (__uint128_t)a * of / by;

	return v < UINT64_MAX ? (uint64_t)v : UINT64_MAX;
}

uint64_t rji_eta_ns(const struct rji_eta *e)
{
	uint64_t bytes = e->remaining_bytes, round = e->round_bytes;

	if (!e->rate_bytes_per_s)
		return 0;
	for (int i = 0; i < ROUNDS_MAX; i++) {
		uint64_t next = share(round, e->dirty_rate_bytes_per_s, e->rate_bytes_per_s);

		if (next <= e->fits_bytes)
			return share(bytes, RJI_NS_PER_S, e->rate_bytes_per_s);
		if (next >= round)
			return 0;
		bytes = bytes + next > bytes ? bytes + next : UINT64_MAX;
		round = next;
	}
	return 0;
}

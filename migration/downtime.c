/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/downtime.h"

#include "base/clock.h"

/* Guesses for what only happens once; a VMM of today's size does each in less. */
#define GUESS_PAUSE_NS (1 * RJI_NS_PER_MS)
#define GUESS_SAVE_NS (2 * RJI_NS_PER_MS)
#define GUESS_LOAD_NS (2 * RJI_NS_PER_MS)
#define GUESS_REVOKE_NS (1 * RJI_NS_PER_MS)
#define GUESS_RESUME_NS (1 * RJI_NS_PER_MS)
#define GUESS_RATE (100ull << 20)

/* Rounds shorter than this say more about latency than about the rate. */
#define TELLING_NS (2 * RJI_NS_PER_MS)

void rji_downtime_init(struct rji_downtime_model *m, uint64_t state_bytes)
{
	*m = (struct rji_downtime_model){ .state_bytes = state_bytes };
}

void rji_downtime_saw_round(struct rji_downtime_model *m, uint64_t bytes, uint64_t send_ns,
			    uint64_t fence_ns)
{
	uint64_t took = send_ns + fence_ns; /* what the kernel buffered leaves during the fence */

	if (took >= TELLING_NS || !m->rate_bytes_per_s) {
		uint64_t rate = (uint64_t)((__uint128_t)bytes * RJI_NS_PER_S / (took ? took : 1));

		if (rate)
			m->rate_bytes_per_s = rate;
	}
	m->fence_ns = fence_ns;
	m->surprise_ns /= 2;
}

void rji_downtime_saw_overrun(struct rji_downtime_model *m, uint64_t predicted_ns,
			      uint64_t actual_ns)
{
	if (actual_ns > predicted_ns)
		m->surprise_ns += 2 * (actual_ns - predicted_ns); /* halved by the next round */
}

/* Cut, so that sums of it stay in range: for ever is long enough. */
static uint64_t time_for(uint64_t bytes, uint64_t rate)
{
	__uint128_t ns = (__uint128_t)bytes * RJI_NS_PER_S / rate;

	return ns < UINT64_MAX / 4 ? (uint64_t)ns : UINT64_MAX / 4;
}

uint64_t rji_downtime_predict(const struct rji_downtime_model *m, uint64_t pending_bytes,
			      struct rji_terms *terms_p)
{
	uint64_t rate = m->rate_bytes_per_s ? m->rate_bytes_per_s : GUESS_RATE;
	struct rji_terms t = { 0 };

	t.ns[RJI_TERM_PAUSE] = GUESS_PAUSE_NS;
	t.ns[RJI_TERM_HARVEST] = 2 * m->harvest_ns; /* before and after save */
	t.ns[RJI_TERM_SEND] = time_for(pending_bytes, rate) + m->surprise_ns;
	t.ns[RJI_TERM_FENCE] = m->fence_ns;
	t.ns[RJI_TERM_SAVE] = GUESS_SAVE_NS + time_for(m->state_bytes, rate);
	t.ns[RJI_TERM_LOAD] = GUESS_LOAD_NS;
	t.ns[RJI_TERM_REVOKE] = GUESS_REVOKE_NS;
	t.ns[RJI_TERM_HANDOVER] = 3 * m->round_trip_ns;
	t.ns[RJI_TERM_RESUME] = GUESS_RESUME_NS;
	*terms_p = t;
	return rji_terms_sum(&t);
}

uint64_t rji_terms_sum(const struct rji_terms *t)
{
	uint64_t sum = 0;

	for (int i = 0; i < RJI_N_TERMS; i++)
		sum += t->ns[i];
	return sum;
}

void rji_terms_publish(const struct rji_terms *t, struct rj_downtime_terms *p)
{
	*p = (struct rj_downtime_terms){
		.pause_ns = t->ns[RJI_TERM_PAUSE],
		.harvest_ns = t->ns[RJI_TERM_HARVEST],
		.send_ns = t->ns[RJI_TERM_SEND],
		.fence_ns = t->ns[RJI_TERM_FENCE],
		.save_ns = t->ns[RJI_TERM_SAVE],
		.load_ns = t->ns[RJI_TERM_LOAD],
		.revoke_ns = t->ns[RJI_TERM_REVOKE],
		.handover_ns = t->ns[RJI_TERM_HANDOVER],
		.resume_ns = t->ns[RJI_TERM_RESUME],
	};
}

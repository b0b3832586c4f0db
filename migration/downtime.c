/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/downtime.h"

#include "base/clock.h"

#define US (RJI_NS_PER_MS / 1000)

/*
 * Guesses for what only happens once, until an attempt has shown it: expected, and at worst. A VMM
 * stops and starts its vCPUs in less; a busy host makes more of it.
 */
static const struct {
	uint64_t expected_ns, p99_ns;
} guess[RJI_N_TERMS] = {
	[RJI_TERM_PAUSE] = { 300 * US, 3000 * US },  [RJI_TERM_SAVE] = { 1500 * US, 5000 * US },
	[RJI_TERM_LOAD] = { 500 * US, 3000 * US },   [RJI_TERM_REVOKE] = { 200 * US, 1000 * US },
	[RJI_TERM_RESUME] = { 400 * US, 2000 * US },
};
#define GUESS_RATE (100ull << 20)
#define STATE_RATE (200ull << 20) /* at which a VMM gathers and digests device state */

/*
 * Rounds shorter than this say more about latency than about the rate: that is higher than what they seem to have. So
 * they count only where it is more than the bulk round had, which most of its time may have looked for something to send.
 */
#define TELLING_NS (2 * RJI_NS_PER_MS)

void rji_estimate_saw(struct rji_estimate *e, uint64_t value)
{
	uint64_t off = value > e->mean ? value - e->mean : e->mean - value;

	if (!e->n++) {
		e->mean = value;
		e->deviation = value / 4;
		return;
	}
	e->deviation += off / 4;
	e->deviation -= e->deviation / 4;
	e->mean = e->mean / 2 + value / 2;
}

uint64_t rji_estimate_p99(const struct rji_estimate *e)
{
	return e->mean + 3 * e->deviation;
}

/* Hardly ever slower. */
static uint64_t slow_rate(const struct rji_estimate *rate)
{
	uint64_t off = 2 * rate->deviation, floor = rate->mean / 4;

	return off < rate->mean - floor ? rate->mean - off : floor;
}

void rji_downtime_init(struct rji_downtime_model *m, uint64_t state_bytes)
{
	*m = (struct rji_downtime_model){ .state_bytes = state_bytes };
}

/* What was slow once may have been chance: or no attempt would be made ever again. */
static void forget_slowly(struct rji_downtime_model *m)
{
	for (int i = 0; i < RJI_N_TERMS; i++) {
		if (m->seen_ns[i] > guess[i].expected_ns)
			m->seen_ns[i] -= (m->seen_ns[i] - guess[i].expected_ns) / 8;
	}
}

void rji_downtime_saw_round(struct rji_downtime_model *m, uint64_t bytes, uint64_t send_ns,
			    uint64_t fence_ns, bool bulk)
{
	uint64_t took = send_ns + fence_ns; /* what the kernel buffered leaves during the fence */
	bool after_bulk = m->bulk_only && !bulk;

	m->surprise_ns /= 2;
	forget_slowly(m);
	bytes = (uint64_t)((__uint128_t)bytes * RJI_NS_PER_S / (took ? took : 1));
	if (!bytes)
		return;
	if (took < TELLING_NS && m->rate_bytes_per_s.n &&
	    !(after_bulk && bytes > m->rate_bytes_per_s.mean))
		return;
	if (after_bulk)
		m->rate_bytes_per_s.n = 0; /* that was another kind of work */
	m->bulk_only = bulk;
	rji_estimate_saw(&m->rate_bytes_per_s, bytes);
}

void rji_downtime_saw_attempt(struct rji_downtime_model *m, const struct rji_terms *took,
			      uint64_t predicted_ns, uint64_t actual_ns)
{
	static const enum rji_term once[] = { RJI_TERM_PAUSE, RJI_TERM_SAVE, RJI_TERM_LOAD,
					      RJI_TERM_RESUME };
	uint64_t known_ns = 0;

	for (unsigned int i = 0; i < sizeof(once) / sizeof(*once); i++) {
		uint64_t ns = took->ns[once[i]];

		if (!ns)
			continue;
		if (ns > guess[once[i]].expected_ns)
			known_ns += ns - guess[once[i]].expected_ns;
		m->seen_ns[once[i]] = m->seen_ns[once[i]] ? (m->seen_ns[once[i]] + ns) / 2 : ns;
	}
	if (actual_ns > predicted_ns + known_ns) /* halved by the next round */
		m->surprise_ns += 2 * (actual_ns - predicted_ns - known_ns);
}

/* Cut, so that sums of it stay in range: for ever is long enough. */
static uint64_t time_for(uint64_t bytes, uint64_t rate)
{
	__uint128_t ns = (__uint128_t)bytes * RJI_NS_PER_S / (rate ? rate : 1);

	return ns < UINT64_MAX / 4 ? (uint64_t)ns : UINT64_MAX / 4;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What happens once: as seen, else as guessed. */
static void predict_once(const struct rji_downtime_model *m, enum rji_term term, uint64_t more_ns,
			 struct rji_prediction *p)
{
	uint64_t seen = m->seen_ns[term];

	p->expected.ns[term] = seen ? seen : guess[term].expected_ns + more_ns;
	p->p99.ns[term] = seen ? max_u64(seen + seen / 2, guess[term].p99_ns)
			       : guess[term].p99_ns + more_ns;
}

static void predict_estimate(const struct rji_estimate *e, uint64_t times, enum rji_term term,
			     struct rji_prediction *p)
{
	p->expected.ns[term] = times * e->mean;
	p->p99.ns[term] = times * e->mean + rji_estimate_p99(e) - e->mean;
}

uint64_t rji_downtime_predict(const struct rji_downtime_model *m, uint64_t pending_bytes,
			      struct rji_prediction *p)
{
	const struct rji_estimate *r = &m->rate_bytes_per_s;
	uint64_t rate = r->n ? r->mean : GUESS_RATE, slow = r->n ? slow_rate(r) : GUESS_RATE;
	uint64_t state_ns = time_for(m->state_bytes, STATE_RATE);

	predict_once(m, RJI_TERM_PAUSE, 0, p);
	predict_once(m, RJI_TERM_SAVE, max_u64(state_ns, time_for(m->state_bytes, rate)), p);
	predict_once(m, RJI_TERM_LOAD, state_ns, p);
	predict_once(m, RJI_TERM_REVOKE, 0, p);
	predict_once(m, RJI_TERM_RESUME, 0, p);
	predict_estimate(&m->harvest_ns, 2, RJI_TERM_HARVEST, p); /* before and after save */
	predict_estimate(&m->round_trip_ns, 1, RJI_TERM_FENCE,
			 p); /* what was sent before is SEND */
	predict_estimate(&m->round_trip_ns, 2, RJI_TERM_HANDOVER, p);
	p->expected.ns[RJI_TERM_SEND] = time_for(pending_bytes, rate) + m->surprise_ns;
	p->p99.ns[RJI_TERM_SEND] = time_for(pending_bytes, slow) + m->surprise_ns;
	return rji_terms_sum(&p->expected);
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

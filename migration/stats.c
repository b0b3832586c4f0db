/* SPDX-License-Identifier: BSD-2-Clause */
/* rj_stats(): a snapshot of figures that the control and lane threads keep as atomics. */
#include <stdio.h>

#include "base/clock.h"
#include "migration/eta.h"
#include "migration/session_impl.h"

static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

/* The figures are not of the same moment. */
static uint64_t left(uint64_t pending, uint64_t dealt)
{
	return dealt < pending ? pending - dealt : 0;
}

static void snapshot_filters(const struct rj_session *s, struct rj_stats *st)
{
	const struct rji_filters *f = &s->filters;
	const _Atomic uint64_t *kinds = f->kinds;

	st->pages = (struct rj_page_counts){ .normal = get(&kinds[RJI_KIND_NORMAL]),
					     .zero = get(&kinds[RJI_KIND_ZERO]),
					     .hole = get(&kinds[RJI_KIND_HOLE]),
					     .free_pages = get(&kinds[RJI_KIND_FREE]) +
							   get(&s->hints.skipped_pages),
					     .same = get(&kinds[RJI_KIND_SAME]),
					     .delta = get(&kinds[RJI_KIND_DELTA]),
					     .compressed = get(&kinds[RJI_KIND_ZSTD]) };
	if (!f->on) /* then nobody sorts */
		st->pages.normal = get(&s->totals.pages);
	for (int i = 0; i < RJ_N_FILTERS; i++) {
		uint64_t came = get(&f->figures[i].came);

		st->filter[i].saved_bytes = get(&f->figures[i].saved_bytes);
		st->filter[i].cost_ns = get(&f->figures[i].cost_ns);
		if (came)
			st->filter[i].on_percent =
				(uint32_t)(100 * get(&f->figures[i].applied) / came);
	}
	st->filter[1].saved_bytes += get(&s->hints.skipped_bytes);
	st->cleared_pages = get(&f->cleared_pages);
}

static void snapshot_terms(const _Atomic uint64_t *from, struct rj_downtime_terms *p)
{
	struct rji_terms t;

	for (int i = 0; i < RJI_N_TERMS; i++)
		t.ns[i] = get(&from[i]);
	rji_terms_publish(&t, p);
}

static uint64_t since_start(const struct rji_figures *f, uint64_t until_ns)
{
	uint64_t started = get(&f->started_ns);

	return started && until_ns > started ? until_ns - started : 0;
}

/* With what is not accounted for yet. */
static void snapshot_throttle(const struct rji_figures *f, struct rj_stats *st)
{
	uint64_t since = get(&f->throttle_since_ns), now = rji_now_ns();
	uint64_t ns = since && now > since ? now - since : 0;

	st->throttle_percent = atomic_load_explicit(&f->throttle_percent, memory_order_relaxed);
	st->throttle_peak_percent =
		atomic_load_explicit(&f->throttle_peak_percent, memory_order_relaxed);
	st->throttled_ns = get(&f->throttled_ns) + (st->throttle_percent ? ns : 0);
	st->throttle_cost_ns = get(&f->throttle_cost_ns) + ns / 100 * st->throttle_percent;
}

/* Of all rounds that are over; until then of the first. */
static uint64_t link_rate(const struct rji_figures *f, const struct rj_stats *st)
{
	uint64_t ns;

	if (st->throughput_bytes_per_s)
		return st->throughput_bytes_per_s;
	ns = rji_now_ns() - get(&f->bulk_began_ns);
	return ns ? (uint64_t)((__uint128_t)st->transferred_bytes * RJI_NS_PER_S / ns) : 0;
}

static uint64_t eta(const struct rj_session *s, const struct rj_stats *st)
{
	uint64_t allowed_ns =
		atomic_load_explicit(&s->max_downtime_ms, memory_order_relaxed) * RJI_NS_PER_MS;
	uint64_t fixed_ns = st->predicted_p99_ns - get(&s->fig.predicted_p99[RJI_TERM_SEND]);
	uint64_t rate = link_rate(&s->fig, st);
	struct rji_eta e = { .remaining_bytes = st->remaining_bytes,
			     .round_bytes = get(&s->fig.pending_bytes),
			     .rate_bytes_per_s = rate,
			     .dirty_rate_bytes_per_s = st->dirty_rate_bytes_per_s };

	if (s->is_destination || (st->state != RJ_STATE_BULK && st->state != RJ_STATE_DIRTY))
		return 0;
	if (fixed_ns < allowed_ns)
		e.fits_bytes =
			(uint64_t)((__uint128_t)rate * (allowed_ns - fixed_ns) / RJI_NS_PER_S);
	return rji_eta_ns(&e);
}

int rj_stats(const struct rj_session *s, struct rj_stats *st_p)
{
	const struct rji_figures *f = s ? &s->fig : NULL;
	struct rj_stats st = { .size = sizeof(st) };
	uint64_t ended, round_ns;

	if (!s || !st_p || st_p->size != sizeof(st))
		return -EINVAL;
	st.state = atomic_load_explicit(&s->state, memory_order_relaxed);
	st.rounds = atomic_load_explicit(&f->rounds, memory_order_relaxed);
	st.n_lanes = atomic_load_explicit(&f->n_lanes, memory_order_relaxed);
	snprintf(st.transport, sizeof(st.transport), "%s", s->uri.path[0] ? "unix" : s->ops->name);
	st.guest_bytes = get(&f->guest_bytes);
	ended = get(&f->ended_ns);
	st.setup_ns = since_start(f, get(&f->bulk_began_ns));
	st.total_ns = since_start(f, ended ? ended : rji_now_ns());
	st.downtime_ns = get(&f->downtime_ns);
	st.predicted_downtime_ns = get(&f->predicted_ns);
	st.predicted_p99_ns = get(&f->predicted_p99_ns);
	snapshot_terms(f->downtime, &st.downtime);
	snapshot_terms(f->predicted, &st.predicted);
	st.transferred_bytes = get(&s->totals.sent_bytes);
	round_ns = get(&f->round_ns);
	if (round_ns)
		st.throughput_bytes_per_s =
			(uint64_t)((__uint128_t)get(&f->round_bytes) * RJI_NS_PER_S / round_ns);
	st.dirty_rate_bytes_per_s = get(&f->dirty_rate_bytes_per_s);
	st.remaining_bytes = left(get(&f->pending_bytes),
				  get(&s->totals.guest_bytes) - get(&f->round_bytes_before));
	st.eta_ns = eta(s, &st);
	snapshot_filters(s, &st);
	st.request_max_ns = get(&s->vmm.slowest_ns);
	st.request_max_type = atomic_load_explicit(&s->vmm.slowest_type, memory_order_relaxed);
	st.rollbacks = atomic_load_explicit(&f->rollbacks, memory_order_relaxed);
	snapshot_throttle(f, &st);
	st.lanes_replaced = get(&f->lanes_replaced);
	st.collect_max_ns = get(&s->harvest.collect_max_ns);
	st.rearm_max_ns = get(&s->harvest.rearm_max_ns);
	st.tracker_start_ns = get(&f->tracker_start_ns);
	st.tracker_stop_ns = get(&f->tracker_stop_ns);
	st.metadata_bytes = sizeof(*s) + rji_pageset_metadata_bytes(&s->set) +
			    s->harvest.max_windows * sizeof(struct rji_window) +
			    rji_filters_metadata_bytes(&s->filters) + get(&s->hints.map_bytes) +
			    get(&f->file_metadata_bytes);
	st.direct_io = atomic_load_explicit(&f->direct_io, memory_order_relaxed);
	st.registered_buffers = atomic_load_explicit(&f->registered_buffers, memory_order_relaxed);
	st.cpu_ns = get(&f->cpu_ns) + get(&s->totals.cpu_ns) + get(&s->pins.cpu_ns);
	st.registered_bytes = get(&s->pins.now_bytes);
	st.peer_registered_bytes = get(&s->pins.there_bytes);
	st.pinned_peak_bytes = get(&s->pins.peak_bytes);
	st.register_ns = get(&s->pins.register_ns);
	st.register_wait_ns = get(&s->pins.wait_ns);
	st.evictions = get(&s->pins.evictions);
	st.state_bytes = get(&f->state_bytes);
	st.resumed_at_ns = get(&f->resumed_at_ns);
	st.faults = get(&f->faults);
	st.fault_max_ns = get(&f->fault_max_ns);
	*st_p = st;
	return 0;
}

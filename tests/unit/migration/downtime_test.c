/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/downtime.h"

#define MS RJI_NS_PER_MS

static struct rji_downtime_model m;
static struct rji_prediction p;
static struct rji_terms t;

static void saw_round_trips(uint64_t ns)
{
	for (int i = 0; i < 20; i++)
		rji_estimate_saw(&m.round_trip_ns, ns);
}

Test(downtime, prediction_is_the_sum_of_its_terms)
{
	uint64_t sum, before = 0;

	rji_downtime_init(&m, 1000000);
	saw_round_trips(200000);
	rji_estimate_saw(&m.harvest_ns, 300000);
	rji_downtime_saw_round(&m, 1000000000, 900 * MS, 100 * MS, false);
	sum = rji_downtime_predict(&m, 50000000, &p);
	t = p.expected;
	cr_assert_eq(sum, rji_terms_sum(&t));
	for (int i = 0; i < RJI_N_TERMS; i++)
		before += t.ns[i];
	cr_assert_eq(sum, before);
	cr_assert_eq(t.ns[RJI_TERM_SEND], 50 * MS, "1 GB/s");
	cr_assert_eq(t.ns[RJI_TERM_FENCE], 200000, "what is in the buffers counts as sending");
	cr_assert_eq(t.ns[RJI_TERM_HARVEST], 600000, "before and after saving");
	cr_assert_eq(t.ns[RJI_TERM_HANDOVER], 400000);
	cr_assert_geq(t.ns[RJI_TERM_SAVE], 1 * MS, "the device state is sent meanwhile");
}

Test(downtime, worst_is_never_less_than_expected)
{
	rji_downtime_init(&m, 1000000);
	for (uint64_t i = 1; i < 200; i++) {
		rji_estimate_saw(&m.round_trip_ns, i * 7919 % 1000 * 1000);
		rji_estimate_saw(&m.harvest_ns, i * 104729 % 1000 * 1000);
		rji_downtime_saw_round(&m, i * 15485863 % 100 * 1000000, 100 * MS, MS, i == 1);
		rji_downtime_predict(&m, i << 20, &p);
		for (int k = 0; k < RJI_N_TERMS; k++)
			cr_assert_geq(p.p99.ns[k], p.expected.ns[k], "term %d", k);
	}
}

Test(downtime, worst_follows_the_spread)
{
	struct rji_estimate steady = { 0 }, wild = { 0 };

	for (int i = 0; i < 100; i++) {
		rji_estimate_saw(&steady, 1000);
		rji_estimate_saw(&wild, i % 2 ? 500 : 1500);
	}
	cr_assert_eq(steady.mean, 1000);
	cr_assert_leq(rji_estimate_p99(&steady), 1020);
	cr_assert_geq(rji_estimate_p99(&wild), 1500);
}

Test(downtime, round_after_the_bulk_round_replaces_its_rate)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 100000000, 1000 * MS, 0, true);
	cr_assert(m.bulk_only);
	rji_downtime_saw_round(&m, 100000, 1 * MS, 0, false);
	cr_assert(m.bulk_only, "too short to tell");
	rji_downtime_saw_round(&m, 50000000, 50 * MS, 0, false);
	cr_assert_not(m.bulk_only);
	cr_assert_eq(m.rate_bytes_per_s.mean, 1000000000);
}

/* 400 GiB of holes were looked at, and then a fast link is done in no time, round after round. */
Test(downtime, short_round_that_is_faster_replaces_the_bulk_rate)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 1000000, 1000 * MS, 0, true);
	rji_downtime_saw_round(&m, 100, MS / 2, 0, false);
	cr_assert(m.bulk_only, "it may be latency alone");
	rji_downtime_saw_round(&m, 1000000, 1 * MS, 0, false);
	cr_assert_not(m.bulk_only);
	cr_assert_eq(m.rate_bytes_per_s.mean, 1000000000);
	rji_downtime_saw_round(&m, 4000000, 1 * MS, 0, false);
	cr_assert_eq(m.rate_bytes_per_s.mean, 1000000000, "from here on only what is long enough");
}

Test(downtime, attempt_that_was_given_up_tells_what_its_steps_take)
{
	struct rji_terms took = { 0 };

	rji_downtime_init(&m, 0);
	took.ns[RJI_TERM_PAUSE] = 40 * MS;
	took.ns[RJI_TERM_SAVE] = 20 * MS;
	rji_downtime_saw_attempt(&m, &took, 10 * MS, 60 * MS);
	rji_downtime_predict(&m, 0, &p);
	cr_assert_eq(p.expected.ns[RJI_TERM_PAUSE], 40 * MS);
	cr_assert_eq(p.expected.ns[RJI_TERM_SAVE], 20 * MS);
	cr_assert_eq(p.p99.ns[RJI_TERM_PAUSE], 60 * MS);
	cr_assert_eq(p.expected.ns[RJI_TERM_SEND], 0, "which explains all of it");
}

Test(downtime, terms_are_published_under_their_names)
{
	struct rj_downtime_terms d;

	for (int i = 0; i < RJI_N_TERMS; i++)
		t.ns[i] = 1u << i;
	rji_terms_publish(&t, &d);
	cr_assert_eq(d.pause_ns, 1u << RJI_TERM_PAUSE);
	cr_assert_eq(d.harvest_ns, 1u << RJI_TERM_HARVEST);
	cr_assert_eq(d.send_ns, 1u << RJI_TERM_SEND);
	cr_assert_eq(d.fence_ns, 1u << RJI_TERM_FENCE);
	cr_assert_eq(d.save_ns, 1u << RJI_TERM_SAVE);
	cr_assert_eq(d.load_ns, 1u << RJI_TERM_LOAD);
	cr_assert_eq(d.revoke_ns, 1u << RJI_TERM_REVOKE);
	cr_assert_eq(d.handover_ns, 1u << RJI_TERM_HANDOVER);
	cr_assert_eq(d.resume_ns, 1u << RJI_TERM_RESUME);
	cr_assert_eq(rji_terms_sum(&t), (1u << RJI_N_TERMS) - 1);
}

Test(downtime, nothing_measured_is_guessed_cautiously)
{
	rji_downtime_init(&m, 0);
	cr_assert_gt(rji_downtime_predict(&m, 0, &p), 1 * MS);
	rji_downtime_predict(&m, 100 << 20, &p);
	cr_assert_eq(p.expected.ns[RJI_TERM_SEND], 1000 * MS, "100 MiB/s");
}

Test(downtime, more_pending_takes_longer)
{
	uint64_t before = 0;

	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 1 << 30, 100 * MS, MS, false);
	for (uint64_t bytes = 0; bytes < 1ull << 40; bytes = bytes * 2 + 4096) {
		uint64_t ns = rji_downtime_predict(&m, bytes, &p);

		cr_assert_gt(ns, before);
		before = ns;
	}
}

Test(downtime, short_rounds_do_not_change_the_rate)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 4096, 1000, 1000, false);
	cr_assert_eq(m.rate_bytes_per_s.mean, 2048000000, "the first says what it can");
	for (int i = 0; i < 40; i++)
		rji_downtime_saw_round(&m, 1000000, 9 * MS, 1 * MS, false);
	cr_assert_eq(m.rate_bytes_per_s.mean / 1000, 100000000 / 1000);
	rji_downtime_saw_round(&m, 4096, 1 * MS, 0, false);
	cr_assert_eq(m.rate_bytes_per_s.mean / 1000, 100000000 / 1000);
	rji_downtime_saw_round(&m, 0, 0, 5 * MS, false);
	cr_assert_eq(m.rate_bytes_per_s.mean / 1000, 100000000 / 1000, "nor one without pages");
	rji_downtime_saw_round(&m, 0, 0, 0, false);
	cr_assert_neq(m.rate_bytes_per_s.mean, 0);
}

Test(downtime, overrun_makes_the_next_prediction_higher_and_is_forgotten_slowly)
{
	uint64_t before, after;

	t = (struct rji_terms){ 0 };
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0, false);
	before = rji_downtime_predict(&m, 0, &p);
	rji_downtime_saw_attempt(&m, &t, 100 * MS, 140 * MS);
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0, false);
	after = rji_downtime_predict(&m, 0, &p);
	cr_assert_eq(after - before, 40 * MS, "by as much as it was too low");
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0, false);
	cr_assert_eq(rji_downtime_predict(&m, 0, &p) - before, 20 * MS);
	rji_downtime_saw_attempt(&m, &t, 140 * MS, 100 * MS);
	cr_assert_eq(rji_downtime_predict(&m, 0, &p) - before, 20 * MS, "sooner is no overrun");
}

Test(downtime, crawling_link_is_not_taken_for_a_fast_one)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 4096, 10000 * MS, 0, false);
	cr_assert_eq(m.rate_bytes_per_s.mean, 409);
	/* 8 TiB at 409 bytes a second: 680 years, more nanoseconds than 64 bits hold. */
	cr_assert_geq(rji_downtime_predict(&m, 8ull << 40, &p), UINT64_MAX / 4);
	cr_assert_geq(rji_terms_sum(&p.expected), UINT64_MAX / 4);
}

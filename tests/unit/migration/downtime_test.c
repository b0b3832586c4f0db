/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/downtime.h"

#define MS RJI_NS_PER_MS

static struct rji_downtime_model m;
static struct rji_terms t;

Test(downtime, prediction_is_the_sum_of_its_terms)
{
	uint64_t sum, before = 0;

	rji_downtime_init(&m, 1000000);
	m.round_trip_ns = 200000;
	m.harvest_ns = 300000;
	rji_downtime_saw_round(&m, 1000000000, 900 * MS, 100 * MS);
	sum = rji_downtime_predict(&m, 50000000, &t);
	cr_assert_eq(sum, rji_terms_sum(&t));
	for (int i = 0; i < RJI_N_TERMS; i++)
		before += t.ns[i];
	cr_assert_eq(sum, before);
	cr_assert_eq(t.ns[RJI_TERM_SEND], 50 * MS, "1 GB/s");
	cr_assert_eq(t.ns[RJI_TERM_FENCE], 100 * MS);
	cr_assert_eq(t.ns[RJI_TERM_HARVEST], 600000, "before and after saving");
	cr_assert_eq(t.ns[RJI_TERM_HANDOVER], 600000);
	cr_assert_geq(t.ns[RJI_TERM_SAVE], 1 * MS, "the device state is sent meanwhile");
}

Test(downtime, terms_are_published_under_their_names)
{
	struct rj_downtime_terms p;

	for (int i = 0; i < RJI_N_TERMS; i++)
		t.ns[i] = 1u << i;
	rji_terms_publish(&t, &p);
	cr_assert_eq(p.pause_ns, 1u << RJI_TERM_PAUSE);
	cr_assert_eq(p.harvest_ns, 1u << RJI_TERM_HARVEST);
	cr_assert_eq(p.send_ns, 1u << RJI_TERM_SEND);
	cr_assert_eq(p.fence_ns, 1u << RJI_TERM_FENCE);
	cr_assert_eq(p.save_ns, 1u << RJI_TERM_SAVE);
	cr_assert_eq(p.load_ns, 1u << RJI_TERM_LOAD);
	cr_assert_eq(p.revoke_ns, 1u << RJI_TERM_REVOKE);
	cr_assert_eq(p.handover_ns, 1u << RJI_TERM_HANDOVER);
	cr_assert_eq(p.resume_ns, 1u << RJI_TERM_RESUME);
	cr_assert_eq(rji_terms_sum(&t), (1u << RJI_N_TERMS) - 1);
}

Test(downtime, nothing_measured_is_guessed_cautiously)
{
	rji_downtime_init(&m, 0);
	cr_assert_gt(rji_downtime_predict(&m, 0, &t), 1 * MS);
	rji_downtime_predict(&m, 100 << 20, &t);
	cr_assert_eq(t.ns[RJI_TERM_SEND], 1000 * MS, "100 MiB/s");
}

Test(downtime, more_pending_takes_longer)
{
	uint64_t before = 0;

	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 1 << 30, 100 * MS, MS);
	for (uint64_t bytes = 0; bytes < 1ull << 40; bytes = bytes * 2 + 4096) {
		uint64_t ns = rji_downtime_predict(&m, bytes, &t);

		cr_assert_gt(ns, before);
		before = ns;
	}
}

Test(downtime, short_rounds_do_not_change_the_rate)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 4096, 1000, 1000);
	cr_assert_eq(m.rate_bytes_per_s, 2048000000, "the first says what it can");
	rji_downtime_saw_round(&m, 1000000, 9 * MS, 1 * MS);
	cr_assert_eq(m.rate_bytes_per_s, 100000000);
	rji_downtime_saw_round(&m, 4096, 1 * MS, 0);
	cr_assert_eq(m.rate_bytes_per_s, 100000000);
	rji_downtime_saw_round(&m, 0, 0, 5 * MS);
	cr_assert_eq(m.rate_bytes_per_s, 100000000, "nor one without pages");
	cr_assert_eq(m.fence_ns, 5 * MS, "but its fence counts");
	rji_downtime_saw_round(&m, 0, 0, 0);
	cr_assert_neq(m.rate_bytes_per_s, 0);
}

Test(downtime, overrun_makes_the_next_prediction_higher_and_is_forgotten_slowly)
{
	uint64_t before, after;

	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0);
	before = rji_downtime_predict(&m, 0, &t);
	rji_downtime_saw_overrun(&m, 100 * MS, 140 * MS);
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0);
	after = rji_downtime_predict(&m, 0, &t);
	cr_assert_eq(after - before, 40 * MS, "by as much as it was too low");
	rji_downtime_saw_round(&m, 1000000000, 1000 * MS, 0);
	cr_assert_eq(rji_downtime_predict(&m, 0, &t) - before, 20 * MS);
	rji_downtime_saw_overrun(&m, 140 * MS, 100 * MS);
	cr_assert_eq(rji_downtime_predict(&m, 0, &t) - before, 20 * MS, "sooner is no overrun");
}

Test(downtime, crawling_link_is_not_taken_for_a_fast_one)
{
	rji_downtime_init(&m, 0);
	rji_downtime_saw_round(&m, 4096, 10000 * MS, 0);
	cr_assert_eq(m.rate_bytes_per_s, 409);
	/* 8 TiB at 409 bytes a second: 680 years, more nanoseconds than 64 bits hold. */
	cr_assert_geq(rji_downtime_predict(&m, 8ull << 40, &t), UINT64_MAX / 4);
	cr_assert_geq(rji_terms_sum(&t), UINT64_MAX / 4);
}

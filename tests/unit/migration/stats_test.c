/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/session_impl.h"

static struct rj_env *env;
static struct rj_session *s;
static struct rj_stats st;

static void open_with(const char *uri)
{
	struct rj_opts o;

	rj_opts_init(&o);
	o.uri = uri;
	cr_assert_eq(rj_source_open(env, &o, &s), 0);
	st.size = sizeof(st);
}

static void set_up(void)
{
	cr_assert_eq(rj_env_open(NULL, &env), 0);
	open_with("tcp://127.0.0.1:1");
}

static void tear_down(void)
{
	rj_close(&s);
	rj_env_close(&env);
}

TestSuite(stats, .init = set_up, .fini = tear_down);

Test(stats, of_another_size_are_refused)
{
	st.size = sizeof(st) - 8;
	cr_assert_eq(rj_stats(s, &st), -EINVAL);
	cr_assert_eq(rj_stats(s, NULL), -EINVAL);
	cr_assert_eq(rj_stats(NULL, &st), -EINVAL);
}

Test(stats, of_a_fresh_session_are_zero)
{
	cr_assert_eq(rj_stats(s, &st), 0);
	cr_assert_eq(st.size, sizeof(st));
	cr_assert_eq(st.state, RJ_STATE_NEW);
	cr_assert_eq(st.total_ns, 0);
	cr_assert_eq(st.setup_ns, 0);
	cr_assert_eq(st.downtime_ns, 0);
	cr_assert_eq(st.throughput_bytes_per_s, 0);
	cr_assert_eq(st.guest_bytes, 0);
	cr_assert_str_eq(st.transport, "tcp");
}

Test(stats, name_the_transport)
{
	rj_close(&s);
	open_with("unix:///run/x");
	rj_stats(s, &st);
	cr_assert_str_eq(st.transport, "unix");
	rj_close(&s);
	open_with("null://x:1");
	rj_stats(s, &st);
	cr_assert_str_eq(st.transport, "null");
}

Test(stats, figures_are_where_they_belong)
{
	struct rji_figures *f = &s->fig;
	uint64_t sum = 0;

	for (int i = 0; i < RJI_N_TERMS; i++) {
		f->downtime[i] = (uint64_t)(i + 1) * 1000;
		f->predicted[i] = (uint64_t)(i + 1) * 10;
		sum += f->downtime[i];
	}
	f->downtime_ns = sum;
	f->predicted_ns = 450;
	f->started_ns = 1000;
	f->bulk_began_ns = 1500;
	f->ended_ns = 5000;
	f->rounds = 3;
	f->round_bytes = 1ull << 40; /* times 10^9 is past 64 bits */
	f->round_ns = 100 * RJI_NS_PER_S;
	f->pending_bytes = 7;
	f->cpu_ns = 20;
	s->totals.cpu_ns = 300;
	f->resumed_at_ns = 99;
	s->vmm.slowest_ns = 12;
	s->vmm.slowest_type = RJ_RQ_SAVE;
	cr_assert_eq(rj_stats(s, &st), 0);
	cr_assert_eq(st.setup_ns, 500);
	cr_assert_eq(st.total_ns, 4000);
	cr_assert_eq(st.rounds, 3);
	cr_assert_eq(st.throughput_bytes_per_s, (1ull << 40) / 100);
	cr_assert_eq(st.remaining_bytes, 7);
	cr_assert_eq(st.cpu_ns, 320);
	cr_assert_eq(st.resumed_at_ns, 99);
	cr_assert_eq(st.request_max_ns, 12);
	cr_assert_eq(st.request_max_type, RJ_RQ_SAVE);
	cr_assert_eq(st.predicted_downtime_ns, 450);
	cr_assert_eq(st.predicted.pause_ns, 10);
	cr_assert_eq(st.predicted.resume_ns, 90);
	cr_assert_eq(st.downtime.pause_ns + st.downtime.harvest_ns + st.downtime.send_ns +
			     st.downtime.fence_ns + st.downtime.save_ns + st.downtime.load_ns +
			     st.downtime.revoke_ns + st.downtime.handover_ns +
			     st.downtime.resume_ns,
		     st.downtime_ns);
}

Test(stats, expect_the_switchover)
{
	struct rji_figures *f = &s->fig;

	f->round_bytes = 800 << 20;
	f->round_ns = 8 * RJI_NS_PER_S;
	f->pending_bytes = 400 << 20;
	f->dirty_rate_bytes_per_s = 50 << 20;
	f->predicted_p99_ns = 500 * RJI_NS_PER_MS;
	f->predicted_p99[RJI_TERM_SEND] = 200 * RJI_NS_PER_MS;
	s->max_downtime_ms = 1300; /* a second more than what does not depend on pages */
	s->state = RJ_STATE_DIRTY;
	rj_stats(s, &st);
	cr_assert_eq(st.eta_ns, 6 * RJI_NS_PER_S); /* 400 and 200 MiB; then 100 are left */
	s->state = RJ_STATE_STOPPING;
	rj_stats(s, &st);
	cr_assert_eq(st.eta_ns, 0);
	s->state = RJ_STATE_DIRTY;
	f->dirty_rate_bytes_per_s = 401 << 20; /* in 4 s more than 800 MiB, never 100 */
	rj_stats(s, &st);
	cr_assert_eq(st.eta_ns, 0);
}

Test(stats, time_goes_on_until_the_end)
{
	uint64_t first;

	s->fig.started_ns = rji_now_ns();
	rj_stats(s, &st);
	first = st.total_ns;
	do {
		rj_stats(s, &st);
	} while (st.total_ns == first);
	cr_assert_gt(st.total_ns, first);
}

Test(stats, guest_is_all_regions)
{
	struct rj_region r;

	rj_region_init(&r);
	r.host = (void *)0x40000000; /* never touched here */
	r.name = "a";
	r.len_bytes = 1 << 20;
	rj_add_region(s, &r, NULL);
	r.name = "b";
	r.len_bytes = 3 << 20;
	rj_add_region(s, &r, NULL);
	rj_stats(s, &st);
	cr_assert_eq(st.guest_bytes, 4 << 20);
	cr_assert_gt(st.metadata_bytes, 3 * 1024 / 8);
}

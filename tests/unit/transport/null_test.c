/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include <criterion/criterion.h>

#include "transport/transport.h"

static const struct rji_transport_ops *const null = &rji_null_transport;

Test(null, counts_what_it_is_given_and_moves_nothing)
{
	struct rji_stop stop;
	struct rji_transport_opts o = { .stop = &stop };
	struct rji_admission adm = { .n_lanes = 3 };
	const struct rji_extent e[2] = { { 0, 4096, 0 }, { 1ull << 40, 1u << 30, 9 } };
	struct rji_lane *lane = NULL, *accepted[3];
	struct rji_transport *tp = NULL;
	struct rji_memory m = { 0, "a", NULL, 123 };
	struct rji_lane_stats st = { 0 };
	struct rji_addrs addrs = { .n = 5 };
	struct rji_listen l = { .control_listen_fd = -1 };
	_Atomic uint64_t done = 0;
	struct rj_error err;

	rji_error_init(&err);
	rji_stop_init(&stop);
	cr_assert_not(null->moves_data);
	cr_assert_eq(null->create(&o, &err, &tp), 0);
	cr_assert_eq(null->reg(tp, &m, &done, &err), 0);
	cr_assert_eq(done, 123);
	cr_assert_eq(null->listen(tp, &l, &addrs, &err), 0);
	cr_assert_eq(addrs.n, 0);
	cr_assert_eq(null->connect(tp, 0, &addrs, &adm, 0, &lane, &err), 0);
	cr_assert_eq(null->accept(tp, &adm, 0, accepted, &err), 0);
	cr_assert_eq(null->post(lane, e, 2, &err), 0);
	cr_assert_eq(null->post(lane, e, 1, &err), 0);
	cr_assert_eq(null->drain(lane, &err), 0);
	cr_assert_eq(null->fence(lane, 0, &err), 0);
	null->stats(lane, &st);
	cr_assert_eq(st.sent_bytes, 2 * 4096 + (1u << 30));
	rji_stop_set(&stop);
	cr_assert_eq(null->post(lane, e, 1, &err), -ECANCELED);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(null->serve(accepted[i], &err), 0);
		null->close(&accepted[i]);
	}
	null->withdraw(tp);
	null->close(&lane);
	null->close(&lane);
	null->dereg_all(tp);
	null->destroy(&tp);
	null->destroy(&tp);
	cr_assert_null(tp);
	rji_stop_fini(&stop);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Source: the guest could be stopped, but its VMM says when (RJ_PARAM_HOLD_SWITCHOVER): while a disk is
 * mirrored, or until other guests are as far. The guest runs on, and rounds keep what is left small.
 */
#include "base/clock.h"
#include "migration/session_impl.h"

/* From round to round. */
#define ROUND_MS 100

static bool is_let_go(struct rj_session *s, void *arg)
{
	(void)arg;
	return !atomic_load_explicit(&s->hold_switchover, memory_order_relaxed);
}

/* Take a deadline's rest out of time, and put it back in. 0 stays 0: never. */
static uint64_t rest_of(uint64_t deadline_ns)
{
	uint64_t now = rji_now_ns();

	return !deadline_ns ? 0 : deadline_ns > now ? deadline_ns - now : 1;
}

static uint64_t from_now(uint64_t rest_ns)
{
	return rest_ns ? rji_now_ns() + rest_ns : 0;
}

int rji_heed_hold(struct rj_session *s, bool *go_p, struct rj_error *err)
{
	struct rj_event ready = { .type = RJ_EV_READY };
	uint64_t give_up = rest_of(s->give_up_at_ns), stop = rest_of(s->stop_at_ns);
	int ret;

	if (is_let_go(s, NULL)) {
		s->told_ready = false;
		return 0;
	}
	if (!s->told_ready)
		rji_vmm_tell(&s->vmm, &ready);
	s->told_ready = true;
	*go_p = false; /* what was predicted is old by then: another round first */
	s->give_up_at_ns = 0;
	ret = rji_session_wait(s, RJI_WAIT_MIGRATING, is_let_go, NULL,
			       rji_session_deadline(ROUND_MS), err);
	s->give_up_at_ns = from_now(give_up);
	s->stop_at_ns = from_now(stop);
	return ret == RJ_E_TIMEOUT ? 0 : ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A sweep over the transport: the 1st call of a function fails, then the 2nd, … until one run is
 * untouched. Each fails by itself, after having done its work, or by never coming back. A lane that
 * fails once it was there is replaced, and the migration arrives; all else ends it, and the next
 * attempt works.
 *
 * Then lanes that fail or stand still in the stop phase: the guest goes on at the source at once,
 * and the same session completes later.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "migration/session_impl.h"
#include "tests/support/sim_cases.h"

static const struct {
	enum sim_side side;
	enum sim_op op;
} calls[] = {
	{ SIM_SOURCE, SIM_OP_CREATE },
	{ SIM_DESTINATION, SIM_OP_CREATE },
	{ SIM_SOURCE, SIM_OP_REG },
	{ SIM_DESTINATION, SIM_OP_REG },
	{ SIM_DESTINATION, SIM_OP_EXPORT_KEYS },
	{ SIM_SOURCE, SIM_OP_IMPORT_KEYS },
	{ SIM_DESTINATION, SIM_OP_LISTEN },
	{ SIM_DESTINATION, SIM_OP_ACCEPT },
	{ SIM_SOURCE, SIM_OP_CONNECT },
	{ SIM_DESTINATION, SIM_OP_SERVE },
	{ SIM_SOURCE, SIM_OP_POST },
	{ SIM_SOURCE, SIM_OP_FENCE },
};

enum way { FAILS, FAILS_AFTER, STALLS };

static unsigned int outcome(enum sim_op op)
{
	return op >= SIM_OP_POST || op == SIM_OP_SERVE ? SIM_MOVES : SIM_STAYS;
}

static char *sweep(const struct sim_case *c)
{
	enum sim_side side = calls[c->number / 3].side;
	enum sim_op op = calls[c->number / 3].op;
	enum way way = c->number % 3;
	uint32_t max = sim_is_long() ? 1000 : 8;

	for (uint32_t nth = 1; nth <= max; nth++) {
		struct sim_report r;
		struct sim_plan plan;
		char *text;

		sim_plan_init(&plan, c->seed);
		plan.n_lanes = 2;
		plan.rounds = 2;
		plan.peer_timeout_ms = way == STALLS ? 800 : 0;
		plan.fault_side = side;
		plan.fault = (struct sim_fault){
			.op = op, .nth = nth, .stall = way == STALLS, .after = way == FAILS_AFTER
		};
		text = sim_try(&plan, SIM_STAYS | SIM_MOVES, false, &r);
		if (!text && r.fired && !(outcome(op) & 1u << r.runs[SIM_SOURCE]))
			text = sim_say("call %u failed, and the guest runs at %d", nth,
				       r.runs[SIM_SOURCE]);
		if (!text && !r.fired && r.runs[SIM_SOURCE] != RJ_RUNS_AT_DESTINATION)
			text = sim_say("untouched, and it failed: %s", r.error[SIM_SOURCE].text);
		if (!text && !r.fired && nth == 1)
			text = sim_say("was never called");
		if (text || !r.fired)
			return text;
	}
	return NULL;
}

/* --- in the stop phase --- */

#define STALL_MS 6000
#define GUEST_PAGES 3072

struct stop_phase {
	uint64_t paused_ns, stood_ns;
	uint32_t n_resumed;
};

/* So that what the failed call should have moved is not written again until the end. */
static void write_every_fourth(struct sim_guest *g)
{
	for (uint64_t unit = 0; unit < GUEST_PAGES; unit += 4)
		sim_guest_write(g, 0, unit, SIM_VCPU, unit);
}

/* The fault is armed when the guest is to pause, and the time is taken that it stands. */
static void watch_pause(void *arg, struct sim_migration *m, enum sim_side side,
			const struct rj_event *ev)
{
	struct stop_phase *sp = arg;

	if (side != SIM_SOURCE)
		return;
	if (ev->type == RJ_RQ_PAUSE && !sp->n_resumed) {
		struct sim_faulty *f = &m->host[SIM_SOURCE].faulty;

		write_every_fourth(m->host[SIM_SOURCE].guest);
		sp->paused_ns = rji_now_ns();
		atomic_store(&f->n_calls, 0);
		f->fault.nth = 1;
	}
	if (ev->type == RJ_RQ_RESUME && !sp->n_resumed++)
		sp->stood_ns = rji_now_ns() - sp->paused_ns;
}

static char *stop_phase(const struct sim_case *c)
{
	static const enum sim_op ops[] = { SIM_OP_POST, SIM_OP_FENCE };
	struct stop_phase sp = { 0 };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.n_lanes = 3;
	plan.rounds = 2;
	plan.writes = 100;
	plan.guest_units = GUEST_PAGES;
	plan.strict = true;
	plan.max_downtime_ms = 1000;
	plan.peer_timeout_ms = STALL_MS;
	plan.fault = (struct sim_fault){ .op = ops[c->number % 2],
					 .nth = UINT32_MAX,
					 .stall = c->number / 2,
					 .after = c->number % 2 };
	plan.arg = &sp;
	plan.before_event = watch_pause;
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && !r.fired)
		text = sim_say("no call came in the stop phase");
	if (!text && (!sp.n_resumed || !r.stats[SIM_SOURCE].rollbacks))
		text = sim_say("the guest did not go on at the source");
	if (!text && !r.stats[SIM_SOURCE].lanes_replaced)
		text = sim_say("no lane was replaced");
	if (!text)
		text = sim_judge_stop(sp.stood_ns, plan.max_downtime_ms);
	/* A stalled lane is given up only after this, so it tells the order, not the speed. */
	if (!text && sp.stood_ns > STALL_MS / 2 * RJI_NS_PER_MS)
		text = sim_say("the guest stood for %llu ms: it waited for the lane",
			       (unsigned long long)(sp.stood_ns / RJI_NS_PER_MS));
	return text;
}

/* The fence of the first round fails, and nothing of what lies before it has arrived by then. */
static char *lost_round(const struct sim_case *c)
{
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.n_lanes = 1;
	plan.rounds = 2;
	plan.writes = 100;
	plan.guest_units = GUEST_PAGES;
	plan.queue_pieces = SIM_MAX_PIECES;
	plan.lazy = true;
	plan.fault = (struct sim_fault){ .op = SIM_OP_FENCE, .nth = 1 };
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && (!r.fired || !r.stats[SIM_SOURCE].lanes_replaced))
		text = sim_say("no lane was replaced");
	return text;
}

/* A transport that cannot cut a lane cannot replace one either. */
static struct rji_transport_ops without_cut;

static void use_without_cut(void *arg, struct rj_session *s, enum sim_side side)
{
	(void)arg;
	if (side == SIM_DESTINATION)
		rji_session_use_transport(s, &without_cut, s->transport_arg);
}

static char *not_replaced(const struct sim_case *c)
{
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.opened = use_without_cut;
	plan.mischief[SIM_SOURCE] = (struct sim_mischief){ .act = SIM_CUT_LANE,
							   .at = RJ_EV_STATE,
							   .state = RJ_STATE_BULK };
	text = sim_try(&plan, SIM_STAYS | SIM_MOVES, false, &r);
	if (!text && r.stats[SIM_SOURCE].lanes_replaced)
		text = sim_say("a lane was replaced that the destination cannot replace");
	return text;
}

/* Each round breaks a lane: at some time it is enough. */
static void break_each_round(void *arg, struct sim_migration *m, enum sim_side side,
			     const struct rj_event *ev)
{
	(void)arg;
	if (side == SIM_SOURCE && ev->type == RJ_EV_WARN)
		sim_world_cut_all(m->world);
}

static char *breaks_again(const struct sim_case *c)
{
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.before_event = break_each_round;
	plan.mischief[SIM_SOURCE] = (struct sim_mischief){ .act = SIM_CUT_LANES,
							   .at = RJ_EV_STATE,
							   .state = RJ_STATE_BULK };
	text = sim_try(&plan, SIM_STAYS | SIM_MOVES, false, &r);
	if (!text && r.stats[SIM_SOURCE].lanes_replaced > 20)
		text = sim_say("lanes were replaced without end");
	return text;
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "fails", "fails when done", "stalls" };
	struct sim_cases cases = { 0 };

	for (uint32_t i = 0; i < 3 * sizeof(calls) / sizeof(*calls); i++) {
		struct sim_case *c = sim_add(
			&cases, "%s of the %s %s", sim_op_name(calls[i / 3].op),
			calls[i / 3].side == SIM_SOURCE ? "source" : "destination", ways[i % 3]);

		c->run = sweep;
		c->number = i;
	}
	for (uint32_t i = 0; i < 4; i++) {
		struct sim_case *c = sim_add(&cases, "stop phase: a %s %s",
					     i % 2 ? "fence" : "post", i / 2 ? "stalls" : "fails");

		c->run = stop_phase;
		c->number = i;
	}
	sim_add(&cases, "a round that is lost")->run = lost_round;
	without_cut = sim_transport;
	without_cut.cut = NULL;
	sim_add(&cases, "a lane that cannot be replaced")->run = not_replaced;
	sim_add(&cases, "a link that breaks in every round")->run = breaks_again;
	return sim_run(&cases, argc, argv);
}

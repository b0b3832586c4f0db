/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A sweep over the transport: the 1st call of a function fails, then the 2nd, … until one run is
 * untouched. Each fails by itself, after having done its work, or by never coming back. A lane that
 * fails ends the migration, and the next attempt works.
 */
#include <stdlib.h>

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
	/* serve ends when the lane does; what it says then comes too late to matter. */
	return op == SIM_OP_SERVE ? SIM_STAYS | SIM_MOVES : SIM_STAYS;
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
	return sim_run(&cases, argc, argv);
}

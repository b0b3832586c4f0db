/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whole migrations from seeds. "calm": nothing is in the way but chance, and each must arrive.
 * "stormy": anything may go wrong once, at any moment; who runs the guest must be clear, or be said
 * to be unclear, and no page may be lost. Half of them with filters.
 */
#include "migration/message.h"
#include "tests/support/sim_cases.h"

static const enum rj_event_type requests[2][6] = {
	{ RJ_RQ_PAUSE, RJ_RQ_SAVE, RJ_RQ_RELEASE, RJ_RQ_PAUSE, RJ_RQ_SAVE, RJ_RQ_RELEASE },
	{ RJ_RQ_SETUP, RJ_RQ_REGION, RJ_RQ_LOAD, RJ_RQ_ACQUIRE, RJ_RQ_RESUME, RJ_RQ_LOAD },
};

static void random_mischief(struct sim_random *r, struct sim_plan *plan)
{
	static const enum sim_act acts[] = { SIM_CANCEL_HERE, SIM_CANCEL_THERE, SIM_DIE,
					     SIM_FAIL,	      SIM_CUT_LANE,	SIM_CUT_LANES };
	uint32_t side = (uint32_t)sim_below(r, 2);
	struct sim_mischief *m = &plan->mischief[side];

	m->act = acts[sim_below(r, 6)];
	if (m->act == SIM_FAIL || sim_chance(r, 50)) {
		m->at = requests[side][sim_below(r, 6)];
	} else {
		m->at = RJ_EV_STATE;
		m->state = RJ_STATE_CONNECTING + (enum rj_state)sim_below(r, 7);
	}
}

static void random_cut(struct sim_random *r, struct sim_plan *plan)
{
	plan->rule = (struct sim_rule){
		.cut = sim_chance(r, 50) ? SIM_CUT_BEFORE : SIM_CUT_AFTER,
		.direction = sim_chance(r, 50) ? SIM_TO_DESTINATION : SIM_TO_SOURCE,
		.nth = 1 + (uint32_t)sim_below(r, 14),
		.no_answers = sim_chance(r, 30),
	};
}

static void random_fault(struct sim_random *r, struct sim_plan *plan)
{
	plan->fault_side = sim_chance(r, 70) ? SIM_SOURCE : SIM_DESTINATION;
	plan->fault =
		(struct sim_fault){ .op = SIM_OP_CREATE + (enum sim_op)sim_below(r, SIM_N_OPS - 1),
				    .nth = 1 + (uint32_t)sim_below(r, 8),
				    .after = sim_chance(r, 30) };
}

static void make_stormy(struct sim_plan *plan)
{
	struct sim_random r = sim_split(plan->seed, 99);

	switch (sim_below(&r, 4)) {
	case 0: random_mischief(&r, plan); break;
	case 1: random_cut(&r, plan); break;
	case 2: random_fault(&r, plan); break;
	default: plan->cut_after = 1 + sim_below(&r, 400); break;
	}
	plan->request_timeout_ms = 2000;
	plan->peer_timeout_ms = 2000;
	plan->outcome_keep_ms = 500;
}

static void make_filtered_and_stormy(struct sim_plan *plan)
{
	sim_plan_filters(plan);
	make_stormy(plan);
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };
	uint32_t n = sim_is_long() ? 5000 : 400;

	for (uint32_t i = 0; i < n; i++) {
		static const char *const kind[] = { "calm", "stormy", "filtered calm",
						    "filtered stormy" };
		static void (*const adjust[])(struct sim_plan * plan) = {
			NULL, make_stormy, sim_plan_filters, make_filtered_and_stormy
		};
		struct sim_case *c = sim_add(&cases, "%s %u", kind[i % 4], i);

		c->paused = i % 16 == 4;
		c->adjust = adjust[i % 4];
		if (i % 2 == 0)
			c->may_end = SIM_MOVES;
	}
	return sim_run(&cases, argc, argv);
}

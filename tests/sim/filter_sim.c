/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Filters against a guest that is made to fool them: contents come back, pages become zero, or are given up and used
 * again, while pages are read and placed at any moment. Memory must be equal each time.
 */
#include "tests/support/sim_cases.h"

static void be_busy(struct sim_plan *plan)
{
	plan->copy_always = true;
	plan->rounds = 2 + plan->rounds;
	plan->writes = 1000 + 2 * plan->writes;
	plan->return_percent = 90;
}

/* Between two contents and back: what is remembered must be what was sent. */
static void aba(struct sim_plan *plan)
{
	be_busy(plan);
	plan->filters = RJ_FILTER_SAME;
}

static void differences(struct sim_plan *plan)
{
	be_busy(plan);
	plan->filters = RJ_FILTER_SAME | RJ_FILTER_DELTA | RJ_FILTER_ZSTD;
}

static void zeros(struct sim_plan *plan)
{
	be_busy(plan);
	plan->filters = RJ_FILTER_ZERO | RJ_FILTER_HOLE;
	plan->zeroed = plan->seed % 4 != 0;
}

static void give_up(struct sim_plan *plan)
{
	be_busy(plan);
	plan->return_percent = 20;
	plan->free_percent = 60;
	/* Several windows, and mostly zeros: some are opened long after the first. */
	if (plan->seed % 6 == 0) {
		plan->guest_units = 40000;
		plan->n_lanes = 1;
	}
	plan->filters = RJ_FILTER_FREE |
			(plan->seed % 2 || plan->guest_units ? RJ_FILTER_ZERO | RJ_FILTER_SAME : 0);
	plan->zeroed = plan->seed % 4 < 2;
}

static void balloon(struct sim_plan *plan)
{
	give_up(plan);
	plan->balloon = true;
	plan->free_percent = 90;
	plan->writes *= 3;
}

/* A lane breaks in the middle: nobody knows what has arrived. */
static void broken(struct sim_plan *plan)
{
	sim_plan_filters(plan);
	be_busy(plan);
	plan->filters = RJ_FILTER_ALL;
	plan->cut_after = 1 + plan->seed * 7919 % 500;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*adjust)(struct sim_plan *plan);
		uint32_t n; /* in the long form ten times as many */
	} kinds[] = {
		{ "aba", aba, 100 },	    { "differences", differences, 30 },
		{ "zeros", zeros, 40 },	    { "reported free", give_up, 60 },
		{ "balloon", balloon, 60 }, { "broken lane", broken, 40 },
	};
	struct sim_cases cases = { 0 };

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		for (uint32_t i = 0; i < kinds[k].n * (sim_is_long() ? 10 : 1); i++) {
			struct sim_case *c = sim_add(&cases, "%s %u", kinds[k].name, i);

			c->adjust = kinds[k].adjust;
			c->may_end = SIM_MOVES;
		}
	}
	return sim_run(&cases, argc, argv);
}

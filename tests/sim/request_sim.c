/* SPDX-License-Identifier: BSD-2-Clause */
/* Each request to the VMM fails, is never answered, or is done and answered too late. */
#include <time.h>

#include "tests/support/sim_cases.h"

static const struct {
	enum sim_side side;
	enum rj_event_type request;
	unsigned int failed, late;
} requests[] = {
	{ SIM_DESTINATION, RJ_RQ_SETUP, SIM_STAYS, SIM_STAYS },
	{ SIM_DESTINATION, RJ_RQ_REGION, SIM_STAYS, SIM_STAYS },
	{ SIM_SOURCE, RJ_RQ_PAUSE, SIM_STAYS, SIM_STAYS },
	{ SIM_SOURCE, RJ_RQ_SAVE, SIM_STAYS, SIM_STAYS },
	{ SIM_DESTINATION, RJ_RQ_LOAD, SIM_STAYS, SIM_STAYS },
	{ SIM_SOURCE, RJ_RQ_RELEASE, SIM_STAYS, SIM_STAYS },
	{ SIM_DESTINATION, RJ_RQ_ACQUIRE, SIM_STAYS, SIM_STAYS },
	/*
	 * It may be running by now: nobody but the VMM can tell, and there is no deadline
	 * (event.h).
	 */
	{ SIM_DESTINATION, RJ_RQ_RESUME, SIM_STAYS, SIM_MOVES },
};

static void ask_for_regions(struct sim_plan *plan)
{
	plan->regions_before = false;
}

static struct sim_case *add(struct sim_cases *cases, enum sim_side side, enum rj_event_type request,
			    const char *what, enum sim_act act, unsigned int may_end)
{
	struct sim_case *c = sim_add(cases, "%s %s", rj_event_name(request), what);

	c->plan.request_timeout_ms = 700;
	c->plan.state_bytes = 3000;
	c->plan.mischief[side] = (struct sim_mischief){ .act = act, .at = request };
	c->adjust = ask_for_regions;
	c->may_end = may_end;
	c->must_fire = true;
	return c;
}

/*
 * A VMM that takes its time to give back what acquire took: the source must not be told to reclaim
 * it meanwhile.
 */
static void drop_slowly(void *arg, struct sim_migration *m, enum sim_side side,
			const struct rj_event *ev)
{
	const struct timespec a_while = { .tv_nsec = 300000000 };

	if (ev->type == RJ_RQ_DROP)
		nanosleep(&a_while, NULL);
}

/* The guest is given back: what if that does not work either? */
static void add_ways_back(struct sim_cases *cases, const char *what, enum sim_act act)
{
	static const struct sim_mischief broken_load = { .act = SIM_FAIL, .at = RJ_RQ_LOAD };
	static const struct sim_mischief broken_acquire = { .act = SIM_FAIL, .at = RJ_RQ_ACQUIRE };

	add(cases, SIM_SOURCE, RJ_RQ_RESUME, what, act, SIM_STAYS)->plan.mischief[SIM_DESTINATION] =
		broken_load;
	add(cases, SIM_SOURCE, RJ_RQ_RECLAIM, what, act, SIM_STAYS)
		->plan.mischief[SIM_DESTINATION] = broken_acquire;
	add(cases, SIM_DESTINATION, RJ_RQ_DROP, what, act, SIM_STAYS)->plan.mischief[SIM_SOURCE] =
		(struct sim_mischief){ .act = SIM_FAIL, .at = RJ_RQ_RELEASE };
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };

	for (int paused = 0; paused < 2; paused++) {
		uint32_t first = cases.n;

		for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
			enum rj_event_type r = requests[i].request;
			enum sim_side side = requests[i].side;

			add(&cases, side, r, "fails", SIM_FAIL, requests[i].failed);
			add(&cases, side, r, "is never answered", SIM_NEVER_ANSWER,
			    r == RJ_RQ_RESUME ? SIM_STAYS | SIM_UNKNOWN : requests[i].late);
			add(&cases, side, r, "is answered late", SIM_ANSWER_LATE, requests[i].late);
		}
		add(&cases, SIM_DESTINATION, RJ_RQ_RESUME, "fails, and drop takes long", SIM_FAIL,
		    SIM_STAYS)
			->plan.before_event = drop_slowly;
		add_ways_back(&cases, "fails", SIM_FAIL);
		add_ways_back(&cases, "is never answered", SIM_NEVER_ANSWER);
		while (first < cases.n)
			cases.list[first++].paused = paused;
	}
	return sim_run(&cases, argc, argv);
}

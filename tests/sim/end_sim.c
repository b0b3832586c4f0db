/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Either side dies, is cancelled by itself or by the other, or loses its lanes, in each state and
 * at each request.
 */
#include "tests/support/sim_cases.h"

struct moment {
	enum sim_side side;
	enum rj_event_type at;
	enum rj_state state;
};

static const struct moment moments[] = {
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_CONNECTING },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_SETUP },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_BULK },
	{ SIM_SOURCE, RJ_EV_ROUND, RJ_STATE_NEW },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_DIRTY },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_STOPPING },
	{ SIM_SOURCE, RJ_RQ_PAUSE, RJ_STATE_NEW },
	{ SIM_SOURCE, RJ_RQ_SAVE, RJ_STATE_NEW },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_PREPARED },
	{ SIM_SOURCE, RJ_RQ_RELEASE, RJ_STATE_NEW },
	{ SIM_SOURCE, RJ_EV_STATE, RJ_STATE_COMMITTED },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_CONNECTING },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_SETUP },
	{ SIM_DESTINATION, RJ_RQ_SETUP, RJ_STATE_NEW },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_BULK },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_DIRTY },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_STOPPING },
	{ SIM_DESTINATION, RJ_RQ_LOAD, RJ_STATE_NEW },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_PREPARED },
	{ SIM_DESTINATION, RJ_EV_STATE, RJ_STATE_COMMITTED },
	{ SIM_DESTINATION, RJ_RQ_ACQUIRE, RJ_STATE_NEW },
	{ SIM_DESTINATION, RJ_RQ_RESUME, RJ_STATE_NEW },
};

static bool is_after_commit(const struct moment *m)
{
	return m->at == RJ_RQ_ACQUIRE || m->at == RJ_RQ_RESUME ||
	       (m->at == RJ_EV_STATE && m->state == RJ_STATE_COMMITTED);
}

/* The peer may have moved on when the event is fetched. */
static bool is_vague(const struct moment *m)
{
	return m->side == SIM_DESTINATION && m->at == RJ_EV_STATE && m->state == RJ_STATE_PREPARED;
}

static unsigned int of_death(const struct moment *m)
{
	if (m->side == SIM_SOURCE) /* seen from the destination */
		return is_after_commit(m) ? SIM_STAYS | SIM_MOVES : SIM_STAYS;
	if (is_vague(m))
		return SIM_STAYS | SIM_UNKNOWN;
	return is_after_commit(m) ? SIM_UNKNOWN : SIM_STAYS;
}

static unsigned int of_cancel(const struct moment *m)
{
	if (is_vague(m))
		return SIM_STAYS | SIM_MOVES;
	return is_after_commit(m) ? SIM_MOVES : SIM_STAYS;
}

static void add(struct sim_cases *cases, const struct moment *m, const char *what, enum sim_act act,
		unsigned int may_end)
{
	struct sim_case *c = sim_add(cases, "%s at %s%s%s of the %s", what, rj_event_name(m->at),
				     m->at == RJ_EV_STATE ? " " : "",
				     m->at == RJ_EV_STATE ? rj_state_name(m->state) : "",
				     m->side == SIM_SOURCE ? "source" : "destination");

	c->plan.rounds = 3;
	c->plan.outcome_keep_ms = 500;
	c->plan.mischief[m->side] =
		(struct sim_mischief){ .act = act, .at = m->at, .state = m->state };
	c->may_end = may_end;
	c->must_fire = true;
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };

	for (size_t i = 0; i < sizeof(moments) / sizeof(*moments); i++) {
		const struct moment *m = &moments[i];

		add(&cases, m, "death", SIM_DIE, of_death(m));
		add(&cases, m, "cancel", SIM_CANCEL_HERE, of_cancel(m));
		add(&cases, m, "peer's cancel", SIM_CANCEL_THERE,
		    is_after_commit(m) && m->side == SIM_DESTINATION ? SIM_MOVES
								     : SIM_STAYS | SIM_MOVES);
		/* Lanes are replaced; and from when the destination holds all they do not matter. */
		add(&cases, m, "a broken lane", SIM_CUT_LANE, SIM_MOVES);
		add(&cases, m, "broken lanes", SIM_CUT_LANES, SIM_MOVES);
	}
	return sim_run(&cases, argc, argv);
}

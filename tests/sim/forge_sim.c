/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A peer that says the wrong thing: in place of each message comes each other one, or the same cut
 * short. Nobody may be moved by it to run the guest without COMMIT, to believe that it moved, or to
 * crash. A destination that lies about the outcome is out of scope.
 */
#include "migration/message.h"
#include "tests/support/sim_cases.h"

static const struct {
	enum sim_direction direction;
	uint16_t type;
} points[] = {
	{ SIM_TO_DESTINATION, RJI_MSG_HELLO },	 { SIM_TO_SOURCE, RJI_MSG_HELLO_OK },
	{ SIM_TO_DESTINATION, RJI_MSG_SETUP },	 { SIM_TO_SOURCE, RJI_MSG_SETUP_OK },
	{ SIM_TO_DESTINATION, RJI_MSG_REGIONS }, { SIM_TO_SOURCE, RJI_MSG_REGION_OK },
	{ SIM_TO_SOURCE, RJI_MSG_LANES },	 { SIM_TO_SOURCE, RJI_MSG_LANES_OK },
	{ SIM_TO_DESTINATION, RJI_MSG_ROUND },	 { SIM_TO_DESTINATION, RJI_MSG_READY },
	{ SIM_TO_SOURCE, RJI_MSG_READY_OK },	 { SIM_TO_DESTINATION, RJI_MSG_STOPPING },
	{ SIM_TO_DESTINATION, RJI_MSG_STATE },	 { SIM_TO_DESTINATION, RJI_MSG_FINISH },
	{ SIM_TO_SOURCE, RJI_MSG_PREPARED },	 { SIM_TO_DESTINATION, RJI_MSG_COMMIT },
	{ SIM_TO_SOURCE, RJI_MSG_RUNNING },	 { SIM_TO_DESTINATION, RJI_MSG_BYE },
};

static bool is_lie_about_outcome(uint16_t type, uint16_t forged)
{
	return (type == RJI_MSG_RUNNING && forged == RJI_MSG_REFUSED);
}

static struct sim_case *add(struct sim_cases *cases, size_t point, enum sim_cut cut,
			    uint16_t forged)
{
	uint16_t type = points[point].type;
	struct sim_case *c = sim_add(cases, "%s for %s",
				     forged ? rji_msg_name(forged) : "a short one",
				     rji_msg_name(type));

	c->plan.rounds = 2;
	c->plan.state_bytes = 3000;
	c->plan.peer_timeout_ms = 1000;
	c->plan.request_timeout_ms = 600;
	c->plan.outcome_keep_ms = 500;
	c->plan.rule = (struct sim_rule){ .cut = cut,
					  .direction = points[point].direction,
					  .type = type,
					  .nth = 1,
					  .forged = forged };
	c->must_fire = true;
	return c;
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };

	for (size_t point = 0; point < sizeof(points) / sizeof(*points); point++) {
		uint16_t type = points[point].type;

		for (uint16_t forged = 1; forged <= RJI_MSG_LAST; forged++) {
			if (forged != type && !is_lie_about_outcome(type, forged))
				add(&cases, point, SIM_FORGE, forged);
		}
		if (type != RJI_MSG_SETUP && type != RJI_MSG_STATE) /* bytes of the VMM's */
			add(&cases, point, SIM_CUT_SHORT, 0);
	}
	return sim_run(&cases, argc, argv);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control connection is lost before or after each message in each direction, or falls silent
 * there. The table of outcomes:
 *
 *   before COMMIT was offered to the network      the source runs the guest
 *   COMMIT was sent but lost                      REFUSED by asking: the source takes it back
 *   COMMIT arrived                                the destination runs it; the source asks
 *   … and nobody answers                          unknown
 */
#include <stdlib.h>
#include <string.h>

#include "migration/message.h"
#include "tests/support/sim_cases.h"

static const struct {
	enum sim_direction direction;
	uint16_t type;
	uint32_t nth;
} points[] = {
	{ SIM_TO_DESTINATION, RJI_MSG_HELLO, 1 },    { SIM_TO_SOURCE, RJI_MSG_HELLO_OK, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_SETUP, 1 },    { SIM_TO_SOURCE, RJI_MSG_SETUP_OK, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_REGIONS, 1 },  { SIM_TO_SOURCE, RJI_MSG_REGION_OK, 1 },
	{ SIM_TO_SOURCE, RJI_MSG_LANES, 1 },	     { SIM_TO_SOURCE, RJI_MSG_LANES_OK, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_ROUND, 1 },    { SIM_TO_DESTINATION, RJI_MSG_ROUND, 2 },
	{ SIM_TO_DESTINATION, RJI_MSG_READY, 1 },    { SIM_TO_SOURCE, RJI_MSG_READY_OK, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_STOPPING, 1 }, { SIM_TO_DESTINATION, RJI_MSG_STATE, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_FINISH, 1 },   { SIM_TO_SOURCE, RJI_MSG_PREPARED, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_COMMIT, 1 },   { SIM_TO_SOURCE, RJI_MSG_RUNNING, 1 },
	{ SIM_TO_DESTINATION, RJI_MSG_BYE, 1 },
};

static const char *const cut_names[] = {
	[SIM_CUT_BEFORE] = "lost with",
	[SIM_CUT_AFTER] = "lost after",
	[SIM_SILENT_FROM] = "silent from",
	[SIM_SILENT_AFTER] = "silent after",
};

/* What may come of it at the source. */
static unsigned int outcome(uint16_t type, enum sim_cut cut, bool answers)
{
	bool arrives = cut == SIM_CUT_AFTER || cut == SIM_SILENT_AFTER;

	switch (type) {
	case RJI_MSG_PREPARED: /* it may be noticed before COMMIT, or with it */
		if (!arrives)
			return SIM_STAYS;
		return answers ? SIM_STAYS : SIM_STAYS | SIM_UNKNOWN;
	case RJI_MSG_COMMIT:
		if (!answers)
			return SIM_UNKNOWN;
		return arrives ? SIM_MOVES : SIM_STAYS;
	case RJI_MSG_RUNNING: return answers || arrives ? SIM_MOVES : SIM_UNKNOWN;
	case RJI_MSG_BYE: return SIM_MOVES;
	default: return SIM_STAYS;
	}
}

static void add(struct sim_cases *cases, size_t point, enum sim_cut cut, bool answers)
{
	uint16_t type = points[point].type;
	struct sim_case *c = sim_add(cases, "%s %s %u%s", cut_names[cut], rji_msg_name(type),
				     points[point].nth, answers ? "" : ", nobody answers");

	c->plan.rounds = 3;
	c->plan.state_bytes = 3000;
	c->plan.rule = (struct sim_rule){ .cut = cut,
					  .direction = points[point].direction,
					  .type = type,
					  .nth = points[point].nth,
					  .no_answers = !answers };
	if (cut == SIM_SILENT_FROM || cut == SIM_SILENT_AFTER)
		c->plan.peer_timeout_ms = 1000;
	c->may_end = outcome(type, cut, answers);
	c->must_fire = true;
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };

	for (size_t point = 0; point < sizeof(points) / sizeof(*points); point++) {
		bool late = points[point].type >= RJI_MSG_PREPARED;

		for (enum sim_cut cut = SIM_CUT_BEFORE; cut <= SIM_SILENT_AFTER; cut++) {
			add(&cases, point, cut, true);
			if (late)
				add(&cases, point, cut, false);
		}
	}
	return sim_run(&cases, argc, argv);
}

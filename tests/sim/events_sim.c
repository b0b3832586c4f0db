/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VMM is told, and what it may change meanwhile: the switchover held until it says so, slow
 * answers, a record of each round.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "migration/session_impl.h"
#include "tests/support/sim_cases.h"

static void sleep_ms(long ms)
{
	const struct timespec t = { .tv_nsec = ms * 1000000 };

	nanosleep(&t, NULL);
}

/* --- held --- */

enum way { LET_GO, CANCELLED, PAST_ITS_TIME };

/* So long a migration may take that is held longer; enough to be ready on a machine with much else to do. */
#define MAY_TAKE_MS 1500u
#define HELD_MS 1700u

struct hold {
	uint32_t way;
	uint64_t began_ns;
	uint32_t n_ready, n_rounds; /* since it was told ready */
	bool was_stopped;	    /* while it was held */
	bool let_go;
};

static void hold_from_the_start(void *arg, struct rj_session *s, enum sim_side side)
{
	(void)arg;
	if (side == SIM_SOURCE)
		rj_set(s, RJ_PARAM_HOLD_SWITCHOVER, 1);
}

static void was_ready(struct hold *h, struct rj_session *s)
{
	h->n_ready++;
	h->n_rounds = 0;
	rj_set(s, RJ_PARAM_HOLD_SWITCHOVER, 1); /* as it is */
}

static void was_round(struct hold *h, struct rj_session *s)
{
	if (!h->n_ready || ++h->n_rounds < 3)
		return;
	if (h->way == PAST_ITS_TIME && rji_now_ns() - h->began_ns < HELD_MS * RJI_NS_PER_MS)
		return;
	h->let_go = true;
	if (h->way == CANCELLED)
		rj_cancel(s);
	else
		rj_set(s, RJ_PARAM_HOLD_SWITCHOVER, 0);
}

static void watch_hold(void *arg, struct sim_migration *m, enum sim_side side,
		       const struct rj_event *ev)
{
	struct hold *h = arg;

	if (side != SIM_SOURCE)
		return;
	if (ev->type == RJ_EV_READY)
		was_ready(h, m->host[side].s);
	if (ev->type == RJ_EV_ROUND)
		was_round(h, m->host[side].s);
	if (ev->type == RJ_RQ_PAUSE && !h->let_go)
		h->was_stopped = true;
}

static char *held(const struct sim_case *c)
{
	struct hold h = { .way = c->number, .began_ns = rji_now_ns() };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 1;
	plan.arg = &h;
	plan.opened = hold_from_the_start;
	plan.before_event = watch_hold;
	plan.timeout_ms = h.way == PAST_ITS_TIME ? MAY_TAKE_MS : 0;
	text = sim_try(&plan, h.way == CANCELLED ? SIM_STAYS : SIM_MOVES, false, &r);
	if (!text && h.n_ready != 1)
		text = sim_say("told to be ready %u times", h.n_ready);
	if (!text && h.was_stopped)
		text = sim_say("the guest was stopped though the switchover was held");
	return text;
}

/* --- slow answers --- */

struct slow {
	enum rj_event_type at;
	enum sim_side side;
	uint32_t n_told;
};

static void want_to_know(void *arg, struct rj_session *s, enum sim_side side)
{
	(void)arg;
	(void)side;
	s->o.slow_answer_ms = 30;
}

static void answer_slowly(void *arg, struct sim_migration *m, enum sim_side side,
			  const struct rj_event *ev)
{
	struct slow *slow = arg;
	char name[40];

	(void)m;
	if (side != slow->side)
		return;
	if (ev->type == slow->at)
		sleep_ms(50);
	snprintf(name, sizeof(name), "to answer '%s'", rj_event_name(slow->at));
	if (ev->type == RJ_EV_WARN && strstr(ev->u.warn.text, name))
		slow->n_told++;
}

static char *slow_answer(const struct sim_case *c)
{
	struct slow slow = { .at = (enum rj_event_type)c->number,
			     .side = c->number == RJ_RQ_PAUSE || c->number == RJ_RQ_SAVE ||
						     c->number == RJ_RQ_RELEASE
					     ? SIM_SOURCE
					     : SIM_DESTINATION };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.regions_before = false; /* so that they are asked for */
	plan.arg = &slow;
	plan.opened = want_to_know;
	plan.before_event = answer_slowly;
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && !slow.n_told)
		text = sim_say("a slow '%s' was not told", rj_event_name(slow.at));
	if (!text && r.stats[slow.side].request_max_ns < 50 * 1000000)
		text = sim_say("the slowest answer is said to be of %llu ns",
			       (unsigned long long)r.stats[slow.side].request_max_ns);
	return text;
}

/* --- rounds --- */

struct rounds {
	uint32_t n;
	uint64_t pages;
	bool wrong;
};

static uint64_t all_kinds(const struct rj_page_counts *c)
{
	return c->normal + c->zero + c->hole + c->free_pages + c->same + c->delta + c->compressed;
}

static void add_up(void *arg, struct sim_migration *m, enum sim_side side,
		   const struct rj_event *ev)
{
	struct rounds *sum = arg;
	const struct rj_round *r = &ev->u.round;

	(void)m;
	if (side != SIM_SOURCE || ev->type != RJ_EV_ROUND)
		return;
	sum->wrong |= r->round != ++sum->n || all_kinds(&r->kinds) != r->pages || !r->duration_ns;
	sum->pages += r->pages;
}

static char *records(const struct sim_case *c)
{
	struct rounds sum = { 0 };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 4;
	plan.arg = &sum;
	plan.before_event = add_up;
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && (sum.wrong || sum.n != r.stats[SIM_SOURCE].rounds))
		text = sim_say("%u rounds were told, of %u", sum.n, r.stats[SIM_SOURCE].rounds);
	if (!text && (!sum.pages || sum.pages > all_kinds(&r.stats[SIM_SOURCE].pages)))
		text = sim_say("%llu pages were told, of %llu", (unsigned long long)sum.pages,
			       (unsigned long long)all_kinds(&r.stats[SIM_SOURCE].pages));
	return text;
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "held, and let go", "held, and cancelled",
					    "held past its time" };
	static const enum rj_event_type requests[] = { RJ_RQ_PAUSE,   RJ_RQ_SAVE,   RJ_RQ_RELEASE,
						       RJ_RQ_SETUP,   RJ_RQ_REGION, RJ_RQ_LOAD,
						       RJ_RQ_ACQUIRE, RJ_RQ_RESUME };
	struct sim_cases cases = { 0 };

	for (uint32_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct sim_case *c = sim_add(&cases, "%s", ways[i]);

		c->run = held;
		c->number = i;
	}
	for (uint32_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		struct sim_case *c = sim_add(&cases, "a slow '%s'", rj_event_name(requests[i]));

		c->run = slow_answer;
		c->number = requests[i];
	}
	for (int i = 0; i < 4; i++)
		sim_add(&cases, "records of rounds")->run = records;
	return sim_run(&cases, argc, argv);
}

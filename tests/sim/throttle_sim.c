/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that writes faster than the wire carries it, until its VMM takes half of its time away:
 * then it writes nothing. What is asked for, in which steps, and that it is taken back.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "migration/session_impl.h"
#include "tests/support/sim_cases.h"

#define ENOUGH_PERCENT 50u
#define PLENTY_MS 600000
#define MAX_ASKED 32u

enum way { ARRIVES, REFUSED, CANCELLED, DIES };

struct throttled {
	const struct sim_case *c;
	struct sim_guest *guest;
	pthread_t writer;
	atomic_bool started, stop;
	atomic_uint percent;
	uint32_t n_asked, asked[MAX_ASKED], n_warned;
	bool over; /* DONE was told */
	bool asked_after;
};

static void *write_on(void *arg)
{
	struct throttled *t = arg;
	struct sim_random random = sim_split(t->c->seed, 9);

	while (!atomic_load(&t->stop)) {
		uint32_t region = (uint32_t)sim_below(&random, t->guest->n_regions);

		if (atomic_load(&t->percent) < ENOUGH_PERCENT)
			sim_guest_write(t->guest, region,
					sim_below(&random, t->guest->region[region].n_units),
					SIM_VCPU, sim_next(&random));
		else
			sched_yield();
	}
	return NULL;
}

static void allow_throttle(void *arg, struct rj_session *s, enum sim_side side)
{
	if (side == SIM_SOURCE)
		s->o.throttle_max_percent = 99;
}

static void start_writer(struct throttled *t, struct sim_migration *m)
{
	t->guest = m->host[SIM_SOURCE].guest;
	if (!pthread_create(&t->writer, NULL, write_on, t))
		atomic_store(&t->started, true);
}

static void stop_writer(struct throttled *t)
{
	atomic_store(&t->stop, true);
	if (atomic_exchange(&t->started, false))
		pthread_join(t->writer, NULL);
}

static void asked(struct throttled *t, struct rj_session *s, uint32_t percent)
{
	if (t->n_asked < MAX_ASKED)
		t->asked[t->n_asked++] = percent;
	t->asked_after |= t->over;
	if (t->c->number == DIES)
		stop_writer(t); /* no DONE will be told */
	if (t->c->number == REFUSED)
		return;
	atomic_store(&t->percent, percent);
	if (percent >= ENOUGH_PERCENT)
		rj_set(s, RJ_PARAM_MAX_DOWNTIME_MS, PLENTY_MS);
	if (percent == 30 && t->c->number == CANCELLED)
		rj_cancel(s);
}

static void before_event(void *arg, struct sim_migration *m, enum sim_side side,
			 const struct rj_event *ev)
{
	struct throttled *t = arg;

	if (side != SIM_SOURCE)
		return;
	if (ev->type == RJ_EV_STATE && ev->u.state.state == RJ_STATE_BULK)
		start_writer(t, m);
	if (ev->type == RJ_RQ_THROTTLE)
		asked(t, m->host[side].s, ev->u.throttle.percent);
	if (ev->type == RJ_EV_WARN && strstr(ev->u.warn.text, "not throttled any further")) {
		t->n_warned++;
		atomic_store(&t->percent, ENOUGH_PERCENT);
		rj_set(m->host[side].s, RJ_PARAM_MAX_DOWNTIME_MS, PLENTY_MS);
	}
	if (ev->type == RJ_EV_DONE) {
		t->over = true;
		stop_writer(t);
	}
}

/* 20, 30, 40, … and in the end 0. */
static char *judge_steps(const struct throttled *t, const struct sim_report *r)
{
	uint32_t n = t->n_asked, top = n > 1 ? t->asked[n - 2] : 0;

	for (uint32_t i = 0; i + 1 < n; i++) {
		if (t->asked[i] != 20 + 10 * i)
			return sim_say("step %u asks for %u %%", i, t->asked[i]);
	}
	if (n < 3 || t->asked[n - 1])
		return sim_say("%u requests, the last for %u %%", n, n ? t->asked[n - 1] : 0);
	if (t->asked_after)
		return sim_say("asked after the end");
	if (r->stats[SIM_SOURCE].throttle_percent ||
	    r->stats[SIM_SOURCE].throttle_peak_percent != top)
		return sim_say("told: %u %% at the end, %u at most, asked for were %u",
			       r->stats[SIM_SOURCE].throttle_percent,
			       r->stats[SIM_SOURCE].throttle_peak_percent, top);
	if (!r->stats[SIM_SOURCE].throttle_cost_ns ||
	    r->stats[SIM_SOURCE].throttle_cost_ns > r->stats[SIM_SOURCE].throttled_ns)
		return sim_say("told: it cost %llu ns of %llu",
			       (unsigned long long)r->stats[SIM_SOURCE].throttle_cost_ns,
			       (unsigned long long)r->stats[SIM_SOURCE].throttled_ns);
	return NULL;
}

static char *judge_refusal(const struct throttled *t, const struct sim_report *r)
{
	if (t->n_asked == 1 && t->n_warned == 1 && !r->stats[SIM_SOURCE].throttle_peak_percent)
		return NULL;
	return sim_say("%u requests, %u warnings, %u %% told", t->n_asked, t->n_warned,
		       r->stats[SIM_SOURCE].throttle_peak_percent);
}

static char *run(const struct sim_case *c)
{
	struct throttled t = { .c = c };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 1000000; /* the limit stays tiny until something is throttled */
	plan.arg = &t;
	plan.opened = allow_throttle;
	plan.before_event = before_event;
	plan.mischief[0] = c->plan.mischief[0];
	plan.mischief[1] = c->plan.mischief[1];
	text = sim_try(&plan, c->may_end, false, &r);
	stop_writer(&t);
	if (text || c->number == DIES)
		return text;
	return c->number == REFUSED ? judge_refusal(&t, &r) : judge_steps(&t, &r);
}

static struct sim_case *add(struct sim_cases *cases, const char *name, enum way way,
			    unsigned int may_end)
{
	struct sim_case *c = sim_add(cases, "%s", name);

	c->run = run;
	c->number = way;
	c->may_end = may_end;
	return c;
}

int main(int argc, char **argv)
{
	static const struct sim_mischief refuse = { .act = SIM_FAIL, .at = RJ_RQ_THROTTLE };
	static const struct sim_mischief die = { .act = SIM_DIE, .at = RJ_RQ_THROTTLE };
	struct sim_cases cases = { 0 };

	for (int i = 0; i < 4; i++) {
		add(&cases, "a throttled guest arrives", ARRIVES, SIM_MOVES);
		add(&cases, "a throttled guest stays", CANCELLED, SIM_STAYS);
		add(&cases, "a VMM cannot throttle", REFUSED, SIM_MOVES)
			->plan.mischief[SIM_SOURCE] = refuse;
	}
	add(&cases, "a source dies throttling", DIES, SIM_STAYS)->plan.mischief[SIM_SOURCE] = die;
	return sim_run(&cases, argc, argv);
}

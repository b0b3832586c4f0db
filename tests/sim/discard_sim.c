/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory is taken away under the library while it migrates: a balloon thread punches holes into a
 * file that is pinned, between rj_discard_begin() and rj_discard_end(). What is punched while
 * pinned stays readable by the NIC only, as it was.
 */
#include <assert.h>
#include <sched.h>
#include <stdlib.h>

#include "migration/session_impl.h"
#include "tests/support/sim_cases.h"

struct balloon {
	struct sim_guest *guest;
	_Atomic(struct sim_world *) world;
	atomic_bool stop;
	struct sim_random random;
	uint32_t n_punched;
	int failed;
};

/* A guest with one large file and one small piece of other memory. */
static struct sim_guest *make_guest(uint64_t seed)
{
	struct sim_guest *g = sim_guest_create_empty(seed);

	sim_guest_add_region(g, "balloon", 900 * SIM_UNIT_BYTES, 4096, 0, true, false);
	sim_guest_add_region(g, "other", 64 * SIM_UNIT_BYTES, 4096, 0, false, false);
	sim_guest_resume(g);
	for (uint64_t u = 0; u < g->region[0].n_units; u++)
		sim_guest_write(g, 0, u, SIM_VCPU, u);
	return g;
}

static void punched(void *arg, uint32_t number, uint64_t offset, uint64_t len)
{
	struct balloon *b = arg;

	b->n_punched++;
	sim_world_punch(atomic_load(&b->world), number, offset, len);
}

static void *balloon_thread(void *arg)
{
	struct balloon *b = arg;

	while (!atomic_load(&b->stop)) {
		uint64_t n = 1 + sim_below(&b->random, 40);
		uint64_t unit = sim_below(&b->random, b->guest->region[0].n_units - n);
		int ret = atomic_load(&b->world)
				  ? sim_guest_punch(b->guest, 0, unit, n,
						    sim_chance(&b->random, 70), punched, b)
				  : 0;

		if (ret < 0)
			b->failed = ret;
		sched_yield();
	}
	return NULL;
}

/* The world is there from the first event on. */
static void before_event(void *arg, struct sim_migration *m, enum sim_side side,
			 const struct rj_event *ev)
{
	struct balloon *b = arg;

	if (side == SIM_SOURCE && ev->type == RJ_EV_STATE)
		atomic_store(&b->world, ev->u.state.state < RJ_STATE_PREPARED ? m->world : NULL);
}

static char *inflate(const struct sim_case *c)
{
	struct balloon b = { .random = sim_split(c->seed, 50) };
	struct sim_guest *arrived;
	struct sim_report r;
	struct sim_plan plan;
	pthread_t thread;
	char *text = NULL;
	int ret;

	b.guest = make_guest(c->seed);
	sim_plan_init(&plan, c->seed);
	plan.rounds = 4;
	plan.arg = &b;
	plan.before_event = before_event;
	ret = pthread_create(&thread, NULL, balloon_thread, &b);
	assert(!ret);
	sim_migrate(b.guest, &plan, &r, &arrived);
	atomic_store(&b.stop, true);
	pthread_join(thread, NULL);
	if (r.complaint[0] || r.runs[SIM_SOURCE] != RJ_RUNS_AT_DESTINATION)
		text = sim_say("seed %llu: %s (%s)", (unsigned long long)c->seed, r.complaint,
			       r.error[SIM_SOURCE].text);
	else if (b.failed)
		text = sim_say("seed %llu: a discard failed: %s", (unsigned long long)c->seed,
			       rj_strerror(b.failed));
	sim_guest_destroy(&arrived);
	sim_guest_destroy(&b.guest);
	return text;
}

/* --- a hold over the switchover --- */

struct holder {
	bool held, rolled_back;
};

static void hold_over_switchover(void *arg, struct sim_migration *m, enum sim_side side,
				 const struct rj_event *ev)
{
	struct holder *h = arg;
	int ret = 0;

	if (side != SIM_SOURCE)
		return;
	if (ev->type == RJ_EV_ROUND && !h->held && !h->rolled_back) {
		ret = rj_discard_begin(m->host[side].s, 0, 0, SIM_UNIT_BYTES);
		h->held = true;
		/* What the VMM does there meanwhile is no reason to read it. */
		sim_guest_write(m->host[side].guest, 0, 0, SIM_DEVICE, 1);
	} else if (ev->type == RJ_RQ_RESUME && h->held) {
		ret = rj_discard_end(m->host[side].s, 0, 0, SIM_UNIT_BYTES);
		h->held = false;
		h->rolled_back = true;
	}
	if (ret < 0)
		sim_complain(m, "a discard failed: %s", rj_strerror(ret));
}

static char *hold(const struct sim_case *c)
{
	struct holder h = { 0 };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 1;
	plan.strict = true;
	plan.max_downtime_ms = 2000;
	plan.arg = &h;
	plan.before_event = hold_over_switchover;
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && !h.rolled_back)
		text = sim_say("it was not rolled back");
	if (!text && r.stats[SIM_SOURCE].total_ns > 15 * 1000000000ull)
		text = sim_say("the guest stood for %llu ms",
			       (unsigned long long)r.stats[SIM_SOURCE].total_ns / 1000000);
	return text;
}

/* --- a range that a lane is sending --- */

struct taker {
	struct sim_guest *guest;
	struct sim_world *world;
	pthread_t thread;
	bool started;
	int result;
	atomic_uint n_punched;
};

static void taken(void *arg, uint32_t number, uint64_t offset, uint64_t len)
{
	struct taker *t = arg;

	atomic_fetch_add(&t->n_punched, 1);
	sim_world_await_read(t->world);
	sim_world_punch(t->world, number, offset, len);
}

static void *taker_thread(void *arg)
{
	struct taker *t = arg;

	t->result = sim_guest_punch(t->guest, 0, 0, 500, true, taken, t);
	return NULL;
}

/*
 * The network stands still. The lane's queue is full when the range is asked for, then there is
 * room again: the lane finishes what it is at, sees the hold, and may let go of the range only when
 * all of it was read.
 */
static void take_while_sent(void *arg, struct sim_migration *m, enum sim_side side,
			    const struct rj_event *ev)
{
	struct taker *t = arg;
	int ret;

	if (side != SIM_SOURCE || ev->type != RJ_EV_STATE)
		return;
	if (ev->u.state.state == RJ_STATE_CONNECTING)
		sim_world_stall(m->world, true);
	if (ev->u.state.state != RJ_STATE_BULK)
		return;
	t->world = m->world;
	sim_world_await_full(m->world, 0);
	ret = pthread_create(&t->thread, NULL, taker_thread, t);
	assert(!ret);
	t->started = true;
	while (!atomic_load(&m->host[side].s->holds.n))
		sched_yield();
	sim_world_make_room(m->world, SIM_MAX_PIECES);
	while (!sim_world_is_draining(m->world) && !atomic_load(&t->n_punched))
		sched_yield();
	sim_world_stall(m->world, false);
}

static char *take(const struct sim_case *c)
{
	struct taker t = { .guest = make_guest(c->seed) };
	struct sim_guest *arrived;
	struct sim_report r;
	struct sim_plan plan;
	char *text = NULL;

	sim_plan_init(&plan, c->seed);
	plan.n_lanes = 1;
	plan.rounds = 2;
	plan.arg = &t;
	plan.before_event = take_while_sent;
	plan.queue_pieces = 100;
	sim_migrate(t.guest, &plan, &r, &arrived);
	if (t.started)
		pthread_join(t.thread, NULL);
	if (r.complaint[0] || r.runs[SIM_SOURCE] != RJ_RUNS_AT_DESTINATION || t.result ||
	    !t.n_punched)
		text = sim_say("seed %llu: %s (%d, %u)", (unsigned long long)c->seed, r.complaint,
			       t.result, t.n_punched);
	sim_guest_destroy(&arrived);
	sim_guest_destroy(&t.guest);
	return text;
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };
	uint32_t n = sim_is_long() ? 500 : 30;

	for (uint32_t i = 0; i < n; i++)
		sim_add(&cases, "balloon %u", i)->run = inflate;
	sim_add(&cases, "a range that is being sent")->run = take;
	sim_add(&cases, "a range held over the switchover")->run = hold;
	return sim_run(&cases, argc, argv);
}

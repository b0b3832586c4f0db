/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_migration.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/sim_host.h"

void sim_plan_init(struct sim_plan *plan, uint64_t seed)
{
	struct sim_random r = sim_split(seed, 4);

	*plan = (struct sim_plan){
		.seed = seed,
		.n_lanes = 1 + (uint32_t)sim_below(&r, 4),
		.rounds = 1 + (uint32_t)sim_below(&r, 4),
		.writes = (int64_t)sim_below(&r, 2000),
		.save_dirties = (uint32_t)sim_below(&r, 30),
		.state_bytes = sim_chance(&r, 80) ? sim_below(&r, 5000) : 0,
		.regions_before = sim_chance(&r, 50),
	};
}

static void log_line(void *arg, enum rj_log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "[seed %llu] %s\n", *(const unsigned long long *)arg, line);
}

static void open_env(struct sim_migration *m)
{
	struct rj_env_opts o;
	int ret;

	rj_env_opts_init(&o);
	if (getenv("RJ_SIM_LOG")) {
		o.log = log_line;
		o.log_level = RJ_LOG_DEBUG;
		o.arg = (void *)(uintptr_t)&m->plan->seed;
	}
	o.devices = NULL;
	ret = rj_env_open(&o, &m->env);
	assert(!ret);
}

static void set_up(struct sim_migration *m, struct sim_guest *source, const struct sim_plan *plan,
		   struct sim_report *r)
{
	memset(m, 0, sizeof(*m));
	memset(r, 0, sizeof(*r));
	m->plan = plan;
	m->report = r;
	pthread_mutex_init(&m->lock, NULL);
	open_env(m);
	m->world = sim_world_create(plan->seed, source);
	pthread_mutex_lock(&m->world->lock);
	m->world->cut_after = plan->cut_after;
	m->world->cut_link = (uint32_t)plan->seed;
	m->world->lazy = plan->lazy;
	if (plan->queue_pieces)
		m->world->queue_pieces = plan->queue_pieces;
	pthread_mutex_unlock(&m->world->lock);
	pthread_rwlock_wrlock(&source->gate); /* it may be writing already */
	source->return_percent = plan->return_percent;
	source->free_percent = plan->free_percent;
	source->balloon = plan->balloon;
	source->generation = source->n_hints = 0;
	pthread_rwlock_unlock(&source->gate);
	m->was_running = sim_guest_is_running(source);
	m->holds_lock[SIM_SOURCE] = true;
	m->state = malloc(plan->state_bytes + 1);
	assert(m->state);
	for (int side = 0; side < 2; side++) {
		m->host[side].m = m;
		m->host[side].side = (enum sim_side)side;
		m->host[side].random = sim_split(plan->seed, 5 + (uint64_t)side);
	}
	m->host[SIM_SOURCE].guest = source;
	m->host[SIM_DESTINATION].guest = sim_guest_create_empty(plan->seed + 1);
	atomic_store(&source->budget, plan->writes / (plan->rounds + 1));
}

/* Both sessions, the destination's first. */
static int open_hosts(struct sim_migration *m)
{
	uint16_t port;
	int ret = sim_host_open(&m->host[SIM_DESTINATION], &port);

	if (ret < 0)
		return ret;
	if (m->plan->listening)
		m->plan->listening(m->plan->arg, port);
	m->proxy = sim_proxy_create(&m->plan->rule, port, &port);
	return sim_host_open(&m->host[SIM_SOURCE], &port);
}

static void run(struct sim_migration *m)
{
	for (int side = 0; side < 2; side++) {
		int ret = pthread_create(&m->host[side].thread, NULL, sim_host_thread,
					 &m->host[side]);

		assert(!ret);
	}
	for (int side = 0; side < 2; side++)
		pthread_join(m->host[side].thread, NULL);
	sim_judge_end(m);
}

static bool has_fired(const struct sim_migration *m)
{
	bool fired = m->mischief_fired || sim_proxy_fired(m->proxy);

	for (int side = 0; side < 2; side++)
		fired |= atomic_load(&m->host[side].faulty.fired);
	pthread_mutex_lock(&m->world->lock);
	fired |= m->plan->cut_after && !m->world->cut_after;
	pthread_mutex_unlock(&m->world->lock);
	return fired;
}

static void tear_down(struct sim_migration *m)
{
	for (int side = 0; side < 2; side++)
		sim_host_close(&m->host[side]);
	for (int i = 0; i < 2; i++)
		rj_tracker_destroy(&m->tracker[i]);
	sim_proxy_destroy(&m->proxy);
	sim_world_destroy(&m->world);
	rj_env_close(&m->env);
	pthread_mutex_destroy(&m->lock);
	free(m->state);
}

void sim_migrate(struct sim_guest *source, const struct sim_plan *plan, struct sim_report *r,
		 struct sim_guest **destination_p)
{
	struct sim_migration m;
	int ret;

	set_up(&m, source, plan, r);
	ret = open_hosts(&m);
	r->start_status = ret;
	if (ret < 0) {
		r->error[SIM_SOURCE].size = sizeof(r->error[0]);
		if (m.host[SIM_SOURCE].s)
			rj_error_detail(m.host[SIM_SOURCE].s, &r->error[SIM_SOURCE]);
		sim_complain(&m, "the sessions cannot be opened: %s", rj_strerror(ret));
	} else {
		run(&m);
		r->fired = has_fired(&m);
		r->n_asked = sim_proxy_n_asked(m.proxy);
	}
	tear_down(&m);
	*destination_p = m.knows_running[SIM_DESTINATION] ? m.host[SIM_DESTINATION].guest : NULL;
	if (!*destination_p)
		sim_guest_destroy(&m.host[SIM_DESTINATION].guest);
}

/* --- with a second attempt --- */

static const char *const outcomes[] = { "at the source", "at the destination",
					"nobody knows where" };

static void judge_outcome(struct sim_report *r, unsigned int may_end)
{
	enum rj_outcome runs = r->runs[r->dead[SIM_SOURCE] ? SIM_DESTINATION : SIM_SOURCE];

	if (!r->complaint[0] && !(may_end & 1u << runs))
		snprintf(r->complaint, sizeof(r->complaint), "the guest runs %s", outcomes[runs]);
}

static void try_again(struct sim_guest *guest, uint64_t seed, struct sim_report *r)
{
	struct sim_guest *arrived;
	struct sim_plan plan;

	sim_plan_init(&plan, seed + 1000003);
	atomic_store(&guest->budget, 200);
	sim_guest_step(guest, 200);
	sim_migrate(guest, &plan, r, &arrived);
	judge_outcome(r, SIM_MOVES);
	sim_guest_destroy(&arrived);
}

static char *describe(const char *which, const struct sim_plan *plan, const struct sim_report *r)
{
	char *text = NULL;
	int n;

	if (!r->complaint[0])
		return NULL;
	n = asprintf(&text, "%sseed %llu: %s\n    source: %d (%s)\n    destination: %d (%s)", which,
		     (unsigned long long)plan->seed, r->complaint, r->status[0], r->error[0].text,
		     r->status[1], r->error[1].text);
	assert(n > 0);
	return text;
}

char *sim_try(const struct sim_plan *plan, unsigned int may_end, bool paused,
	      struct sim_report *first_p)
{
	struct sim_guest *guest = plan->guest_units
					  ? sim_guest_create_of(plan->seed, plan->guest_units)
					  : sim_guest_create(plan->seed);
	struct sim_guest *arrived;
	struct sim_report r;
	char *text;

	if (paused)
		sim_guest_pause(guest);
	sim_migrate(guest, plan, &r, &arrived);
	judge_outcome(&r, may_end);
	text = describe("", plan, &r);
	if (first_p)
		*first_p = r;
	if (!text && !arrived && !r.dead[SIM_SOURCE] && r.runs[SIM_SOURCE] == RJ_RUNS_AT_SOURCE) {
		try_again(guest, plan->seed, &r);
		text = describe("second attempt, ", plan, &r);
	}
	sim_guest_destroy(&arrived);
	sim_guest_destroy(&guest);
	return text;
}

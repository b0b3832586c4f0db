/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_cases.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8

struct pool {
	struct sim_cases *cases;
	const char *name; /* part of */
	uint64_t first_seed;
	bool only_first;
	atomic_uint next, passed, failed;
};

bool sim_is_long(void)
{
	const char *text = getenv("RJ_TEST_LONG");

	return text && *text && strcmp(text, "0");
}

#define GRACE_MS 50.0

char *sim_judge_stop(uint64_t stood_ns, uint32_t max_downtime_ms)
{
	double ms = (double)stood_ns / 1e6;

	if (!sim_is_long())
		return NULL;
	fprintf(stderr, "the guest went on after %.1f ms, of %u allowed\n", ms, max_downtime_ms);
	return ms > max_downtime_ms + GRACE_MS ? sim_say("the guest stood for %.1f ms", ms) : NULL;
}

char *sim_say(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	assert(n >= 0);
	return text;
}

struct sim_case *sim_add(struct sim_cases *cs, const char *fmt, ...)
{
	struct sim_case *c;
	va_list ap;

	if (cs->n == cs->max) {
		cs->max = cs->max * 2 + 64;
		cs->list = realloc(cs->list, cs->max * sizeof(*cs->list));
		assert(cs->list);
	}
	c = &cs->list[cs->n++];
	memset(c, 0, sizeof(*c));
	c->may_end = SIM_STAYS | SIM_MOVES | SIM_UNKNOWN;
	va_start(ap, fmt);
	vsnprintf(c->name, sizeof(c->name), fmt, ap);
	va_end(ap);
	return c;
}

/* What the case sets wins over what the seed gives. */
static void merge(struct sim_plan *plan, const struct sim_plan *set)
{
	struct sim_plan base = *plan;

	*plan = *set;
	plan->seed = base.seed;
	plan->n_lanes = set->n_lanes ? set->n_lanes : base.n_lanes;
	plan->rounds = set->rounds ? set->rounds : base.rounds;
	plan->writes = set->writes ? set->writes : base.writes;
	plan->save_dirties = set->save_dirties ? set->save_dirties : base.save_dirties;
	plan->state_bytes = set->state_bytes ? set->state_bytes : base.state_bytes;
	plan->regions_before = set->regions_before || base.regions_before;
}

static char *run_plan(const struct sim_case *c)
{
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	merge(&plan, &c->plan);
	if (c->adjust)
		c->adjust(&plan);
	text = sim_try(&plan, c->may_end, c->paused, &r);
	if (!text && c->must_fire && !r.fired)
		return sim_say("seed %llu: it came to its end before anything went wrong",
			       (unsigned long long)c->seed);
	for (int side = 0; !text && side < 2; side++) {
		if (c->status[side] && r.status[side] != c->status[side])
			text = sim_say("seed %llu: the %s ended with %d (%s), not %d",
				       (unsigned long long)c->seed, side ? "destination" : "source",
				       r.status[side], r.error[side].text, c->status[side]);
	}
	return text;
}

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;
	uint32_t i;

	/* With RJ_TEST_FIRST the first failure is enough. */
	while ((i = atomic_fetch_add(&pool->next, 1)) < pool->cases->n &&
	       !(pool->only_first && atomic_load(&pool->failed))) {
		struct sim_case *c = &pool->cases->list[i];
		char *text;

		if (pool->name && !strstr(c->name, pool->name))
			continue;
		c->seed = pool->first_seed + i;
		text = c->run ? c->run(c) : run_plan(c);
		atomic_fetch_add(text ? &pool->failed : &pool->passed, 1);
		if (text)
			fprintf(stderr, "FAILED: %s\n    %s\n    again: %llu '%s'\n", c->name, text,
				(unsigned long long)pool->first_seed, c->name);
		free(text);
	}
	return NULL;
}

int sim_run(struct sim_cases *cs, int argc, char **argv)
{
	struct pool pool = { .cases = cs,
			     .name = argc > 2 ? argv[2] : NULL,
			     .only_first = getenv("RJ_TEST_FIRST"),
			     .first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };
	pthread_t threads[THREADS];
	uint32_t passed, failed;

	setvbuf(stderr, NULL, _IOLBF, 0);
	for (int i = 0; i < THREADS; i++) {
		int ret = pthread_create(&threads[i], NULL, pool_thread, &pool);

		assert(!ret);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	free(cs->list);
	passed = atomic_load(&pool.passed);
	failed = atomic_load(&pool.failed);
	printf("%u passed, %u failed (first seed %llu)\n", passed, failed,
	       (unsigned long long)pool.first_seed);
	return failed || !passed;
}

void sim_plan_filters(struct sim_plan *plan)
{
	struct sim_random r = sim_split(plan->seed, 77);

	plan->filters = sim_chance(&r, 60) ? RJ_FILTER_ALL : (uint32_t)sim_below(&r, 64);
	plan->copy_always = sim_chance(&r, 80);
	plan->zeroed = sim_chance(&r, 50);
	plan->return_percent = (uint32_t)sim_below(&r, 80);
	plan->free_percent = sim_chance(&r, 60) ? (uint32_t)sim_below(&r, 60) : 0;
	plan->balloon = sim_chance(&r, 50);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_CASES_H
#define RJ_TESTS_SIM_CASES_H

#include "tests/support/sim_migration.h"

/*
 * Cases of one test program, run several at a time: most of their time they wait. The program's
 * arguments are
 *   [SEED [NAME]]   SEED: the first case's seed, the others follow; NAME: run those whose name has it
 * Each failure is told with its name and seed; the last line counts.
 */
struct sim_case {
	char name[128];
	uint64_t seed; /* set when it runs */
	char *(*run)(const struct sim_case
			     *c); /* NULL: sim_try(). Returns a complaint to free, or NULL */
	struct sim_plan plan;	  /* sim_plan_init() by the seed, then what is set here */
	void (*adjust)(struct sim_plan *plan); /* after that; may be NULL */
	unsigned int may_end;
	bool paused;
	bool must_fire;	 /* what the plan has in store must have happened */
	int status[2];	 /* 0: any */
	uint32_t number; /* the case's own */
};

struct sim_cases {
	uint32_t n, max;
	struct sim_case *list;
};

struct sim_case *sim_add(struct sim_cases *cs, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* By the plan's seed: some or all filters, and a guest that gives them something to do. */
void sim_plan_filters(struct sim_plan *plan);
/* Run them all; what main() returns. Frees the list. */
int sim_run(struct sim_cases *cs, int argc, char **argv);

/* RJ_TEST_LONG is set. */
bool sim_is_long(void);

/*
 * The guest stood so long before it went on at the source. Told in the long form, and judged there: by what it may and
 * 50 ms, which says something about this machine too.
 */
char *sim_judge_stop(uint64_t stood_ns, uint32_t max_downtime_ms);

/* A complaint. */
char *sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif

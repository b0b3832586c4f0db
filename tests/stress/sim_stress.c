/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_stress [SEED]: migrations of a guest on whose memory many threads write all the time, by each
 * of the ways there are, while others read the figures and change the limits. What arrives must be
 * what was there.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/sim_cases.h"

#define WRITERS 8
#define WRITES 20000

struct writers {
	struct sim_guest *guest;
	atomic_bool stop;
	struct writer {
		struct writers *all;
		pthread_t thread;
		struct sim_random random;
	} writer[WRITERS];
};

static void *writer_thread(void *arg)
{
	struct writer *w = arg;
	struct sim_guest *g = w->all->guest;

	for (uint32_t i = 0; i < WRITES && !atomic_load(&w->all->stop); i++) {
		uint32_t region = (uint32_t)sim_below(&w->random, g->n_regions);
		uint64_t unit = sim_below(&w->random, g->region[region].n_units);

		sim_guest_write(g, region, unit, (enum sim_writer)sim_below(&w->random, 3),
				sim_next(&w->random));
	}
	return NULL;
}

/* In the VMM's thread, at each event: what any thread may do at any time. */
static void meddle(void *arg, struct sim_migration *m, enum sim_side side,
		   const struct rj_event *ev)
{
	struct rj_stats st = { .size = sizeof(st) };
	struct rj_error err = { .size = sizeof(err) };

	pthread_mutex_lock(&m->lock);
	if (m->host[!side].s) {
		rj_stats(m->host[!side].s, &st);
		rj_error_detail(m->host[!side].s, &err);
		rj_set(m->host[!side].s, RJ_PARAM_BANDWIDTH_BYTES_PER_S, 0);
	}
	pthread_mutex_unlock(&m->lock);
}

static struct sim_guest *hop(struct sim_guest *guest, uint64_t seed, char **text_p)
{
	struct writers w = { .guest = guest };
	struct sim_guest *arrived;
	struct sim_report r;
	struct sim_plan plan;

	for (uint32_t i = 0; i < WRITERS; i++) {
		int ret;

		w.writer[i].all = &w;
		w.writer[i].random = sim_split(seed, 100 + i);
		ret = pthread_create(&w.writer[i].thread, NULL, writer_thread, &w.writer[i]);
		assert(!ret);
	}
	sim_plan_init(&plan, seed);
	plan.n_lanes = 4;
	plan.rounds = 4;
	plan.before_event = meddle;
	sim_migrate(guest, &plan, &r, &arrived);
	atomic_store(&w.stop, true);
	for (uint32_t i = 0; i < WRITERS; i++)
		pthread_join(w.writer[i].thread, NULL);
	if (r.complaint[0] || !arrived)
		*text_p = sim_say("seed %llu: %s (%s)", (unsigned long long)seed, r.complaint,
				  r.error[0].text);
	sim_guest_destroy(&guest);
	return arrived;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint32_t n_hops = sim_is_long() ? 50 : 5;
	struct sim_guest *guest = sim_guest_create(seed);
	char *text = NULL;

	for (uint32_t i = 0; !text && i < n_hops; i++)
		guest = hop(guest, seed + i, &text);
	sim_guest_destroy(&guest);
	if (text)
		fprintf(stderr, "FAILED: %s\n", text);
	free(text);
	return !!text;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_TICKER_H
#define BENCH_GUEST_TICKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/guest/beats.h"

/*
 * A thread that does a piece of a guest's work each millisecond while it is to run; a vCPU, or a
 * writer. What is late is done at once, but no more than 20 ms of it; what is throttled away is not made
 * up for.
 */
struct ticker {
	/* Write n_pages pages. 0; 1: left early because ticker_must_stop(); -errno: broken, it will
	 * not run any more. */
	int (*tick)(void *arg, struct ticker *t, uint64_t n_pages);
	void *arg;
	_Atomic uint64_t rate_pages_per_s; /* may change while it runs */
	uint64_t fraction;		   /* of a page, carried over; in 1/1000 */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake; /* anything below changed */
	bool want_run, running, quit;
	int broken;		      /* 0 or -errno */
	uint64_t run_at_ns;	      /* when ticker_run() was called */
	atomic_uint throttle_percent; /* of its time it sleeps */
	atomic_bool stop;	      /* not want_run, or quit; asked without the lock */
	struct beats beats;
};

/* Set tick, arg and rate before, the rest to 0. It does not run yet. 0 or -errno. */
int ticker_init(struct ticker *t, const char *name);
void ticker_fini(struct ticker *t);

int ticker_run(struct ticker *t); /* 0, or why it is broken */
/* Ask it to stop; wait until it has. Whether it was to run. */
void ticker_ask_stop(struct ticker *t);
bool ticker_pause(struct ticker *t);

static inline bool ticker_must_stop(const struct ticker *t)
{
	return atomic_load_explicit(&t->stop, memory_order_relaxed); /* only a hint to hurry */
}

uint64_t guest_now_ns(void);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_HOST_H
#define RJI_BASE_HOST_H

#include <pthread.h>
#include <stdbool.h>

#include <ramjet/env.h>

#include "base/cpus.h"

/*
 * What the host program gave us: where log lines go and how threads are made. Read-only once set.
 */
struct rji_host {
	void (*log)(void *arg, enum rj_log_level level, const char *line);
	int (*spawn)(void *arg, const char *role, void *(*fn)(void *), void *fn_arg,
		     pthread_t *t_p);
	void *arg;
	enum rj_log_level log_level;
	const struct rji_cpus *cpus; /* no thread leaves these; NULL: any */
	int busy_nice;		     /* of threads that move pages */
};

/* Log one line, without a newline; host may be NULL. Not for the data path. */
void rji_log(const struct rji_host *host, enum rj_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Start fn(arg) in a joinable thread named role (at most 15 characters), through the host's spawn
 * hook if it has one. Signals are blocked in it. Return 0 or -errno.
 */
int rji_thread_start(const struct rji_host *host, const char *role, void *(*fn)(void *), void *arg,
		     pthread_t *t_p);

/*
 * The same on these CPUs, a part of the host's; NULL: all of the host's. The thread is on them
 * before it has its name or runs fn.
 */
int rji_thread_start_on(const struct rji_host *host, const char *role, const struct rji_cpus *cpus,
			void *(*fn)(void *), void *arg, pthread_t *t_p);

/*
 * The calling thread is about to move pages: have it give way to others, vCPUs above all. One that
 * is nicer already stays so.
 */
void rji_thread_give_way(const struct rji_host *host);

/*
 * Keep the calling thread, one of ours, to these CPUs; where the host's hook made it, to those of
 * them that the hook left it. A thread that cannot go there says so in the log and stays.
 */
void rji_thread_bind(const struct rji_host *host, const char *role, const struct rji_cpus *cpus);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/host.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void rji_log(const struct rji_host *host, enum rj_log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (!host || !host->log || level > host->log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	host->log(host->arg, level, line);
}

/* What a new thread needs to find its place and name itself before it runs fn. */
struct start {
	const struct rji_host *host;
	void *(*fn)(void *);
	void *arg;
	bool bound;
	struct rji_cpus cpus;
	char role[16];
};

void rji_thread_bind(const struct rji_host *host, const char *role, const struct rji_cpus *cpus)
{
	struct rji_cpus set = *cpus, left;
	char list[128];
	int ret;

	if (host && host->spawn && !rji_cpus_of_thread(&left))
		set = rji_cpus_and(&set, &left);
	ret = rji_cpus_bind(&set);
	if (!ret)
		return;
	rji_cpus_format(cpus, list, sizeof(list));
	rji_log(host, RJ_LOG_WARN, "%s cannot be bound to the CPUs %s: %s", role, list,
		strerrordesc_np(-ret));
}

void rji_thread_give_way(const struct rji_host *host)
{
	/* On Linux 0 is the calling thread, not the process. */
	if (host && getpriority(PRIO_PROCESS, 0) < host->busy_nice)
		setpriority(PRIO_PROCESS, 0, host->busy_nice);
}

static void *named_thread(void *p)
{
	struct start start = *(struct start *)p;

	free(p);
	if (start.bound)
		rji_thread_bind(start.host, start.role, &start.cpus);
	pthread_setname_np(pthread_self(), start.role);
	return start.fn(start.arg);
}

static int spawn_blocking_signals(void *(*fn)(void *), void *arg, pthread_t *t_p)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(t_p, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -err;
}

int rji_thread_start_on(const struct rji_host *host, const char *role, const struct rji_cpus *cpus,
			void *(*fn)(void *), void *arg, pthread_t *t_p)
{
	struct start *start = calloc(1, sizeof(*start));
	int ret;

	if (!start)
		return -ENOMEM;
	if (!cpus && host)
		cpus = host->cpus;
	start->bound = cpus;
	if (cpus)
		start->cpus = *cpus;
	start->host = host;
	start->fn = fn;
	start->arg = arg;
	snprintf(start->role, sizeof(start->role), "%.15s", role);
	if (host && host->spawn)
		ret = host->spawn(host->arg, start->role, named_thread, start, t_p);
	else
		ret = spawn_blocking_signals(named_thread, start, t_p);
	if (ret < 0)
		free(start);
	return ret < 0 ? ret : 0;
}

int rji_thread_start(const struct rji_host *host, const char *role, void *(*fn)(void *), void *arg,
		     pthread_t *t_p)
{
	return rji_thread_start_on(host, role, NULL, fn, arg, t_p);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* What both ends do alike: options, signals, the end of a session. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/migrate/migrate.h"

void migrate_opts_to_session(const struct migrate_opts *o, const char *uri, struct rj_opts *so)
{
	rj_opts_init(so);
	so->uri = uri;
	so->n_lanes = o->n_lanes;
	so->cpus = o->cpus;
	so->lane_nice = o->lane_nice;
	so->max_downtime_ms = o->max_downtime_ms;
	so->strict_downtime = !strcmp(o->strict_text, "on");
	so->timeout_ms = o->timeout_s * 1000;
	so->on_timeout = strcmp(o->on_timeout_text, "cancel") ? RJ_ON_TIMEOUT_STOP_ANYWAY
							      : RJ_ON_TIMEOUT_CANCEL;
	so->throttle_max_percent = o->throttle_percent;
	so->bandwidth_bytes_per_s = o->bandwidth_bytes_per_s;
	so->registration = strcmp(o->register_text, "lazy") ? RJ_REGISTER_ALL : RJ_REGISTER_LAZY;
	so->pin_cap_bytes = o->pin_cap_bytes;
	so->filters = o->filters;
}

/* --- signals: a thread waits for them, so that cancelling happens in an ordinary context --- */

static pthread_mutex_t cancel_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rj_session *to_cancel;

static void *signal_thread(void *arg)
{
	sigset_t set;
	int number;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (sigwait(&set, &number) == 0) {
		progress_say("cancelling (signal %d)", number);
		pthread_mutex_lock(&cancel_lock);
		rj_cancel(to_cancel);
		pthread_mutex_unlock(&cancel_lock);
	}
	return NULL;
}

void cancel_by_signals(struct rj_session *s)
{
	static bool started;
	pthread_t thread;

	pthread_mutex_lock(&cancel_lock);
	to_cancel = s;
	if (!started && s) {
		started = true;
		if (!pthread_create(&thread, NULL, signal_thread, NULL))
			pthread_detach(thread);
	}
	pthread_mutex_unlock(&cancel_lock);
}

/* --- the end --- */

void result_fail(struct migrate_result *res, const char *fmt, ...)
{
	va_list ap;

	res->status = "failed";
	if (res->error[0])
		return;
	va_start(ap, fmt);
	vsnprintf(res->error, sizeof(res->error), fmt, ap);
	va_end(ap);
}

void result_of_session(struct migrate_result *res, struct rj_session *s, int status,
		       enum rj_outcome runs)
{
	static const char *const where[] = { [RJ_RUNS_AT_SOURCE] = "source",
					     [RJ_RUNS_AT_DESTINATION] = "destination",
					     [RJ_RUNS_UNKNOWN] = "unknown" };
	struct rj_error e = { .size = sizeof(e) };

	res->st.size = sizeof(res->st);
	rj_stats(s, &res->st);
	snprintf(res->transport, sizeof(res->transport), "%s", res->st.transport);
	lanes_take(s, &res->lanes);
	res->runs_at = where[runs];
	res->status = "completed";
	if (status < 0) {
		res->status = runs == RJ_RUNS_UNKNOWN	 ? "unknown"
			      : status == RJ_E_CANCELLED ? "cancelled"
							 : "failed";
		rj_error_detail(s, &e);
		snprintf(res->error, sizeof(res->error), "%s",
			 e.text[0] ? e.text : rj_strerror(status));
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/common/units.h"
#include "bench/migrate/migrate.h"
#include "bench/migrate/registering.h"

static atomic_bool enabled, verbose;

void progress_enable(bool on)
{
	enabled = on;
}

void progress_verbose(bool on)
{
	verbose = on;
}

void progress_say(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if (!enabled)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s\n", line);
}

/* The library's own lines: errors are told in the result, the rest only when asked for. */
void progress_log(void *arg, enum rj_log_level level, const char *line)
{
	static const char *const words[] = { "", "error", "warning", "info", "debug" };

	if (verbose || (enabled && level == RJ_LOG_WARN))
		fprintf(stderr, "%s%s: %s\n", arg ? (const char *)arg : "", words[level], line);
}

static uint64_t used_bytes(const struct guest_opts *go)
{
	return go->used_bytes ? go->used_bytes : go->size_bytes - go->free_bytes - go->zero_bytes;
}

void progress_plan(const struct migrate_opts *o, const struct bench_route *r)
{
	static const char *const kinds[] = { "KVM guest",
					     "synthetic guest (threads of this process)",
					     "marked guest (sparse memory, nothing written)" };
	static const char *const hints[] = { "none", "reporting", "balloon" };
	const struct guest_opts *go = &o->guest_opts;

	progress_say("plan");
	progress_say("  guest      %s, %s, workload %s%s%s", kinds[go->kind],
		     UNITS_BYTES(o->size_bytes), o->workload_text, o->guest_why ? "; " : "",
		     o->guest_why ? o->guest_why : "");
	if (go->used_bytes || go->free_bytes || go->zero_bytes)
		progress_say(
			"  memory     %s used, %s free (hints: %s), %s zero, the rest never touched",
			UNITS_BYTES(used_bytes(go)), UNITS_BYTES(go->free_bytes), hints[go->hints],
			UNITS_BYTES(go->zero_bytes));
	progress_say("  transport  %s: %s", r->transport, r->why);
	progress_say("  downtime   %u ms allowed%s", o->max_downtime_ms,
		     strcmp(o->strict_text, "on") ? "" : "; rather another round than more");
	if (o->bandwidth_bytes_per_s)
		progress_say("  bandwidth  at most %s", UNITS_RATE(o->bandwidth_bytes_per_s));
}

static void say_round(const struct rj_round *r)
{
	char eta[40] = "";

	if (r->eta_ns)
		snprintf(eta, sizeof(eta), "; switchover in about %.1f s", (double)r->eta_ns / 1e9);
	progress_say(
		"%-8s %-3u %9s sent in %6.0f ms, %10s; then dirty %9s (%s); stopping now would take %.1f ms%s",
		r->round == 1 ? "bulk" : "round", r->round, UNITS_BYTES(r->bytes),
		(double)r->duration_ns / 1e6, UNITS_RATE(r->rate_bytes_per_s),
		UNITS_BYTES(r->dirty_bytes), UNITS_RATE(r->dirty_rate_bytes_per_s),
		(double)r->predicted_downtime_ns / 1e6, eta);
}

void progress_event(const struct rj_event *ev)
{
	switch (ev->type) {
	case RJ_EV_STATE:
		if (ev->u.state.state >= RJ_STATE_STOPPING &&
		    ev->u.state.state <= RJ_STATE_COMMITTED)
			progress_say("switchover   %s", rj_state_name(ev->u.state.state));
		break;
	case RJ_EV_ROUND: say_round(&ev->u.round); break;
	case RJ_EV_READY:
		progress_say(
			"ready        the guest could be stopped now, and is when 'switchover' comes on stdin");
		break;
	case RJ_EV_WARN: progress_say("note         %s", ev->u.warn.text); break;
	default: break;
	}
}

/* --- what has no event --- */

#define NS_PER_S 1000000000L
#define WATCH_NS (NS_PER_S / 4)

static struct {
	pthread_mutex_t lock;
	pthread_cond_t over;
	pthread_t thread;
	bool running, stopping;
	bool is_source;
	struct rj_session *s;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER };

static void look(struct registering *r)
{
	struct rj_stats st = { .size = sizeof(st) };
	struct timespec now;
	char line[128];

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (rj_stats(watch.s, &st) < 0)
		return;
	if (registering_line(r, &st, watch.is_source,
			     (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec, line,
			     sizeof(line)))
		progress_say("%s", line);
}

static void *watch_thread(void *arg)
{
	struct registering r = { 0 };
	struct timespec next;

	(void)arg;
	clock_gettime(CLOCK_REALTIME, &next);
	pthread_mutex_lock(&watch.lock);
	while (!watch.stopping) {
		next.tv_nsec += WATCH_NS;
		next.tv_sec += next.tv_nsec / NS_PER_S;
		next.tv_nsec %= NS_PER_S;
		while (!watch.stopping && !pthread_cond_timedwait(&watch.over, &watch.lock, &next))
			;
		look(&r);
	}
	pthread_mutex_unlock(&watch.lock);
	return NULL;
}

void progress_watch(struct rj_session *s, bool is_source)
{
	watch.s = s;
	watch.is_source = is_source;
	watch.stopping = false;
	watch.running = enabled && !pthread_create(&watch.thread, NULL, watch_thread, NULL);
}

void progress_unwatch(void)
{
	if (!watch.running)
		return;
	pthread_mutex_lock(&watch.lock);
	watch.stopping = true;
	pthread_cond_signal(&watch.over);
	pthread_mutex_unlock(&watch.lock);
	pthread_join(watch.thread, NULL);
	watch.running = false;
}

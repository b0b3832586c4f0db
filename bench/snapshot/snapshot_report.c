/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/common/units.h"
#include "bench/snapshot/snapshot_bench.h"

static atomic_bool enabled, verbose;

void report_enable(bool progress, bool log)
{
	enabled = progress;
	verbose = log;
}

void report_say(const char *fmt, ...)
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
void report_log(void *arg, enum rj_log_level level, const char *line)
{
	static const char *const words[] = { "", "error", "warning", "info", "debug" };

	(void)arg;
	if (verbose)
		fprintf(stderr, "%s: %s\n", words[level], line);
}

void report_event(const struct rj_event *ev)
{
	const struct rj_round *r = &ev->u.round;

	switch (ev->type) {
	case RJ_EV_STATE: report_say("%s", rj_state_name(ev->u.state.state)); break;
	case RJ_EV_ROUND:
		report_say(
			"round %-3u %9s in %6.0f ms; then dirty %9s (%s); pausing now would take %.1f ms",
			r->round, UNITS_BYTES(r->bytes), (double)r->duration_ns / 1e6,
			UNITS_BYTES(r->dirty_bytes), UNITS_RATE(r->dirty_rate_bytes_per_s),
			(double)r->predicted_downtime_ns / 1e6);
		break;
	case RJ_EV_WARN: report_say("note: %s", ev->u.warn.text); break;
	default: break;
	}
}

/* --- a line a second --- */

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool running, stop;
	struct rj_session *s;
	const uint64_t *done_bytes;
	uint64_t all_bytes;
} progress = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

static void say_progress(uint64_t *before)
{
	struct rj_stats st = { .size = sizeof(st) };
	uint64_t done = progress.done_bytes ? __atomic_load_n(progress.done_bytes, __ATOMIC_RELAXED)
					    : 0;

	if (progress.s && !rj_stats(progress.s, &st)) {
		done = st.transferred_bytes;
		progress.all_bytes = st.guest_bytes;
	}
	report_say("  %9s of %s, %s", UNITS_BYTES(done), UNITS_BYTES(progress.all_bytes),
		   UNITS_RATE(done - *before));
	*before = done;
}

static void *progress_thread(void *arg)
{
	uint64_t before = 0;

	pthread_mutex_lock(&progress.lock);
	while (!progress.stop) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		if (pthread_cond_clockwait(&progress.wake, &progress.lock, CLOCK_MONOTONIC, &until))
			say_progress(&before);
	}
	pthread_mutex_unlock(&progress.lock);
	return arg;
}

void report_progress_start(struct rj_session *s, const uint64_t *done_bytes, uint64_t all_bytes)
{
	progress.s = s;
	progress.done_bytes = done_bytes;
	progress.all_bytes = all_bytes;
	progress.stop = false;
	progress.running = !pthread_create(&progress.thread, NULL, progress_thread, NULL);
}

void report_progress_stop(void)
{
	pthread_mutex_lock(&progress.lock);
	progress.stop = true;
	pthread_cond_signal(&progress.wake);
	pthread_mutex_unlock(&progress.lock);
	if (progress.running)
		pthread_join(progress.thread, NULL);
	progress.running = false;
}

/* --- the end --- */

void report_fail(struct snapshot_result *res, const char *fmt, ...)
{
	va_list ap;

	res->status = "failed";
	if (res->error[0])
		return;
	va_start(ap, fmt);
	vsnprintf(res->error, sizeof(res->error), fmt, ap);
	va_end(ap);
}

static uint64_t rate(const struct snapshot_result *res)
{
	const struct rj_stats *st = &res->st;

	return st->total_ns ? (uint64_t)((double)st->transferred_bytes * 1e9 / (double)st->total_ns)
			    : 0;
}

static json_t *ms(uint64_t ns)
{
	return json_real((double)(ns / 1000) / 1e3);
}

static json_t *ms_or_null(uint64_t ns)
{
	return ns ? ms(ns) : json_null();
}

static void set_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

void report_json(const struct snapshot_result *res)
{
	const struct rj_stats *st = &res->st;
	json_t *o = json_object();

	json_object_set_new(o, "command", json_string(res->command));
	json_object_set_new(o, "status", json_string(res->status));
	json_object_set_new(o, "error", res->error[0] ? json_string(res->error) : json_null());
	set_int(o, "guest_bytes", st->guest_bytes);
	set_int(o, "file_bytes", res->file_bytes);
	set_int(o, "disk_bytes", res->disk_bytes);
	json_object_set_new(o, "total_time_ms", ms(st->total_ns));
	set_int(o, "bytes_per_s", rate(res));
	json_object_set_new(o, "direct_io",
			    res->direct_io < 0 ? json_null() : json_boolean(res->direct_io));
	json_object_set_new(o, "registered_buffers",
			    res->direct_io < 0 ? json_null()
					       : json_boolean(st->registered_buffers));
	json_object_set_new(o, "peak_memory_bytes",
			    res->peak_memory_bytes < 0
				    ? json_null()
				    : json_integer((json_int_t)res->peak_memory_bytes));
	json_object_set_new(o, "verified",
			    res->verified < 0 ? json_null() : json_boolean(res->verified));
	json_object_set_new(o, "verify_text",
			    res->verify_text[0] ? json_string(res->verify_text) : json_null());
	set_int(o, "transferred_bytes", st->transferred_bytes);
	set_int(o, "lanes", st->n_lanes);
	set_int(o, "rounds", st->rounds);
	json_object_set_new(o, "downtime_ms", ms(st->downtime_ns));
	set_int(o, "state_bytes", st->state_bytes);
	set_int(o, "metadata_bytes", st->metadata_bytes);
	json_object_set_new(o, "cpu_s", json_real((double)(st->cpu_ns / 1000) / 1e6));
	set_int(o, "counter_before", res->counter_before);
	set_int(o, "counter_after", res->counter_after);
	json_object_set_new(o, "guest_gap_max_ms", ms(res->beats.gap_max_ns));
	json_object_set_new(o, "lazy", res->lazy < 0 ? json_null() : json_boolean(res->lazy));
	json_object_set_new(o, "resumed_ms", ms_or_null(res->resumed_ns));
	json_object_set_new(o, "first_beat_ms", ms_or_null(res->first_beat_ns));
	set_int(o, "faults", st->faults);
	json_object_set_new(o, "fault_max_ms", ms(st->fault_max_ns));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
	putchar('\n');
	fflush(stdout);
	json_decref(o);
}

static const char *in_words(const char *command)
{
	return !strcmp(command, "save")	     ? "saved"
	       : !strcmp(command, "restore") ? "restored"
					     : "read";
}

void report_summary(const struct snapshot_result *res)
{
	const struct rj_stats *st = &res->st;

	if (strcmp(res->status, "completed")) {
		printf("%s: %s\n", res->status, res->error);
		return;
	}
	if (!strcmp(res->command, "info"))
		return;
	printf("%s: %s of %s guest memory in %.2f s, %s%s\n", in_words(res->command),
	       UNITS_BYTES(st->transferred_bytes), UNITS_BYTES(st->guest_bytes),
	       (double)st->total_ns / 1e9, UNITS_RATE(rate(res)),
	       res->direct_io ? "" : " (through the page cache: no O_DIRECT here)");
	printf("  file         %s, %s on disk\n", UNITS_BYTES(res->file_bytes),
	       UNITS_BYTES(res->disk_bytes));
	if (res->lazy > 0 && res->first_beat_ns)
		printf("  lazily       first heartbeat after %.1f ms; %" PRIu64
		       " pages waited for, none longer than %.1f ms\n",
		       (double)res->first_beat_ns / 1e6, st->faults,
		       (double)st->fault_max_ns / 1e6);
	if (st->downtime_ns)
		printf("  paused       %.1f ms, after %u round%s\n", (double)st->downtime_ns / 1e6,
		       st->rounds, st->rounds == 1 ? "" : "s");
	if (res->peak_memory_bytes >= 0)
		printf("  memory       %s at most, beside the guest's\n",
		       UNITS_BYTES((uint64_t)res->peak_memory_bytes));
	if (res->verified >= 0)
		printf("  verified     %s%s%s\n", res->verified ? "yes" : "NO",
		       res->verify_text[0] ? ": " : "", res->verify_text);
}

enum snapshot_exit report_exit(const struct snapshot_result *res)
{
	if (!strcmp(res->status, "cancelled"))
		return SNAPSHOT_CANCELLED;
	return strcmp(res->status, "completed") || res->verified == 0 ? SNAPSHOT_FAILED
								      : SNAPSHOT_OK;
}

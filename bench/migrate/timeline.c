/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What happens while a guest moves, as JSON lines for bench/plot: a thread samples each 100 ms, events come from the
 * session's thread, and the end from the main one. A line is written whole, and at once: what was seen is there even
 * if the program is killed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "bench/migrate/migrate.h"

#define SAMPLE_NS 100000000ull
#define NS_PER_S 1000000000ull

struct timeline {
	FILE *file;
	pthread_mutex_t lock; /* of everything below, and of whole lines */
	pthread_cond_t stopped;
	pthread_t thread;
	bool sampling;
	struct rj_session *s; /* while sampling */
	const struct guest *guest;
	uint64_t began_ns, sampled_ns, sampled_bytes;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static double ms(uint64_t ns)
{
	return (double)(ns / 1000) / 1e3;
}

/* Takes the object. */
static void write_line(struct timeline *t, const char *kind, uint64_t at_ns, json_t *more)
{
	json_t *line = json_pack("{s:s,s:f}", "kind", kind, "t_ms",
				 ms(t->began_ns ? at_ns - t->began_ns : 0));

	json_object_update(line, more);
	json_dumpf(line, t->file, JSON_COMPACT | JSON_REAL_PRECISION(12));
	fputc('\n', t->file);
	json_decref(line);
	json_decref(more);
}

static void sample(struct timeline *t)
{
	struct rj_stats st = { .size = sizeof(st) };
	uint64_t now = now_ns(), ns = now - t->sampled_ns, bytes;
	struct guest_beats beats;

	rj_stats(t->s, &st);
	guest_beats(t->guest, &beats);
	bytes = st.transferred_bytes - t->sampled_bytes;
	write_line(t, "sample", now,
		   json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:I}", "state",
			     rj_state_name((enum rj_state)st.state), "round", (json_int_t)st.rounds,
			     "sent_bytes", (json_int_t)st.transferred_bytes, "remaining_bytes",
			     (json_int_t)st.remaining_bytes, "rate_bytes_per_s",
			     (json_int_t)(ns ? (__uint128_t)bytes * NS_PER_S / ns : 0),
			     "dirty_rate_bytes_per_s", (json_int_t)st.dirty_rate_bytes_per_s,
			     "gap_max_ms", ms(beats.gap_max_ns), "gap_p99_ms", ms(beats.gap_p99_ns),
			     "eta_ms", ms(st.eta_ns), "throttle_percent",
			     (json_int_t)st.throttle_percent));
	t->sampled_ns = now;
	t->sampled_bytes = st.transferred_bytes;
}

static void *sampler(void *arg)
{
	struct timeline *t = arg;
	uint64_t next;

	pthread_mutex_lock(&t->lock);
	next = t->began_ns;
	while (t->sampling) {
		struct timespec until;

		next += SAMPLE_NS;
		until = (struct timespec){ .tv_sec = (time_t)(next / NS_PER_S),
					   .tv_nsec = (long)(next % NS_PER_S) };
		while (t->sampling && !pthread_cond_timedwait(&t->stopped, &t->lock, &until))
			;
		sample(t); /* at the end as well */
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int timeline_open(const char *path, struct timeline **t_p)
{
	struct timeline *t;
	pthread_condattr_t monotonic;

	if (!path)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->file = fopen(path, "we");
	if (!t->file) {
		int ret = -errno;

		free(t);
		return ret;
	}
	setvbuf(t->file, NULL, _IOLBF, 0);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->stopped, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*t_p = t;
	return 0;
}

void timeline_start(struct timeline *t, const struct migrate_opts *o, struct rj_session *s,
		    const struct guest *g)
{
	if (!t)
		return;
	t->s = s;
	t->guest = g;
	t->began_ns = t->sampled_ns = now_ns();
	write_line(t, "start", t->began_ns,
		   json_pack("{s:I,s:s,s:I,s:I}", "guest_bytes", (json_int_t)o->size_bytes,
			     "workload", o->workload_text, "bandwidth_bytes_per_s",
			     (json_int_t)o->bandwidth_bytes_per_s, "max_downtime_ms",
			     (json_int_t)o->max_downtime_ms));
	t->sampling = true;
	if (pthread_create(&t->thread, NULL, sampler, t)) {
		t->sampling = false;
		progress_say("note         no thread for the timeline's samples");
	}
}

static json_t *round_object(const struct rj_round *r)
{
	return json_pack("{s:I,s:I,s:I,s:o,s:f,s:I,s:I,s:I,s:f,s:f}", "round", (json_int_t)r->round,
			 "pages", (json_int_t)r->pages, "bytes", (json_int_t)r->bytes, "kinds",
			 result_pages(&r->kinds), "duration_ms", ms(r->duration_ns),
			 "rate_bytes_per_s", (json_int_t)r->rate_bytes_per_s, "dirty_bytes",
			 (json_int_t)r->dirty_bytes, "dirty_rate_bytes_per_s",
			 (json_int_t)r->dirty_rate_bytes_per_s, "predicted_downtime_ms",
			 ms(r->predicted_downtime_ns), "eta_ms", ms(r->eta_ns));
}

void timeline_event(struct timeline *t, const struct rj_event *ev)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	switch (ev->type) {
	case RJ_EV_STATE:
		write_line(t, "state", now_ns(),
			   json_pack("{s:s}", "state", rj_state_name(ev->u.state.state)));
		break;
	case RJ_EV_ROUND: write_line(t, "round", now_ns(), round_object(&ev->u.round)); break;
	case RJ_EV_WARN:
		write_line(t, "warn", now_ns(), json_pack("{s:s}", "text", ev->u.warn.text));
		break;
	default: break;
	}
	pthread_mutex_unlock(&t->lock);
}

void timeline_stop(struct timeline *t)
{
	bool sampling;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	sampling = t->sampling;
	t->sampling = false;
	pthread_cond_signal(&t->stopped);
	pthread_mutex_unlock(&t->lock);
	if (sampling)
		pthread_join(t->thread, NULL);
}

static void write_end(struct timeline *t, const struct migrate_result *res)
{
	const struct rj_stats *st = &res->st;

	write_line(t, "end", now_ns(),
		   json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:f,s:I,s:f,s:f,s:o,s:o}", "status",
			     res->status, "error", res->error, "transport", res->transport, "guest",
			     res->guest ? res->guest : "", "lanes", (json_int_t)st->n_lanes,
			     "rounds", (json_int_t)st->rounds, "downtime_ms", ms(st->downtime_ns),
			     "max_downtime_ms", (json_int_t)res->max_downtime_ms,
			     "predicted_downtime_ms", ms(st->predicted_downtime_ns),
			     "predicted_p99_ms", ms(st->predicted_p99_ns), "downtime_terms",
			     result_terms(&st->downtime), "predicted_terms",
			     result_terms(&st->predicted)));
}

int timeline_close(struct timeline **t_p, const struct migrate_result *res)
{
	struct timeline *t = *t_p;
	int ret;

	if (!t)
		return 0;
	write_end(t, res);
	ret = ferror(t->file) ? -EIO : 0;
	if (fclose(t->file) && !ret)
		ret = -errno;
	pthread_cond_destroy(&t->stopped);
	pthread_mutex_destroy(&t->lock);
	free(t);
	*t_p = NULL;
	return ret;
}

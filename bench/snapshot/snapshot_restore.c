/* SPDX-License-Identifier: BSD-2-Clause */
/* An empty guest, filled from a file: before it runs, or while it does. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/snapshot/snapshot_bench.h"

#define RUN_ON_MS 100
#define LOOK_NS 200000L /* for the first heartbeat */

struct restorer {
	const struct snapshot_opts *o;
	struct snapshot_result *res;
	struct guest *guest;
	bool runs;
	uint64_t began_ns;
	pthread_t watcher; /* of the first heartbeat */
	bool watches;
	atomic_bool stop;
	uint64_t made_ns;  /* the guest's memory, before the clock of the restore */
	uint64_t check_ns; /* the comparison, in no figure */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int on_setup(void *arg, struct rj_session *s, const void *blob, size_t len_bytes)
{
	struct restorer *r = arg;
	char why[SNAPSHOT_TEXT] = "";
	uint64_t began = now_ns();
	struct guest_opts go;
	int ret = guest_understand(blob, len_bytes, &go, why, sizeof(why));

	(void)s;
	if (!ret) {
		go.memory = r->o->memory;
		go.prefault = r->o->prefault;
		go.lazy = r->o->lazy;
		ret = guest_create_empty(&go, &r->guest, why, sizeof(why));
	}
	if (ret < 0)
		report_fail(r->res, "%s", why[0] ? why : rj_strerror(ret));
	r->made_ns = now_ns() - began;
	memory_watch_start();
	return ret;
}

static int on_region(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct restorer *r = arg;

	for (uint32_t i = 0; i < guest_n_regions(r->guest); i++) {
		struct rj_region region;

		guest_region(r->guest, i, &region);
		if (!strcmp(region.name, ev->u.region.name))
			return rj_add_region(s, &region, NULL);
	}
	return -ENOENT;
}

static int on_load(void *arg, struct rj_session *s)
{
	struct restorer *r = arg;
	char why[SNAPSHOT_TEXT] = "";
	int ret = guest_load(r->guest, s, why, sizeof(why));

	if (ret < 0)
		report_fail(r->res, "%s", why[0] ? why : rj_strerror(ret));
	r->res->counter_before = guest_counter(r->guest);
	return ret;
}

/* The guest stands still and is ours: does each of its pages hold what its own records say? */
static void check(struct restorer *r)
{
	struct snapshot_result *res = r->res;
	uint64_t began = now_ns();

	res->verified = guest_check(r->guest, res->verify_text, sizeof(res->verify_text)) == 0;
	if (res->verified)
		snprintf(res->verify_text, sizeof(res->verify_text),
			 "every page holds what the guest's records say");
	r->check_ns = now_ns() - began;
}

/* Its counter moves by what the guest does, some time after the call that let it run. */
static void *watch_first_beat(void *arg)
{
	const struct timespec moment = { .tv_nsec = LOOK_NS };
	struct restorer *r = arg;

	while (!atomic_load(&r->stop)) {
		if (guest_counter(r->guest) > r->res->counter_before) {
			r->res->first_beat_ns = now_ns() - r->began_ns;
			break;
		}
		nanosleep(&moment, NULL);
	}
	return NULL;
}

static int on_resume(void *arg, struct rj_session *s, int run)
{
	struct restorer *r = arg;
	int ret = 0;

	(void)s;
	if (!r->o->lazy) {
		r->res->peak_memory_bytes = (int64_t)memory_watch_stop();
		if (r->o->verify)
			check(r);
	}
	r->runs = run;
	if (run) {
		ret = guest_run(r->guest);
		r->watches = !pthread_create(&r->watcher, NULL, watch_first_beat, r);
	}
	r->res->resumed_ns = now_ns() - r->began_ns;
	return ret;
}

/* A page of the file is bad: it must not go on. */
static int on_pause(void *arg, struct rj_session *s)
{
	(void)s;
	report_say("the guest is stopped");
	return guest_pause(((struct restorer *)arg)->guest);
}

static void on_event(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	(void)arg;
	(void)s;
	report_event(ev);
}

static const struct rj_hooks hooks = {
	.size = sizeof(hooks),
	.setup = on_setup,
	.region = on_region,
	.load = on_load,
	.pause = on_pause,
	.resume = on_resume,
	.event = on_event,
};

static void watch_it_run_on(struct restorer *r)
{
	const struct timespec moment = { .tv_nsec = RUN_ON_MS * 1000000L };

	nanosleep(&moment, NULL);
	r->res->counter_after = guest_counter(r->guest);
	if (r->runs && r->res->counter_after <= r->res->counter_before)
		report_fail(r->res, "the guest was restored but stands still");
	guest_pause(r->guest);
	guest_beats(r->guest, &r->res->beats);
	if (r->o->lazy && r->o->verify)
		check(r);
}

void snapshot_restore(struct rj_env *env, const struct snapshot_opts *o,
		      struct snapshot_result *res)
{
	struct restorer r = { .o = o, .res = res, .began_ns = now_ns() };
	struct rj_session *s = NULL;
	struct rj_opts so;
	int ret;

	snapshot_stat(o->file, res);
	res->lazy = o->lazy;
	snapshot_session_opts(o, &so);
	so.file_flags = o->lazy ? RJ_FILE_LAZY : 0;
	ret = rj_destination_open(env, &so, &s);
	if (ret < 0) {
		report_fail(res, "cannot open a session for %s: %s", o->uri, rj_strerror(ret));
		return;
	}
	snapshot_run(s, &hooks, &r, res);
	if (o->lazy)
		res->peak_memory_bytes = (int64_t)memory_watch_stop();
	if (!strcmp(res->status, "completed"))
		watch_it_run_on(&r);
	else if (!o->lazy)
		memory_watch_stop();
	atomic_store(&r.stop, true);
	if (r.watches)
		pthread_join(r.watcher, NULL);
	/* Making the guest, and looking at it, is not restoring it. */
	if (!o->lazy && res->st.total_ns > r.made_ns + r.check_ns)
		res->st.total_ns -= r.made_ns + r.check_ns;
	else if (o->lazy && res->st.total_ns > r.made_ns)
		res->st.total_ns -= r.made_ns;
	if (o->memory != GUEST_MEMORY_SHARED)
		res->peak_memory_bytes = -1; /* the guest's cannot be told apart */
	rj_close(&s);
	guest_destroy(&r.guest);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* The source: a guest that runs and dirties its memory, and a VMM around it that migrates it away. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/migrate/migrate.h"

/* How long the guest runs on here after a failed migration, to see that it does. */
#define RUN_ON_MS 200

struct source_end {
	const struct migrate_opts *o;
	struct migrate_result *res;
	struct guest *guest;
	enum rj_outcome runs;
};

static int on_pause(void *arg, struct rj_session *s)
{
	struct source_end *end = arg;
	int was = guest_pause(end->guest);

	(void)s;
	end->res->counter_before = guest_counter(end->guest);
	progress_say("switchover   paused");
	return was;
}

static int on_save(void *arg, struct rj_session *s)
{
	struct source_end *end = arg;

	return guest_save(end->guest, s);
}

static int on_throttle(void *arg, struct rj_session *s, uint32_t percent)
{
	struct source_end *end = arg;

	(void)s;
	guest_throttle(end->guest, percent);
	progress_say("throttle     the guest runs %u %% of its time", 100 - percent);
	return 0;
}

static int on_resume(void *arg, struct rj_session *s, int run)
{
	struct source_end *end = arg;

	(void)s;
	progress_say("switchover   the guest goes on at the source");
	return run ? guest_run(end->guest) : 0;
}

/*
 * When there is something to be sent. A balloon is asked again in each round, for what is dirty and
 * became free meanwhile, but not when the guest is about to stop.
 */
static bool wants_hints(const struct source_end *end, const struct rj_event *ev)
{
	if (ev->type == RJ_EV_STATE)
		return ev->u.state.state == RJ_STATE_BULK;
	return ev->type == RJ_EV_ROUND && end->o->guest_opts.hints == GUEST_HINTS_BALLOON &&
	       ev->u.round.predicted_downtime_ns > end->o->max_downtime_ms * 1000000ull;
}

static void on_event(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct source_end *end = arg;

	(void)s;
	progress_event(ev);
	timeline_event(end->o->timeline, ev);
	if (wants_hints(end, ev))
		guest_ask_hints(end->guest);
	if (ev->type == RJ_EV_DONE)
		end->runs = ev->u.done.runs;
}

static const struct rj_hooks hooks = {
	.size = sizeof(hooks),
	.pause = on_pause,
	.save = on_save,
	.resume = on_resume,
	.throttle = on_throttle,
	.event = on_event,
};

/* The guest arrived: has its memory? */
static void verify(struct source_end *end, struct rj_session *s, const char *uri)
{
	struct migrate_result *res = end->res;
	struct page_sums sums = { 0 };
	uint8_t reply[64];
	ssize_t n = rj_get_setup_reply(s, reply, sizeof(reply));

	if (n < 0 || (size_t)n > sizeof(reply) || page_sums_take(end->guest, &sums) < 0) {
		snprintf(res->verify_text, sizeof(res->verify_text), "cannot compare memory");
		return;
	}
	res->verified = verify_at_destination(uri, reply, (size_t)n, &sums, res->verify_text,
					      sizeof(res->verify_text));
	page_sums_free(&sums);
}

/* The guest is still here: does it run? */
static void watch_it_run_on(struct source_end *end)
{
	const struct timespec moment = { .tv_nsec = RUN_ON_MS * 1000000L };
	uint64_t before = guest_counter(end->guest);

	nanosleep(&moment, NULL);
	end->res->counter_after = guest_counter(end->guest);
	if (end->res->counter_after <= before)
		result_fail(end->res, "the guest stands still at the source");
}

/* Run for a while as it does without a migration, to compare. RJ_E_CANCELLED: a signal came. */
static int warm_up(struct source_end *end)
{
	const struct timespec t = { .tv_sec = end->o->warm_up_ms / 1000,
				    .tv_nsec = end->o->warm_up_ms % 1000 * 1000000L };
	sigset_t set;
	bool cancelled;

	if (!end->o->warm_up_ms)
		return 0;
	progress_say("warming up   for %u ms", end->o->warm_up_ms);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	cancelled = sigtimedwait(&set, NULL, &t) > 0;
	guest_pause(end->guest);
	guest_beats(end->guest, &end->res->beats_before);
	guest_restart_beats(end->guest);
	return cancelled ? RJ_E_CANCELLED : guest_run(end->guest);
}

static void migrate(struct source_end *end, struct rj_session *s, const char *uri)
{
	char why[MIGRATE_TEXT] = "";
	int ret = guest_attach(end->guest, s, why, sizeof(why));

	if (ret < 0) {
		result_fail(end->res, "%s", why[0] ? why : rj_strerror(ret));
		return;
	}
	if (!end->o->paused)
		ret = guest_run(end->guest);
	if (!ret && !end->o->paused)
		ret = warm_up(end);
	if (ret == RJ_E_CANCELLED) {
		result_fail(end->res, "cancelled while the guest warmed up");
		end->res->status = "cancelled";
		return;
	}
	if (ret < 0) {
		result_fail(end->res, "the guest does not run: %s", rj_strerror(ret));
		return;
	}
	lanes_say_plan(s);
	cancel_by_signals(s);
	if (end->o->pause_before_switchover)
		rj_set(s, RJ_PARAM_HOLD_SWITCHOVER, 1);
	if (end->o->control)
		commands_from_stdin(s, end->guest);
	timeline_start(end->o->timeline, end->o, s, end->guest);
	progress_watch(s, true);
	ret = rj_run(s, &hooks, end);
	progress_unwatch();
	timeline_stop(end->o->timeline);
	commands_from_stdin(NULL, NULL);
	cancel_by_signals(NULL);
	result_of_session(end->res, s, ret, end->runs);
	if (ret == 0 && end->o->verify)
		verify(end, s, uri);
	if (end->runs == RJ_RUNS_AT_SOURCE && !end->o->paused)
		watch_it_run_on(end);
	guest_pause(end->guest);
	guest_free_figures(end->guest, &end->res->free_figures);
	end->res->has_free = end->o->guest_opts.free_bytes;
	guest_beats(end->guest, &end->res->beats);
}

void source_run(struct rj_env *env, const struct migrate_opts *o, const char *uri,
		struct migrate_result *res)
{
	struct source_end end = { .o = o, .res = res };
	struct rj_session *s = NULL;
	char why[MIGRATE_TEXT] = "";
	uint8_t blob[1024];
	struct rj_opts so;
	int ret, len;

	res->verified = -1;
	res->runs_at = "source";
	ret = guest_create(&o->guest_opts, &end.guest, why, sizeof(why));
	if (ret < 0) {
		result_fail(res, "%s", why[0] ? why : rj_strerror(ret));
		return;
	}
	migrate_opts_to_session(o, uri, &so);
	ret = rj_source_open(env, &so, &s);
	len = guest_describe(end.guest, blob, sizeof(blob));
	if (!ret && len > 0)
		ret = rj_set_setup_blob(s, blob, (size_t)len);
	if (ret < 0)
		result_fail(res, "cannot open a session for %s: %s", uri, rj_strerror(ret));
	else
		migrate(&end, s, uri);
	guest_detach(end.guest);
	rj_close(&s);
	guest_destroy(&end.guest);
}

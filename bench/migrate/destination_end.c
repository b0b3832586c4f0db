/* SPDX-License-Identifier: BSD-2-Clause */
/* The destination: an empty guest made after the source's description, and the checks of what arrives in it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/migrate/migrate.h"

/* How long the guest runs here before its counters are looked at again. */
#define RUN_ON_MS 300
#define SOURCE_BRINGS_SUMS_MS 60000

struct destination_end {
	const struct migrate_opts *o;
	struct migrate_result *res;
	struct guest *guest;
	struct verifier *verifier;
	struct page_sums sums;
	enum rj_outcome runs;
	bool arrived_running;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int on_setup(void *arg, struct rj_session *s, const void *blob, size_t len_bytes)
{
	struct destination_end *end = arg;
	char why[MIGRATE_TEXT] = "";
	struct guest_opts go;
	uint8_t reply[64];
	int n, ret = guest_understand(blob, len_bytes, &go, why, sizeof(why));

	if (!ret) {
		go.memory = end->o->guest_opts.memory;
		go.nodes = end->o->guest_opts.nodes;
		go.prefault = end->o->prefault;
		ret = guest_create_empty(&go, &end->guest, why, sizeof(why));
	}
	if (ret < 0) {
		result_fail(end->res, "%s", why[0] ? why : rj_strerror(ret));
		return ret;
	}
	if (!end->o->verify)
		return 0;
	n = verifier_open(&end->verifier, reply, sizeof(reply));
	return n < 0 ? n : rj_set_setup_reply(s, reply, (size_t)n);
}

static int on_region(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct destination_end *end = arg;

	for (uint32_t i = 0; i < guest_n_regions(end->guest); i++) {
		struct rj_region r;

		guest_region(end->guest, i, &r);
		if (!strcmp(r.name, ev->u.region.name))
			return rj_add_region(s, &r, NULL);
	}
	return -ENOENT;
}

static int on_load(void *arg, struct rj_session *s)
{
	struct destination_end *end = arg;
	char why[MIGRATE_TEXT] = "";
	int ret;

	if (!strcmp(end->res->transport, "null"))
		return 0; /* nothing arrived that could be loaded */
	ret = guest_load(end->guest, s, why, sizeof(why));
	if (ret < 0)
		result_fail(end->res, "%s", why[0] ? why : rj_strerror(ret));
	end->res->counter_before = guest_counter(end->guest);
	guest_free_figures(end->guest, &end->res->free_figures);
	end->res->has_free = end->res->free_figures.free_pages;
	return ret;
}

/* The guest stands still and is ours: the moment to look at its memory. */
static void inspect(struct destination_end *end)
{
	uint64_t start = now_ns();
	char why[MIGRATE_TEXT] = "";

	if (page_sums_take(end->guest, &end->sums) < 0)
		snprintf(end->res->verify_text, sizeof(end->res->verify_text),
			 "no memory to compare memory");
	end->sums.n_free_zero = end->sums.n_free ? guest_free_zero_pages(end->guest) : 0;
	if (guest_check(end->guest, why, sizeof(why)) < 0) {
		end->res->verified = 0;
		snprintf(end->res->verify_text, sizeof(end->res->verify_text), "%s", why);
	}
	end->res->verify_ns = now_ns() - start;
}

static int on_resume(void *arg, struct rj_session *s, int run)
{
	struct destination_end *end = arg;

	(void)s;
	if (!strcmp(end->res->transport, "null"))
		return 0;
	if (end->o->verify)
		inspect(end);
	end->arrived_running = run;
	return run ? guest_run(end->guest) : 0;
}

/* Loading writes registers and the guest's own records, and nothing into its RAM. */
static int on_reset(void *arg, struct rj_session *s)
{
	(void)arg;
	(void)s;
	return 0;
}

static void on_event(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct destination_end *end = arg;

	(void)s;
	if (end->o->report_fd == UINT32_MAX)
		progress_event(ev);
	if (ev->type == RJ_EV_DONE)
		end->runs = ev->u.done.runs;
}

static const struct rj_hooks hooks = {
	.size = sizeof(hooks),
	.setup = on_setup,
	.region = on_region,
	.load = on_load,
	.resume = on_resume,
	.reset = on_reset,
	.event = on_event,
};

/* It runs here now: do its counters go on? */
static void watch_it_run_on(struct destination_end *end)
{
	const struct timespec moment = { .tv_nsec = RUN_ON_MS * 1000000L };

	nanosleep(&moment, NULL);
	end->res->counter_after = guest_counter(end->guest);
	if (end->res->counter_after <= end->res->counter_before)
		result_fail(
			end->res,
			"the guest arrived but stands still: its heartbeat counter does not grow");
	guest_pause(end->guest);
	guest_beats(end->guest, &end->res->beats);
}

static void verify(struct destination_end *end)
{
	struct migrate_result *res = end->res;
	int equal;

	if (!end->sums.sum || !end->verifier)
		return;
	if (res->verified == 0) /* the guest's own records say so already */
		verifier_compare(end->verifier, &end->sums, SOURCE_BRINGS_SUMS_MS,
				 (char[MIGRATE_TEXT]){ 0 }, MIGRATE_TEXT);
	else {
		equal = verifier_compare(end->verifier, &end->sums, SOURCE_BRINGS_SUMS_MS,
					 res->verify_text, sizeof(res->verify_text));
		res->verified = equal;
	}
}

static void receive(struct destination_end *end, struct rj_session *s, const char *uri,
		    void (*listening)(void *arg, const char *uri), void *arg)
{
	struct rj_error e = { .size = sizeof(e) };
	char real[MIGRATE_URI];
	int ret = rj_start(s);

	if (ret < 0) {
		rj_error_detail(s, &e);
		result_fail(end->res, "%s", e.text[0] ? e.text : rj_strerror(ret));
		return;
	}
	if (rj_local_uri(s, real, sizeof(real)) < 0)
		snprintf(real, sizeof(real), "%s", uri);
	listening(arg, real);
	cancel_by_signals(s);
	progress_watch(s, false);
	ret = rj_run(s, &hooks, end);
	progress_unwatch();
	cancel_by_signals(NULL);
	result_of_session(end->res, s, ret, end->runs);
	if (ret == 0 && end->arrived_running)
		watch_it_run_on(end);
	if (ret == 0 && end->o->verify)
		verify(end);
	if (rj_linger_ms(s))
		progress_say("the source may not know yet: answering it for up to %u ms more",
			     rj_linger_ms(s));
}

void destination_run(struct rj_env *env, const struct migrate_opts *o, const char *uri,
		     void (*listening)(void *arg, const char *uri), void *arg,
		     struct migrate_result *res)
{
	struct destination_end end = { .o = o, .res = res };
	struct rj_session *s = NULL;
	struct rj_opts so;
	int ret;

	res->verified = -1;
	res->runs_at = "source";
	migrate_opts_to_session(o, uri, &so);
	so.data_addrs = o->data_addrs;
	snprintf(res->transport, sizeof(res->transport), "%.*s", (int)strcspn(uri, ":"), uri);
	ret = rj_destination_open(env, &so, &s);
	if (ret < 0)
		result_fail(res, "cannot open a session for %s: %s", uri, rj_strerror(ret));
	else
		receive(&end, s, uri, listening, arg);
	if (o->report_fd != UINT32_MAX)
		pair_tell_result((int)o->report_fd, res);
	else if (o->json)
		result_print_json(res);
	rj_close(&s);
	verifier_close(&end.verifier);
	page_sums_free(&end.sums);
	guest_destroy(&end.guest);
}

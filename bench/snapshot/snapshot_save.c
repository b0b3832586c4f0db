/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest that runs, saved to a file. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "bench/snapshot/snapshot_bench.h"

/* How long the guest runs on, to see that it does. */
#define RUN_ON_MS 100

struct saver {
	const struct snapshot_opts *o;
	struct snapshot_result *res;
	struct guest *guest;
};

static int on_pause(void *arg, struct rj_session *s)
{
	struct saver *saver = arg;
	int was = guest_pause(saver->guest);

	(void)s;
	saver->res->counter_before = guest_counter(saver->guest);
	return was;
}

static int on_save(void *arg, struct rj_session *s)
{
	return guest_save(((struct saver *)arg)->guest, s);
}

static int on_resume(void *arg, struct rj_session *s, int run)
{
	(void)s;
	report_say("the guest goes on");
	return run ? guest_run(((struct saver *)arg)->guest) : 0;
}

static void on_event(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	const struct saver *saver = arg;

	(void)s;
	report_event(ev);
	if (saver->o->free_bytes && ev->type == RJ_EV_STATE && ev->u.state.state == RJ_STATE_BULK)
		guest_ask_hints(saver->guest);
}

static const struct rj_hooks hooks = {
	.size = sizeof(hooks),
	.pause = on_pause,
	.save = on_save,
	.resume = on_resume,
	.event = on_event,
};

void snapshot_session_opts(const struct snapshot_opts *o, struct rj_opts *so)
{
	rj_opts_init(so);
	so->uri = o->uri;
	so->n_lanes = o->n_lanes;
	so->max_downtime_ms = o->max_downtime_ms;
	so->strict_downtime = !strcmp(o->strict_text, "on");
	so->timeout_ms = o->timeout_s * 1000;
	so->bandwidth_bytes_per_s = o->bandwidth_bytes_per_s;
	if (!strcmp(o->register_text, "all"))
		so->registration = RJ_REGISTER_ALL;
}

void snapshot_stat(const char *file, struct snapshot_result *res)
{
	struct stat st;

	if (stat(file, &st) < 0)
		return;
	res->file_bytes = (uint64_t)st.st_size;
	res->disk_bytes = (uint64_t)st.st_blocks * 512;
}

void snapshot_run(struct rj_session *s, const struct rj_hooks *h, void *arg,
		  struct snapshot_result *res)
{
	struct rj_error e = { .size = sizeof(e) };
	int ret;

	report_progress_start(s, NULL, 0);
	ret = rj_run(s, h, arg);
	report_progress_stop();
	res->st.size = sizeof(res->st);
	rj_stats(s, &res->st);
	res->direct_io = (int)res->st.direct_io;
	if (ret >= 0)
		return;
	rj_error_detail(s, &e);
	report_fail(res, "%s", e.text[0] ? e.text : rj_strerror(ret));
	if (ret == RJ_E_CANCELLED)
		res->status = "cancelled";
}

/* Unless it is in the file now, it runs: does it? */
static void watch_it_run_on(struct saver *saver)
{
	const struct timespec moment = { .tv_nsec = RUN_ON_MS * 1000000L };
	bool stays = saver->o->stay && !strcmp(saver->res->status, "completed");
	uint64_t before = guest_counter(saver->guest);

	nanosleep(&moment, NULL);
	saver->res->counter_after = guest_counter(saver->guest);
	if (!stays && saver->res->counter_after <= before)
		report_fail(saver->res, "the guest stands still after the save");
	if (stays && saver->res->counter_after > before)
		report_fail(saver->res, "the guest goes on although it should stay paused");
}

static void save(struct saver *saver, struct rj_session *s)
{
	char why[SNAPSHOT_TEXT] = "";
	int ret = guest_attach(saver->guest, s, why, sizeof(why));

	if (!ret)
		ret = guest_run(saver->guest);
	if (ret < 0) {
		report_fail(saver->res, "%s", why[0] ? why : rj_strerror(ret));
		return;
	}
	memory_watch_start();
	snapshot_run(s, &hooks, saver, saver->res);
	saver->res->peak_memory_bytes = (int64_t)memory_watch_stop();
	if (saver->o->memory != GUEST_MEMORY_SHARED)
		saver->res->peak_memory_bytes = -1; /* the guest's cannot be told apart */
	watch_it_run_on(saver);
	guest_pause(saver->guest);
	guest_beats(saver->guest, &saver->res->beats);
}

void snapshot_save(struct rj_env *env, const struct snapshot_opts *o, struct snapshot_result *res)
{
	struct saver saver = { .o = o, .res = res };
	struct guest_opts go = { .kind = o->kind,
				 .size_bytes = o->size_bytes,
				 .used_bytes = o->used_bytes || !o->free_bytes
						       ? o->used_bytes
						       : o->size_bytes - o->free_bytes,
				 .free_bytes = o->free_bytes,
				 .hints = o->free_bytes ? GUEST_HINTS_REPORTING : GUEST_HINTS_NONE,
				 .workload = o->workload,
				 .seed = o->seed,
				 .fill_all = !strcmp(o->fill_text, "random"),
				 .memory = o->memory };
	struct rj_session *s = NULL;
	char why[SNAPSHOT_TEXT] = "";
	uint8_t blob[1024];
	struct rj_opts so;
	int len, ret = guest_create(&go, &saver.guest, why, sizeof(why));

	if (ret < 0) {
		report_fail(res, "%s", why[0] ? why : rj_strerror(ret));
		return;
	}
	snapshot_session_opts(o, &so);
	so.file_flags = (o->stopped ? (uint32_t)RJ_FILE_STOPPED : 0u) |
			(o->stay ? (uint32_t)RJ_FILE_STAY_PAUSED : 0u);
	ret = rj_source_open(env, &so, &s);
	len = guest_describe(saver.guest, blob, sizeof(blob));
	if (!ret && len > 0)
		ret = rj_set_setup_blob(s, blob, (size_t)len);
	if (ret < 0)
		report_fail(res, "cannot open a session for %s: %s", o->uri, rj_strerror(ret));
	else
		save(&saver, s);
	guest_detach(saver.guest);
	rj_close(&s);
	guest_destroy(&saver.guest);
	if (strcmp(res->status, "completed"))
		return;
	snapshot_stat(o->file, res);
	if (o->verify)
		snapshot_check_file(env, o, res);
}

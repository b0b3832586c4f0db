/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination of a file. The VMM sees the same requests in the same order as in a migration: SETUP,
 * REGION, LOAD, ACQUIRE, RESUME; nothing of the guest runs before every page and all device state were
 * read and compared with their checksums.
 *
 * Lazily (RJ_FILE_LAZY) pages come by snap_filler.c while LOAD, ACQUIRE and RESUME are asked and the guest runs. If one
 * is bad, then the guest is paused, and dropped, while the filler still serves the others: what has to come to
 * an end by touching them does.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migration/placing.h"
#include "migration/snapshot_impl.h"
#include "transport/file/snap_filler.h"
#include "transport/file/snap_loader.h"

static int open_snapshot(struct rj_session *s, struct rji_snap_reader **r_p, struct rj_error *err)
{
	int ret = rji_snap_reader_open(r_p, s->uri.file, err);

	if (ret < 0)
		return ret;
	s->fig.direct_io = (*r_p)->direct_io;
	if (!(*r_p)->direct_io)
		rji_session_tell_warning(s, "%s", (*r_p)->why_not_direct);
	return 0;
}

static int judge_setup(struct rj_session *s, const struct rji_snap_reader *r, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_SETUP };
	int ret = rji_snap_reader_get(r, &r->snap.setup, "set-up blob", &s->blob, err);

	if (ret < 0)
		return ret;
	ev.u.setup.blob = s->blob; /* until rj_close() */
	ev.u.setup.len_bytes = r->snap.setup.len_bytes;
	ret = rji_session_ask(s, RJI_WAIT_CANCEL, &ev, err);
	return ret < 0 ? ret : 0;
}

static int take_regions(struct rj_session *s, struct rji_snap_reader *r, struct rj_error *err)
{
	uint64_t metadata = 0;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < r->snap.n_regions; i++) {
		const struct rji_snap_region *in = &r->snap.region[i];
		struct rji_msg_region m = { .len_bytes = in->len_bytes,
					    .gpa = in->gpa,
					    .page_bytes = in->page_bytes };

		memcpy(m.name, in->name, sizeof(m.name));
		ret = rji_session_take_region(s, i, &m, err);
		if (!ret)
			ret = rji_snap_reader_load_maps(r, i, err);
		metadata += in->bitmap.len_bytes + in->sums.len_bytes;
	}
	s->fig.file_metadata_bytes = metadata;
	if (!ret && s->n_given != r->snap.n_regions)
		ret = rji_fail(err, RJ_E_REGION,
			       "this side has a region '%s' that the snapshot does not have",
			       s->given[r->snap.n_regions].name);
	return ret;
}

/* What a lazy restore has beside the session. */
struct lazy {
	struct rji_snap_filling filling;
	const struct rj_region *regions[RJ_MAX_REGIONS];
	struct rji_snap_filler *filler; /* NULL: not lazy, or it never began */
	bool resumed;			/* RESUME was asked */
};

static int load_pages(struct rj_session *s, void *arg, struct rj_error *err)
{
	struct rji_snap_target targets[RJ_MAX_REGIONS];
	struct rji_snap_loading l = { .reader = arg,
				      .host = s->host,
				      .stop = &s->stop,
				      .targets = targets,
				      .n_lanes = s->o.n_lanes,
				      .done_bytes = &s->totals.sent_bytes,
				      .cpu_ns = &s->totals.cpu_ns };

	for (uint32_t i = 0; i < s->n_given; i++)
		targets[i] = (struct rji_snap_target){ s->given[i].r.host,
						       s->given[i].r.flags & RJ_REGION_ZEROED };
	return rji_snap_load(&l, err);
}

static int begin_pages(struct rj_session *s, struct rj_error *err)
{
	int ret = rji_session_choose_lanes(s, err);

	if (ret < 0)
		return ret;
	if (s->o.registration == RJ_REGISTER_ALL)
		rji_session_tell_warning(s, "guest memory is not registered: a restore is no "
					    "faster by registered buffers, and often slower");
	s->fig.n_lanes = s->o.n_lanes;
	s->fig.bulk_began_ns = rji_now_ns();
	s->fig.rounds = 1;
	rji_session_set_state(s, RJ_STATE_BULK);
	return 0;
}

static int take_pages(struct rj_session *s, struct rji_snap_reader *r, struct rj_error *err)
{
	int ret = rji_session_aside(s, "rj-load", RJI_WAIT_CANCEL, load_pages, r, err);
	s->fig.round_bytes = s->totals.sent_bytes;
	s->fig.round_ns = rji_now_ns() - s->fig.bulk_began_ns;
	return ret;
}

/* Begin to fill it; the guest need not wait for that. */
static int open_lazily(struct rj_session *s, struct rji_snap_reader *r, struct lazy *lazy,
		       struct rj_error *err)
{
	for (uint32_t i = 0; i < s->n_given; i++)
		lazy->regions[i] = &s->given[i].r;
	lazy->filling = (struct rji_snap_filling){ .reader = r,
						   .host = s->host,
						   .regions = lazy->regions,
						   .n_lanes = s->o.n_lanes,
						   .wake_fd = s->wake_fd,
						   .done_bytes = &s->totals.sent_bytes,
						   .cpu_ns = &s->totals.cpu_ns,
						   .faults = &s->fig.faults,
						   .fault_max_ns = &s->fig.fault_max_ns };
	return rji_snap_filler_start(&lazy->filling, &lazy->filler, err);
}

static bool is_filled(struct rj_session *s, void *arg)
{
	struct lazy *lazy = arg;

	return rji_snap_filler_state(lazy->filler, NULL) ||
	       atomic_load_explicit(&s->closing, memory_order_acquire);
}

/* The guest runs; until all is in, or rj_close(). */
static int wait_for_pages(struct rj_session *s, struct lazy *lazy, struct rj_error *err)
{
	int ret = rji_session_wait(s, 0, is_filled, lazy, 0, err);

	if (!ret)
		ret = rji_snap_filler_state(lazy->filler, err);
	s->fig.round_bytes = s->totals.sent_bytes;
	s->fig.round_ns = rji_now_ns() - s->fig.bulk_began_ns;
	return ret > 0	 ? 0
	       : ret < 0 ? ret
			 : rji_fail(err, RJ_E_CANCELLED,
				    "closed before all of the guest's memory was in");
}

static int load_state(struct rj_session *s, const struct rji_snap_reader *r, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_LOAD, .u.load.len_bytes = r->snap.state.len_bytes };
	void *state;
	int ret;

	rji_session_set_state(s, RJ_STATE_STOPPING);
	if (r->snap.state.len_bytes > s->o.state_max_bytes)
		return rji_fail(err, RJ_E_SNAPSHOT,
				"the device state has %" PRIu64 " bytes, more than the %" PRIu64
				" allowed (state_max_bytes)",
				r->snap.state.len_bytes, s->o.state_max_bytes);
	ret = rji_snap_reader_get(r, &r->snap.state, "device state", &state, err);
	if (ret < 0)
		return ret;
	s->fig.state_bytes = r->snap.state.len_bytes;
	rji_state_stream_reset(&s->device_state, false);
	ret = rji_state_stream_append(&s->device_state, state, r->snap.state.len_bytes,
				      s->o.state_max_bytes);
	free(state);
	if (ret < 0)
		return rji_fail(err, ret, "no memory for the device state");
	rji_state_stream_open(&s->device_state, true);
	ret = rji_session_ask(s, RJI_WAIT_CANCEL, &ev, err);
	rji_state_stream_open(&s->device_state, false);
	return ret < 0 ? ret : 0;
}

static int take_over(struct rj_session *s, bool run, struct rj_error *err)
{
	struct rj_event acquire = { .type = RJ_RQ_ACQUIRE };
	struct rj_event resume = { .type = RJ_RQ_RESUME, .u.resume.run = run };
	int ret;

	rji_session_set_state(s, RJ_STATE_COMMITTED);
	ret = rji_session_ask(s, 0, &acquire, err);
	if (ret >= 0)
		ret = rji_session_ask(s, 0, &resume, err);
	s->fig.resumed_at_ns = rji_now_ns();
	return ret < 0 ? ret : 0;
}

static int restore(struct rj_session *s, struct rji_snap_reader **r_p, struct lazy *lazy,
		   struct rj_error *err)
{
	bool lazily = s->o.file_flags & RJ_FILE_LAZY;
	int ret = open_snapshot(s, r_p, err);

	if (ret < 0)
		return ret;
	rji_session_set_state(s, RJ_STATE_SETUP);
	ret = judge_setup(s, *r_p, err);
	if (!ret)
		ret = take_regions(s, *r_p, err);
	if (!ret)
		ret = begin_pages(s, err);
	if (!ret)
		ret = lazily ? open_lazily(s, *r_p, lazy, err) : take_pages(s, *r_p, err);
	if (!ret)
		ret = load_state(s, *r_p, err);
	if (!ret && lazily && rji_snap_filler_state(lazy->filler, err) < 0)
		ret = err->code; /* by now it is known that it cannot run for long */
	if (ret)
		return ret;
	lazy->resumed = lazily;
	ret = take_over(s, (*r_p)->snap.flags & RJI_SNAP_RUN, err);
	return ret || !lazily ? ret : wait_for_pages(s, lazy, err);
}

/* It runs, and must not go on. */
static void stop_guest(struct rj_session *s)
{
	struct rj_event ev = { .type = RJ_RQ_PAUSE };
	struct rj_error err;

	rji_error_init(&err);
	if (!atomic_load_explicit(&s->closing, memory_order_acquire))
		rji_session_ask(s, 0, &ev, &err);
}

static void drop(struct rj_session *s)
{
	struct rj_event ev = { .type = RJ_RQ_DROP };
	struct rj_error err;

	rji_error_init(&err);
	if (s->n_given && !atomic_load_explicit(&s->closing, memory_order_acquire))
		rji_session_ask(s, 0, &ev, &err);
}

void *rji_restore_thread(struct rj_session *s)
{
	struct rji_snap_reader *r = NULL;
	struct lazy lazy = { .filler = NULL };
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = restore(s, &r, &lazy, &err);
	s->fig.ended_ns = rji_now_ns();
	if (ret < 0) {
		rji_fail(&err, ret, "%s", rj_strerror(ret));
		if (lazy.resumed)
			stop_guest(s);
		drop(s);
	}
	rji_snap_filler_stop(&lazy.filler);
	rji_snap_reader_close(&r);
	rji_session_end(s,
			!ret			? RJ_STATE_COMPLETED
			: ret == RJ_E_CANCELLED ? RJ_STATE_CANCELLED
						: RJ_STATE_FAILED,
			ret < 0 ? RJ_RUNS_AT_SOURCE : RJ_RUNS_AT_DESTINATION, &err);
	return NULL;
}

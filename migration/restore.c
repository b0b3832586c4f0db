/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination of a file. The VMM sees the same requests in the same order as in a migration: SETUP,
 * REGION, LOAD, ACQUIRE, RESUME; nothing of the guest runs before every page and all device state were
 * read and compared with their checksums.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migration/placing.h"
#include "migration/snapshot_impl.h"
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

static int take_pages(struct rj_session *s, struct rji_snap_reader *r, struct rj_error *err)
{
	int ret = rji_session_choose_lanes(s, err);

	if (ret < 0)
		return ret;
	s->fig.n_lanes = s->o.n_lanes;
	s->fig.bulk_began_ns = rji_now_ns();
	s->fig.rounds = 1;
	rji_session_set_state(s, RJ_STATE_BULK);
	ret = rji_session_aside(s, "rj-load", RJI_WAIT_CANCEL, load_pages, r, err);
	s->fig.round_bytes = s->totals.sent_bytes;
	s->fig.round_ns = rji_now_ns() - s->fig.bulk_began_ns;
	return ret;
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

static int restore(struct rj_session *s, struct rji_snap_reader **r_p, struct rj_error *err)
{
	int ret = open_snapshot(s, r_p, err);

	if (ret < 0)
		return ret;
	rji_session_set_state(s, RJ_STATE_SETUP);
	ret = judge_setup(s, *r_p, err);
	if (!ret)
		ret = take_regions(s, *r_p, err);
	if (!ret)
		ret = take_pages(s, *r_p, err);
	if (!ret)
		ret = load_state(s, *r_p, err);
	return ret ? ret : take_over(s, (*r_p)->snap.flags & RJI_SNAP_RUN, err);
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
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = restore(s, &r, &err);
	rji_snap_reader_close(&r);
	s->fig.ended_ns = rji_now_ns();
	if (ret < 0) {
		rji_fail(&err, ret, "%s", rj_strerror(ret));
		drop(s);
	}
	rji_session_end(s,
			!ret			? RJ_STATE_COMPLETED
			: ret == RJ_E_CANCELLED ? RJ_STATE_CANCELLED
						: RJ_STATE_FAILED,
			ret < 0 ? RJ_RUNS_AT_SOURCE : RJ_RUNS_AT_DESTINATION, &err);
	return NULL;
}

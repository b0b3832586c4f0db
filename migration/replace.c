/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lane that failed is replaced, and the session goes on.
 *
 *   source                            destination
 *   cut and close the lane
 *   LANES_RESET          ─────────►   cut, join, close: nothing changes memory by it any more
 *                        ◄─────────   LANES_GONE, with a token
 *   its pages are pending again
 *   connect              ─────────►   admitted by that token
 *                        ◄─────────   LANES_OK
 *
 * What was sent on it since its last answered fence is of unknown fate: it may still arrive, late,
 * as long as the other end is there. So none of these pages goes out again before LANES_GONE, on
 * whatever lane: an old copy could come down on a new one. Which lane sent which page is not kept:
 * all pages of the broken round are sent again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migration/session_impl.h"

/* A link that breaks in every round is no link. */
#define MAX_IN_A_ROW 5
#define CONNECT_TRIES 3

/* How often a lane that stands still is looked for. */
#define LOOK_MS 50

static bool lanes_idle(struct rj_session *s, void *arg)
{
	(void)arg;
	return !rji_sender_busy(s->sender);
}

int rji_settle_lanes(struct rj_session *s, uint32_t stalled_ms, uint64_t deadline_ns,
		     struct rj_error *err)
{
	for (;;) {
		uint64_t look_at = s->ops->cut ? rji_session_deadline(LOOK_MS) : deadline_ns;
		bool last = !s->ops->cut || (deadline_ns && deadline_ns <= look_at);
		int ret = rji_session_wait(s, RJI_WAIT_PEER | RJI_WAIT_CANCEL, lanes_idle, NULL,
					   last ? deadline_ns : look_at, err);

		if (ret != RJ_E_TIMEOUT || last)
			return ret;
		rji_sender_cut_stalled(s->sender, stalled_ms * RJI_NS_PER_MS);
	}
}

bool rji_may_replace_lanes(const struct rj_session *s, int ret)
{
	return ret == RJ_E_LANE && s->features & RJI_FEATURE_LANES_RESET &&
	       s->lanes_replaced < MAX_IN_A_ROW;
}

/* Close this side's ends. */
static int drop_lanes(struct rj_session *s, uint64_t lanes, struct rj_error *err)
{
	rji_sender_drop(s->sender, lanes);
	return rji_settle_lanes(s, s->o.peer_timeout_ms, 0, err);
}

/* The destination closes its own, and says so. */
static int reset_peer(struct rj_session *s, uint64_t lanes, struct rji_msg_lanes_gone *gone,
		      struct rj_error *err)
{
	struct rji_cursor c;
	struct rji_msg *msg;
	uint8_t buf[8];
	int ret;

	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_u64(&c, lanes);
	ret = rji_session_send(s, RJI_MSG_LANES_RESET, buf, c.pos, err);
	if (!ret)
		ret = rji_session_expect(s, RJI_WAIT_PEER | RJI_WAIT_CANCEL, RJI_MSG_LANES_GONE, 0,
					 rji_session_deadline(s->o.peer_timeout_ms), &msg, err);
	if (ret < 0)
		return ret;
	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	ret = rji_get_lanes_gone(&c, gone);
	free(msg);
	return ret < 0 || gone->lanes != lanes ? rji_session_malformed(s, RJI_MSG_LANES_GONE, err)
					       : 0;
}

static int connect_again(struct rj_session *s, const struct rji_msg_lanes_gone *gone,
			 struct rj_error *err)
{
	struct rji_admission adm = { .n_lanes = s->o.n_lanes };
	uint64_t deadline = rji_session_deadline(s->o.connect_timeout_ms);
	int ret = RJ_E_LANE;

	memcpy(adm.session_id, s->session_id, sizeof(adm.session_id));
	memcpy(adm.token, gone->token, sizeof(adm.token));
	for (int i = 0; ret == RJ_E_LANE && i < CONNECT_TRIES; i++) {
		if (i)
			ret = drop_lanes(s, rji_sender_broken(s->sender), err);
		if (i && ret < 0)
			return ret;
		rji_sender_connect(s->sender, &s->lane_addrs, &adm, deadline);
		ret = rji_settle_lanes(s, s->o.connect_timeout_ms, 0, err);
		if (!ret && rji_sender_failed(s->sender))
			ret = RJ_E_LANE;
	}
	return ret == RJ_E_LANE ? rji_sender_result(s->sender, NULL, err) : ret;
}

int rji_replace_lanes(struct rj_session *s, struct rj_error *err)
{
	struct rji_msg_lanes_gone gone;
	struct rj_error cause = *err;
	uint64_t lanes = rji_sender_broken(s->sender);
	struct rji_msg *msg;
	int ret;

	rji_error_init(err);
	s->lanes_replaced++;
	s->fig.lanes_replaced++;
	s->lane_failed_ns = 0;
	ret = drop_lanes(s, lanes, err);
	if (!ret)
		ret = reset_peer(s, lanes, &gone, err);
	if (ret < 0)
		return ret;
	rji_session_tell_warning(s, "%.180s; it is replaced", cause.text);
	rji_free_lock(&s->hints); /* a hint looks at what is pending */
	rji_pageset_unfenced_to_pending(&s->set);
	rji_free_unlock(&s->hints);
	ret = connect_again(s, &gone, err);
	if (!ret)
		ret = rji_session_expect(s, RJI_WAIT_PEER | RJI_WAIT_CANCEL, RJI_MSG_LANES_OK, 0,
					 rji_session_deadline(s->o.connect_timeout_ms), &msg, err);
	if (!ret)
		free(msg);
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Source: a switchover is given up, and the rounds go on.
 *
 * The guest has resumed before anything of this is done. Before FINISH the destination only has to
 * forget the device state. After it, its VMM has loaded it, or is at it: it is asked to undo that
 * (RJ_RQ_RESET) and to say what loading changed in guest RAM, which is dirty here then. Its PREPARED
 * may still be under way and means nothing any more: this side has not sent COMMIT, and does not
 * before another PREPARED.
 */
#include <stdlib.h>

#include "migration/session_impl.h"

/* PREPARED came too late, but says how long loading takes. */
static void learn_load(struct rj_session *s, const struct rji_msg *msg)
{
	struct rji_msg_prepared prepared;
	struct rji_cursor c;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	if (!rji_get_prepared(&c, &prepared))
		s->model.seen_ns[RJI_TERM_LOAD] = prepared.load_ns;
}

/* ROLLBACK_OK, whatever comes before it. */
static int await_ok(struct rj_session *s, bool loaded, struct rji_msg **msg_p, struct rj_error *err)
{
	uint64_t deadline =
		rji_session_deadline(loaded ? 2 * s->o.request_timeout_ms : s->o.peer_timeout_ms);

	for (;;) {
		int ret = rji_session_expect(s, RJI_WAIT_PEER | RJI_WAIT_CANCEL,
					     RJI_MSG_ROLLBACK_OK, loaded ? RJI_MSG_PREPARED : 0,
					     deadline, msg_p, err);

		if (ret < 0 || (*msg_p)->type == RJI_MSG_ROLLBACK_OK)
			return ret;
		learn_load(s, *msg_p);
		free(*msg_p);
	}
}

static int mark_loaded(struct rj_session *s, const struct rji_msg *msg, struct rj_error *err)
{
	struct rji_cursor c;
	uint32_t n;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	n = rji_get_u32(&c);
	for (uint32_t i = 0; i < n; i++) {
		struct rji_msg_range r;

		if (rji_get_range(&c, &r) < 0 ||
		    rji_pageset_changed_there(&s->set, r.region, r.offset_bytes, r.len_bytes) < 0 ||
		    rji_pageset_mark(&s->set, r.region, r.offset_bytes, r.len_bytes) < 0)
			return rji_session_malformed(s, RJI_MSG_ROLLBACK_OK, err);
	}
	return c.bad ? rji_session_malformed(s, RJI_MSG_ROLLBACK_OK, err) : 0;
}

int rji_roll_back_peer(struct rj_session *s, bool loaded, struct rj_error *err)
{
	struct rji_msg *msg;
	int ret = rji_session_send(s, RJI_MSG_ROLLBACK, NULL, 0, err);

	if (!ret)
		ret = await_ok(s, loaded, &msg, err);
	if (ret < 0)
		return ret;
	if (loaded)
		ret = mark_loaded(s, msg, err);
	free(msg);
	return ret;
}

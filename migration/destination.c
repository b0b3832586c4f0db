/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination's way: after the set-up (destination_setup.c) take pages; then load, and run only on COMMIT. See handover.c for
 * who may run when.
 *
 * When the source is lost before COMMIT came, this side drops the guest for good, and if it had
 * said PREPARED (so that a COMMIT may be on its way, or sent and lost) it keeps its listening
 * socket for outcome_keep_ms and tells a source that asks: REFUSED. In the same way a source that
 * did not hear RUNNING is told RUNNING.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "migration/session_impl.h"
#include "migration/snapshot_impl.h"
#include "transport/greeting.h"

#define BYE_MS 2000

/* All pages are placed: lanes do not matter any more. */
#define WAIT_PEER (RJI_WAIT_PEER | RJI_WAIT_CANCEL)

/* --- pages and device state --- */

static int take_round(struct rj_session *s, const struct rji_msg *msg, struct rj_error *err)
{
	struct rji_cursor c;
	uint32_t number;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	number = rji_get_u32(&c);
	if (c.bad || !number)
		return rji_session_malformed(s, RJI_MSG_ROUND, err);
	if (!s->fig.bulk_began_ns)
		s->fig.bulk_began_ns = rji_now_ns();
	s->fig.rounds = number;
	rji_session_set_state(s, number == 1 ? RJ_STATE_BULK : RJ_STATE_DIRTY);
	return 0;
}

static int take_state(struct rj_session *s, const struct rji_msg *msg, struct rj_error *err)
{
	int ret = rji_state_stream_append(&s->device_state, msg->payload, msg->len_bytes,
					  s->o.state_max_bytes);

	if (ret == -EFBIG)
		return rji_fail(err, RJ_E_PROTOCOL,
				"the device state is larger than the %" PRIu64
				" bytes allowed (state_max_bytes)",
				s->o.state_max_bytes);
	return ret < 0 ? rji_fail(err, ret, "no memory for the device state") : 0;
}

static int replace_lanes(struct rj_session *s, const struct rji_msg *msg, struct rj_error *err)
{
	struct rji_cursor c;
	uint64_t lanes;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	lanes = rji_get_u64(&c);
	if (c.bad || !lanes || (s->o.n_lanes < 64 && lanes >> s->o.n_lanes))
		return rji_session_malformed(s, RJI_MSG_LANES_RESET, err);
	return rji_destination_replace_lanes(s, lanes, err);
}

/* One message of the rounds and the stop phase. 1: FINISH, in *finish. */
static int take_message(struct rj_session *s, const struct rji_msg *msg,
			struct rji_msg_finish *finish, struct rj_error *err)
{
	bool stopping = s->state == RJ_STATE_STOPPING;
	struct rji_cursor c;

	switch (msg->type) {
	case RJI_MSG_ROUND:
		if (!stopping)
			return take_round(s, msg, err);
		break;
	case RJI_MSG_READY: return rji_session_send(s, RJI_MSG_READY_OK, NULL, 0, err);
	case RJI_MSG_STOPPING:
		rji_state_stream_reset(&s->device_state, false);
		rji_session_set_state(s, RJ_STATE_STOPPING);
		return 0;
	case RJI_MSG_STATE:
		if (stopping)
			return take_state(s, msg, err);
		break;
	case RJI_MSG_ROLLBACK:
		if (!stopping)
			break;
		rji_state_stream_reset(&s->device_state, false);
		rji_session_set_state(s, RJ_STATE_DIRTY);
		return rji_session_send(s, RJI_MSG_ROLLBACK_OK, NULL, 0, err);
	case RJI_MSG_LANES_RESET:
		if (!stopping && s->features & RJI_FEATURE_LANES_RESET)
			return replace_lanes(s, msg, err);
		break;
	case RJI_MSG_FINISH:
		if (!stopping)
			break;
		rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
		return rji_get_finish(&c, finish) < 0
			       ? rji_session_malformed(s, RJI_MSG_FINISH, err)
			       : 1;
	}
	return rji_fail(err, RJ_E_PROTOCOL, "the source sent %s out of turn",
			rji_msg_name(msg->type));
}

static int take_guest(struct rj_session *s, struct rji_msg_finish *finish, struct rj_error *err)
{
	int ret;

	do {
		struct rji_msg *msg;

		ret = rji_session_next(s, RJI_WAIT_MIGRATING, 0, &msg, err);
		if (ret < 0)
			return ret;
		ret = take_message(s, msg, finish, err);
		rji_session_count_cpu(s);
		free(msg);
	} while (!ret);
	if (ret > 0 && finish->state_bytes != s->device_state.total_bytes)
		return rji_fail(err, RJ_E_PROTOCOL,
				"the device state is not complete: %" PRIu64 " of %" PRIu64
				" bytes came",
				s->device_state.total_bytes, finish->state_bytes);
	return ret < 0 ? ret : 0;
}

/* --- hand-over --- */

static int load(struct rj_session *s, const struct rji_msg_finish *finish, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_LOAD, .u.load.len_bytes = finish->state_bytes };
	struct rji_msg_prepared prepared;
	uint64_t start = rji_now_ns();
	struct rji_cursor c;
	uint8_t buf[8];
	int ret;

	s->fig.state_bytes = finish->state_bytes;
	ret = rji_loaded_open(s, true);
	if (ret < 0)
		return rji_fail(err, ret, "no memory to note what loading changes");
	rji_state_stream_open(&s->device_state, true);
	ret = rji_session_ask(s, WAIT_PEER, &ev, err);
	rji_state_stream_open(&s->device_state, false);
	if (ret < 0)
		return ret;
	prepared.load_ns = rji_now_ns() - start;
	rji_session_set_state(s, RJ_STATE_PREPARED);
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_prepared(&c, &prepared);
	return rji_session_send(s, RJI_MSG_PREPARED, buf, c.pos, err);
}

/* The source has taken the guest back, and will not send COMMIT for what was loaded. */
static int undo_load(struct rj_session *s, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_RESET };
	int ret;

	rji_session_set_state(s, RJ_STATE_DIRTY);
	ret = rji_session_ask(s, WAIT_PEER, &ev, err);
	rji_loaded_open(s, false);
	rji_state_stream_reset(&s->device_state, false);
	return ret < 0 ? ret : rji_loaded_tell(s, err);
}

/* 1: it came; 0: the rounds go on. */
static int await_commit(struct rj_session *s, struct rj_error *err)
{
	struct rji_msg *msg;
	uint16_t or_else = s->features & RJI_FEATURE_LOAD_ROLLBACK ? RJI_MSG_ROLLBACK : 0;
	int ret = rji_session_expect(s, WAIT_PEER, RJI_MSG_COMMIT, or_else,
				     rji_session_deadline(2 * s->o.request_timeout_ms), &msg, err);
	uint16_t type = ret < 0 ? 0 : msg->type;

	if (ret < 0)
		return ret;
	free(msg);
	if (type == RJI_MSG_ROLLBACK)
		return undo_load(s, err);
	rji_session_set_state(s, RJ_STATE_COMMITTED);
	return 1;
}

/* What closing the lanes would lose. */
static void keep_lane_figures(struct rj_session *s)
{
	if (!s->receiver)
		return;
	s->totals.cpu_ns += rji_receiver_cpu_ns(s->receiver);
	s->totals.sent_bytes = rji_receiver_sent_bytes(s->receiver);
}

/*
 * COMMIT came: the guest is ours unless acquire or resume fail before it ran. The peer's fate does
 * not matter any more.
 */
static int take_over(struct rj_session *s, bool run, struct rji_msg_running *m,
		     struct rj_error *err)
{
	struct rj_event acquire = { .type = RJ_RQ_ACQUIRE };
	struct rj_event resume = { .type = RJ_RQ_RESUME, .u.resume.run = run };
	uint64_t start = rji_now_ns(), acquired, revoked;
	int ret = rji_session_ask(s, 0, &acquire, err);

	if (ret < 0)
		return ret;
	acquired = rji_now_ns();
	keep_lane_figures(s);
	rji_receiver_destroy(&s->receiver);
	revoked = rji_now_ns();
	ret = rji_session_ask(s, 0, &resume, err);
	if (ret < 0)
		return ret;
	s->fig.resumed_at_ns = rji_now_ns();
	*m = (struct rji_msg_running){ .acquire_ns = acquired - start,
				       .revoke_ns = revoked - acquired,
				       .resume_ns = s->fig.resumed_at_ns - revoked };
	return 0;
}

/* What a source that asks is told, and what is sent in answer to COMMIT. */
struct verdict {
	uint16_t type; /* RUNNING or REFUSED; 0: the source cannot have committed */
	size_t len_bytes;
	uint8_t payload[8 + RJ_ERROR_TEXT_BYTES];
};

static void say_running(struct verdict *v, const struct rji_msg_running *m)
{
	struct rji_cursor c;

	rji_cursor_init(&c, v->payload, sizeof(v->payload));
	rji_put_running(&c, m);
	v->type = RJI_MSG_RUNNING;
	v->len_bytes = c.pos;
}

static void say_failure(struct verdict *v, uint16_t type, const struct rj_error *err)
{
	struct rji_msg_failed failed = { .code = err->code };
	struct rji_cursor c;

	memcpy(failed.text, err->text, sizeof(failed.text));
	rji_cursor_init(&c, v->payload, sizeof(v->payload));
	rji_put_failed(&c, &failed);
	v->type = type;
	v->len_bytes = c.pos;
}

static int receive(struct rj_session *s, struct verdict *v, struct rj_error *err)
{
	struct rji_msg_finish finish;
	struct rji_msg_running running;
	int ret = rji_destination_set_up(s, err);

	while (!ret) {
		ret = take_guest(s, &finish, err);
		if (!ret)
			ret = load(s, &finish, err);
		if (!ret)
			ret = await_commit(s, err);
	}
	if (ret > 0)
		ret = take_over(s, finish.run, &running, err);
	if (!ret)
		say_running(v, &running);
	return ret;
}

/* For good: whatever comes now, this guest does not run here. */
static void drop(struct rj_session *s)
{
	struct rj_event ev = { .type = RJ_RQ_DROP };
	struct rj_error err;

	rji_error_init(&err);
	keep_lane_figures(s);
	rji_receiver_destroy(&s->receiver);
	if (s->n_given && !atomic_load_explicit(&s->closing, memory_order_acquire))
		rji_session_ask(s, 0, &ev, &err);
}

static void send_verdict(struct rj_session *s, const struct verdict *v)
{
	rji_control_send(&s->ctl, v->type, v->payload, v->len_bytes);
}

/* Did the source hear the verdict? It says so by BYE, or by giving up as well; whatever else was under way is late. */
static bool was_heard(struct rj_session *s, const struct verdict *v)
{
	uint64_t deadline = rji_session_deadline(BYE_MS);
	struct rji_msg *msg;
	bool bye = false;

	while (!bye && rji_session_next(s, RJI_WAIT_PEER, deadline, &msg, NULL) == 0) {
		bye = msg->type == RJI_MSG_BYE;
		free(msg);
	}
	return bye || (v->type == RJI_MSG_REFUSED && s->ctl.peer_failed);
}

/* Answer one who asks for the outcome. True: it was our source. */
static bool answer(struct rj_session *s, int fd, const struct rji_greeting *g,
		   const struct verdict *v)
{
	struct rji_control ctl;
	bool ours = g->kind == RJI_GREET_ASK &&
		    !memcmp(g->session_id, s->session_id, sizeof(s->session_id)) &&
		    rji_secret_equal(g->token, s->secret, sizeof(s->secret));

	rji_control_init(&ctl, fd, s->o.peer_timeout_ms, &s->stop);
	if (ours)
		ours = rji_control_send(&ctl, v->type, v->payload, v->len_bytes) == 0;
	rji_control_fini(&ctl);
	return ours;
}

/* The source may not know: keep the outcome for a while. */
static void linger(struct rj_session *s, const struct verdict *v, uint64_t until_ns)
{
	struct rji_acceptor acceptor;
	struct rji_greeting g;
	bool answered = false;
	int fd;

	rji_acceptor_init(&acceptor, s->listen_fd, s->host, &s->stop);
	while (!answered && rji_acceptor_next(&acceptor, until_ns, &g, &fd) > 0)
		answered = answer(s, fd, &g, v);
	rji_acceptor_fini(&acceptor);
	atomic_store_explicit(&s->linger_until_ns, 0, memory_order_release);
}

void *rji_destination_thread(void *arg)
{
	struct rj_session *s = arg;
	struct verdict v = { 0 };
	bool was_prepared, had_taken, told;
	uint64_t linger_until;
	struct rj_error err;
	int ret;

	if (!rji_session_has_peer(s))
		return rji_restore_thread(s);
	rji_error_init(&err);
	ret = receive(s, &v, &err);
	s->fig.ended_ns = rji_now_ns();
	was_prepared = s->state >= RJ_STATE_PREPARED;
	if (ret < 0) {
		rji_fail(&err, ret, "%s", rj_strerror(ret));
		/* Once PREPARED was said, only REFUSED tells the source that it may go on. */
		say_failure(&v, was_prepared ? RJI_MSG_REFUSED : RJI_MSG_FAILED, &err);
	}
	/* What acquire took goes back before the source hears REFUSED and reclaims it. */
	had_taken = ret < 0 && s->state == RJ_STATE_COMMITTED;
	if (had_taken)
		drop(s);
	send_verdict(s, &v);
	if (ret < 0 && !had_taken)
		drop(s);
	/* Closed with something unread, the connection would be reset, and the verdict lost. */
	told = was_heard(s, &v) || !was_prepared || s->listen_fd < 0;
	rji_session_destroy_transport(s);
	rji_control_hang_up(&s->ctl);
	linger_until = rji_session_deadline(s->o.outcome_keep_ms); /* the source is lost by now */
	if (!told)
		atomic_store_explicit(&s->linger_until_ns, linger_until, memory_order_release);
	rji_session_end(s,
			!ret			? RJ_STATE_COMPLETED
			: ret == RJ_E_CANCELLED ? RJ_STATE_CANCELLED
						: RJ_STATE_FAILED,
			ret < 0 ? RJ_RUNS_AT_SOURCE : RJ_RUNS_AT_DESTINATION, &err);
	if (!told)
		linger(s, &v, linger_until);
	return NULL;
}

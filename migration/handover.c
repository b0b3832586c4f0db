/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source's half of handing over the right to run the guest. The destination's is in
 * destination.c; both keep to:
 *
 *   - before COMMIT the guest is the source's; it resumes here after any failure;
 *   - COMMIT counts as sent from the first byte offered to the kernel: from then on the source
 *     resumes only when the destination itself says that it has not run the guest and never will
 *     (REFUSED);
 *   - if the connection is lost after COMMIT, the source connects anew and asks, showing session id
 *     and secret; without an answer the outcome is unknown, and the VMM or its operator decides
 *     (rj_resolve).
 *
 *   source                        destination
 *   FINISH        ─────────►      load device state
 *                 ◄─────────      PREPARED: I hold everything and have loaded it; I do not run
 *   release disk locks …
 *   COMMIT        ─────────►      acquire; withdraw the source's access to memory; resume
 *                 ◄─────────      RUNNING, or REFUSED
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "migration/session_impl.h"
#include "transport/greeting.h"
#include "transport/socket.h"

/* All pages are placed: lanes do not matter any more. */
#define WAIT_PEER (RJI_WAIT_PEER | RJI_WAIT_CANCEL)

#define ASK_AGAIN_NS (100 * RJI_NS_PER_MS)

static int refused(const struct rji_msg *msg, struct rj_error *err)
{
	struct rji_msg_failed m;
	struct rji_cursor c;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	if (rji_get_failed(&c, &m) < 0)
		strcpy(m.text, "without a reason that can be read");
	if (err)
		err->peer_code = m.code;
	return rji_fail(err, RJ_E_REFUSED, "the destination will not run the guest: %.400s",
			m.text);
}

static int too_late(const struct rj_session *s, const struct rji_handover *ho, const char *what,
		    struct rj_error *err)
{
	return rji_fail(
		err, RJ_E_DOWNTIME,
		"the downtime limit of %u ms would have been broken: %" PRIu64
		" ms had passed when the destination %s; the guest goes on here (allow more downtime and try again)",
		s->max_downtime_ms, (rji_now_ns() - ho->paused_at_ns) / RJI_NS_PER_MS, what);
}

/* The destination loads. 0 or negative; the guest is still ours. */
static int get_prepared(struct rj_session *s, const struct rji_handover *ho, struct rj_error *err)
{
	struct rji_msg_finish finish = { .run = ho->was_running,
					 .state_bytes = s->fig.state_bytes };
	uint64_t until = rji_session_deadline(2 * s->o.request_timeout_ms);
	struct rji_msg_prepared prepared;
	struct rji_cursor c;
	struct rji_msg *msg;
	uint8_t buf[16];
	int ret;

	if (ho->prepared_by_ns && ho->prepared_by_ns < until)
		until = ho->prepared_by_ns;
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_finish(&c, &finish);
	ret = rji_session_send(s, RJI_MSG_FINISH, buf, c.pos, err);
	if (!ret)
		ret = rji_session_expect(s, WAIT_PEER, RJI_MSG_PREPARED, RJI_MSG_REFUSED, until,
					 &msg, err);
	if (ret == RJ_E_TIMEOUT && until == ho->prepared_by_ns) {
		rji_error_init(err);
		return too_late(s, ho, "still loaded", err);
	}
	if (ret < 0)
		return ret;
	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	if (msg->type == RJI_MSG_REFUSED)
		ret = refused(msg, err);
	else if (rji_get_prepared(&c, &prepared) < 0)
		ret = rji_fail(err, RJ_E_PROTOCOL,
			       "the destination's PREPARED cannot be understood");
	else
		ho->terms->ns[RJI_TERM_LOAD] = prepared.load_ns;
	free(msg);
	return ret;
}

static int release(struct rj_session *s, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_RELEASE };
	int ret = rji_session_ask(s, WAIT_PEER, &ev, err);

	return ret < 0 ? ret : 0;
}

/* The last moment to change our mind. */
static int may_commit(struct rj_session *s, const struct rji_handover *ho, struct rj_error *err)
{
	uint64_t rest = s->fig.predicted_p99[RJI_TERM_REVOKE] +
			s->fig.predicted_p99[RJI_TERM_RESUME] +
			rji_estimate_p99(&s->model.round_trip_ns);
	uint64_t elapsed = rji_now_ns() - ho->paused_at_ns;

	if (atomic_load_explicit(&s->cancel, memory_order_acquire))
		return rji_fail(err, RJ_E_CANCELLED, "cancelled");
	if (s->strict && elapsed + rest > s->max_downtime_ms * RJI_NS_PER_MS)
		return too_late(s, ho, "had loaded", err);
	return rji_control_check(&s->ctl, err);
}

/* --- after COMMIT --- */

/* Success: the figures. */
static void completed(struct rj_session *s, const struct rji_handover *ho,
		      const struct rji_msg_running *m)
{
	struct rji_terms *t = ho->terms;
	uint64_t now = rji_now_ns(), total = now - ho->paused_at_ns, sum;

	t->ns[RJI_TERM_REVOKE] = m->revoke_ns;
	t->ns[RJI_TERM_RESUME] = m->resume_ns;
	sum = rji_terms_sum(t);
	t->ns[RJI_TERM_HANDOVER] = total > sum ? total - sum : 0;
	s->fig.downtime_ns = total;
	rji_session_publish_terms(s->fig.downtime, t);
	s->fig.resumed_at_ns = ho->paused_at_ns;
	s->fig.ended_ns = now;
}

/* The answer to COMMIT, by whatever way it came. 0 or RJ_E_REFUSED, RJ_E_PROTOCOL. */
static int judge_outcome(struct rj_session *s, const struct rji_handover *ho,
			 const struct rji_msg *msg, struct rj_error *err)
{
	struct rji_msg_running m;
	struct rji_cursor c;

	if (msg->type == RJI_MSG_REFUSED)
		return refused(msg, err);
	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	if (rji_get_running(&c, &m) < 0)
		memset(&m, 0, sizeof(m)); /* that it runs is what counts */
	completed(s, ho, &m);
	return 0;
}

/* Connect anew and ask once. The answer, or NULL. */
static struct rji_msg *ask_once(struct rj_session *s, uint64_t deadline_ns)
{
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR, .kind = RJI_GREET_ASK };
	uint8_t greeting[RJI_GREETING_BYTES], head[RJI_MSG_HEAD_BYTES];
	struct iovec out = { greeting, sizeof(greeting) }, in = { head, sizeof(head) };
	struct rji_msg *msg = NULL;
	uint16_t type;
	uint32_t len;
	int fd, ret;

	memcpy(g.session_id, s->session_id, sizeof(g.session_id));
	memcpy(g.token, s->secret, sizeof(g.token));
	rji_greeting_encode(&g, greeting);
	if (rji_socket_connect(&s->uri, deadline_ns, &s->stop, &fd, NULL) < 0)
		return NULL;
	ret = rji_socket_send(fd, &out, 1, deadline_ns, &s->stop);
	if (!ret)
		ret = rji_socket_recv(fd, &in, 1, deadline_ns, &s->stop);
	if (!ret)
		ret = rji_msg_decode_head(head, &type, &len, NULL);
	if (!ret && (type == RJI_MSG_RUNNING || type == RJI_MSG_REFUSED))
		msg = malloc(sizeof(*msg) + len);
	if (msg) {
		in = (struct iovec){ msg->payload, len };
		msg->type = type;
		msg->len_bytes = len;
		if (len && rji_socket_recv(fd, &in, 1, deadline_ns, &s->stop) < 0) {
			free(msg);
			msg = NULL;
		}
	}
	close(fd);
	return msg;
}

/* The connection is lost: until somebody answers, or time is up. */
static struct rji_msg *ask_for_outcome(struct rj_session *s)
{
	uint32_t keep_ms = s->peer_keep_ms < s->o.outcome_keep_ms ? s->peer_keep_ms
								  : s->o.outcome_keep_ms;
	uint64_t deadline = rji_session_deadline(keep_ms);
	const struct timespec pause = { .tv_nsec = ASK_AGAIN_NS };

	if (!s->uri_text)
		return NULL; /* a descriptor was handed in: no way to connect anew */
	rji_log(s->host, RJ_LOG_WARN,
		"the connection was lost after COMMIT: asking the destination for the outcome");
	while (rji_now_ns() < deadline) {
		struct rji_msg *msg = ask_once(s, deadline);

		if (msg)
			return msg;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static int commit(struct rj_session *s, const struct rji_handover *ho, enum rj_outcome *outcome_p,
		  struct rj_error *err)
{
	struct rji_msg *msg = NULL;
	int ret;

	*outcome_p = RJ_RUNS_UNKNOWN;
	rji_session_set_state(s, RJ_STATE_COMMITTED);
	ret = rji_session_send(s, RJI_MSG_COMMIT, NULL, 0, NULL);
	if (!ret)
		ret = rji_session_expect(s, RJI_WAIT_PEER, RJI_MSG_RUNNING, RJI_MSG_REFUSED,
					 rji_session_deadline(2 * s->o.request_timeout_ms), &msg,
					 NULL);
	if (ret < 0)
		msg = ask_for_outcome(s);
	if (!msg)
		return rji_fail(
			err, RJ_E_OUTCOME_UNKNOWN,
			"the connection was lost while the guest was being handed over, and the destination does not answer: look whether the guest runs there; if it surely does not and never will, resume it here");
	ret = judge_outcome(s, ho, msg, err);
	free(msg);
	*outcome_p = ret < 0 ? RJ_RUNS_AT_SOURCE : RJ_RUNS_AT_DESTINATION;
	return ret;
}

/* The guest runs here again: can the session go on? -EAGAIN: it does. */
static int undo_load(struct rj_session *s, struct rj_error *err)
{
	struct rj_error why;
	int ret;

	if (!(s->features & RJI_FEATURE_LOAD_ROLLBACK))
		return err->code;
	rji_error_init(&why);
	ret = rji_roll_back_peer(s, true, &why);
	if (ret == RJ_E_CANCELLED)
		*err = why;
	if (ret < 0)
		return err->code;
	rji_session_tell_warning(s, "%.240s", err->text);
	rji_error_init(err);
	return -EAGAIN;
}

int rji_handover(struct rj_session *s, const struct rji_handover *ho, enum rj_outcome *outcome_p,
		 struct rj_error *err)
{
	bool released = false, back = false;
	int ret = get_prepared(s, ho, err);

	*outcome_p = RJ_RUNS_AT_SOURCE;
	if (!ret) {
		rji_session_set_state(s, RJ_STATE_PREPARED);
		released = true; /* from here on the VMM may have let go */
		ret = release(s, err);
	}
	if (!ret)
		ret = may_commit(s, ho, err);
	if (!ret)
		ret = commit(s, ho, outcome_p, err);
	if (ret < 0 && *outcome_p == RJ_RUNS_AT_SOURCE)
		back = rji_give_back(s, released, ho->was_running);
	if (ret != RJ_E_DOWNTIME)
		return ret;
	s->fig.rollbacks++;
	return back ? undo_load(s, err) : ret;
}

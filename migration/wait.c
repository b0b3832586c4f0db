/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "migration/session_impl.h"

uint64_t rji_session_deadline(uint32_t ms)
{
	return rji_now_ns() + ms * RJI_NS_PER_MS;
}

bool rji_never(struct rj_session *s, void *arg)
{
	(void)s;
	(void)arg;
	return false;
}

/* Has somebody on this side had enough? */
static int check_cancel(const struct rj_session *s, struct rj_error *err)
{
	if (atomic_load_explicit(&s->closing, memory_order_acquire) ||
	    atomic_load_explicit(&s->cancel, memory_order_acquire))
		return rji_fail(err, RJ_E_CANCELLED, "cancelled");
	if (s->give_up_at_ns && rji_now_ns() >= s->give_up_at_ns)
		return rji_fail(
			err, RJ_E_CANCELLED,
			"cancelled: it did not get to the switchover within %u ms; the guest may dirty its memory faster than the link carries it (allow more time or downtime, or throttle the guest)",
			s->o.timeout_ms);
	return 0;
}

/* Of one message to the peer's transport. */
#define MAX_SAY_BYTES 4096

/* How long a failed lane waits for the peer to say on the control connection what happened. */
#define LANE_GRACE_NS (300 * RJI_NS_PER_MS)

/* Has a lane failed, and does control have nothing better to say about it? */
static int check_lanes(struct rj_session *s, struct rj_error *err)
{
	struct rj_error lane_err;
	int ret = 0;

	rji_error_init(&lane_err);
	if (s->sender && rji_sender_failed(s->sender) && !rji_sender_busy(s->sender))
		ret = rji_sender_result(s->sender, NULL, &lane_err);
	if (s->receiver)
		ret = rji_receiver_result(s->receiver, &lane_err);
	if (s->receiver && ret == RJ_E_LANE && s->features & RJI_FEATURE_LANES_RESET)
		return 0; /* the source notices, and replaces it */
	if (!ret)
		return 0;
	if (!s->lane_failed_ns)
		s->lane_failed_ns = rji_now_ns();
	if (rji_now_ns() - s->lane_failed_ns < LANE_GRACE_NS)
		return 0;
	if (err && !err->code)
		*err = lane_err;
	return ret;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (!a || !b)
		return a ? a : b;
	return a < b ? a : b;
}

/* Sleep until something may have happened, and take in what the peer said. */
static void sleep_and_read(struct rj_session *s, unsigned int flags, uint64_t deadline_ns)
{
	struct pollfd fds[2] = { { .fd = s->wake_fd, .events = POLLIN },
				 { .fd = -1, .events = POLLIN } };
	eventfd_t drained;

	if (s->ctl.fd >= 0) {
		if (!rji_control_is_full(&s->ctl))
			fds[1].fd = s->ctl.fd;
		deadline_ns = earlier(deadline_ns, rji_control_next_check_ns(&s->ctl));
	}
	if (flags & RJI_WAIT_CANCEL)
		deadline_ns = earlier(deadline_ns, s->give_up_at_ns);
	if (flags & RJI_WAIT_LANES && s->lane_failed_ns)
		deadline_ns = earlier(deadline_ns, s->lane_failed_ns + LANE_GRACE_NS);
	if (poll(fds, 2, rji_ms_until(deadline_ns)) <= 0)
		return;
	if (fds[0].revents)
		eventfd_read(s->wake_fd, &drained);
	if (fds[1].revents)
		rji_control_read(&s->ctl);
}

/* What the peer's transport has to say to ours; only in its turn, behind what was sent before. */
static int hear_windows(struct rj_session *s, struct rj_error *err)
{
	int ret = 0;

	while (!ret && s->ctl.first && s->ctl.first->type == RJI_MSG_WINDOWS) {
		struct rji_msg *msg;

		if (!(s->features & RJI_FEATURE_WINDOWS) || !s->tp || !s->ops->hear)
			return rji_fail(err, RJ_E_PROTOCOL, "the peer sent WINDOWS out of turn");
		msg = rji_control_take(&s->ctl);
		ret = s->ops->hear(s->tp, msg->payload, msg->len_bytes, err);
		free(msg);
	}
	return ret;
}

static int say_windows(struct rj_session *s, struct rj_error *err)
{
	uint8_t buf[MAX_SAY_BYTES];
	int ret = 0, n;

	if (!s->tp || !s->ops->say)
		return 0;
	while (!ret && (n = s->ops->say(s->tp, buf, sizeof(buf), err)) > 0)
		ret = rji_session_send(s, RJI_MSG_WINDOWS, buf, (size_t)n, err);
	return ret ? ret : n;
}

/* Past COMMIT the lanes do not matter any more, nor does what is registered for them. */
static void drop_windows(struct rj_session *s)
{
	while (s->ctl.first && s->ctl.first->type == RJI_MSG_WINDOWS)
		free(rji_control_take(&s->ctl));
}

static int talk(struct rj_session *s, unsigned int flags, struct rj_error *err)
{
	int ret;

	if (!(flags & RJI_WAIT_CANCEL)) {
		drop_windows(s);
		return 0;
	}
	ret = hear_windows(s, err);
	return ret ? ret : say_windows(s, err);
}

int rji_session_wait(struct rj_session *s, unsigned int flags, rji_ready_fn ready, void *arg,
		     uint64_t deadline_ns, struct rj_error *err)
{
	for (;;) {
		int ret, peer;

		ret = talk(s, flags, err);
		if (ret < 0)
			return ret;
		/* First: what has arrived counts, also when its sender is gone by now. */
		if (ready(s, arg))
			return 0;
		if (flags & RJI_WAIT_CANCEL)
			ret = check_cancel(s, err);
		peer = rji_session_has_peer(s)
			       ? rji_control_check(&s->ctl, flags & RJI_WAIT_PEER ? err : NULL)
			       : 0;
		if (!ret && flags & RJI_WAIT_PEER)
			ret = peer;
		if (!ret && flags & RJI_WAIT_LANES)
			ret = check_lanes(s, err);
		if (ret < 0)
			return ret;
		if (deadline_ns && rji_now_ns() >= deadline_ns)
			return RJ_E_TIMEOUT;
		sleep_and_read(s, flags, deadline_ns);
	}
}

static bool has_message(struct rj_session *s, void *arg)
{
	(void)arg;
	return s->ctl.first;
}

int rji_session_next(struct rj_session *s, unsigned int flags, uint64_t deadline_ns,
		     struct rji_msg **msg_p, struct rj_error *err)
{
	int ret = rji_session_wait(s, flags, has_message, NULL, deadline_ns, err);

	if (!ret)
		*msg_p = rji_control_take(&s->ctl);
	return ret;
}

int rji_session_expect(struct rj_session *s, unsigned int flags, uint16_t a, uint16_t b,
		       uint64_t deadline_ns, struct rji_msg **msg_p, struct rj_error *err)
{
	struct rji_msg *msg = NULL;
	int ret = rji_session_next(s, flags, deadline_ns, &msg, err);

	if (ret == RJ_E_TIMEOUT)
		return rji_fail(err, ret, "the peer did not send %s in time", rji_msg_name(a));
	if (ret < 0)
		return ret;
	if (msg->type != a && msg->type != b) {
		ret = rji_fail(err, RJ_E_PROTOCOL, "the peer sent %s where %s was due",
			       rji_msg_name(msg->type), rji_msg_name(a));
		free(msg);
		return ret;
	}
	*msg_p = msg;
	return 0;
}

int rji_session_malformed(const struct rj_session *s, uint16_t type, struct rj_error *err)
{
	return rji_fail(err, RJ_E_PROTOCOL, "the %s's %s cannot be understood",
			s->is_destination ? "source" : "destination", rji_msg_name(type));
}

int rji_session_send(struct rj_session *s, uint16_t type, const void *payload, size_t len_bytes,
		     struct rj_error *err)
{
	int ret = rji_session_has_peer(s) ? rji_control_send(&s->ctl, type, payload, len_bytes) : 0;

	if (ret < 0 && err && !err->code)
		*err = s->ctl.err;
	return ret < 0 ? rji_fail(err, ret, "cannot send %s to the peer", rji_msg_name(type)) : 0;
}

int rji_session_begin_ask(struct rj_session *s, struct rj_event *ev, uint64_t *id_p,
			  struct rj_error *err)
{
	uint64_t id;

	/* After COMMIT only the VMM knows whether it runs: giving up on RESUME could make it run twice. */
	if (!(s->is_destination && ev->type == RJ_RQ_RESUME))
		ev->deadline_ns = rji_session_deadline(s->o.request_timeout_ms);
	id = rji_vmm_ask(&s->vmm, ev);
	if (!id)
		return rji_fail(err, -ENOMEM, "no memory to ask the VMM for %s",
				rj_event_name(ev->type));
	*id_p = id;
	return 0;
}

int rji_session_judge_answer(enum rj_event_type type, int status, struct rj_error *err)
{
	if (status >= 0)
		return status;
	return rji_fail(err, RJ_E_VMM, "the VMM could not do '%s': %s", rj_event_name(type),
			rj_strerror(status));
}

struct answer {
	uint64_t id;
	int status;
};

static bool is_answered(struct rj_session *s, void *arg)
{
	struct answer *answer = arg;

	if (rji_vmm_answered(&s->vmm, answer->id, &answer->status))
		return true;
	if (!atomic_load_explicit(&s->closing, memory_order_acquire))
		return false;
	answer->status = -ESHUTDOWN; /* rj_close(): nobody will answer any more */
	return true;
}

void rji_session_note_slowness(struct rj_session *s, enum rj_event_type type, uint64_t since_ns)
{
	uint64_t took_ms = (rji_now_ns() - since_ns) / RJI_NS_PER_MS;

	if (s->o.slow_answer_ms && took_ms > s->o.slow_answer_ms)
		rji_session_tell_warning(s, "the VMM took %u ms to answer '%s'", (uint32_t)took_ms,
					 rj_event_name(type));
}

int rji_session_ask(struct rj_session *s, unsigned int flags, struct rj_event *ev,
		    struct rj_error *err)
{
	uint64_t asked_at = rji_now_ns();
	struct answer answer = { 0 };
	int ret = rji_session_begin_ask(s, ev, &answer.id, err);

	if (ret < 0)
		return ret;
	ret = rji_session_wait(s, flags, is_answered, &answer, ev->deadline_ns, err);
	if (ret < 0)
		rji_vmm_withdraw(&s->vmm, answer.id);
	else
		rji_session_note_slowness(s, ev->type, asked_at);
	if (ret == RJ_E_TIMEOUT)
		return rji_fail(err, ret, "the VMM did not answer '%s' within %u ms",
				rj_event_name(ev->type), s->o.request_timeout_ms);
	return ret < 0 ? ret : rji_session_judge_answer(ev->type, answer.status, err);
}

/* A call that runs in its own thread. */
struct aside {
	struct rj_session *s;
	int (*fn)(struct rj_session *s, void *arg, struct rj_error *err);
	void *arg;
	struct rj_error err;
	int result;
	atomic_bool done;
};

static void *aside_thread(void *arg)
{
	struct aside *aside = arg;

	aside->result = aside->fn(aside->s, aside->arg, &aside->err);
	atomic_fetch_add_explicit(&aside->s->totals.cpu_ns, rji_thread_cpu_ns(),
				  memory_order_relaxed);
	atomic_store_explicit(&aside->done, true, memory_order_release); /* pairs with is_done() */
	eventfd_write(aside->s->wake_fd, 1);
	return NULL;
}

static bool is_done(struct rj_session *s, void *arg)
{
	struct aside *aside = arg;

	(void)s;
	return atomic_load_explicit(&aside->done, memory_order_acquire);
}

int rji_session_aside(struct rj_session *s, const char *role, unsigned int flags,
		      int (*fn)(struct rj_session *s, void *arg, struct rj_error *err), void *arg,
		      struct rj_error *err)
{
	struct aside aside = { .s = s, .fn = fn, .arg = arg };
	pthread_t thread;
	int ret;

	rji_error_init(&aside.err);
	ret = rji_thread_start(s->host, role, aside_thread, &aside, &thread);
	if (ret < 0)
		return rji_fail_sys(err, ret, -ret, "cannot start the thread %s", role);
	ret = rji_session_wait(s, flags, is_done, &aside, 0, err);
	if (ret < 0)
		rji_stop_set(&s->stop);
	pthread_join(thread, NULL);
	if (ret < 0)
		return ret;
	if (aside.result < 0 && !err->code)
		*err = aside.err;
	return aside.result;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source's stop phase, from "still ready?" to the last answered fence.
 *
 *   pause ─► harvest ─► send ┬─► (save answered and lanes done) ─► harvest ─► send ─► fence ─►
 *   hand-over
 *                       save ┘
 *
 * Saving device state runs beside the first send, and dirties RAM (rings, status pages): so the
 * last harvest comes when the VMM has answered save, and what it finds goes out before the last
 * fence. The destination loads nothing before that fence is answered by every lane.
 *
 * If a lane fails, or with strict_downtime the limit would be broken, before the destination was
 * told to load, the guest resumes here first, and then everything else is put back in order: the
 * lanes finish their round (the trackers are re-armed, so what the guest writes meanwhile is seen),
 * those that cannot are replaced (replace.c), the destination forgets the device state, and the
 * rounds go on.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "migration/session_impl.h"
#include "migration/snapshot_impl.h"

/* Nothing left but what the VMM holds: look again after this. */
#define HELD_RETRY_MS 1

/* After a rollback a lane that moves nothing for so long is given up. */
#define STALL_MS 1000

/* After the first rollback; twice as long after each further one. */
#define RETRY_MS 25u

struct switchover {
	struct rji_terms terms;
	uint64_t paused_at_ns; /* the pause was asked for */
	uint64_t limit_ns;     /* CLOCK_MONOTONIC: the latest for the last fence; 0: not strict */
	uint64_t predicted_ns;
	uint64_t give_up_at_ns; /* timeout_ms, which does not run while the guest stands still */
	bool was_running;
};

/* Add the time since *at to a term, and move on. */
static void cut(struct switchover *sw, enum rji_term term, uint64_t *at)
{
	uint64_t now = rji_now_ns();

	sw->terms.ns[term] += now - *at;
	*at = now;
}

int rji_ask_peer_ready(struct rj_session *s, struct rj_error *err)
{
	uint64_t sent_at = rji_now_ns();
	struct rji_msg *msg;
	int ret = rji_session_send(s, RJI_MSG_READY, NULL, 0, err);

	if (!rji_session_has_peer(s))
		return 0;
	if (!ret)
		ret = rji_session_expect(s, RJI_WAIT_MIGRATING, RJI_MSG_READY_OK, 0,
					 rji_session_deadline(s->o.peer_timeout_ms), &msg, err);
	if (ret < 0)
		return ret;
	free(msg);
	rji_estimate_saw(&s->model.round_trip_ns, rji_now_ns() - sent_at);
	return 0;
}

static int pause_guest(struct rj_session *s, struct switchover *sw, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_PAUSE };
	int ret = rji_session_ask(s, 0, &ev, err);

	if (ret < 0)
		return ret;
	sw->was_running = ret == RJ_WAS_RUNNING;
	return 0;
}

/* Pass on what the VMM has written so far. */
static int pump_state(struct rj_session *s, struct rj_error *err)
{
	uint8_t part[64 << 10];
	size_t n;

	while ((n = rji_state_stream_take(&s->device_state, part, sizeof(part)))) {
		int ret = rji_session_has_peer(s) ? rji_session_send(s, RJI_MSG_STATE, part, n, err)
						  : rji_snapshot_keep_state(s, part, n, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

struct saving {
	uint64_t id;
	int status;  /* the VMM's answer */
	int failure; /* of the way to the peer */
	struct rj_error *err;
};

static bool saved(struct rj_session *s, void *arg)
{
	struct saving *saving = arg;
	bool answered = rji_vmm_answered(&s->vmm, saving->id, &saving->status);

	if (!answered && atomic_load_explicit(&s->closing, memory_order_acquire)) {
		saving->status = -ESHUTDOWN;
		answered = true;
	}
	/* After the answer nothing more is written: this takes the last of it. */
	if (!saving->failure)
		saving->failure = pump_state(s, saving->err);
	if (saving->failure)
		rji_state_stream_open(&s->device_state, false); /* or the VMM waits for room */
	return answered;
}

/*
 * The VMM writes its device state. Always waits for the answer: only then nothing writes guest RAM
 * any more.
 */
static int save(struct rj_session *s, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_SAVE };
	struct saving saving = { .err = err };
	uint64_t asked_at = rji_now_ns();
	int ret;

	rji_state_stream_reset(&s->device_state, true);
	ret = rji_session_begin_ask(s, &ev, &saving.id, err);
	if (ret < 0)
		return ret;
	ret = rji_session_wait(s, 0, saved, &saving, ev.deadline_ns, err);
	rji_state_stream_open(&s->device_state, false);
	s->fig.state_bytes = s->model.state_bytes = s->device_state.total_bytes;
	if (ret == RJ_E_TIMEOUT) {
		rji_vmm_withdraw(&s->vmm, saving.id);
		return rji_fail(err, ret, "the VMM did not answer 'save' within %u ms",
				s->o.request_timeout_ms);
	}
	rji_session_note_slowness(s, RJ_RQ_SAVE, asked_at);
	if (ret < 0 || saving.failure < 0)
		return ret < 0 ? ret : saving.failure;
	return rji_session_judge_answer(RJ_RQ_SAVE, saving.status, err);
}

static int collect(struct rj_session *s, struct switchover *sw, uint64_t *at, struct rj_error *err)
{
	struct rji_dirt dirt;
	int ret = rji_harvest_collect(&s->harvest, &dirt, err);

	s->fig.pending_bytes = dirt.pending_bytes;
	cut(sw, RJI_TERM_HARVEST, at);
	return ret;
}

/*
 * Send what is pending, until nothing is: more than one turn only while the VMM holds a range
 * (rj_discard_begin).
 */
static int send_last(struct rj_session *s, struct switchover *sw, uint64_t *at,
		     struct rj_error *err)
{
	uint64_t held_until = rji_session_deadline(s->o.request_timeout_ms);

	while (rji_harvest_begin_round(&s->harvest)) {
		struct rji_sent sent;
		uint64_t began = *at, posting_ns;
		int ret;

		rji_expect_round(s);
		rji_sender_round(s->sender);
		ret = rji_finish_round(s, sw->limit_ns, &sent, err);
		if (ret < 0)
			return ret;
		cut(sw, RJI_TERM_FENCE, at);
		posting_ns = sent.send_ns < *at - began ? sent.send_ns : *at - began;
		sw->terms.ns[RJI_TERM_SEND] += posting_ns;
		sw->terms.ns[RJI_TERM_FENCE] -= posting_ns;
		if (sent.pages)
			continue;
		if (rji_now_ns() > held_until)
			return rji_fail(err, RJ_E_TIMEOUT,
					"a range is still held by rj_discard_begin()");
		ret = rji_session_wait(s, RJI_WAIT_MIGRATING, rji_never, NULL,
				       rji_session_deadline(HELD_RETRY_MS), err);
		if (ret != RJ_E_TIMEOUT)
			return ret;
	}
	return 0;
}

/* Everything that has to be in order at the destination before it may load. */
static int stop_phase(struct rj_session *s, struct switchover *sw, struct rj_error *err)
{
	uint64_t at = sw->paused_at_ns;
	struct rji_sent sent;
	int ret = pause_guest(s, sw, err);

	cut(sw, RJI_TERM_PAUSE, &at);
	if (!ret)
		ret = collect(s, sw, &at, err);
	if (ret < 0)
		return ret;
	rji_harvest_begin_round(&s->harvest);
	rji_expect_round(s);
	rji_sender_round(s->sender);
	ret = save(s, err);
	cut(sw, RJI_TERM_SAVE, &at);
	if (!ret)
		ret = rji_finish_round(s, sw->limit_ns, &sent, err);
	cut(sw, RJI_TERM_SEND, &at);
	if (!ret)
		ret = collect(s, sw, &at, err);
	if (!ret)
		ret = send_last(s, sw, &at, err);
	if (!ret && sw->limit_ns && rji_now_ns() > sw->limit_ns)
		ret = RJ_E_TIMEOUT;
	return ret;
}

static bool resume_here(struct rj_session *s, bool run)
{
	struct rj_event ev = { .type = RJ_RQ_RESUME, .u.resume.run = run };
	struct rj_error err;

	rji_error_init(&err);
	if (rji_session_ask(s, 0, &ev, &err) >= 0)
		return true;
	rji_session_tell_warning(s, "the guest is this side's, but did not resume: %.200s",
				 err.text);
	return false;
}

bool rji_give_back(struct rj_session *s, bool released, bool was_running)
{
	struct rj_event reclaim = { .type = RJ_RQ_RECLAIM };
	struct rj_error err;

	rji_error_init(&err);
	if (released && rji_session_ask(s, 0, &reclaim, &err) < 0) {
		rji_session_tell_warning(
			s,
			"what was released could not be taken back, so the guest stays paused here: %.160s",
			err.text);
		return false;
	}
	return resume_here(s, was_running);
}

/* What an attempt that was given up has shown, and when the next may come: the guest is to have some peace. */
static void learn(struct rj_session *s, const struct switchover *sw, uint64_t stood_ns)
{
	uint32_t n = s->fig.rollbacks < 10 ? s->fig.rollbacks : 10;

	rji_downtime_saw_attempt(&s->model, &sw->terms, sw->predicted_ns, stood_ns);
	s->retry_at_ns = rji_session_deadline(RETRY_MS << n);
}

/* The guest runs again, so a lane may take its time, but not stand still. */
static uint32_t stall_ms(const struct rj_session *s)
{
	return s->o.peer_timeout_ms < STALL_MS ? s->o.peer_timeout_ms : STALL_MS;
}

/*
 * A lane failed (ret), or the limit would be broken: the guest first, then the rest. -EAGAIN: the
 * rounds go on.
 */
static int roll_back(struct rj_session *s, const struct switchover *sw, int ret,
		     struct rj_error *err)
{
	bool late = ret == RJ_E_TIMEOUT;
	struct rj_error lane_err;
	uint64_t stood_ns;
	int told;

	s->fig.rollbacks++;
	if (!rji_give_back(s, false, sw->was_running))
		return rji_fail(err, RJ_E_VMM, "the guest did not resume at the source");
	s->give_up_at_ns = sw->give_up_at_ns;
	stood_ns = rji_now_ns() - sw->paused_at_ns;
	learn(s, sw, late ? stood_ns : 0);
	rji_session_tell_warning(s,
				 "the switchover %s: the guest goes on here after %" PRIu64
				 " ms, another round follows",
				 late ? "would have broken the downtime limit" : "lost a lane",
				 stood_ns / RJI_NS_PER_MS);
	if (late)
		ret = rji_settle_lanes(s, stall_ms(s), 0, err);
	if (late && !ret)
		ret = rji_finish_round(s, 0, NULL, err);
	lane_err = *err;
	if (ret && ret != RJ_E_LANE)
		return ret;
	rji_error_init(err);
	told = rji_session_has_peer(s) ? rji_roll_back_peer(s, false, err)
				       : rji_snapshot_forget_state(s);
	if (told < 0 || !ret)
		return told < 0 ? told : -EAGAIN;
	*err = lane_err;
	if (rji_may_replace_lanes(s, ret))
		ret = rji_replace_lanes(s, err);
	return ret < 0 ? ret : -EAGAIN;
}

/* The latest for what comes before these terms, so that they still fit; 0: it does not matter. */
static uint64_t latest(const struct rj_session *s, uint64_t paused_at_ns,
		       const enum rji_term *after, size_t n)
{
	uint64_t allowed = s->max_downtime_ms * RJI_NS_PER_MS, rest = 0;

	if (!s->strict)
		return 0;
	for (size_t i = 0; i < n; i++)
		rest += s->fig.predicted_p99[after[i]];
	return paused_at_ns + (allowed > rest ? allowed - rest : 0);
}

static uint64_t fenced_by(const struct rj_session *s, uint64_t paused_at_ns)
{
	static const enum rji_term after[] = { RJI_TERM_LOAD, RJI_TERM_REVOKE, RJI_TERM_HANDOVER,
					       RJI_TERM_RESUME };

	return latest(s, paused_at_ns, after, 4);
}

static uint64_t prepared_by(const struct rj_session *s, uint64_t paused_at_ns)
{
	static const enum rji_term after[] = { RJI_TERM_REVOKE, RJI_TERM_RESUME };

	return latest(s, paused_at_ns, after, 2);
}

int rji_switchover(struct rj_session *s, enum rj_outcome *outcome_p, struct rj_error *err)
{
	/* Until the VMM says otherwise: a pause that fails may have stopped a running guest half-way. */
	struct switchover sw = { .predicted_ns = s->fig.predicted_ns, .was_running = true };
	struct rji_handover ho;
	int ret;

	*outcome_p = RJ_RUNS_AT_SOURCE;
	rji_session_set_state(s, RJ_STATE_STOPPING);
	ret = rji_ask_peer_ready(s, err);
	if (!ret)
		ret = rji_session_send(s, RJI_MSG_STOPPING, NULL, 0, err);
	if (ret < 0)
		return ret;
	sw.give_up_at_ns = s->give_up_at_ns;
	s->give_up_at_ns = 0;
	sw.paused_at_ns = rji_now_ns();
	sw.limit_ns = fenced_by(s, sw.paused_at_ns);
	ret = stop_phase(s, &sw, err);
	if ((ret == RJ_E_TIMEOUT && !err->code) || rji_may_replace_lanes(s, ret))
		return roll_back(s, &sw, ret, err);
	if (ret < 0) {
		rji_give_back(s, false, sw.was_running);
		return ret;
	}
	ho = (struct rji_handover){ .was_running = sw.was_running,
				    .paused_at_ns = sw.paused_at_ns,
				    .prepared_by_ns = prepared_by(s, sw.paused_at_ns),
				    .terms = &sw.terms };
	ret = rji_session_has_peer(s) ? rji_handover(s, &ho, outcome_p, err)
				      : rji_snapshot_finish(s, &ho, outcome_p, err);
	if (ret == -EAGAIN) {
		s->give_up_at_ns = sw.give_up_at_ns;
		learn(s, &sw, rji_now_ns() - sw.paused_at_ns);
	}
	return ret;
}

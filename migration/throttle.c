/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Source: a guest that dirties its memory faster than the link carries it is slowed down by its VMM, in steps, until the
 * rounds shrink. Steps are those that operators know from QEMU's auto-converge.
 */
#include "base/clock.h"
#include "migration/session_impl.h"

#define INITIAL_PERCENT 20u
#define STEP_PERCENT 10u

/* A round that leaves more than this share of itself behind does not get there in useful time. */
#define SHRINKS_PERCENT 90u
/* One such round may be chance. */
#define ROUNDS_IN_A_ROW 2u
/* And a step needs time to show. */
#define STEP_MS 200u

/* What the throttle asked for until now has cost. */
static void account(struct rji_figures *f)
{
	uint64_t now = rji_now_ns(), ns = now - f->throttle_since_ns;

	if (f->throttle_percent) {
		f->throttled_ns += ns;
		f->throttle_cost_ns += ns / 100 * f->throttle_percent;
	}
	f->throttle_since_ns = now;
}

static void note(struct rji_figures *f, uint32_t percent)
{
	account(f);
	f->throttle_percent = percent;
	if (percent > f->throttle_peak_percent)
		f->throttle_peak_percent = percent;
}

static int ask(struct rj_session *s, unsigned int flags, uint32_t percent, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_THROTTLE, .u.throttle.percent = percent };

	return rji_session_ask(s, flags, &ev, err);
}

static uint32_t next_percent(const struct rj_session *s)
{
	uint32_t now = s->fig.throttle_percent, max = s->o.throttle_max_percent;
	uint32_t next = now ? now + STEP_PERCENT : INITIAL_PERCENT;

	return next < max ? next : max;
}

static int step(struct rj_session *s, struct rj_error *err)
{
	uint32_t percent = next_percent(s);
	struct rj_error refusal;
	int ret;

	if (percent == s->fig.throttle_percent)
		return 0;
	rji_error_init(&refusal);
	ret = ask(s, RJI_WAIT_MIGRATING, percent, &refusal);
	if (ret == RJ_E_VMM) {
		s->throttle_refused = true;
		rji_session_tell_warning(s, "the guest is not throttled any further: %.200s",
					 refusal.text);
		return 0;
	}
	if (ret < 0) {
		/* It may have been done: then it is to be undone. */
		note(&s->fig, percent);
		*err = refusal;
		return ret;
	}
	note(&s->fig, percent);
	s->throttle_next_ns = rji_session_deadline(STEP_MS);
	return 0;
}

int rji_throttle_after_round(struct rj_session *s, uint64_t sent_bytes, uint64_t dirtied_bytes,
			     struct rj_error *err)
{
	if (!s->o.throttle_max_percent || s->throttle_refused)
		return 0;
	if (dirtied_bytes <= sent_bytes / 100 * SHRINKS_PERCENT)
		s->throttle_rounds = 0;
	else
		s->throttle_rounds++;
	if (s->throttle_rounds < ROUNDS_IN_A_ROW || rji_now_ns() < s->throttle_next_ns)
		return 0;
	s->throttle_rounds = 0;
	return step(s, err);
}

void rji_throttle_release(struct rj_session *s)
{
	struct rj_error err;

	if (!s->fig.throttle_percent)
		return;
	rji_error_init(&err);
	if (ask(s, 0, 0, &err) < 0)
		rji_session_tell_warning(s, "the guest may still be throttled: %.200s", err.text);
	note(&s->fig, 0);
}

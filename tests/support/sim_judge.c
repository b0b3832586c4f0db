/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may run the guest, who holds the disk lock, and whether the memory is right: asserted at each
 * step and at the end.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sim_host.h"

static const char *const side_name[] = { "source", "destination" };

/* With the lock held. */
static void complain_locked(struct sim_migration *m, const char *text)
{
	if (!m->report->complaint[0])
		snprintf(m->report->complaint, sizeof(m->report->complaint), "%s", text);
}

void sim_complain(struct sim_migration *m, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&m->lock);
	complain_locked(m, text);
	pthread_mutex_unlock(&m->lock);
}

int sim_judge_release(struct sim_migration *m, enum sim_side side)
{
	pthread_mutex_lock(&m->lock);
	if (!m->holds_lock[side])
		complain_locked(m, "release of what is not held");
	m->holds_lock[side] = false;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

int sim_judge_take(struct sim_migration *m, enum sim_side side)
{
	pthread_mutex_lock(&m->lock);
	if (m->holds_lock[!side] && !m->report->dead[!side])
		complain_locked(m, "the disk lock is taken while the other side holds it");
	m->holds_lock[side] = true;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* A source that has given up meanwhile may run on. */
static void compare_memory(struct sim_migration *m, const char *when)
{
	struct sim_guest *source = m->host[SIM_SOURCE].guest;
	char text[400];

	if (!sim_guest_equal(source, m->host[SIM_DESTINATION].guest, text, sizeof(text)) &&
	    !sim_guest_is_running(source))
		sim_complain(m, "at %s: %s", when, text);
}

int sim_judge_load(struct sim_migration *m)
{
	compare_memory(m, "load");
	return 0;
}

/* Did the source send COMMIT? With the lock held. */
static bool has_committed(const struct sim_migration *m)
{
	struct rj_stats st = { .size = sizeof(st) };

	if (m->committed || !m->host[SIM_SOURCE].s)
		return m->committed || m->report->dead[SIM_SOURCE];
	rj_stats(m->host[SIM_SOURCE].s, &st);
	return st.state == RJ_STATE_COMMITTED || st.state == RJ_STATE_COMPLETED ||
	       st.state == RJ_STATE_UNKNOWN;
}

static void judge_arrival(struct sim_migration *m)
{
	bool committed;

	pthread_mutex_lock(&m->lock);
	committed = has_committed(m);
	pthread_mutex_unlock(&m->lock);
	if (!committed)
		sim_complain(m, "the destination runs the guest without COMMIT");
	if (!sim_world_is_withdrawn(m->world))
		sim_complain(
			m,
			"the destination runs the guest while the source can still write its memory");
	compare_memory(m, "resume");
}

/* Then the library does not know how the guest was. */
static bool pause_failed(const struct sim_migration *m)
{
	return m->mischief_fired && m->plan->mischief[SIM_SOURCE].at == RJ_RQ_PAUSE;
}

int sim_judge_resume(struct sim_migration *m, enum sim_side side, bool run)
{
	if (side == SIM_DESTINATION)
		judge_arrival(m);
	pthread_mutex_lock(&m->lock);
	if (m->knows_running[!side] && !m->report->dead[!side])
		complain_locked(m,
				side == SIM_SOURCE
					? "resumed at the source while it runs at the destination"
					: "resumed at the destination while it runs at the source");
	if (!m->holds_lock[side])
		complain_locked(m, "resumed without the disk lock");
	if (run != m->was_running && !(run && pause_failed(m)))
		complain_locked(m, run ? "a paused guest was set running"
				       : "a running guest was left paused");
	m->knows_running[side] = true;
	pthread_mutex_unlock(&m->lock);
	if (run && m->was_running) /* else the pause failed: the VMM puts back what it had */
		sim_guest_resume(m->host[side].guest);
	return 0;
}

int sim_judge_drop(struct sim_migration *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->knows_running[SIM_DESTINATION])
		complain_locked(m, "dropped at the destination while it runs there");
	m->holds_lock[SIM_DESTINATION] = false;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* --- the end --- */

static bool source_may_stay_paused(const struct sim_migration *m)
{
	const struct sim_mischief *mischief = &m->plan->mischief[SIM_SOURCE];

	return mischief->act && (mischief->at == RJ_RQ_RESUME || mischief->at == RJ_RQ_RECLAIM);
}

static void judge_source(struct sim_migration *m)
{
	const struct sim_report *r = m->report;
	bool running = sim_guest_is_running(m->host[SIM_SOURCE].guest);

	if ((r->runs[SIM_SOURCE] == RJ_RUNS_AT_DESTINATION) != (r->status[SIM_SOURCE] == 0))
		sim_complain(m, "the source says %d and that it runs at %d", r->status[SIM_SOURCE],
			     r->runs[SIM_SOURCE]);
	if (r->runs[SIM_SOURCE] != RJ_RUNS_AT_SOURCE) {
		if (running)
			sim_complain(m, "the guest runs at the source, which says it does not");
		return;
	}
	if (source_may_stay_paused(m))
		return;
	if (running != m->was_running)
		sim_complain(m, "the source has the guest, but it is %s there",
			     running ? "running" : "paused");
	if (!m->holds_lock[SIM_SOURCE])
		sim_complain(m, "the source has the guest, but not its disk lock");
}

static void judge_destination(struct sim_migration *m)
{
	const struct sim_report *r = m->report;

	if ((r->runs[SIM_DESTINATION] == RJ_RUNS_AT_DESTINATION) !=
	    (r->status[SIM_DESTINATION] == 0))
		sim_complain(m, "the destination says %d and that it runs at %d",
			     r->status[SIM_DESTINATION], r->runs[SIM_DESTINATION]);
	if ((r->runs[SIM_DESTINATION] == RJ_RUNS_AT_DESTINATION) !=
	    m->knows_running[SIM_DESTINATION])
		sim_complain(m, "the destination says it runs at %d, but was %sresumed",
			     r->runs[SIM_DESTINATION],
			     m->knows_running[SIM_DESTINATION] ? "" : "not ");
}

static void judge_both(struct sim_migration *m)
{
	const struct sim_report *r = m->report;

	if (r->runs[SIM_SOURCE] != RJ_RUNS_UNKNOWN &&
	    r->runs[SIM_SOURCE] != r->runs[SIM_DESTINATION])
		sim_complain(m, "the sides tell different stories: it runs at %d and at %d",
			     r->runs[SIM_SOURCE], r->runs[SIM_DESTINATION]);
	if (m->holds_lock[SIM_SOURCE] && m->holds_lock[SIM_DESTINATION])
		sim_complain(m, "both sides hold the disk lock");
}

void sim_judge_end(struct sim_migration *m)
{
	char text[400];

	for (int side = 0; side < 2; side++) {
		if (!m->host[side].done && !m->host[side].died &&
		    m->plan->mischief[side].at != RJ_RQ_RESUME)
			sim_complain(m, "the %s did not come to an end", side_name[side]);
	}
	if (m->host[SIM_SOURCE].done)
		judge_source(m);
	if (m->host[SIM_DESTINATION].done)
		judge_destination(m);
	if (m->host[SIM_SOURCE].done && m->host[SIM_DESTINATION].done)
		judge_both(m);
	if (sim_world_violation(m->world, text, sizeof(text)))
		sim_complain(m, "on the wire: %s", text);
}

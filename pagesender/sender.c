/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/sender.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "pagesender/lane_post.h"

#define KEEPALIVE_NS RJI_NS_PER_S

struct worker {
	struct rji_sender *sender;
	pthread_t thread;
	bool started;
	atomic_bool
		dead; /* failed: what it has in flight is of unknown fate, it does nothing more */
	pthread_mutex_t link_lock; /* lane.link from being made to being closed, for cutting it */
	struct rji_lane_sender lane;
	/* what the control thread saw of it: see rji_sender_cut_stalled() */
	uint64_t seen_call_ns, seen_bytes, seen_at_ns;
};

struct rji_sender {
	struct rji_sender_opts o;
	pthread_mutex_t lock; /* job, job_number and the condition */
	pthread_cond_t new_job;
	enum rji_sender_job job;
	uint64_t job_number;
	uint64_t job_began_ns;
	struct rji_addrs addrs;
	struct rji_admission adm;
	uint64_t connect_deadline_ns;
	uint64_t to_drop; /* lanes, by bit */
	atomic_uint n_busy;
	atomic_bool failed;
	uint32_t n_workers;
	struct worker workers[];
};

/* Wait for a job other than number; NONE: a second has passed. */
static enum rji_sender_job next_job(struct rji_sender *s, uint64_t *number)
{
	struct timespec until;
	enum rji_sender_job job = RJI_JOB_NONE;
	uint64_t at = rji_now_ns() + KEEPALIVE_NS;

	until.tv_sec = (time_t)(at / RJI_NS_PER_S);
	until.tv_nsec = (long)(at % RJI_NS_PER_S);
	pthread_mutex_lock(&s->lock);
	while (s->job_number == *number) {
		if (pthread_cond_clockwait(&s->new_job, &s->lock, CLOCK_MONOTONIC, &until))
			break;
	}
	if (s->job_number != *number) {
		*number = s->job_number;
		job = s->job;
	}
	pthread_mutex_unlock(&s->lock);
	return job;
}

/* Pairs with fail(): whoever sees it sees lane.err. */
static bool is_dead(const struct worker *w)
{
	return atomic_load_explicit(&w->dead, memory_order_acquire);
}

static int connect_lane(struct worker *w)
{
	struct rji_sender *s = w->sender;
	struct rji_lane *link = NULL;
	int ret;

	if (w->lane.link)
		return 0;
	ret = s->o.ops->connect(s->o.tp, w->lane.number, &s->addrs, &s->adm, s->connect_deadline_ns,
				&link, &w->lane.err);
	pthread_mutex_lock(&w->link_lock);
	w->lane.link = link;
	pthread_mutex_unlock(&w->link_lock);
	if (!ret && s->o.filters && s->o.filters->on) {
		ret = rji_lane_filter_init(&w->lane.filter, s->o.filters, s->o.ops, link);
		w->lane.filters = !ret;
	}
	return ret;
}

/* What it keeps is partly its link's. */
static void drop_filter(struct rji_lane_sender *lane)
{
	if (lane->filters)
		rji_lane_filter_fini(&lane->filter);
	lane->filters = false;
}

/* Forget a lane that failed: the next connect makes a new one. */
static void drop_lane(struct worker *w)
{
	const struct rji_transport_ops *ops = w->sender->o.ops;

	rji_lane_tell_totals(&w->lane);
	drop_filter(&w->lane);
	pthread_mutex_lock(&w->link_lock);
	if (w->lane.link && ops->cut)
		ops->cut(w->lane.link); /* no orderly end: that could wait for ever */
	ops->close(&w->lane.link);
	pthread_mutex_unlock(&w->link_lock);
	w->lane.told_bytes = 0;
	memset(&w->lane.told, 0, sizeof(w->lane.told));
	rji_error_init(&w->lane.err);
	atomic_store_explicit(&w->dead, false, memory_order_release);
}

/* One that failed too late to be among them is still a failure. */
static void drop_if_asked(struct worker *w)
{
	struct rji_sender *s = w->sender;

	if (!is_dead(w))
		return;
	if (s->to_drop >> w->lane.number & 1)
		drop_lane(w);
	else
		atomic_store_explicit(&s->failed, true, memory_order_release);
}

static int do_job(struct worker *w, enum rji_sender_job job)
{
	if (job == RJI_JOB_DROP)
		drop_if_asked(w);
	if (is_dead(w))
		return 0;
	switch (job) {
	case RJI_JOB_CONNECT: return connect_lane(w);
	case RJI_JOB_ROUND: return rji_lane_send_round(&w->lane);
	case RJI_JOB_NONE: /* idle for a while: is the path still there? */
		return w->lane.link ? rji_lane_fence(&w->lane) : 0;
	default: return 0;
	}
}

static void fail(struct worker *w, int ret)
{
	struct rji_sender *s = w->sender;

	rji_fail(&w->lane.err, ret, "lane %u: %s", w->lane.number, rj_strerror(ret));
	w->lane.err.lane = w->lane.number;
	atomic_store_explicit(&w->dead, true, memory_order_release);
	atomic_store_explicit(&s->o.harvest->abort, true, memory_order_release);
	/* pairs with rji_sender_failed() */
	atomic_store_explicit(&s->failed, true, memory_order_release);
	eventfd_write(s->o.done_fd, 1);
}

static void *lane_thread(void *arg)
{
	struct worker *w = arg;
	struct rji_sender *s = w->sender;
	uint64_t number = 0;

	rji_thread_give_way(s->o.host);
	for (;;) {
		enum rji_sender_job job = next_job(s, &number);
		int ret;

		if (job == RJI_JOB_QUIT)
			break;
		ret = do_job(w, job);
		if (ret < 0)
			fail(w, ret);
		rji_lane_tell_totals(&w->lane);
		/*
		 * Release: the control thread then sees the lane's round, error and bitmap words.
		 */
		if (job != RJI_JOB_NONE &&
		    atomic_fetch_sub_explicit(&s->n_busy, 1, memory_order_acq_rel) == 1)
			eventfd_write(s->o.done_fd, 1);
	}
	return NULL;
}

static int start_worker(struct rji_sender *s, uint32_t i, struct rj_error *err)
{
	const struct rji_lane_place *place = s->o.placement ? &s->o.placement->lane[i] : NULL;
	struct worker *w = &s->workers[i];
	char role[24];
	int ret;

	w->sender = s;
	w->lane.number = i;
	w->lane.ops = s->o.ops;
	w->lane.harvest = s->o.harvest;
	w->lane.holds = s->o.holds;
	w->lane.pace = s->o.pace;
	w->lane.stop = s->o.stop;
	w->lane.totals = s->o.totals;
	w->lane.extent_max_bytes = RJI_EXTENT_MAX_BYTES;
	rji_error_init(&w->lane.err);
	pthread_mutex_init(&w->link_lock, NULL);
	snprintf(role, sizeof(role), "rj-lane-%u", i);
	if (place)
		w->lane.group = place->group;
	if (s->o.node_bytes)
		w->lane.node_bytes = &s->o.node_bytes[(size_t)i * (s->o.n_nodes + 1)];
	w->lane.n_nodes = s->o.n_nodes;
	ret = rji_thread_start_on(s->o.host, role, place && place->narrowed ? &place->cpus : NULL,
				  lane_thread, w, &w->thread);
	if (ret < 0)
		return rji_fail_sys(err, ret, -ret, "cannot start the thread %s", role);
	w->started = true;
	return 0;
}

int rji_sender_create(const struct rji_sender_opts *o, struct rji_sender **s_p,
		      struct rj_error *err)
{
	struct rji_sender *s = calloc(1, sizeof(*s) + o->n_lanes * sizeof(s->workers[0]));
	int ret = 0;

	if (!s)
		return rji_fail(err, -ENOMEM, "no memory for %u lanes", o->n_lanes);
	s->o = *o;
	s->n_workers = o->n_lanes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->new_job, NULL);
	for (uint32_t i = 0; !ret && i < o->n_lanes; i++)
		ret = start_worker(s, i, err);
	if (ret < 0) {
		rji_sender_destroy(&s);
		return ret;
	}
	*s_p = s;
	return 0;
}

static void give(struct rji_sender *s, enum rji_sender_job job)
{
	/* the lock orders it */
	atomic_store_explicit(&s->n_busy, s->n_workers, memory_order_relaxed);
	pthread_mutex_lock(&s->lock);
	s->job = job;
	s->job_number++;
	s->job_began_ns = rji_now_ns();
	pthread_cond_broadcast(&s->new_job);
	pthread_mutex_unlock(&s->lock);
}

void rji_sender_destroy(struct rji_sender **s_p)
{
	struct rji_sender *s = *s_p;

	if (!s)
		return;
	if (rji_sender_busy(s))
		rji_stop_set(s->o.stop);
	give(s, RJI_JOB_QUIT);
	for (uint32_t i = 0; i < s->n_workers; i++) {
		struct worker *w = &s->workers[i];

		if (w->started)
			pthread_join(w->thread, NULL);
		if (is_dead(w) && w->lane.link && s->o.ops->cut)
			s->o.ops->cut(w->lane.link);
		drop_filter(&w->lane);
		s->o.ops->close(&w->lane.link);
		if (w->sender)
			pthread_mutex_destroy(&w->link_lock);
	}
	pthread_cond_destroy(&s->new_job);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*s_p = NULL;
}

void rji_sender_connect(struct rji_sender *s, const struct rji_addrs *addrs,
			const struct rji_admission *adm, uint64_t deadline_ns)
{
	s->addrs = *addrs;
	s->adm = *adm;
	s->connect_deadline_ns = deadline_ns;
	give(s, RJI_JOB_CONNECT);
}

void rji_sender_round(struct rji_sender *s)
{
	give(s, RJI_JOB_ROUND);
}

void rji_sender_drop(struct rji_sender *s, uint64_t lanes)
{
	s->to_drop = lanes;
	/* relaxed: the lock of give() orders it; a lane that fails from now on sets it again */
	atomic_store_explicit(&s->failed, false, memory_order_relaxed);
	give(s, RJI_JOB_DROP);
}

uint64_t rji_sender_broken(const struct rji_sender *s)
{
	uint64_t lanes = 0;

	for (uint32_t i = 0; i < s->n_workers; i++) {
		if (is_dead(&s->workers[i]))
			lanes |= 1ull << i;
	}
	return lanes;
}

/* Has it stood still in one call since the last look, and for how long? With its lock held. */
static uint64_t stands_still_ns(const struct rji_sender *s, struct worker *w, uint64_t now)
{
	struct rji_lane_stats st = { 0 };
	uint64_t call = atomic_load_explicit(&w->lane.calling_since_ns, memory_order_relaxed);

	if (!call || !w->lane.link)
		return 0;
	s->o.ops->stats(w->lane.link, &st);
	if (call != w->seen_call_ns || st.sent_bytes != w->seen_bytes) {
		w->seen_call_ns = call;
		w->seen_bytes = st.sent_bytes;
		w->seen_at_ns = now;
	}
	return now - w->seen_at_ns;
}

uint32_t rji_sender_cut_stalled(struct rji_sender *s, uint64_t stalled_ns)
{
	uint64_t now = rji_now_ns();
	uint32_t n = 0;

	for (uint32_t i = 0; s->o.ops->cut && i < s->n_workers; i++) {
		struct worker *w = &s->workers[i];

		pthread_mutex_lock(&w->link_lock);
		if (stands_still_ns(s, w, now) >= stalled_ns) {
			s->o.ops->cut(w->lane.link);
			n++;
		}
		pthread_mutex_unlock(&w->link_lock);
	}
	return n;
}

void rji_sender_set_extent_max(struct rji_sender *s, uint32_t max_bytes)
{
	/* the next job's hand-over in give() orders it */
	for (uint32_t i = 0; i < s->n_workers; i++)
		s->workers[i].lane.extent_max_bytes = max_bytes;
}

bool rji_sender_busy(const struct rji_sender *s)
{
	/* pairs with lane_thread() */
	return atomic_load_explicit(&s->n_busy, memory_order_acquire);
}

bool rji_sender_failed(const struct rji_sender *s)
{
	return atomic_load_explicit(&s->failed, memory_order_acquire);
}

static int first_failure(const struct rji_sender *s, struct rj_error *err)
{
	const struct rj_error *found = NULL;

	for (uint32_t i = 0; i < s->n_workers; i++) {
		const struct rj_error *e = &s->workers[i].lane.err;

		if (is_dead(&s->workers[i]) && (!found || found->code == -ECANCELED))
			found = e; /* those that were only told to stop are not the news */
	}
	if (!found)
		return -ECANCELED;
	if (!err->code)
		*err = *found;
	return found->code;
}

int rji_sender_result(struct rji_sender *s, struct rji_sent *sent_p, struct rj_error *err)
{
	struct rji_sent sent = { 0 };
	uint64_t sent_at = s->job_began_ns, fenced_at = s->job_began_ns;

	if (rji_sender_failed(s))
		return first_failure(s, err);
	for (uint32_t i = 0; i < s->n_workers; i++) {
		const struct rji_lane_round *r = &s->workers[i].lane.round;

		sent.pages += r->pages;
		sent.guest_bytes += r->guest_bytes;
		sent.bytes += r->bytes;
		if (r->sent_at_ns > sent_at)
			sent_at = r->sent_at_ns;
		if (r->fenced_at_ns > fenced_at)
			fenced_at = r->fenced_at_ns;
	}
	sent.send_ns = sent_at - s->job_began_ns;
	sent.fence_ns = fenced_at > sent_at ? fenced_at - sent_at : 0;
	if (sent_p)
		*sent_p = sent;
	return 0;
}

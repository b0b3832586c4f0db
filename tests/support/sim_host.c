/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_host.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migration/session_impl.h"

static const char machine[] = "sim machine, one of a kind";
static const char reply[] = "the same here";

#define PLENTY_MS 600000

/* --- opening --- */

static void fill_opts(const struct sim_host *h, struct rj_opts *o)
{
	const struct sim_plan *p = h->m->plan;

	rj_opts_init(o);
	o->n_lanes = h->side == SIM_SOURCE ? p->n_lanes : 0;
	o->max_downtime_ms = p->rounds > 1	  ? 1
			     : p->max_downtime_ms ? p->max_downtime_ms
						  : PLENTY_MS;
	o->strict_downtime = p->strict;
	o->on_timeout = p->stop_anyway ? RJ_ON_TIMEOUT_STOP_ANYWAY : RJ_ON_TIMEOUT_CANCEL;
	o->timeout_ms = h->side == SIM_SOURCE ? p->timeout_ms : 0;
	o->peer_timeout_ms = p->peer_timeout_ms ? p->peer_timeout_ms : 10000;
	o->request_timeout_ms = p->request_timeout_ms ? p->request_timeout_ms : 20000;
	o->outcome_keep_ms = p->outcome_keep_ms ? p->outcome_keep_ms : 1000;
	o->filters = p->filters;
}

static void use_transport(struct sim_host *h)
{
	const struct sim_plan *p = h->m->plan;

	h->end.world = h->m->world;
	if (p->fault.op && p->fault_side == h->side) {
		h->faulty.inner = &sim_transport;
		h->faulty.inner_arg = &h->end;
		h->faulty.fault = p->fault;
		rji_session_use_transport(h->s, &sim_fault_transport, &h->faulty);
	} else {
		rji_session_use_transport(h->s, &sim_transport, &h->end);
	}
}

static int add_region(struct sim_host *h, const struct sim_region *like)
{
	struct sim_region *r = sim_guest_add_region(h->guest, like->name, like->len_bytes,
						    like->page_bytes, 0, sim_chance(&h->random, 30),
						    !h->m->plan->zeroed);
	struct rj_region desc;

	rj_region_init(&desc);
	desc.name = r->name;
	desc.host = (void *)r->words;
	desc.len_bytes = r->len_bytes;
	desc.page_bytes = r->page_bytes;
	desc.fd = r->fd;
	desc.flags = h->m->plan->zeroed ? RJ_REGION_ZEROED : 0;
	return rj_add_region(h->s, &desc, &r->number);
}

/* The last comes first: not the source's order. */
static int add_regions_before(struct sim_host *h)
{
	const struct sim_guest *source = h->m->host[SIM_SOURCE].guest;
	int ret = 0;

	for (uint32_t i = source->n_regions; !ret && h->m->plan->regions_before && i-- > 0;)
		ret = add_region(h, &source->region[i]);
	return ret;
}

static int open_destination(struct sim_host *h, uint16_t *port)
{
	struct rj_opts o;
	char uri[64];
	int ret;

	fill_opts(h, &o);
	o.uri = "tcp://127.0.0.1:0";
	ret = rj_destination_open(h->m->env, &o, &h->s);
	if (ret < 0)
		return ret;
	use_transport(h);
	ret = add_regions_before(h);
	if (!ret && h->m->plan->opened)
		h->m->plan->opened(h->m->plan->arg, h->s, h->side);
	if (!ret)
		ret = rj_start(h->s);
	if (!ret)
		ret = rj_local_uri(h->s, uri, sizeof(uri));
	if (!ret)
		*port = (uint16_t)atoi(strrchr(uri, ':') + 1);
	return ret;
}

static int add_trackers(struct sim_host *h)
{
	int ret = sim_log_create(h->guest, &h->m->tracker[0]);

	if (!ret)
		ret = sim_rearming_create(h->guest, &h->m->tracker[1]);
	if (!ret)
		ret = rj_add_tracker(h->s, h->m->tracker[0]);
	return ret ? ret : rj_add_tracker(h->s, h->m->tracker[1]);
}

static int open_source(struct sim_host *h, uint16_t port)
{
	struct rj_opts o;
	char uri[64];
	int ret;

	fill_opts(h, &o);
	snprintf(uri, sizeof(uri), "tcp://127.0.0.1:%u", port);
	o.uri = uri;
	ret = rj_source_open(h->m->env, &o, &h->s);
	if (ret < 0)
		return ret;
	use_transport(h);
	h->s->copy_always = h->m->plan->copy_always;
	ret = rj_set_setup_blob(h->s, machine, sizeof(machine));
	if (!ret)
		ret = sim_guest_attach(h->guest, h->s, true);
	if (!ret)
		ret = add_trackers(h);
	if (!ret && h->m->plan->opened)
		h->m->plan->opened(h->m->plan->arg, h->s, h->side);
	return ret ? ret : rj_start(h->s);
}

int sim_host_open(struct sim_host *h, uint16_t *port)
{
	return h->side == SIM_SOURCE ? open_source(h, *port) : open_destination(h, port);
}

void sim_host_close(struct sim_host *h)
{
	struct rj_session *s;

	if (h->s && h->side == SIM_SOURCE)
		sim_guest_detach(h->guest);
	pthread_mutex_lock(&h->m->lock);
	s = h->s;
	h->s = NULL;
	pthread_mutex_unlock(&h->m->lock);
	rj_close(&s);
}

/* --- what requests ask for --- */

static int pause_guest(struct sim_host *h)
{
	/* Something to find for the first harvest of the stop phase. */
	atomic_fetch_add(&h->guest->budget, 20);
	sim_guest_step(h->guest, 20);
	pthread_mutex_lock(&h->m->lock);
	h->m->knows_running[h->side] = false;
	pthread_mutex_unlock(&h->m->lock);
	return sim_guest_pause(h->guest) ? RJ_WAS_RUNNING : RJ_WAS_PAUSED;
}

static int save_state(struct sim_host *h)
{
	const struct sim_plan *p = h->m->plan;
	size_t done = 0;

	for (size_t i = 0; i < p->state_bytes; i++) /* another one each time */
		h->m->state[i] = (uint8_t)sim_next(&h->random);
	while (done < p->state_bytes) {
		size_t part = 1 + sim_below(&h->random, p->state_bytes / 3 + 1);
		int ret;

		part = part < p->state_bytes - done ? part : p->state_bytes - done;
		ret = rj_state_write(h->s, h->m->state + done, part);
		if (ret < 0)
			return ret;
		done += part;
		sim_guest_dirty_by_save(h->guest, p->save_dirties / 4);
	}
	sim_guest_dirty_by_save(h->guest, p->save_dirties);
	return 0;
}

/* The first load writes to guest RAM: the source's differs then. Half of it is told at once. */
static void scribble(struct sim_host *h)
{
	for (uint32_t i = 0; !h->n_loads++ && i < h->m->plan->load_dirties; i++) {
		struct sim_region *r = &h->guest->region[i % h->guest->n_regions];
		uint64_t unit = sim_below(&h->random, r->n_units);

		atomic_fetch_xor(&r->words[unit * SIM_UNIT_WORDS + 1], 0x5a5a5a5a);
		if (i % 2)
			rj_mark_dirty(h->s, r->number, unit * SIM_UNIT_BYTES, 1);
		else if (h->n_scribbled < SIM_MAX_SCRIBBLED)
			h->scribbled[h->n_scribbled++] = (struct sim_scribbled){ r, unit };
	}
}

static int load_state(struct sim_host *h, const struct rj_event *ev)
{
	size_t size = h->m->plan->state_bytes, done = 0;
	uint8_t *state = malloc(size + 1);
	ssize_t n = 0;

	assert(state);
	while (done <= size && (n = rj_state_read(h->s, state + done, size + 1 - done)) > 0)
		done += (size_t)n;
	if (n >= 0 &&
	    (done != size || ev->u.load.len_bytes != size || memcmp(state, h->m->state, size)))
		sim_complain(h->m, "device state: %zu bytes of %zu came", done, size);
	free(state);
	if (n < 0)
		return (int)n; /* the session may be over by now */
	sim_judge_load(h->m);
	scribble(h);
	return 0;
}

static int reset(struct sim_host *h)
{
	if (h->m->plan->no_reset)
		return -ENOSYS;
	for (uint32_t i = 0; i < h->n_scribbled; i++)
		rj_mark_dirty(h->s, h->scribbled[i].region->number,
			      h->scribbled[i].unit * SIM_UNIT_BYTES, 1);
	h->n_scribbled = 0;
	return 0;
}

static int make_region(struct sim_host *h, const struct rj_event *ev)
{
	struct sim_region like = { .len_bytes = ev->u.region.len_bytes,
				   .page_bytes = ev->u.region.page_bytes };

	memcpy(like.name, ev->u.region.name, sizeof(like.name));
	return add_region(h, &like);
}

static int judge_setup(struct sim_host *h, const struct rj_event *ev)
{
	if (ev->u.setup.len_bytes != sizeof(machine) ||
	    memcmp(ev->u.setup.blob, machine, sizeof(machine)))
		sim_complain(h->m, "the set-up blob came damaged");
	return rj_set_setup_reply(h->s, reply, sizeof(reply));
}

static int do_request(struct sim_host *h, const struct rj_event *ev)
{
	switch (ev->type) {
	case RJ_RQ_SETUP: return judge_setup(h, ev);
	case RJ_RQ_REGION: return make_region(h, ev);
	case RJ_RQ_PAUSE: return pause_guest(h);
	case RJ_RQ_SAVE: return save_state(h);
	case RJ_RQ_LOAD: return load_state(h, ev);
	case RJ_RQ_RELEASE: return sim_judge_release(h->m, h->side);
	case RJ_RQ_RECLAIM:
	case RJ_RQ_ACQUIRE: return sim_judge_take(h->m, h->side);
	case RJ_RQ_RESUME: return sim_judge_resume(h->m, h->side, ev->u.resume.run);
	case RJ_RQ_DROP: return sim_judge_drop(h->m);
	case RJ_RQ_RESET: return reset(h);
	case RJ_RQ_THROTTLE: return 0; /* by the test that has it asked */
	default: sim_complain(h->m, "an unknown request %d", ev->type); return -ENOSYS;
	}
}

/* --- misbehaving --- */

static bool is_due(const struct sim_mischief *mischief, const struct rj_event *ev)
{
	if (!mischief->act || mischief->at != ev->type)
		return false;
	return ev->type != RJ_EV_STATE || mischief->state == ev->u.state.state;
}

static void cancel(struct sim_migration *m, enum sim_side side)
{
	pthread_mutex_lock(&m->lock);
	rj_cancel(m->host[side].s);
	pthread_mutex_unlock(&m->lock);
}

static void die(struct sim_host *h)
{
	h->died = true;
	pthread_mutex_lock(&h->m->lock);
	h->m->report->dead[h->side] = true;
	pthread_mutex_unlock(&h->m->lock);
	sim_proxy_kill(h->m->proxy);
	sim_world_cut_all(h->m->world);
	sim_guest_pause(h->guest);
}

/* True: the event is dealt with. */
static bool misbehave(struct sim_host *h, const struct rj_event *ev)
{
	enum sim_act act = h->m->plan->mischief[h->side].act;

	switch (act) {
	case SIM_CANCEL_HERE: cancel(h->m, h->side); return false;
	case SIM_CANCEL_THERE: cancel(h->m, !h->side); return false;
	case SIM_DIE: die(h); return true;
	case SIM_FAIL: rj_answer(h->s, ev->request, -EIO); return true;
	case SIM_NEVER_ANSWER: return true;
	case SIM_LIE: rj_answer(h->s, ev->request, 0); return true;
	case SIM_ANSWER_LATE:
		do_request(h, ev);
		h->late_request = ev->request;
		h->late_at_ns =
			rji_now_ns() + h->m->plan->request_timeout_ms * RJI_NS_PER_MS * 4 / 3;
		return true;
	case SIM_CUT_LANE: sim_world_cut(h->m->world, 0); return false;
	case SIM_CUT_LANES: sim_world_cut_all(h->m->world); return false;
	default: return false;
	}
}

/* --- events --- */

static void saw_round(struct sim_host *h, const struct rj_event *ev)
{
	const struct sim_plan *p = h->m->plan;

	atomic_fetch_add(&h->guest->budget, p->writes / (p->rounds + 1));
	if (ev->u.round.round + 1 >= p->rounds)
		rj_set(h->s, RJ_PARAM_MAX_DOWNTIME_MS,
		       p->max_downtime_ms ? p->max_downtime_ms : PLENTY_MS);
}

static void saw_done(struct sim_host *h, const struct rj_event *ev)
{
	struct sim_report *r = h->m->report;

	r->status[h->side] = ev->u.done.status;
	r->runs[h->side] = ev->u.done.runs;
	h->done = true;
}

static void tell(struct sim_host *h, const struct rj_event *ev)
{
	if (ev->type == RJ_EV_ROUND && h->side == SIM_SOURCE)
		saw_round(h, ev);
	if (ev->type == RJ_EV_DONE)
		saw_done(h, ev);
	if (ev->type == RJ_EV_STATE && ev->u.state.state == RJ_STATE_COMMITTED &&
	    h->side == SIM_SOURCE) {
		pthread_mutex_lock(&h->m->lock);
		h->m->committed = true;
		pthread_mutex_unlock(&h->m->lock);
	}
}

static void answer_late(struct sim_host *h)
{
	if (!h->late_request || rji_now_ns() < h->late_at_ns)
		return;
	rj_answer(h->s, h->late_request, 0);
	h->late_request = 0;
}

static void handle(struct sim_host *h, const struct rj_event *ev)
{
	const struct sim_plan *p = h->m->plan;

	if (p->before_event)
		p->before_event(p->arg, h->m, h->side, ev);
	if (!h->mischief_done && is_due(&p->mischief[h->side], ev)) {
		h->mischief_done = true;
		pthread_mutex_lock(&h->m->lock);
		h->m->mischief_fired = true;
		pthread_mutex_unlock(&h->m->lock);
		if (misbehave(h, ev))
			return;
	}
	if (ev->request)
		rj_answer(h->s, ev->request, do_request(h, ev));
	else
		tell(h, ev);
}

/* A resume that is never answered has no deadline: somebody ends the session by hand. */
static bool is_stuck(const struct sim_host *h)
{
	const struct sim_mischief *mischief = &h->m->plan->mischief[h->side];
	bool peer_over;

	if (!h->mischief_done || mischief->at != RJ_RQ_RESUME || mischief->act != SIM_NEVER_ANSWER)
		return false;
	pthread_mutex_lock(&h->m->lock);
	peer_over = !h->m->host[!h->side].s;
	pthread_mutex_unlock(&h->m->lock);
	return peer_over;
}

/* The source ended before it got here: nobody will come any more. */
static bool waits_in_vain(const struct sim_host *h)
{
	struct rj_stats st = { .size = sizeof(st) };
	bool peer_over;

	rj_stats(h->s, &st);
	pthread_mutex_lock(&h->m->lock);
	peer_over = !h->m->host[!h->side].s;
	pthread_mutex_unlock(&h->m->lock);
	return h->side == SIM_DESTINATION && peer_over && st.state == RJ_STATE_CONNECTING;
}

void *sim_host_thread(void *arg)
{
	struct sim_host *h = arg;
	struct pollfd fd = { .fd = rj_event_fd(h->s), .events = POLLIN };
	struct sim_report *r = h->m->report;

	while (!h->done && !h->died && !is_stuck(h)) {
		struct rj_event ev = { .size = sizeof(ev) };

		answer_late(h);
		if (rj_next_event(h->s, &ev) > 0)
			handle(h, &ev);
		else if (!poll(&fd, 1, 50) && waits_in_vain(h))
			rj_cancel(h->s);
	}
	r->error[h->side].size = sizeof(r->error[0]);
	rj_error_detail(h->s, &r->error[h->side]);
	r->stats[h->side].size = sizeof(r->stats[0]);
	rj_stats(h->s, &r->stats[h->side]);
	sim_host_close(h);
	return NULL;
}

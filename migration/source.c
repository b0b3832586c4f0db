/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source's way, straight down: connect, agree, set up, regions, lanes, bulk round, dirty
 * rounds, and when the predicted downtime fits, the switchover (switchover.c, handover.c).
 *
 * What goes wrong before the switchover simply ends the session: the guest never noticed. Pages
 * that were harvested for it are lost to this session only; the next one begins with all pages and
 * restarts the trackers.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "migration/session_impl.h"
#include "migration/snapshot_impl.h"
#include "pagesender/dirty/tracker_impl.h"
#include "transport/greeting.h"
#include "transport/socket.h"

/* When a round sent nothing but pages remain (they are held), look again after this. */
#define HELD_RETRY_MS 5

/* What is left after the bulk round is too little to matter how fast it goes. */
#define BULK_TELLS_NS (5 * RJI_NS_PER_MS)

static int connect_control(struct rj_session *s, void *arg, struct rj_error *err)
{
	uint64_t deadline = rji_session_deadline(s->o.connect_timeout_ms);
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR, .kind = RJI_GREET_CONTROL };
	uint8_t bytes[RJI_GREETING_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };
	int ret, *fd_p = arg;

	if (s->o.control_fd >= 0) {
		*fd_p = s->o.control_fd;
		s->o.control_fd = -1;
	} else {
		ret = rji_socket_connect(&s->uri, deadline, &s->stop, fd_p, err);
		if (ret < 0)
			return ret;
	}
	memcpy(g.session_id, s->session_id, sizeof(g.session_id));
	rji_greeting_encode(&g, bytes);
	ret = rji_socket_tune(*fd_p, s->o.peer_timeout_ms);
	if (!ret)
		ret = rji_socket_send(*fd_p, &iov, 1, deadline, &s->stop);
	return ret < 0 ? rji_fail(err, RJ_E_CONNECT,
				  "the destination closed the connection at once")
		       : 0;
}

static int connect_peer(struct rj_session *s, struct rj_error *err)
{
	int fd = -1;
	int ret = rji_session_aside(s, "rj-connect", RJI_WAIT_CANCEL, connect_control, &fd, err);

	if (fd >= 0)
		rji_control_init(&s->ctl, fd, s->o.peer_timeout_ms, &s->stop);
	return ret;
}

/* Send a payload gathered by a cursor and wait for the answer. */
static int exchange(struct rj_session *s, uint16_t type, const struct rji_cursor *c,
		    uint16_t answer, uint32_t timeout_ms, struct rji_msg **msg_p,
		    struct rj_error *err)
{
	int ret = rji_session_send(s, type, c ? c->bytes : NULL, c ? c->pos : 0, err);

	if (ret < 0)
		return ret;
	return rji_session_expect(s, RJI_WAIT_MIGRATING, answer, 0,
				  timeout_ms ? rji_session_deadline(timeout_ms) : 0, msg_p, err);
}

static int agree(struct rj_session *s, struct rj_error *err)
{
	struct rji_msg_hello hello = { .minor = RJI_PROTOCOL_MINOR,
				       .n_lanes = s->o.n_lanes,
				       .peer_timeout_ms = s->o.peer_timeout_ms,
				       .guest_bytes = s->set.guest_bytes,
				       .features = rji_session_features(s) };
	struct rji_msg_hello_ok ok;
	struct rji_cursor c;
	struct rji_msg *msg;
	uint8_t buf[256];
	uint64_t asked_at;
	int ret;

	strncpy(hello.transport, s->ops->name, sizeof(hello.transport) - 1);
	memcpy(hello.session_id, s->session_id, sizeof(hello.session_id));
	memcpy(hello.secret, s->secret, sizeof(hello.secret));
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_hello(&c, &hello);
	asked_at = rji_now_ns();
	ret = exchange(s, RJI_MSG_HELLO, &c, RJI_MSG_HELLO_OK, s->o.connect_timeout_ms, &msg, err);
	if (ret < 0)
		return ret;
	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	ret = rji_get_hello_ok(&c, &ok);
	free(msg);
	if (ret < 0 || ok.n_lanes > s->o.n_lanes)
		return rji_session_malformed(s, RJI_MSG_HELLO_OK, err);
	s->o.n_lanes = ok.n_lanes;
	s->features = ok.features & hello.features;
	rji_estimate_saw(&s->model.round_trip_ns, rji_now_ns() - asked_at);
	s->peer_keep_ms = ok.outcome_keep_ms;
	s->fig.n_lanes = ok.n_lanes;
	return 0;
}

/* The VMM's own description of the guest, for the destination's VMM to judge. */
static int set_up(struct rj_session *s, struct rj_error *err)
{
	struct rji_cursor c;
	struct rji_msg *msg;
	int ret;

	rji_cursor_init(&c, s->blob, s->blob_bytes);
	c.pos = s->blob_bytes;
	ret = exchange(s, RJI_MSG_SETUP, &c, RJI_MSG_SETUP_OK, 0, &msg, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->reply_lock);
	s->reply = malloc(msg->len_bytes + 1);
	if (s->reply) {
		memcpy(s->reply, msg->payload, msg->len_bytes);
		s->reply_bytes = msg->len_bytes;
		s->reply_known = true;
	}
	pthread_mutex_unlock(&s->reply_lock);
	free(msg);
	return s->reply ? 0 : rji_fail(err, -ENOMEM, "no memory for the set-up reply");
}

static int send_regions(struct rj_session *s, struct rj_error *err)
{
	size_t max = 4 + s->n_given * (2 + RJ_NAME_BYTES + 24);
	uint8_t *buf = malloc(max);
	struct rji_cursor c;
	int ret;

	if (!buf)
		return rji_fail(err, -ENOMEM, "no memory for the list of regions");
	rji_cursor_init(&c, buf, max);
	rji_put_u32(&c, s->n_given);
	for (uint32_t i = 0; i < s->n_given; i++) {
		const struct rj_region *r = &s->given[i].r;
		struct rji_msg_region m = { .len_bytes = r->len_bytes,
					    .gpa = r->gpa,
					    .page_bytes = r->page_bytes,
					    .flags = r->flags };

		memcpy(m.name, s->given[i].name, sizeof(m.name));
		rji_put_region(&c, &m);
	}
	ret = rji_session_send(s, RJI_MSG_REGIONS, buf, c.pos, err);
	free(buf);
	return ret;
}

/* They come in the order of the regions. */
static int take_region_ok(struct rj_session *s, uint32_t number, const struct rji_msg *msg,
			  struct rj_error *err)
{
	struct rji_msg_region_ok ok;
	struct rji_cursor c;

	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	if (rji_get_region_ok(&c, &ok) < 0 || ok.region != number)
		return rji_session_malformed(s, RJI_MSG_REGION_OK, err);
	s->set.region[number].given_zeroed = ok.flags & RJ_REGION_ZEROED;
	return s->ops->import_keys
		       ? s->ops->import_keys(s->tp, ok.region, ok.keys, ok.keys_bytes, err)
		       : 0;
}

/* Both sides register at the same time. */
static int match_regions(struct rj_session *s, struct rj_error *err)
{
	int ret = send_regions(s, err);

	if (!ret)
		ret = rji_session_create_transport(s, err);
	if (!ret)
		ret = rji_session_register(s, err);
	for (uint32_t i = 0; !ret && i < s->n_given; i++) {
		struct rji_msg *msg;

		ret = rji_session_expect(s, RJI_WAIT_MIGRATING, RJI_MSG_REGION_OK, 0, 0, &msg, err);
		if (ret < 0)
			return ret;
		ret = take_region_ok(s, i, msg, err);
		free(msg);
	}
	return ret;
}

static bool lanes_idle(struct rj_session *s, void *arg)
{
	(void)arg;
	return !rji_sender_busy(s->sender);
}

static int start_lanes(struct rj_session *s, struct rj_error *err)
{
	const struct rji_sender_opts o = { .host = s->host,
					   .ops = s->ops,
					   .tp = s->tp,
					   .stop = &s->stop,
					   .harvest = &s->harvest,
					   .holds = &s->holds,
					   .pace = &s->pace,
					   .filters = &s->filters,
					   .totals = &s->totals,
					   .n_lanes = s->o.n_lanes,
					   .placement = s->placement,
					   .node_bytes = s->node_sent,
					   .n_nodes = s->env->topology->n_nodes,
					   .done_fd = s->wake_fd };

	return rji_sender_create(&o, &s->sender, err);
}

/* Those of the VMM's choice that this transport and this peer can do. */
static uint32_t usable_filters(const struct rj_session *s)
{
	uint32_t on = s->o.filters, codings = s->ops->codings;

	if (!rji_session_has_peer(s)) /* a file looks for holes and zeros itself, and punches */
		return on & RJ_FILTER_FREE;
	if (!(s->features & RJI_FEATURE_CODED))
		codings = 0;
	if (!s->ops->post_staged)
		on &= ~(uint32_t)(RJ_FILTER_SAME | RJ_FILTER_ZSTD);
	if (!(codings >> RJI_CODING_ZSTD & 1))
		on &= ~(uint32_t)RJ_FILTER_ZSTD;
	if (!(codings >> RJI_CODING_XBZRLE & 1) || !(on & RJ_FILTER_SAME))
		on &= ~(uint32_t)RJ_FILTER_DELTA;
	return on;
}

static int start_filters(struct rj_session *s, struct rj_error *err)
{
	const struct rj_region *regions[RJ_MAX_REGIONS];
	const struct rji_filters_opts o = {
		.on = usable_filters(s),
		.can_clear = (s->features & RJI_FEATURE_CODED || !rji_session_has_peer(s)) &&
			     s->ops->codings >> RJI_CODING_ZEROS & 1,
		.delta_cache_bytes = s->o.delta_cache_bytes,
		.copy_always = s->copy_always,
		.regions = regions,
	};
	int ret;

	for (uint32_t i = 0; i < s->n_given; i++)
		regions[i] = &s->given[i].r;
	ret = rji_filters_init(&s->filters, &s->set, &s->hints, &o);
	return ret < 0 ? rji_fail(err, ret, "no memory for filters") : 0;
}

/* The destination may send lanes to other hosts, but not to sockets of this machine that it could not reach itself. */
static bool may_connect_to(const struct rj_session *s, const struct rji_addrs *addrs)
{
	for (uint32_t i = 0; i < addrs->n; i++) {
		if ((addrs->addr[i][0] == '/') != rji_uri_is_unix(&s->uri))
			return false;
	}
	return true;
}

static int open_lanes(struct rj_session *s, struct rji_addrs *addrs,
		      const struct rji_admission *adm, struct rj_error *err)
{
	int ret = rji_session_place(s, addrs, err);

	if (!ret)
		ret = start_filters(s, err);
	if (!ret)
		ret = start_lanes(s, err);
	if (ret < 0)
		return ret;
	s->lane_addrs = *addrs;
	rji_sender_connect(s->sender, addrs, adm, rji_session_deadline(s->o.connect_timeout_ms));
	ret = rji_session_wait(s, RJI_WAIT_MIGRATING, lanes_idle, NULL, 0, err);
	return ret ? ret : rji_sender_result(s->sender, NULL, err);
}

/* A file instead of a peer. */
static int open_file(struct rj_session *s, struct rj_error *err)
{
	struct rji_admission adm = { .n_lanes = s->o.n_lanes };
	struct rji_addrs none = { 0 };
	int ret = rji_snapshot_begin(s, err);

	for (uint32_t i = 0; i < s->n_given; i++) /* what is not in the file */
		s->set.region[i].given_zeroed = true;
	if (!ret)
		ret = rji_session_create_transport(s, err);
	s->fig.n_lanes = s->o.n_lanes;
	return ret ? ret : open_lanes(s, &none, &adm, err);
}

static int connect_lanes(struct rj_session *s, struct rj_error *err)
{
	struct rji_admission adm = { .n_lanes = s->o.n_lanes };
	struct rji_msg_lanes lanes;
	struct rji_cursor c;
	struct rji_msg *msg;
	int ret;

	ret = rji_session_expect(s, RJI_WAIT_MIGRATING, RJI_MSG_LANES, 0, 0, &msg, err);
	if (ret < 0)
		return ret;
	rji_cursor_init_const(&c, msg->payload, msg->len_bytes);
	ret = rji_get_lanes(&c, &lanes);
	free(msg);
	if (ret < 0 || !may_connect_to(s, &lanes.addrs))
		return rji_session_malformed(s, RJI_MSG_LANES, err);
	memcpy(adm.session_id, s->session_id, sizeof(adm.session_id));
	memcpy(adm.token, lanes.token, sizeof(adm.token));
	ret = open_lanes(s, &lanes.addrs, &adm, err);
	if (!ret)
		ret = rji_session_expect(s, RJI_WAIT_MIGRATING, RJI_MSG_LANES_OK, 0,
					 rji_session_deadline(s->o.connect_timeout_ms), &msg, err);
	if (!ret)
		free(msg);
	return ret;
}

static int start_trackers(struct rj_session *s, struct rj_error *err)
{
	uint64_t start = rji_now_ns();

	while (s->n_tracking < s->n_trackers) {
		struct rj_tracker *t = s->trackers[s->n_tracking];
		int ret = t->ops.start(t->t);

		if (ret < 0)
			return rji_fail_sys(err, RJ_E_TRACKER, -ret,
					    "the tracker '%s' does not start", t->ops.name);
		s->n_tracking++;
	}
	s->fig.tracker_start_ns = rji_now_ns() - start;
	return 0;
}

static void stop_trackers(struct rj_session *s)
{
	uint64_t start = rji_now_ns();

	while (s->n_tracking) {
		struct rj_tracker *t = s->trackers[--s->n_tracking];

		if (t->ops.stop)
			t->ops.stop(t->t);
	}
	s->fig.tracker_stop_ns = rji_now_ns() - start;
}

/* --- rounds --- */

int rji_finish_round(struct rj_session *s, uint64_t deadline_ns, struct rji_sent *sent_p,
		     struct rj_error *err)
{
	int ret = rji_settle_lanes(s, s->o.peer_timeout_ms, deadline_ns, err);

	if (!ret)
		ret = rji_sender_result(s->sender, sent_p, err);
	if (!ret) {
		rji_harvest_fenced(&s->harvest);
		s->lanes_replaced = 0;
	}
	return ret;
}

/* Tell the transport where this round has pages, so that memory is registered before lanes come to it. */
void rji_expect_round(struct rj_session *s)
{
	for (uint32_t i = 0; s->ops->expect && i < s->harvest.n_windows; i++) {
		const struct rji_window *w = &s->harvest.windows[i];
		const struct rji_pageset_region *r = &s->set.region[w->region];

		for (uint64_t at = 0; at < w->n_pages; at += r->span_pages) {
			uint64_t left = w->n_pages - at;
			uint64_t n = left < r->span_pages ? left : r->span_pages;
			uint64_t first = w->first_page + at, page = first;

			if (rji_bitmap_next_run(r->pending, &page, first + n) &&
			    !rji_filters_is_hole(&s->filters, w->region, first << r->page_shift,
						 n << r->page_shift))
				s->ops->expect(s->tp, w->region, first << r->page_shift,
					       n << r->page_shift);
		}
	}
}

static int send_round(struct rj_session *s, struct rji_sent *sent_p, struct rj_error *err)
{
	s->fig.round_bytes_before = s->totals.guest_bytes;
	rji_harvest_begin_round(&s->harvest);
	rji_expect_round(s);
	rji_sender_round(s->sender);
	return rji_finish_round(s, 0, sent_p, err);
}

static int announce_round(struct rj_session *s, uint32_t number, struct rj_error *err)
{
	struct rji_cursor c;
	uint8_t buf[4];

	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_u32(&c, number);
	return rji_session_send(s, RJI_MSG_ROUND, buf, c.pos, err);
}

static uint64_t allowed_ns(const struct rj_session *s)
{
	return atomic_load_explicit(&s->max_downtime_ms, memory_order_relaxed) * RJI_NS_PER_MS;
}

static uint64_t eta_ns(const struct rj_session *s)
{
	struct rj_stats st = { .size = sizeof(st) };

	if (s->fig.predicted_p99_ns <= allowed_ns(s))
		return 0;
	rj_stats(s, &st);
	return st.eta_ns;
}

/* What became of pages since the last call. */
static struct rj_page_counts kinds_since(struct rj_session *s)
{
	struct rj_stats st = { .size = sizeof(st) };
	struct rj_page_counts *was = &s->kinds_told, d;

	rj_stats(s, &st);
	d = (struct rj_page_counts){ .normal = st.pages.normal - was->normal,
				     .zero = st.pages.zero - was->zero,
				     .hole = st.pages.hole - was->hole,
				     .free_pages = st.pages.free_pages - was->free_pages,
				     .same = st.pages.same - was->same,
				     .delta = st.pages.delta - was->delta,
				     .compressed = st.pages.compressed - was->compressed };
	*was = st.pages;
	return d;
}

static void note_round(struct rj_session *s, uint32_t number, uint64_t duration_ns,
		       const struct rji_sent *sent, const struct rji_dirt *dirt,
		       uint64_t predicted_ns)
{
	uint64_t ns = duration_ns ? duration_ns : 1;
	struct rj_event ev = { .type = RJ_EV_ROUND };

	ev.u.round = (struct rj_round){
		.round = number,
		.pages = sent->pages,
		.bytes = sent->bytes,
		.kinds = kinds_since(s),
		.duration_ns = duration_ns,
		.rate_bytes_per_s = (uint64_t)((__uint128_t)sent->bytes * RJI_NS_PER_S / ns),
		.dirty_pages = dirt->pending_pages,
		.dirty_bytes = dirt->pending_bytes,
		.dirty_rate_bytes_per_s =
			(uint64_t)((__uint128_t)dirt->new_bytes * RJI_NS_PER_S / ns),
		.predicted_downtime_ns = predicted_ns,
	};
	s->fig.round_bytes += sent->bytes;
	s->fig.round_ns += sent->send_ns + sent->fence_ns;
	s->fig.dirty_rate_bytes_per_s = ev.u.round.dirty_rate_bytes_per_s;
	s->fig.pending_bytes = dirt->pending_bytes;
	s->fig.round_bytes_before = s->totals.guest_bytes;
	ev.u.round.eta_ns = eta_ns(s);
	rji_session_count_cpu(s);
	rji_vmm_tell(&s->vmm, &ev);
}

/*
 * What stopping now would cost, published. Returns what it would hardly ever exceed. After the bulk
 * round alone the rate is that of first touch: as long as there is much to send, another round tells
 * more, and leaves less.
 */
static uint64_t predict(struct rj_session *s, uint64_t pending_bytes)
{
	struct rji_prediction p;
	uint64_t p99_ns;

	s->fig.predicted_ns = rji_downtime_predict(&s->model, pending_bytes, &p);
	p99_ns = rji_terms_sum(&p.p99);
	s->fig.predicted_p99_ns = p99_ns;
	rji_session_publish_terms(s->fig.predicted, &p.expected);
	rji_session_publish_terms(s->fig.predicted_p99, &p.p99);
	return s->model.bulk_only && p.expected.ns[RJI_TERM_SEND] > BULK_TELLS_NS ? UINT64_MAX
										  : p99_ns;
}

/* What takes its time however little is pending, takes too long. */
static bool rounds_are_in_vain(const struct rj_session *s)
{
	return s->fig.predicted_p99_ns - s->fig.predicted_p99[RJI_TERM_SEND] > allowed_ns(s);
}

/*
 * One round and a look at what became dirty meanwhile. The prediction is for stopping now, at worst.
 */
static int one_round(struct rj_session *s, uint64_t *predicted_p, struct rj_error *err)
{
	uint32_t number = s->fig.rounds + 1;
	uint64_t began = rji_now_ns(), collecting;
	struct rji_sent sent;
	struct rji_dirt dirt;
	int ret;

	s->fig.rounds = number;
	rji_session_set_state(s, number == 1 ? RJ_STATE_BULK : RJ_STATE_DIRTY);
	ret = announce_round(s, number, err);
	if (!ret)
		ret = send_round(s, &sent, err);
	if (!ret)
		ret = rji_ask_peer_ready(s, err); /* how long is the way now? */
	if (ret < 0)
		return ret;
	collecting = rji_now_ns();
	ret = rji_harvest_collect(&s->harvest, &dirt, err);
	if (ret < 0)
		return ret;
	rji_estimate_saw(&s->model.harvest_ns, rji_now_ns() - collecting);
	/* What the bulk round left out says little about pages that the guest keeps writing. */
	rji_downtime_saw_round(&s->model, number == 1 ? sent.bytes : sent.guest_bytes, sent.send_ns,
			       sent.fence_ns, number == 1);
	*predicted_p = predict(s, dirt.pending_bytes);
	note_round(s, number, rji_now_ns() - began, &sent, &dirt, s->fig.predicted_ns);
	if (*predicted_p > allowed_ns(s))
		ret = rji_throttle_after_round(s, sent.bytes, dirt.new_bytes, err);
	if (ret < 0)
		return ret;
	/* Held, or nothing to do before the next attempt: give it a moment. */
	if ((!sent.pages && dirt.pending_pages) || rji_now_ns() < s->retry_at_ns ||
	    rounds_are_in_vain(s))
		ret = rji_session_wait(s, RJI_WAIT_MIGRATING, rji_never, NULL,
				       rji_session_deadline(HELD_RETRY_MS), err);
	return ret == RJ_E_TIMEOUT ? 0 : ret;
}

/* Time is up, and the VMM would rather have it long than not at all. */
static bool must_stop(struct rj_session *s)
{
	if (!s->strict && s->o.strict_downtime)
		return true;
	if (!s->stop_at_ns || rji_now_ns() < s->stop_at_ns)
		return false;
	s->strict = false;
	rji_session_tell_warning(
		s,
		"it did not get to the switchover within %u ms: the guest is stopped anyway, for about %u ms",
		s->o.timeout_ms, (uint32_t)(s->fig.predicted_ns / RJI_NS_PER_MS));
	return true;
}

static bool may_stop(struct rj_session *s, uint64_t predicted_ns)
{
	return must_stop(s) || (predicted_ns <= allowed_ns(s) && rji_now_ns() >= s->retry_at_ns) ||
	       rji_snapshot_must_stop(s);
}

static int iterate(struct rj_session *s, enum rj_outcome *outcome_p, struct rj_error *err)
{
	int ret;

	s->strict = s->o.strict_downtime && !rji_is_saved_stopped(s);
	rji_pageset_all_pending(&s->set);
	rji_free_hints_open(&s->hints, true);
	s->fig.bulk_began_ns = rji_now_ns();
	s->fig.pending_bytes = s->set.guest_bytes;
	do {
		uint64_t predicted_ns;
		bool go;

		if (rji_is_saved_stopped(s))
			return rji_switchover(s, outcome_p, err);
		do {
			ret = one_round(s, &predicted_ns, err);
			if (rji_may_replace_lanes(s, ret)) {
				predicted_ns = UINT64_MAX;
				ret = rji_replace_lanes(s, err);
			}
			go = !ret && may_stop(s, predicted_ns);
			if (go)
				ret = rji_heed_hold(s, &go, err);
		} while (!ret && !go);
		if (!ret)
			ret = rji_switchover(s, outcome_p, err);
	} while (ret == -EAGAIN);
	return ret;
}

static int migrate(struct rj_session *s, enum rj_outcome *outcome_p, struct rj_error *err)
{
	static int (*const steps[])(struct rj_session *, struct rj_error *) = {
		agree, set_up, match_regions, connect_lanes, start_trackers,
	};
	int ret = rji_session_choose_lanes(s, err);

	if (!ret && rji_session_has_peer(s))
		ret = connect_peer(s, err);
	if (!ret)
		rji_session_set_state(s, RJ_STATE_SETUP);
	if (!ret && !rji_session_has_peer(s)) {
		ret = open_file(s, err);
		if (!ret)
			ret = start_trackers(s, err);
		return ret < 0 ? ret : iterate(s, outcome_p, err);
	}
	for (size_t i = 0; !ret && i < sizeof(steps) / sizeof(*steps); i++)
		ret = steps[i](s, err);
	return ret < 0 ? ret : iterate(s, outcome_p, err);
}

static void tell_peer_why(struct rj_session *s, const struct rj_error *err)
{
	struct rji_msg_failed failed = { .code = err->code };
	uint8_t buf[8 + RJ_ERROR_TEXT_BYTES];
	struct rji_cursor c;

	memcpy(failed.text, err->text, sizeof(failed.text));
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_failed(&c, &failed);
	rji_control_send(&s->ctl, RJI_MSG_FAILED, buf, c.pos);
}

static void tear_down(struct rj_session *s, bool completed)
{
	rji_free_hints_open(&s->hints, false);
	rji_sender_destroy(&s->sender);
	if (completed)
		rji_control_send(&s->ctl, RJI_MSG_BYE, NULL, 0);
	stop_trackers(s);
	rji_session_destroy_transport(s);
	rji_control_hang_up(&s->ctl);
}

void *rji_source_thread(void *arg)
{
	static const enum rj_state by_outcome[] = { [RJ_RUNS_AT_SOURCE] = RJ_STATE_FAILED,
						    [RJ_RUNS_AT_DESTINATION] = RJ_STATE_COMPLETED,
						    [RJ_RUNS_UNKNOWN] = RJ_STATE_UNKNOWN };
	enum rj_outcome outcome = RJ_RUNS_AT_SOURCE;
	struct rj_session *s = arg;
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = migrate(s, &outcome, &err);
	if (ret < 0)
		rji_fail(&err, ret, "%s", rj_strerror(ret));
	if (!s->fig.ended_ns)
		s->fig.ended_ns = rji_now_ns();
	rji_throttle_release(s);
	if (outcome == RJ_RUNS_AT_SOURCE && rji_session_has_peer(s))
		tell_peer_why(s, &err);
	tear_down(s, outcome == RJ_RUNS_AT_DESTINATION);
	rji_snapshot_end(s);
	rji_session_end(s,
			!ret			? RJ_STATE_COMPLETED
			: ret == RJ_E_CANCELLED ? RJ_STATE_CANCELLED
						: by_outcome[outcome],
			outcome, &err);
	return NULL;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lanes over stream sockets: TCP, or unix sockets where the addresses are paths.
 *
 * A lane is one socket. The source gathers a frame's head, its table of extents and the pages
 * themselves, straight from guest memory, into one sendmsg(); the destination reads head and table,
 * checks them, and receives the pages straight into guest memory. Nothing is copied in user space
 * and the order on the socket is the order at the destination, so a fence is a frame, and its
 * answer a frame back.
 *
 * Lanes come in by the listening socket that control came in by (one port to open in a firewall)
 * and are told apart by their greeting; a connection that cannot show session and token is closed,
 * and the wait goes on.
 *
 * withdraw() shuts the sockets down: a receiver in the middle of a page sees the end at once and
 * returns, and its caller joins it.
 */
#include "transport/transport.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "transport/frame.h"
#include "transport/greeting.h"
#include "transport/memory.h"
#include "transport/socket.h"

struct tcp_transport {
	const struct rji_host *host;
	struct rji_stop *stop;
	uint32_t peer_timeout_ms;
	const struct rji_apply_ops *apply;
	const int *lane_fds;
	uint32_t n_lane_fds;
	int listen_fd; /* control's, borrowed */
	struct rji_memory_table memory;
	uint32_t n_accepted;
	struct tcp_lane *accepted[RJ_MAX_LANES]; /* for withdraw(); until closed */
};

struct tcp_lane {
	struct tcp_transport *tp;
	int fd;
	uint32_t number;
	bool is_source;
	uint64_t fence_number; /* of the last fence sent */
	_Atomic uint64_t sent_bytes;
	_Atomic uint64_t
		frames; /* of pages, sent; a sendmsg() each, or more where the socket is full */
	void *staged;	/* source: for copies of pages */
	void *applying; /* destination: of tp->apply; NULL until something coded comes */
	void *codes;	/* the same: room for a frame's */
	struct rji_coded coded[RJI_FRAME_MAX_EXTENTS];
	struct rji_extent extents[RJI_FRAME_MAX_EXTENTS];
	struct iovec iov[RJI_FRAME_MAX_EXTENTS + 1];
	uint8_t head[RJI_FRAME_MAX_BYTES];
};

static struct tcp_transport *to_tcp(struct rji_transport *tp)
{
	return (struct tcp_transport *)tp;
}

static struct tcp_lane *to_tcp_lane(struct rji_lane *lane)
{
	return (struct tcp_lane *)lane;
}

static int tcp_create(const struct rji_transport_opts *o, struct rj_error *err,
		      struct rji_transport **tp_p)
{
	struct tcp_transport *tp = calloc(1, sizeof(*tp));

	if (!tp)
		return rji_fail(err, -ENOMEM, "no memory for the tcp transport");
	tp->host = o->host;
	tp->stop = o->stop;
	tp->peer_timeout_ms = o->peer_timeout_ms;
	tp->apply = o->apply;
	tp->lane_fds = o->lane_fds;
	tp->n_lane_fds = o->n_lane_fds;
	tp->listen_fd = -1;
	*tp_p = (struct rji_transport *)tp;
	return 0;
}

static void tcp_destroy(struct rji_transport **tp_p)
{
	free(*tp_p);
	*tp_p = NULL;
}

static int tcp_reg(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		   struct rj_error *err)
{
	int ret = rji_memory_add(&to_tcp(tp)->memory, m);

	if (ret < 0)
		return rji_fail(err, ret, "too many regions");
	atomic_fetch_add_explicit(done, m->len_bytes, memory_order_relaxed);
	return 0;
}

static void tcp_dereg_all(struct rji_transport *tp)
{
	memset(&to_tcp(tp)->memory, 0, sizeof(to_tcp(tp)->memory));
}

/* A connected socket becomes a lane; on failure it stays the caller's. */
static int make_lane(struct tcp_transport *tp, int fd, uint32_t number, struct tcp_lane **lane_p,
		     struct rj_error *err)
{
	struct tcp_lane *lane = calloc(1, sizeof(*lane));
	int ret;

	if (!lane)
		return rji_fail(err, -ENOMEM, "no memory for lane %u", number);
	ret = rji_socket_tune(fd, tp->peer_timeout_ms);
	if (ret < 0) {
		free(lane);
		return rji_fail_sys(err, RJ_E_LANE, -ret, "lane %u is not a usable socket", number);
	}
	lane->tp = tp;
	lane->fd = fd;
	lane->number = number;
	*lane_p = lane;
	return 0;
}

static int lane_failed(const struct tcp_lane *lane, int ret, const char *doing,
		       struct rj_error *err)
{
	if (ret >= 0 || ret == -ECANCELED)
		return ret;
	if (err && !err->code)
		err->lane = lane->number;
	if (ret == RJ_E_PEER_GONE)
		return rji_fail(err, RJ_E_LANE, "lane %u was closed by the peer while %s",
				lane->number, doing);
	if (ret == RJ_E_TIMEOUT)
		return rji_fail(err, RJ_E_LANE, "lane %u got no answer in time while %s",
				lane->number, doing);
	return rji_fail_sys(err, RJ_E_LANE, -ret, "lane %u failed while %s", lane->number, doing);
}

/* --- destination --- */

/* One of "HOST,HOST": a name, an IPv4 address, or an IPv6 address with or without brackets. */
static int announce_one(const char *host, size_t len, uint16_t port, struct rji_addrs *addrs)
{
	char copy[RJI_ADDR_BYTES];

	if (len && *host == '[') {
		if (host[len - 1] != ']')
			return -EINVAL;
		host++;
		len -= 2;
	}
	if (!len || len >= sizeof(copy) || addrs->n == RJI_MAX_ADDRS)
		return -EINVAL;
	memcpy(copy, host, len);
	copy[len] = '\0';
	return rji_addr_format(addrs->addr[addrs->n++], RJI_ADDR_BYTES, copy, port);
}

static int announce(const char *hosts, uint16_t port, struct rji_addrs *addrs, struct rj_error *err)
{
	for (;;) {
		size_t len = strcspn(hosts, ",");

		if (announce_one(hosts, len, port, addrs) < 0)
			return rji_fail(err, -EINVAL,
					"'%.*s' is no data address, or one too many; write at most "
					"%d of HOST, separated by commas",
					(int)(len < 100 ? len : 100), hosts, RJI_MAX_ADDRS);
		if (!hosts[len])
			return 0;
		hosts += len + 1;
	}
}

static int tcp_listen(struct rji_transport *tp_, const struct rji_listen *l,
		      struct rji_addrs *addrs, struct rj_error *err)
{
	struct tcp_transport *tp = to_tcp(tp_);
	struct rji_uri local;

	memset(addrs, 0, sizeof(*addrs));
	if (tp->lane_fds)
		return 0;
	if (l->control_listen_fd < 0 || rji_socket_local(l->control_listen_fd, &local) < 0)
		return rji_fail(
			err, -EINVAL,
			"lanes have nowhere to connect to: hand in lane_fds with control_fd");
	tp->listen_fd = l->control_listen_fd;
	if (rji_uri_is_unix(&local)) {
		memcpy(addrs->addr[0], local.path, sizeof(local.path));
		addrs->n = 1;
		return 0;
	}
	return announce(l->data_addrs && *l->data_addrs ? l->data_addrs : l->host, local.port,
			addrs, err);
}

/* Which lane is it? NULL or why it is none. */
static const char *judge(const struct rji_greeting *g, const struct rji_admission *adm,
			 struct rji_lane **lanes)
{
	if (g->kind != RJI_GREET_LANE)
		return "not a lane";
	if (g->major != RJI_PROTOCOL_MAJOR)
		return "another protocol version";
	if (memcmp(g->session_id, adm->session_id, sizeof(adm->session_id)) ||
	    !rji_secret_equal(g->token, adm->token, sizeof(adm->token)))
		return "not this session's token";
	if (g->lane >= adm->n_lanes || lanes[g->lane])
		return "a lane number that is taken or too high";
	return NULL;
}

static int adopt(struct tcp_transport *tp, int fd, uint32_t number, struct rji_lane **lanes,
		 struct rj_error *err)
{
	struct tcp_lane *lane;
	int ret = make_lane(tp, fd, number, &lane, err);

	if (ret < 0)
		return ret;
	tp->accepted[tp->n_accepted++] = lane;
	lanes[number] = (struct rji_lane *)lane;
	return 0;
}

static int adopt_fds(struct tcp_transport *tp, const struct rji_admission *adm,
		     struct rji_lane **lanes, struct rj_error *err)
{
	if (tp->n_lane_fds != adm->n_lanes)
		return rji_fail(err, RJ_E_LANE,
				"%u lanes were agreed on, but %u lane_fds handed in", adm->n_lanes,
				tp->n_lane_fds);
	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		int fd = dup(tp->lane_fds[i]);
		int ret = fd < 0 ? rji_fail_sys(err, 0, errno, "lane_fds[%u]", i)
				 : adopt(tp, fd, i, lanes, err);

		if (ret < 0) {
			if (fd >= 0)
				close(fd);
			return ret;
		}
	}
	return 0;
}

static void tcp_close(struct rji_lane **lane_p);

static int accept_all(struct tcp_transport *tp, const struct rji_admission *adm,
		      uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	struct rji_acceptor acceptor;
	int ret = 0;

	rji_acceptor_init(&acceptor, tp->listen_fd, tp->host, tp->stop);
	while (tp->n_accepted < adm->n_lanes) {
		struct rji_greeting g;
		const char *why;
		int fd;

		ret = rji_acceptor_next(&acceptor, deadline_ns, &g, &fd);
		if (ret == 0)
			ret = rji_fail(
				err, RJ_E_LANE,
				"only %u of %u lanes connected in time; can the source reach every data address?",
				tp->n_accepted, adm->n_lanes);
		if (ret < 0)
			break;
		why = judge(&g, adm, lanes);
		ret = why ? 0 : adopt(tp, fd, g.lane, lanes, err);
		if (why)
			rji_log(tp->host, RJ_LOG_WARN, "refused a connection as lane %u: %s",
				g.lane, why);
		if (why || ret < 0)
			close(fd);
		if (ret < 0)
			break;
	}
	rji_acceptor_fini(&acceptor);
	return ret < 0 ? ret : 0;
}

static int tcp_accept(struct rji_transport *tp_, const struct rji_admission *adm,
		      uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	struct tcp_transport *tp = to_tcp(tp_);
	int ret;

	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		if (!(adm->there >> i & 1))
			lanes[i] = NULL;
	}
	ret = tp->lane_fds ? adopt_fds(tp, adm, lanes, err)
			   : accept_all(tp, adm, deadline_ns, lanes, err);
	for (uint32_t i = 0; ret < 0 && i < adm->n_lanes; i++) {
		if (!(adm->there >> i & 1))
			tcp_close(&lanes[i]);
	}
	return ret;
}

/* Receive the pages of a frame into their places. */
static int receive_pages(struct tcp_lane *lane, const struct rji_frame *f, struct rj_error *err)
{
	struct iovec table = { lane->head, (size_t)f->n_extents * RJI_FRAME_EXTENT_BYTES };
	const struct rji_memory_table *memory = &lane->tp->memory;
	int ret = rji_socket_recv(lane->fd, &table, 1, 0, lane->tp->stop);

	if (ret < 0)
		return lane_failed(lane, ret, "receiving", err);
	ret = rji_frame_decode_extents(lane->head, f, memory->region, memory->n, lane->extents,
				       err);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < f->n_extents; i++)
		lane->iov[i] = (struct iovec){ rji_memory_at(memory, &lane->extents[i]),
					       lane->extents[i].len_bytes };
	ret = rji_socket_recv(lane->fd, lane->iov, f->n_extents, 0, lane->tp->stop);
	return lane_failed(lane, ret, "receiving pages", err);
}

/* Only where the source has something coded. */
static int ready_to_apply(struct tcp_lane *lane, struct rj_error *err)
{
	const struct rji_apply_ops *apply = lane->tp->apply;
	int ret;

	if (!apply)
		return rji_fail(err, RJ_E_PROTOCOL, "lane %u: nothing coded was agreed on",
				lane->number);
	if (lane->codes)
		return 0;
	ret = apply->create(&lane->applying);
	lane->codes = ret < 0 ? NULL : malloc(RJI_FRAME_MAX_CODES_BYTES);
	return lane->codes
		       ? 0
		       : rji_fail(err, -ENOMEM, "no memory for what lane %u decodes", lane->number);
}

static int apply_all(struct tcp_lane *lane, uint32_t n, struct rj_error *err)
{
	const uint8_t *code = lane->codes;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < n; i++) {
		const struct rji_coded *c = &lane->coded[i];

		ret = lane->tp->apply->apply(lane->applying, c->coding, code, c->len_bytes,
					     rji_memory_at(&lane->tp->memory, &c->extent),
					     c->extent.len_bytes, err);
		code += c->len_bytes;
	}
	return ret;
}

/* Receive a frame of codes, then do what they say. */
static int receive_coded(struct tcp_lane *lane, const struct rji_frame *f, struct rj_error *err)
{
	struct iovec table = { lane->head, (size_t)f->n_extents * RJI_FRAME_CODED_BYTES };
	const struct rji_memory_table *memory = &lane->tp->memory;
	struct iovec codes;
	int ret = ready_to_apply(lane, err);

	if (!ret)
		ret = lane_failed(lane, rji_socket_recv(lane->fd, &table, 1, 0, lane->tp->stop),
				  "receiving", err);
	if (!ret)
		ret = rji_frame_decode_coded(lane->head, f, memory->region, memory->n, lane->coded,
					     err);
	codes = (struct iovec){ lane->codes, f->value };
	if (!ret && f->value)
		ret = lane_failed(lane, rji_socket_recv(lane->fd, &codes, 1, 0, lane->tp->stop),
				  "receiving codes", err);
	return ret < 0 ? ret : apply_all(lane, f->n_extents, err);
}

static int send_head(struct tcp_lane *lane, uint16_t type, uint64_t value)
{
	struct rji_frame f = { .type = type, .value = value };
	uint8_t bytes[RJI_FRAME_HEAD_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };

	rji_frame_encode(&f, bytes);
	atomic_fetch_add_explicit(&lane->sent_bytes, sizeof(bytes), memory_order_relaxed);
	return rji_socket_send(lane->fd, &iov, 1, 0, lane->tp->stop);
}

static int receive_head(struct tcp_lane *lane, uint64_t deadline_ns, struct rji_frame *f_p,
			struct rj_error *err)
{
	uint8_t bytes[RJI_FRAME_HEAD_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };
	int ret = rji_socket_recv(lane->fd, &iov, 1, deadline_ns, lane->tp->stop);

	if (ret < 0)
		return lane_failed(lane, ret, "waiting for the peer", err);
	return rji_frame_decode(bytes, f_p, err);
}

static int tcp_serve(struct rji_lane *lane_, struct rj_error *err)
{
	struct tcp_lane *lane = to_tcp_lane(lane_);
	int ret;

	for (;;) {
		struct rji_frame f;

		ret = receive_head(lane, 0, &f, err);
		if (ret < 0)
			break;
		if (f.type == RJI_FRAME_BYE)
			return 0;
		if (f.type == RJI_FRAME_PAGES)
			ret = receive_pages(lane, &f, err);
		else if (f.type == RJI_FRAME_CODED)
			ret = receive_coded(lane, &f, err);
		else if (f.type == RJI_FRAME_FENCE)
			ret = lane_failed(lane, send_head(lane, RJI_FRAME_FENCED, f.value),
					  "answering a fence", err);
		else
			ret = rji_fail(err, RJ_E_PROTOCOL, "lane %u: the source answered a fence",
				       lane->number);
		if (ret < 0)
			break;
	}
	return ret == -ECANCELED ? 0 : ret;
}

static void tcp_withdraw(struct rji_transport *tp_)
{
	struct tcp_transport *tp = to_tcp(tp_);

	for (uint32_t i = 0; i < tp->n_accepted; i++)
		shutdown(tp->accepted[i]->fd, SHUT_RDWR);
}

/* --- source --- */

static int greet(struct tcp_lane *lane, const struct rji_admission *adm, uint64_t deadline_ns)
{
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR,
				  .kind = RJI_GREET_LANE,
				  .lane = lane->number };
	uint8_t bytes[RJI_GREETING_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };

	memcpy(g.session_id, adm->session_id, sizeof(g.session_id));
	memcpy(g.token, adm->token, sizeof(g.token));
	rji_greeting_encode(&g, bytes);
	return rji_socket_send(lane->fd, &iov, 1, deadline_ns, lane->tp->stop);
}

static int tcp_connect(struct rji_transport *tp_, uint32_t number, const struct rji_addrs *addrs,
		       const struct rji_admission *adm, uint64_t deadline_ns,
		       struct rji_lane **lane_p, struct rj_error *err)
{
	struct tcp_transport *tp = to_tcp(tp_);
	struct tcp_lane *lane;
	struct rji_uri to;
	int fd, ret;

	if (tp->lane_fds) {
		fd = number < tp->n_lane_fds ? dup(tp->lane_fds[number]) : -1;
		if (fd < 0)
			return rji_fail(err, RJ_E_LANE, "no descriptor was handed in for lane %u",
					number);
	} else {
		if (!addrs->n)
			return rji_fail(err, RJ_E_PROTOCOL,
					"the destination announced no address for lanes");
		ret = rji_addr_parse(addrs->addr[number % addrs->n], &to, err);
		if (!ret)
			ret = rji_socket_connect(&to, deadline_ns, tp->stop, &fd, err);
		if (ret < 0)
			return ret;
	}
	ret = make_lane(tp, fd, number, &lane, err);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	ret = tp->lane_fds ? 0 : lane_failed(lane, greet(lane, adm, deadline_ns), "greeting", err);
	if (ret < 0) {
		struct rji_lane *failed = (struct rji_lane *)lane;

		tcp_close(&failed);
		return ret;
	}
	lane->is_source = true;
	*lane_p = (struct rji_lane *)lane;
	return 0;
}

/* A frame whose pages or codes, together value bytes, are in iov from 1 on; its table is behind the head's room. */
static int send_frame(struct tcp_lane *lane, uint16_t type, uint32_t n, size_t table_bytes,
		      uint64_t value, int n_iov, struct rj_error *err)
{
	struct rji_frame f = { .type = type, .n_extents = (uint16_t)n, .value = value };
	size_t head_bytes = RJI_FRAME_HEAD_BYTES + table_bytes;
	int ret;

	rji_frame_encode(&f, lane->head);
	lane->iov[0] = (struct iovec){ lane->head, head_bytes };
	ret = rji_socket_send(lane->fd, lane->iov, n_iov, 0, lane->tp->stop);
	if (!ret)
		atomic_fetch_add_explicit(&lane->sent_bytes, head_bytes + value,
					  memory_order_relaxed);
	atomic_fetch_add_explicit(&lane->frames, 1, memory_order_relaxed);
	return lane_failed(lane, ret, "sending pages", err);
}

/* from NULL: the pages themselves. */
static int post_pages(struct tcp_lane *lane, const struct rji_extent *e, const void *const *from,
		      uint32_t n, struct rj_error *err)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++) {
		void *p = from ? (void *)(uintptr_t)from[i]
			       : rji_memory_at(&lane->tp->memory, &e[i]);

		lane->iov[i + 1] = (struct iovec){ p, e[i].len_bytes };
		bytes += e[i].len_bytes;
	}
	rji_frame_encode_extents(e, n, lane->head + RJI_FRAME_HEAD_BYTES);
	return send_frame(lane, RJI_FRAME_PAGES, n, (size_t)n * RJI_FRAME_EXTENT_BYTES, bytes,
			  (int)n + 1, err);
}

static int tcp_post_staged(struct rji_lane *lane, const struct rji_extent *e,
			   const void *const *from, uint32_t n, struct rj_error *err)
{
	int ret = 0;

	for (uint32_t at = 0; !ret && at < n; at += RJI_FRAME_MAX_EXTENTS) {
		uint32_t part = n - at < RJI_FRAME_MAX_EXTENTS ? n - at : RJI_FRAME_MAX_EXTENTS;

		ret = post_pages(to_tcp_lane(lane), e + at, from ? from + at : NULL, part, err);
	}
	return ret;
}

static int tcp_post(struct rji_lane *lane, const struct rji_extent *e, uint32_t n,
		    struct rj_error *err)
{
	return tcp_post_staged(lane, e, NULL, n, err);
}

static void *tcp_staging(struct rji_lane *lane_, size_t len_bytes)
{
	struct tcp_lane *lane = to_tcp_lane(lane_);

	if (!lane->staged)
		lane->staged = aligned_alloc(4096, (len_bytes + 4095) & ~(size_t)4095);
	return lane->staged;
}

static int post_codes(struct tcp_lane *lane, const struct rji_coded *c, uint32_t n,
		      struct rj_error *err)
{
	uint64_t bytes = 0;
	int n_iov = 1;

	for (uint32_t i = 0; i < n; i++) {
		if (!c[i].len_bytes)
			continue;
		lane->iov[n_iov++] =
			(struct iovec){ (void *)(uintptr_t)c[i].bytes, c[i].len_bytes };
		bytes += c[i].len_bytes;
	}
	rji_frame_encode_coded(c, n, lane->head + RJI_FRAME_HEAD_BYTES);
	return send_frame(lane, RJI_FRAME_CODED, n, (size_t)n * RJI_FRAME_CODED_BYTES, bytes, n_iov,
			  err);
}

static int tcp_post_coded(struct rji_lane *lane, const struct rji_coded *c, uint32_t n,
			  struct rj_error *err)
{
	int ret = 0;

	while (!ret && n) {
		uint64_t bytes = 0;
		uint32_t part = 0;

		while (part < n && part < RJI_FRAME_MAX_EXTENTS &&
		       bytes + c[part].len_bytes <= RJI_FRAME_MAX_CODES_BYTES)
			bytes += c[part++].len_bytes;
		ret = post_codes(to_tcp_lane(lane), c, part, err);
		c += part;
		n -= part;
	}
	return ret;
}

/* sendmsg() has copied the pages when it returns. */
static int tcp_drain(struct rji_lane *lane, struct rj_error *err)
{
	(void)lane;
	(void)err;
	return 0;
}

static int tcp_fence(struct rji_lane *lane_, uint64_t deadline_ns, struct rj_error *err)
{
	struct tcp_lane *lane = to_tcp_lane(lane_);
	struct rji_frame f;
	int ret = lane_failed(lane, send_head(lane, RJI_FRAME_FENCE, ++lane->fence_number),
			      "sending a fence", err);

	if (!deadline_ns)
		deadline_ns = rji_now_ns() + lane->tp->peer_timeout_ms * RJI_NS_PER_MS;
	if (!ret)
		ret = receive_head(lane, deadline_ns, &f, err);
	if (ret < 0)
		return ret;
	if (f.type != RJI_FRAME_FENCED || f.value != lane->fence_number)
		return rji_fail(err, RJ_E_PROTOCOL,
				"lane %u: the destination answered a fence that was not asked",
				lane->number);
	return 0;
}

/* --- both --- */

/* What waits in the socket's buffers may still be received by serve(), until it sees the end. */
static void tcp_cut(struct rji_lane *lane)
{
	shutdown(to_tcp_lane(lane)->fd, SHUT_RDWR);
}

static void tcp_stats(const struct rji_lane *lane, struct rji_lane_stats *st)
{
	const struct tcp_lane *tcp = (const struct tcp_lane *)lane;

	*st = (struct rji_lane_stats){
		.sent_bytes = atomic_load_explicit(&tcp->sent_bytes, memory_order_relaxed),
		.requests = atomic_load_explicit(&tcp->frames, memory_order_relaxed),
		.posts = atomic_load_explicit(&tcp->frames, memory_order_relaxed),
	};
}

static void tcp_close(struct rji_lane **lane_p)
{
	struct tcp_lane *lane = to_tcp_lane(*lane_p);

	if (!lane)
		return;
	if (lane->is_source && !rji_stop_is_set(lane->tp->stop))
		send_head(lane, RJI_FRAME_BYE, 0); /* or the destination takes it for a lost lane */
	for (uint32_t i = 0; i < lane->tp->n_accepted; i++) {
		if (lane->tp->accepted[i] == lane)
			lane->tp->accepted[i--] = lane->tp->accepted[--lane->tp->n_accepted];
	}
	close(lane->fd);
	if (lane->applying)
		lane->tp->apply->destroy(&lane->applying);
	free(lane->codes);
	free(lane->staged);
	free(lane);
	*lane_p = NULL;
}

const struct rji_transport_ops rji_tcp_transport = {
	.name = "tcp",
	.moves_data = true,
	.create = tcp_create,
	.destroy = tcp_destroy,
	.reg = tcp_reg,
	.dereg_all = tcp_dereg_all,
	.listen = tcp_listen,
	.accept = tcp_accept,
	.serve = tcp_serve,
	.withdraw = tcp_withdraw,
	.connect = tcp_connect,
	.post = tcp_post,
	.staging = tcp_staging,
	.post_staged = tcp_post_staged,
	.codings = 1u << RJI_CODING_ZEROS | 1u << RJI_CODING_XBZRLE | 1u << RJI_CODING_ZSTD,
	.post_coded = tcp_post_coded,
	.drain = tcp_drain,
	.fence = tcp_fence,
	.cut = tcp_cut,
	.stats = tcp_stats,
	.close = tcp_close,
};

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination until the first page comes: wait for a source, agree with it, let the VMM judge its set-up, provide memory for its
 * regions, accept its lanes. Nothing of it is out of reach of a peer who only pretends, so all of it is checked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "migration/session_impl.h"
#include "rdma/rdma.h"
#include "transport/greeting.h"
#include "transport/socket.h"

#define MAX_KEYS_BYTES (1u << 20)

/* --- listening --- */

int rji_destination_listen(struct rj_session *s, struct rj_error *err)
{
	if (s->listen_fd >= 0 || s->o.control_fd >= 0)
		return 0;
	return rji_socket_listen(&s->uri, &s->listen_fd, err);
}

int rj_local_uri(const struct rj_session *s, char *buf, size_t buf_bytes)
{
	char addr[RJI_ADDR_BYTES + 16];
	struct rji_uri local;
	int n;

	if (!s || !buf || !s->is_destination)
		return -EINVAL;
	if (s->listen_fd < 0 || rji_socket_local(s->listen_fd, &local) < 0)
		return RJ_E_STATE;
	if (rji_uri_is_unix(&local))
		n = snprintf(buf, buf_bytes, "unix://%s", local.path);
	else if (rji_addr_format(addr, sizeof(addr), s->uri_text ? s->uri.host : local.host,
				 local.port) == 0)
		n = snprintf(buf, buf_bytes, "%s://%s", s->uri_text ? s->uri.scheme : s->ops->name,
			     addr);
	else
		return -ENOSPC;
	return n < 0 || (size_t)n >= buf_bytes ? -ENOSPC : 0;
}

/*
 * Tell a caller of another version why it is not served; this message is the same in all versions.
 */
static void refuse_version(struct rj_session *s, int fd, const struct rji_greeting *g)
{
	struct rji_msg_failed failed = { .code = RJ_E_VERSION };
	uint8_t buf[8 + RJ_ERROR_TEXT_BYTES];
	struct rji_control ctl;
	struct rji_cursor c;

	snprintf(
		failed.text, sizeof(failed.text),
		"this side speaks protocol version %u, the other %u; use libraries of the same major version",
		RJI_PROTOCOL_MAJOR, g->major);
	rji_log(s->host, RJ_LOG_WARN, "refused a source: %s", failed.text);
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_failed(&c, &failed);
	rji_control_init(&ctl, fd, s->o.peer_timeout_ms, &s->stop);
	rji_control_send(&ctl, RJI_MSG_FAILED, buf, c.pos);
	rji_control_fini(&ctl);
}

/*
 * Wait for one that greets as a source of our version; all others are sent away and the wait goes
 * on.
 */
static int accept_source(struct rj_session *s, void *arg, struct rj_error *err)
{
	struct rji_acceptor acceptor;
	struct rji_greeting g;
	int fd, ret, *fd_p = arg;

	rji_acceptor_init(&acceptor, s->listen_fd, s->host, &s->stop);
	while ((ret = rji_acceptor_next(&acceptor, 0, &g, &fd)) > 0) {
		if (g.kind == RJI_GREET_CONTROL && g.major == RJI_PROTOCOL_MAJOR)
			break;
		if (g.kind == RJI_GREET_CONTROL)
			refuse_version(s, fd, &g);
		else
			close(fd);
	}
	rji_acceptor_fini(&acceptor);
	if (ret <= 0)
		return rji_fail(err, ret ? ret : -EIO, "waiting for a source ended");
	*fd_p = fd;
	memcpy(s->session_id, g.session_id, sizeof(s->session_id));
	return 0;
}

/* The same on a descriptor that was handed in. */
static int greet_handed_in(struct rj_session *s, void *arg, struct rj_error *err)
{
	uint8_t bytes[RJI_GREETING_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct rji_greeting g;
	int ret, *fd_p = arg;

	*fd_p = s->o.control_fd;
	s->o.control_fd = -1;
	ret = rji_socket_tune(*fd_p, s->o.peer_timeout_ms);
	if (!ret)
		ret = rji_socket_recv(*fd_p, &iov, 1, 0, &s->stop);
	if (ret < 0)
		return rji_fail(err, ret, "no source on the control descriptor");
	if (rji_greeting_decode(bytes, &g) < 0 || g.kind != RJI_GREET_CONTROL)
		return rji_fail(err, RJ_E_PROTOCOL,
				"what is on the control descriptor is not a source");
	if (g.major != RJI_PROTOCOL_MAJOR) {
		refuse_version(s, *fd_p, &g);
		*fd_p = -1;
		return rji_fail(err, RJ_E_VERSION,
				"the source speaks protocol version %u, this side %u", g.major,
				RJI_PROTOCOL_MAJOR);
	}
	memcpy(s->session_id, g.session_id, sizeof(s->session_id));
	return 0;
}

static int wait_for_source(struct rj_session *s, struct rj_error *err)
{
	int fd = -1;
	int ret = rji_session_aside(s, "rj-accept", RJI_WAIT_CANCEL,
				    s->o.control_fd >= 0 ? greet_handed_in : accept_source, &fd,
				    err);

	if (fd < 0)
		return ret;
	if (!ret)
		ret = rji_socket_tune(fd, s->o.peer_timeout_ms);
	rji_control_init(&s->ctl, fd, s->o.peer_timeout_ms, &s->stop);
	s->fig.started_ns = rji_now_ns(); /* a migration's time, not the wait for one */
	return ret;
}

/* --- set-up --- */

static int expect(struct rj_session *s, uint16_t type, struct rji_msg **msg_p, struct rji_cursor *c,
		  struct rj_error *err)
{
	int ret = rji_session_expect(s, RJI_WAIT_MIGRATING, type, 0,
				     rji_session_deadline(s->o.connect_timeout_ms), msg_p, err);

	if (!ret)
		rji_cursor_init_const(c, (*msg_p)->payload, (*msg_p)->len_bytes);
	return ret;
}

static int agree(struct rj_session *s, struct rj_error *err)
{
	struct rji_msg_hello_ok ok = { .minor = RJI_PROTOCOL_MINOR,
				       .outcome_keep_ms = s->o.outcome_keep_ms,
				       .features = rji_session_features(s) };
	struct rji_msg_hello hello;
	struct rji_cursor c;
	struct rji_msg *msg;
	uint8_t buf[64];
	int ret = expect(s, RJI_MSG_HELLO, &msg, &c, err);

	if (ret < 0)
		return ret;
	ret = rji_get_hello(&c, &hello);
	free(msg);
	if (ret < 0)
		return rji_session_malformed(s, RJI_MSG_HELLO, err);
	if (memcmp(hello.session_id, s->session_id, sizeof(s->session_id)))
		return rji_fail(err, RJ_E_PROTOCOL, "the source changed its session id");
	if (strcmp(hello.transport, s->ops->name))
		return rji_fail(
			err, RJ_E_REFUSED,
			"the source sends by %s, this side receives by %s: use the same scheme in both URIs",
			hello.transport, s->ops->name);
	memcpy(s->secret, hello.secret, sizeof(s->secret));
	s->features = ok.features & hello.features;
	ok.n_lanes = hello.n_lanes;
	if (s->o.n_lanes && s->o.n_lanes < ok.n_lanes)
		ok.n_lanes = s->o.n_lanes;
	if (rji_session_lanes_for_cap(s) < ok.n_lanes)
		ok.n_lanes = rji_session_lanes_for_cap(s);
	if (!ok.n_lanes)
		return rji_fail(
			err, RJ_E_MEMLOCK,
			"a cap of %" PRIu64
			" bytes on pinned memory at the destination is too small: allow %" PRIu64
			" at least",
			s->o.pin_cap_bytes, rji_rdma_least_cap(1));
	s->o.n_lanes = ok.n_lanes;
	s->fig.n_lanes = ok.n_lanes;
	if (ok.minor > hello.minor)
		ok.minor = hello.minor;
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_hello_ok(&c, &ok);
	return rji_session_send(s, RJI_MSG_HELLO_OK, buf, c.pos, err);
}

static int judge_setup(struct rj_session *s, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_SETUP };
	struct rji_cursor c;
	struct rji_msg *msg;
	int ret = expect(s, RJI_MSG_SETUP, &msg, &c, err);

	if (ret < 0)
		return ret;
	s->blob = msg; /* until rj_close(): the VMM may still read it when the source is gone */
	ev.u.setup.blob = msg->payload;
	ev.u.setup.len_bytes = msg->len_bytes;
	ret = rji_session_ask(s, RJI_WAIT_MIGRATING, &ev, err);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->reply_lock); /* the VMM's thread wrote it */
	ret = rji_session_send(s, RJI_MSG_SETUP_OK, s->reply, s->reply_bytes, err);
	pthread_mutex_unlock(&s->reply_lock);
	return ret;
}

static int find_given(const struct rj_session *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_given; i++) {
		if (!strcmp(s->given[i].name, name))
			return (int)i;
	}
	return -ENOENT;
}

/* Memory for a region of the source: given before, or asked for now. */
static int provide(struct rj_session *s, const struct rji_msg_region *m, struct rj_error *err)
{
	struct rj_event ev = { .type = RJ_RQ_REGION };
	int ret;

	if (find_given(s, m->name) >= 0)
		return 0;
	memcpy(ev.u.region.name, m->name, sizeof(ev.u.region.name));
	ev.u.region.len_bytes = m->len_bytes;
	ev.u.region.gpa = m->gpa;
	ev.u.region.page_bytes = m->page_bytes;
	ev.u.region.flags = m->flags;
	s->asked_region = *m;
	/* pairs with may_add_region() */
	atomic_store_explicit(&s->asked, true, memory_order_release);
	ret = rji_session_ask(s, RJI_WAIT_MIGRATING, &ev, err);
	atomic_store_explicit(&s->asked, false, memory_order_release);
	if (ret >= 0 && find_given(s, m->name) < 0)
		return rji_fail(err, RJ_E_REGION, "the VMM gave no memory for region '%s'",
				m->name);
	return ret < 0 ? ret : 0;
}

static int check_match(const struct rji_given_region *g, const struct rji_msg_region *m,
		       struct rj_error *err)
{
	if (g->r.len_bytes != m->len_bytes)
		return rji_fail(err, RJ_E_REGION,
				"region '%s' has %" PRIu64 " bytes at the source and %" PRIu64
				" here: give both sides the same memory size",
				m->name, m->len_bytes, g->r.len_bytes);
	if (g->r.page_bytes != m->page_bytes)
		return rji_fail(err, RJ_E_REGION,
				"region '%s' has pages of %u bytes at the source and %u here",
				m->name, m->page_bytes, g->r.page_bytes);
	return 0;
}

/* The source's numbers become ours: swap the region into its place. */
static void renumber(struct rj_session *s, uint32_t number, int given)
{
	struct rji_given_region moved = s->given[number];

	if ((uint32_t)given == number)
		return;
	s->given[number] = s->given[given];
	s->given[given] = moved;
	s->given[number].r.name = s->given[number].name;
	s->given[given].r.name = s->given[given].name;
}

int rji_session_take_region(struct rj_session *s, uint32_t number, const struct rji_msg_region *m,
			    struct rj_error *err)
{
	int ret = provide(s, m, err);

	if (!ret)
		ret = check_match(&s->given[find_given(s, m->name)], m, err);
	if (!ret && (uint32_t)find_given(s, m->name) < number)
		ret = rji_fail(err, RJ_E_PROTOCOL, "the source names region '%s' twice", m->name);
	if (!ret)
		renumber(s, number, find_given(s, m->name));
	return ret;
}

static int take_regions(struct rj_session *s, struct rj_error *err)
{
	struct rji_cursor c;
	struct rji_msg *msg;
	uint32_t n;
	int ret = expect(s, RJI_MSG_REGIONS, &msg, &c, err);

	if (ret < 0)
		return ret;
	n = rji_get_u32(&c);
	if (!n || n > RJ_MAX_REGIONS)
		ret = rji_session_malformed(s, RJI_MSG_REGIONS, err);
	for (uint32_t i = 0; !ret && i < n; i++) {
		struct rji_msg_region m;

		if (rji_get_region(&c, &m) < 0) {
			ret = rji_session_malformed(s, RJI_MSG_REGIONS, err);
			break;
		}
		ret = rji_session_take_region(s, i, &m, err);
	}
	free(msg);
	if (!ret && s->n_given != n)
		ret = rji_fail(err, RJ_E_REGION,
			       "this side has a region '%s' that the source does not have",
			       s->given[n].name);
	return ret;
}

static int send_region_ok(struct rj_session *s, uint32_t number, uint8_t *buf, size_t buf_bytes,
			  struct rj_error *err)
{
	struct rji_msg_region_ok ok = { .region = number,
					.flags = s->given[number].r.flags & RJ_REGION_ZEROED };
	uint8_t *keys = buf + buf_bytes / 2;
	struct rji_cursor c;
	int n = s->ops->export_keys ? s->ops->export_keys(s->tp, number, keys, buf_bytes / 2, err)
				    : 0;

	if (n < 0)
		return rji_fail(err, n, "the keys of region '%s' do not fit",
				s->given[number].name);
	ok.keys = keys;
	ok.keys_bytes = (size_t)n;
	rji_cursor_init(&c, buf, buf_bytes / 2);
	rji_put_region_ok(&c, &ok);
	return c.bad ? rji_fail(err, -ENOSPC, "the keys of region '%s' do not fit",
				s->given[number].name)
		     : rji_session_send(s, RJI_MSG_REGION_OK, buf, c.pos, err);
}

static int provide_memory(struct rj_session *s, struct rj_error *err)
{
	uint8_t *buf;
	int ret = take_regions(s, err);

	if (!ret)
		ret = rji_session_create_transport(s, err);
	if (!ret)
		ret = rji_session_register(s, err);
	if (ret < 0)
		return ret;
	buf = malloc(2 * MAX_KEYS_BYTES);
	if (!buf)
		return rji_fail(err, -ENOMEM, "no memory for region keys");
	for (uint32_t i = 0; !ret && i < s->n_given; i++)
		ret = send_region_ok(s, i, buf, 2 * MAX_KEYS_BYTES, err);
	free(buf);
	return ret;
}

/* --- lanes --- */

struct accepting {
	struct rji_admission adm;
	struct rji_lane *lanes[RJ_MAX_LANES];
};

static void admit(struct rj_session *s, struct accepting *a, const uint8_t *token)
{
	memcpy(a->adm.session_id, s->session_id, sizeof(a->adm.session_id));
	memcpy(a->adm.token, token, sizeof(a->adm.token));
}

static int accept_lanes(struct rj_session *s, void *arg, struct rj_error *err)
{
	struct accepting *a = arg;

	/* Queue pairs and their buffers come to lie where this thread runs. */
	if (s->placement->lane[0].narrowed)
		rji_thread_bind(s->host, "rj-accept", &s->placement->lane[0].cpus);
	return s->ops->accept(s->tp, &a->adm, rji_session_deadline(s->o.connect_timeout_ms),
			      a->lanes, err);
}

static int listen_for_lanes(struct rj_session *s, struct rji_msg_lanes *lanes, struct rj_error *err)
{
	struct rji_listen l = { .control_listen_fd = s->listen_fd, .data_addrs = s->data_addrs };
	struct rji_uri local = { 0 };

	rji_socket_local(s->ctl.fd, &local);
	l.host = local.host;
	l.port = local.port;
	return s->ops->listen(s->tp, &l, &lanes->addrs, err);
}

static int open_lanes(struct rj_session *s, struct rj_error *err)
{
	struct accepting a = { .adm.n_lanes = s->o.n_lanes };
	struct rji_receiver_opts o = { .host = s->host,
				       .ops = s->ops,
				       .n_lanes = s->o.n_lanes,
				       .lanes = a.lanes,
				       .failed_fd = s->wake_fd };
	struct rji_msg_lanes lanes = { 0 };
	uint8_t buf[RJI_TOKEN_BYTES + 4 + RJI_MAX_ADDRS * (RJI_ADDR_BYTES + 2)];
	struct rji_cursor c;
	int ret;

	if (rji_random_bytes(lanes.token, sizeof(lanes.token)) < 0)
		return rji_fail(err, -EIO, "no random numbers from the kernel");
	admit(s, &a, lanes.token);
	ret = listen_for_lanes(s, &lanes, err);
	if (ret < 0)
		return ret;
	ret = rji_session_place(s, &lanes.addrs, err);
	if (ret < 0)
		return ret;
	o.placement = s->placement;
	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_lanes(&c, &lanes);
	ret = rji_session_send(s, RJI_MSG_LANES, buf, c.pos, err);
	if (!ret)
		ret = rji_session_aside(s, "rj-accept", RJI_WAIT_MIGRATING, accept_lanes, &a, err);
	if (ret < 0) {
		for (uint32_t i = 0; i < s->o.n_lanes; i++)
			s->ops->close(&a.lanes[i]);
		return ret;
	}
	o.tp = s->tp;
	ret = rji_receiver_create(&o, &s->receiver, err);
	return ret < 0 ? ret : rji_session_send(s, RJI_MSG_LANES_OK, NULL, 0, err);
}

static int say_gone(struct rj_session *s, const struct rji_msg_lanes_gone *gone,
		    struct rj_error *err)
{
	uint8_t buf[8 + RJI_TOKEN_BYTES];
	struct rji_cursor c;

	rji_cursor_init(&c, buf, sizeof(buf));
	rji_put_lanes_gone(&c, gone);
	return rji_session_send(s, RJI_MSG_LANES_GONE, buf, c.pos, err);
}

int rji_destination_replace_lanes(struct rj_session *s, uint64_t lanes, struct rj_error *err)
{
	struct accepting a = { .adm.n_lanes = s->o.n_lanes };
	struct rji_msg_lanes_gone gone = { .lanes = lanes };
	int ret;

	if (rji_random_bytes(gone.token, sizeof(gone.token)) < 0)
		return rji_fail(err, -EIO, "no random numbers from the kernel");
	rji_receiver_drop(s->receiver, lanes);
	a.adm.there = rji_receiver_lanes(s->receiver, a.lanes);
	admit(s, &a, gone.token);
	ret = say_gone(s, &gone, err);
	if (!ret)
		ret = rji_session_aside(s, "rj-accept", RJI_WAIT_MIGRATING, accept_lanes, &a, err);
	if (!ret)
		ret = rji_receiver_adopt(s->receiver, a.lanes, err);
	return ret < 0 ? ret : rji_session_send(s, RJI_MSG_LANES_OK, NULL, 0, err);
}

int rji_destination_set_up(struct rj_session *s, struct rj_error *err)
{
	static int (*const steps[])(struct rj_session *, struct rj_error *) = {
		agree,
		judge_setup,
		provide_memory,
		open_lanes,
	};
	int ret = wait_for_source(s, err);

	if (!ret)
		rji_session_set_state(s, RJ_STATE_SETUP);
	for (size_t i = 0; !ret && i < sizeof(steps) / sizeof(*steps); i++)
		ret = steps[i](s, err);
	return ret;
}

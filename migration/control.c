/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/control.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/socket.h"

#define MAX_QUEUED 16

void rji_control_init(struct rji_control *c, int fd, uint32_t peer_timeout_ms,
		      struct rji_stop *stop)
{
	memset(c, 0, sizeof(*c));
	rji_error_init(&c->err);
	c->fd = fd;
	c->peer_timeout_ms = peer_timeout_ms;
	c->stop = stop;
	c->heard_ns = c->spoke_ns = rji_now_ns();
}

void rji_control_hang_up(struct rji_control *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->gone = true;
}

void rji_control_fini(struct rji_control *c)
{
	struct rji_msg *msg;

	rji_control_hang_up(c);
	while ((msg = rji_control_take(c)))
		free(msg);
	free(c->partial);
	c->partial = NULL;
}

static uint64_t timeout_ns(const struct rji_control *c)
{
	return c->peer_timeout_ms * RJI_NS_PER_MS;
}

/* The first cause stays. */
static void lose(struct rji_control *c, int ret)
{
	if (ret == RJ_E_PEER_GONE)
		rji_fail(&c->err, ret, "the peer closed the control connection");
	else if (ret == RJ_E_TIMEOUT)
		rji_fail(&c->err, RJ_E_PEER_GONE,
			 "the peer takes nothing any more on the control connection");
	else
		rji_fail_sys(&c->err, RJ_E_PEER_GONE, -ret, "the control connection failed");
	rji_control_hang_up(c);
}

int rji_control_send(struct rji_control *c, uint16_t type, const void *payload, size_t len_bytes)
{
	uint8_t head[RJI_MSG_HEAD_BYTES];
	struct iovec iov[2] = { { head, sizeof(head) }, { (void *)(uintptr_t)payload, len_bytes } };
	int ret;

	if (c->fd < 0)
		return RJ_E_PEER_GONE;
	rji_msg_encode_head(head, type, (uint32_t)len_bytes);
	ret = rji_socket_send(c->fd, iov, len_bytes ? 2 : 1, rji_now_ns() + timeout_ns(c), c->stop);
	if (ret < 0) {
		lose(c, ret);
		return RJ_E_PEER_GONE;
	}
	c->spoke_ns = rji_now_ns();
	return 0;
}

static void queue(struct rji_control *c, struct rji_msg *msg)
{
	msg->next = NULL;
	if (c->last)
		c->last->next = msg;
	else
		c->first = msg;
	c->last = msg;
	c->n_queued++;
}

struct rji_msg *rji_control_take(struct rji_control *c)
{
	struct rji_msg *msg = c->first;

	if (msg) {
		c->first = msg->next;
		if (!c->first)
			c->last = NULL;
		c->n_queued--;
	}
	return msg;
}

bool rji_control_is_full(const struct rji_control *c)
{
	return c->n_queued >= MAX_QUEUED;
}

/* A whole message is in. */
static void dispatch(struct rji_control *c, struct rji_msg *msg)
{
	struct rji_cursor cursor;

	switch (msg->type) {
	case RJI_MSG_PING:
		rji_control_send(c, RJI_MSG_PONG, NULL, 0);
		free(msg);
		break;
	case RJI_MSG_PONG: free(msg); break;
	case RJI_MSG_FAILED:
		rji_cursor_init_const(&cursor, msg->payload, msg->len_bytes);
		if (rji_get_failed(&cursor, &c->failure) < 0) {
			c->failure.code = RJ_E_PROTOCOL;
			strcpy(c->failure.text, "for a reason that cannot be read");
		}
		c->peer_failed = true;
		free(msg);
		break;
	default: queue(c, msg);
	}
}

/* Read up to len bytes at p. True: all there; false: not yet, or gone. */
static bool fill(struct rji_control *c, uint8_t *p, size_t len)
{
	while (c->got_bytes < len) {
		ssize_t n = recv(c->fd, p + c->got_bytes, len - c->got_bytes, 0);

		if (n > 0) {
			c->got_bytes += (size_t)n;
			c->heard_ns = rji_now_ns();
		} else if (n == 0) {
			lose(c, RJ_E_PEER_GONE);
			return false;
		} else if (errno == EAGAIN) {
			return false;
		} else if (errno != EINTR) {
			lose(c, errno == ECONNRESET ? RJ_E_PEER_GONE : -errno);
			return false;
		}
	}
	c->got_bytes = 0;
	return true;
}

/* Begin the next message. False: not now. */
static bool begin(struct rji_control *c)
{
	uint32_t len;
	uint16_t type;

	if (!fill(c, c->head, sizeof(c->head)))
		return false;
	if (rji_msg_decode_head(c->head, &type, &len, &c->err) < 0) {
		rji_control_hang_up(c);
		return false;
	}
	c->partial = malloc(sizeof(*c->partial) + len);
	if (!c->partial) {
		lose(c, -ENOMEM);
		return false;
	}
	c->partial->type = type;
	c->partial->len_bytes = len;
	return true;
}

void rji_control_read(struct rji_control *c)
{
	while (c->fd >= 0 && !rji_control_is_full(c)) {
		struct rji_msg *msg;

		if (!c->partial && !begin(c))
			return;
		if (!fill(c, c->partial->payload, c->partial->len_bytes))
			return;
		msg = c->partial;
		c->partial = NULL;
		dispatch(c, msg);
	}
}

static uint64_t ping_ns(const struct rji_control *c)
{
	return timeout_ns(c) / 5;
}

uint64_t rji_control_next_check_ns(const struct rji_control *c)
{
	return c->spoke_ns + ping_ns(c);
}

/* FAILED came. A version that does not fit is told by its own code. */
static int peer_failed(const struct rji_control *c, struct rj_error *err)
{
	if (err && !err->code)
		err->peer_code = c->failure.code;
	return rji_fail(err, c->failure.code == RJ_E_VERSION ? RJ_E_VERSION : RJ_E_PEER_FAILED,
			"the peer gave up: %.400s", c->failure.text);
}

int rji_control_check(struct rji_control *c, struct rj_error *err)
{
	uint64_t now = rji_now_ns();

	if (c->peer_failed)
		return peer_failed(c, err);
	if (rji_control_is_full(c))
		c->heard_ns = now; /* nothing is read meanwhile: the silence is this side's */
	if (!c->gone && now - c->heard_ns > timeout_ns(c)) {
		rji_fail(&c->err, RJ_E_PEER_GONE, "nothing was heard from the peer for %u ms",
			 c->peer_timeout_ms);
		rji_control_hang_up(c);
	}
	if (!c->gone && now >= rji_control_next_check_ns(c))
		rji_control_send(c, RJI_MSG_PING, NULL, 0);
	if (!c->gone)
		return 0;
	if (err && !err->code)
		*err = c->err;
	return c->err.code ? c->err.code : RJ_E_PEER_GONE;
}

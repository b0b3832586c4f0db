/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/greeting.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/socket.h"

static const char magic[8] = { 'R', 'A', 'M', 'J', 'E', 'T', '\r', '\n' };

/* How long a connection may take to say who it is. */
#define STARVED_NS (100 * RJI_NS_PER_MS) /* without descriptors: look again after this */
#define GREETING_NS (5 * RJI_NS_PER_S)
/* And how long while others may be waiting for its place. */
#define CROWDED_NS (RJI_NS_PER_S / 2)

void rji_greeting_encode(const struct rji_greeting *g, uint8_t bytes[RJI_GREETING_BYTES])
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, RJI_GREETING_BYTES);
	rji_put_bytes(&c, magic, sizeof(magic));
	rji_put_u16(&c, g->major);
	rji_put_u16(&c, g->kind);
	rji_put_u32(&c, g->lane);
	rji_put_bytes(&c, g->session_id, sizeof(g->session_id));
	rji_put_bytes(&c, g->token, sizeof(g->token));
}

int rji_greeting_decode(const uint8_t bytes[RJI_GREETING_BYTES], struct rji_greeting *g_p)
{
	struct rji_greeting g;
	struct rji_cursor c;
	char seen[sizeof(magic)];

	rji_cursor_init_const(&c, bytes, RJI_GREETING_BYTES);
	rji_get_bytes(&c, seen, sizeof(seen));
	if (memcmp(seen, magic, sizeof(magic)))
		return -EINVAL;
	g.major = rji_get_u16(&c);
	g.kind = rji_get_u16(&c);
	g.lane = rji_get_u32(&c);
	rji_get_bytes(&c, g.session_id, sizeof(g.session_id));
	rji_get_bytes(&c, g.token, sizeof(g.token));
	*g_p = g;
	return 0;
}

void rji_acceptor_init(struct rji_acceptor *a, int listen_fd, const struct rji_host *host,
		       const struct rji_stop *stop)
{
	*a = (struct rji_acceptor){ .listen_fd = listen_fd, .host = host, .stop = stop };
}

void rji_acceptor_fini(struct rji_acceptor *a)
{
	while (a->n_pending)
		close(a->pending[--a->n_pending].fd);
}

static void forget(struct rji_acceptor *a, uint32_t i)
{
	a->pending[i] = a->pending[--a->n_pending];
}

static void refuse(struct rji_acceptor *a, uint32_t i, const char *why)
{
	struct rji_uri who;

	if (rji_socket_peer(a->pending[i].fd, &who) < 0)
		who = (struct rji_uri){ .host = "?" };
	rji_log(a->host, RJ_LOG_WARN, "refused a connection from %s%s: %s", who.host, who.path,
		why);
	close(a->pending[i].fd);
	forget(a, i);
}

static void take_new(struct rji_acceptor *a)
{
	while (a->n_pending < RJI_ACCEPTOR_PENDING) {
		int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		/* None waits, or it went away again; or there is no descriptor for it. */
		a->starved = fd < 0 && (errno == EMFILE || errno == ENFILE);
		if (fd < 0)
			return;
		a->pending[a->n_pending++] =
			(struct rji_pending){ .fd = fd, .deadline_ns = rji_now_ns() + GREETING_NS };
	}
}

static uint64_t patience_ends_ns(const struct rji_acceptor *a, const struct rji_pending *p)
{
	bool crowded = a->n_pending == RJI_ACCEPTOR_PENDING;

	return crowded ? p->deadline_ns - GREETING_NS + CROWDED_NS : p->deadline_ns;
}

/* Read on. 1: greeted; 0: not yet; negative: not one of us, with why. */
static int read_greeting(const struct rji_acceptor *a, struct rji_pending *p,
			 struct rji_greeting *g_p, const char **why_p)
{
	ssize_t n = recv(p->fd, p->bytes + p->got_bytes, sizeof(p->bytes) - p->got_bytes, 0);

	*why_p = "it closed before it said who it is";
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return -EINVAL;
	if (n > 0)
		p->got_bytes += (size_t)n;
	*why_p = "it does not speak this protocol";
	if (p->got_bytes &&
	    memcmp(p->bytes, magic, p->got_bytes < sizeof(magic) ? p->got_bytes : sizeof(magic)))
		return -EINVAL;
	*why_p = "it did not say in time who it is";
	if (p->got_bytes < sizeof(p->bytes))
		return rji_now_ns() >= patience_ends_ns(a, p) ? -ETIMEDOUT : 0;
	return rji_greeting_decode(p->bytes, g_p) < 0 ? -EINVAL : 1;
}

/* Sleep until something may have changed. */
static int wait_for_change(const struct rji_acceptor *a, uint64_t deadline_ns)
{
	struct pollfd fds[RJI_ACCEPTOR_PENDING + 2];
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = a->stop->fd, .events = POLLIN };
	if (a->starved) /* who waits would wake us without end */
		deadline_ns = rji_now_ns() + STARVED_NS;
	else if (a->n_pending < RJI_ACCEPTOR_PENDING)
		fds[n++] = (struct pollfd){ .fd = a->listen_fd, .events = POLLIN };
	for (uint32_t i = 0; i < a->n_pending; i++) {
		uint64_t until = patience_ends_ns(a, &a->pending[i]);

		fds[n++] = (struct pollfd){ .fd = a->pending[i].fd, .events = POLLIN };
		if (!deadline_ns || until < deadline_ns)
			deadline_ns = until;
	}
	if (poll(fds, n, rji_ms_until(deadline_ns)) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

int rji_acceptor_next(struct rji_acceptor *a, uint64_t deadline_ns, struct rji_greeting *g_p,
		      int *fd_p)
{
	for (;;) {
		const char *why;
		int ret;

		if (rji_stop_is_set(a->stop))
			return -ECANCELED;
		take_new(a);
		for (uint32_t i = a->n_pending; i-- > 0;) {
			ret = read_greeting(a, &a->pending[i], g_p, &why);
			if (ret < 0)
				refuse(a, i, why);
			if (ret > 0) {
				*fd_p = a->pending[i].fd;
				forget(a, i);
				return 1;
			}
		}
		if (deadline_ns && rji_now_ns() >= deadline_ns)
			return 0;
		ret = wait_for_change(a, deadline_ns);
		if (ret < 0)
			return ret;
	}
}

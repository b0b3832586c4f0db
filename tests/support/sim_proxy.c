/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migration/message.h"
#include "transport/greeting.h"

#define MAX_PAIRS 16

/* One direction of a connection: bytes that are not a whole message yet. */
struct stream {
	uint8_t *bytes;
	size_t len, capacity;
	bool greeted; /* its greeting, if it has one, is through */
};

struct pair {
	int fd[2]; /* by direction of what is read: [TO_DESTINATION] is the source's socket */
	struct stream in[2];
	bool silent;
	bool is_question;
};

struct sim_proxy {
	struct sim_rule rule;
	uint16_t to_port;
	int listen_fd, wake_fd;
	pthread_t thread;
	atomic_bool quit, killed, fired;
	atomic_uint n_asked;
	uint32_t n_seen; /* of the rule's messages */
	uint32_t n_pairs;
	struct pair pair[MAX_PAIRS];
};

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void send_all(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return; /* the other end is gone: it will show */
		p += done;
		n -= (size_t)done;
	}
}

static void close_pair(struct sim_proxy *p, uint32_t i)
{
	for (int d = 0; d < 2; d++) {
		if (p->pair[i].fd[d] >= 0)
			close(p->pair[i].fd[d]);
		free(p->pair[i].in[d].bytes);
	}
	p->pair[i] = p->pair[--p->n_pairs];
}

static void open_pair(struct sim_proxy *p)
{
	struct sockaddr_in to = loopback(p->to_port);
	int one = 1, from = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC), fd;

	if (from < 0)
		return;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (atomic_load(&p->killed) || p->n_pairs == MAX_PAIRS || fd < 0 ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(from);
		if (fd >= 0)
			close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	p->pair[p->n_pairs++] =
		(struct pair){ .fd = { from, fd }, .in[SIM_TO_SOURCE].greeted = true };
}

/* Take n bytes off the stream, passing them on unless they are to be lost. The dead say nothing. */
static void take(struct sim_proxy *p, struct pair *pair, enum sim_direction d, size_t n, bool pass)
{
	struct stream *s = &pair->in[d];

	if (pass && !atomic_load(&p->killed))
		send_all(pair->fd[!d], s->bytes, n);
	s->len -= n;
	memmove(s->bytes, s->bytes + n, s->len);
}

static bool is_due(struct sim_proxy *p, enum sim_direction d, uint16_t type)
{
	const struct sim_rule *r = &p->rule;

	if (!r->cut || r->direction != d || atomic_load(&p->fired) || type == RJI_MSG_PING ||
	    type == RJI_MSG_PONG)
		return false;
	if (r->type && r->type != type)
		return false;
	return ++p->n_seen == r->nth;
}

/* Say something else in its place. */
static void replace(struct sim_proxy *p, struct pair *pair, enum sim_direction d, size_t n)
{
	struct stream *s = &pair->in[d];
	uint16_t type;
	uint32_t len;

	rji_msg_decode_head(s->bytes, &type, &len, NULL);
	if (p->rule.cut == SIM_CUT_SHORT && len) {
		rji_msg_encode_head(s->bytes, type, len - 1);
		send_all(pair->fd[!d], s->bytes, n - 1);
	} else {
		rji_msg_encode_head(s->bytes, p->rule.cut == SIM_FORGE ? p->rule.forged : type, 0);
		send_all(pair->fd[!d], s->bytes, RJI_MSG_HEAD_BYTES);
	}
	take(p, pair, d, n, false);
}

/* The rule's message is here, n bytes long. False: the connection is to be closed. */
static bool apply_rule(struct sim_proxy *p, struct pair *pair, enum sim_direction d, size_t n)
{
	bool pass = p->rule.cut == SIM_CUT_AFTER || p->rule.cut == SIM_SILENT_AFTER;

	atomic_store(&p->fired, true);
	if (p->rule.fired)
		p->rule.fired(p->rule.arg);
	if (p->rule.cut == SIM_FORGE || p->rule.cut == SIM_CUT_SHORT) {
		replace(p, pair, d, n);
		return true;
	}
	take(p, pair, d, n, pass);
	pair->silent = p->rule.cut == SIM_SILENT_FROM || p->rule.cut == SIM_SILENT_AFTER;
	return pair->silent;
}

/* Who is calling? False: it is to be closed. */
static bool pass_greeting(struct sim_proxy *p, struct pair *pair)
{
	struct stream *s = &pair->in[SIM_TO_DESTINATION];
	struct rji_greeting g = { 0 };

	s->greeted = true;
	rji_greeting_decode(s->bytes, &g);
	pair->is_question = g.kind == RJI_GREET_ASK;
	if (pair->is_question) {
		atomic_fetch_add(&p->n_asked, 1);
		if (p->rule.no_answers)
			return false;
	}
	take(p, pair, SIM_TO_DESTINATION, RJI_GREETING_BYTES, true);
	return true;
}

/* Handle what is whole. False: close the pair. */
static bool pass_messages(struct sim_proxy *p, struct pair *pair, enum sim_direction d)
{
	struct stream *s = &pair->in[d];

	if (pair->silent)
		s->len = 0;
	if (!s->greeted && s->len >= RJI_GREETING_BYTES && !pass_greeting(p, pair))
		return false;
	while (s->greeted && s->len >= RJI_MSG_HEAD_BYTES) {
		uint32_t len;
		uint16_t type;

		if (rji_msg_decode_head(s->bytes, &type, &len, NULL) < 0)
			return false;
		if (s->len < RJI_MSG_HEAD_BYTES + len)
			break;
		if (!pair->is_question && is_due(p, d, type)) {
			if (!apply_rule(p, pair, d, RJI_MSG_HEAD_BYTES + len))
				return false;
			if (!pair->silent)
				continue;
			s->len = 0;
			break;
		}
		take(p, pair, d, RJI_MSG_HEAD_BYTES + len, true);
	}
	return true;
}

/* False: close the pair. */
static bool read_some(struct sim_proxy *p, struct pair *pair, enum sim_direction d)
{
	struct stream *s = &pair->in[d];
	ssize_t n;

	if (s->capacity - s->len < 65536) {
		s->capacity = s->capacity * 2 + 65536;
		s->bytes = realloc(s->bytes, s->capacity);
		assert(s->bytes);
	}
	n = recv(pair->fd[d], s->bytes + s->len, s->capacity - s->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	s->len += (size_t)n;
	return pass_messages(p, pair, d);
}

/* In silence nobody hears that the other end closed. */
static void serve_pair(struct sim_proxy *p, uint32_t i, const struct pollfd *fds)
{
	for (int d = 0; d < 2; d++) {
		struct pair *pair = &p->pair[i];

		if (!fds[d].revents || read_some(p, pair, (enum sim_direction)d))
			continue;
		if (!pair->silent) {
			close_pair(p, i);
			return;
		}
		close(pair->fd[d]);
		pair->fd[d] = -1;
		if (pair->fd[!d] < 0) {
			close_pair(p, i);
			return;
		}
	}
}

static void *proxy_thread(void *arg)
{
	struct sim_proxy *p = arg;

	while (!atomic_load(&p->quit)) {
		struct pollfd fds[2 + 2 * MAX_PAIRS];
		uint32_t n = p->n_pairs;

		fds[0] = (struct pollfd){ .fd = p->wake_fd, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = p->listen_fd, .events = POLLIN };
		for (uint32_t i = 0; i < 2 * n; i++)
			fds[2 + i] =
				(struct pollfd){ .fd = p->pair[i / 2].fd[i % 2], .events = POLLIN };
		poll(fds, 2 + 2 * n, -1);
		for (uint32_t i = n; i-- > 0;)
			serve_pair(p, i, &fds[2 + 2 * i]);
		while (atomic_load(&p->killed) && p->n_pairs)
			close_pair(p, 0);
		if (fds[0].revents) {
			eventfd_t drained;

			eventfd_read(p->wake_fd, &drained);
		}
		if (fds[1].revents)
			open_pair(p);
	}
	return NULL;
}

struct sim_proxy *sim_proxy_create(const struct sim_rule *rule, uint16_t to_port, uint16_t *port_p)
{
	struct sim_proxy *p = calloc(1, sizeof(*p));
	struct sockaddr_in at = loopback(0);
	socklen_t len = sizeof(at);
	int ret;

	assert(p);
	p->rule = *rule;
	p->to_port = to_port;
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ret = bind(p->listen_fd, (struct sockaddr *)&at, sizeof(at));
	assert(!ret);
	ret = listen(p->listen_fd, 16);
	assert(!ret);
	ret = getsockname(p->listen_fd, (struct sockaddr *)&at, &len);
	assert(!ret);
	*port_p = ntohs(at.sin_port);
	ret = pthread_create(&p->thread, NULL, proxy_thread, p);
	assert(!ret);
	return p;
}

void sim_proxy_destroy(struct sim_proxy **p_p)
{
	struct sim_proxy *p = *p_p;

	if (!p)
		return;
	atomic_store(&p->quit, true);
	eventfd_write(p->wake_fd, 1);
	pthread_join(p->thread, NULL);
	while (p->n_pairs)
		close_pair(p, 0);
	close(p->listen_fd);
	close(p->wake_fd);
	free(p);
	*p_p = NULL;
}

void sim_proxy_kill(struct sim_proxy *p)
{
	atomic_store(&p->killed, true);
	eventfd_write(p->wake_fd, 1);
}

bool sim_proxy_fired(const struct sim_proxy *p)
{
	return atomic_load(&p->fired);
}

uint32_t sim_proxy_n_asked(const struct sim_proxy *p)
{
	return atomic_load(&p->n_asked);
}

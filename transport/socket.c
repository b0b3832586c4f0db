/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/socket.h"

#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

int rji_socket_wait(int fd, short events, uint64_t deadline_ns, const struct rji_stop *stop)
{
	struct pollfd fds[2] = { { .fd = fd, .events = events },
				 { .fd = stop->fd, .events = POLLIN } };

	for (;;) {
		int n = poll(fds, 2, rji_ms_until(deadline_ns));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[1].revents)
			return -ECANCELED;
		if (n > 0 && fds[0].revents)
			return 0;
		if (deadline_ns && rji_now_ns() >= deadline_ns)
			return RJ_E_TIMEOUT;
	}
}

/* The connection is over, seen from this call's errno. */
static bool is_gone(int sys_errno)
{
	return sys_errno == EPIPE || sys_errno == ECONNRESET || sys_errno == ETIMEDOUT ||
	       sys_errno == EHOSTUNREACH || sys_errno == ENETUNREACH || sys_errno == ENOTCONN ||
	       sys_errno == ECONNABORTED;
}

/* Step over n bytes; returns how many vectors are used up. */
static int consume(struct iovec *iov, size_t n)
{
	int used = 0;

	while (n && n >= iov[used].iov_len)
		n -= iov[used++].iov_len;
	if (n) {
		iov[used].iov_base = (char *)iov[used].iov_base + n;
		iov[used].iov_len -= n;
	}
	return used;
}

/*
 * What one call moves at most. A kernel without preemption gives the CPU to nobody else, a vCPU for one, before the
 * call returns, and making the pages that are received into can take longer than copying.
 */
#define TURN_BYTES ((size_t)256 << 10)

/* The vectors of one turn, of which the first may have to be cut: *cut_p is what it had. */
static size_t take_turn(struct iovec *iov, int n, size_t *cut_p)
{
	size_t bytes = 0, m = 0;

	*cut_p = iov->iov_len;
	while (m < (size_t)n && m < IOV_MAX && bytes + iov[m].iov_len <= TURN_BYTES)
		bytes += iov[m++].iov_len;
	if (m)
		return m;
	iov->iov_len = TURN_BYTES;
	return 1;
}

/* Send or receive all of iov: try first, wait only when the kernel has no room or no data. */
static int transfer(int fd, struct iovec *iov, int n, bool sending, uint64_t deadline_ns,
		    const struct rji_stop *stop)
{
	while (n) {
		struct msghdr msg = { .msg_iov = iov };
		ssize_t done;
		size_t cut;
		int used;

		if (!iov->iov_len) { /* no bytes to move would read as the peer's end */
			iov++;
			n--;
			continue;
		}
		msg.msg_iovlen = take_turn(iov, n, &cut);
		done = sending ? sendmsg(fd, &msg, MSG_NOSIGNAL) : recvmsg(fd, &msg, 0);
		iov->iov_len = cut;
		if (done > 0 || (done == 0 && sending)) {
			used = consume(iov, (size_t)done);
			iov += used;
			n -= used;
		} else if (done == 0) {
			return RJ_E_PEER_GONE;
		} else if (errno == EAGAIN) {
			int ret =
				rji_socket_wait(fd, sending ? POLLOUT : POLLIN, deadline_ns, stop);

			if (ret < 0)
				return ret;
		} else if (errno != EINTR) {
			return is_gone(errno) ? RJ_E_PEER_GONE : -errno;
		}
	}
	return 0;
}

int rji_socket_send(int fd, struct iovec *iov, int n, uint64_t deadline_ns,
		    const struct rji_stop *stop)
{
	return transfer(fd, iov, n, true, deadline_ns, stop);
}

int rji_socket_recv(int fd, struct iovec *iov, int n, uint64_t deadline_ns,
		    const struct rji_stop *stop)
{
	return transfer(fd, iov, n, false, deadline_ns, stop);
}

int rji_socket_tune(int fd, uint32_t timeout_ms)
{
	int flags = fcntl(fd, F_GETFL), family, one = 1, user_timeout = (int)timeout_ms;
	int idle = 1, interval = 1, count = (int)(timeout_ms / 1000) ?: 1;
	socklen_t len = sizeof(family);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0)
		return -errno;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	/*
	 * Best effort: without them a dead peer is still found by the control channel's own
	 * keepalive.
	 */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
	return 0;
}

static int unix_address(const char *path, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun->sun_path))
		return -ENAMETOOLONG;
	memcpy(sun->sun_path, path, strlen(path) + 1);
	return 0;
}

/* Connect a fresh socket to one address; *fd_p is it. */
static int connect_one(int family, const struct sockaddr *sa, socklen_t len, uint64_t deadline_ns,
		       const struct rji_stop *stop, int *fd_p)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int failure = 0, ret = 0;
	socklen_t failure_len = sizeof(failure);

	if (fd < 0)
		return -errno;
	if (connect(fd, sa, len) < 0 && errno != EINPROGRESS) {
		ret = -errno;
	} else {
		ret = rji_socket_wait(fd, POLLOUT, deadline_ns, stop);
		if (!ret && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &failure_len) == 0)
			ret = -failure;
	}
	if (ret < 0) {
		close(fd);
		return ret;
	}
	*fd_p = fd;
	return 0;
}

static int fail_connect(struct rj_error *err, const char *where, int ret)
{
	if (ret == -ECANCELED)
		return ret;
	if (ret == RJ_E_TIMEOUT)
		return rji_fail(err, RJ_E_CONNECT,
				"no answer from %s; check the address, the route and firewalls",
				where);
	return rji_fail_sys(err, RJ_E_CONNECT, -ret,
			    "cannot connect to %s; is the destination listening there?", where);
}

static int connect_path(const char *path, uint64_t deadline_ns, const struct rji_stop *stop,
			int *fd_p, struct rj_error *err)
{
	struct sockaddr_un sun;
	int ret = unix_address(path, &sun);

	if (!ret)
		ret = connect_one(AF_UNIX, (struct sockaddr *)&sun, sizeof(sun), deadline_ns, stop,
				  fd_p);
	return ret < 0 ? fail_connect(err, path, ret) : 0;
}

static int resolve(const struct rji_uri *uri, bool passive, struct addrinfo **list_p,
		   struct rj_error *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0) };
	char port[8];
	int failure;

	snprintf(port, sizeof(port), "%u", uri->port);
	failure = getaddrinfo(uri->host[0] ? uri->host : NULL, port, &hints, list_p);
	if (failure)
		return rji_fail(err, RJ_E_CONNECT, "the host '%s' is not known: %s", uri->host,
				gai_strerror(failure));
	return 0;
}

int rji_socket_connect(const struct rji_uri *to, uint64_t deadline_ns, const struct rji_stop *stop,
		       int *fd_p, struct rj_error *err)
{
	char where[RJI_ADDR_BYTES + 16];
	struct addrinfo *list;
	int ret;

	if (rji_uri_is_unix(to))
		return connect_path(to->path, deadline_ns, stop, fd_p, err);
	rji_addr_format(where, sizeof(where), to->host, to->port);
	ret = resolve(to, false, &list, err);
	if (ret < 0)
		return ret;
	ret = -EHOSTUNREACH;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		ret = connect_one(ai->ai_family, ai->ai_addr, ai->ai_addrlen, deadline_ns, stop,
				  fd_p);
		if (!ret || ret == -ECANCELED || ret == RJ_E_TIMEOUT)
			break;
	}
	freeaddrinfo(list);
	return ret < 0 ? fail_connect(err, where, ret) : 0;
}

/* A socket file left behind by a process that is gone: nobody accepts there. */
static bool is_stale_socket(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd;
	bool refused;

	if (stat(sun->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 &&
		  errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int listen_path(const char *path, int *fd_p, struct rj_error *err)
{
	struct sockaddr_un sun;
	int fd, saved, ret = unix_address(path, &sun);

	if (ret < 0)
		return rji_fail_sys(err, 0, -ret, "cannot listen at %s", path);
	if (is_stale_socket(&sun))
		unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		saved = errno;
		if (fd >= 0)
			close(fd);
		return rji_fail_sys(err, 0, saved, "cannot listen at %s", path);
	}
	*fd_p = fd;
	return 0;
}

static int listen_one(const struct addrinfo *ai, int *fd_p)
{
	int one = 1, zero = 0, saved;
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
		saved = errno;
		close(fd);
		return -saved;
	}
	*fd_p = fd;
	return 0;
}

static const char *listen_cure(int ret)
{
	switch (ret) {
	case -EADDRINUSE: return "choose another port; 0 takes any free one";
	case -EADDRNOTAVAIL: return "write an address of this machine, or none for all of them";
	case -EACCES: return "ports below 1024 are root's; choose a higher one";
	default: return "check the address";
	}
}

int rji_socket_listen(const struct rji_uri *at, int *fd_p, struct rj_error *err)
{
	struct addrinfo *list;
	int ret;

	if (rji_uri_is_unix(at))
		return listen_path(at->path, fd_p, err);
	ret = resolve(at, true, &list, err);
	if (ret < 0)
		return ret;
	/* Any address: the IPv6 wildcard takes IPv4 as well; getaddrinfo may put IPv4 first. */
	ret = -EADDRNOTAVAIL;
	for (struct addrinfo *ai = list; ai && ret < 0; ai = ai->ai_next) {
		if (at->host[0] || ai->ai_family == AF_INET6)
			ret = listen_one(ai, fd_p);
	}
	for (struct addrinfo *ai = list; ai && ret < 0 && !at->host[0]; ai = ai->ai_next)
		ret = listen_one(ai, fd_p);
	freeaddrinfo(list);
	if (ret < 0)
		return rji_fail_sys(err, ret, -ret, "cannot listen at %s port %u (%s)",
				    at->host[0] ? at->host : "any address", at->port,
				    listen_cure(ret));
	return 0;
}

static int describe(const struct sockaddr_storage *ss, socklen_t len, struct rji_uri *uri_p)
{
	struct rji_uri uri = { 0 };
	char port[8];

	if (ss->ss_family == AF_UNIX) {
		const struct sockaddr_un *sun = (const struct sockaddr_un *)ss;

		snprintf(uri.path, sizeof(uri.path), "%.*s", (int)sizeof(uri.path) - 1,
			 sun->sun_path);
	} else {
		if (getnameinfo((const struct sockaddr *)ss, len, uri.host, sizeof(uri.host), port,
				sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
			return -EINVAL;
		if (!strncmp(uri.host, "::ffff:", 7)) /* IPv4 that came in by the IPv6 wildcard */
			memmove(uri.host, uri.host + 7, strlen(uri.host + 7) + 1);
		uri.port = ss->ss_family == AF_INET
				   ? ntohs(((const struct sockaddr_in *)ss)->sin_port)
				   : ntohs(((const struct sockaddr_in6 *)ss)->sin6_port);
	}
	*uri_p = uri;
	return 0;
}

int rji_socket_local(int fd, struct rji_uri *uri_p)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	return getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ? -errno
								 : describe(&ss, len, uri_p);
}

int rji_socket_peer(int fd, struct rji_uri *uri_p)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	return getpeername(fd, (struct sockaddr *)&ss, &len) < 0 ? -errno
								 : describe(&ss, len, uri_p);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "transport/socket.h"

static struct rji_stop stop;
static struct rj_error err;
static int pair[2];

static void set_up(void)
{
	rji_stop_init(&stop);
	rji_error_init(&err);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void tear_down(void)
{
	rji_stop_fini(&stop);
	close(pair[0]);
	close(pair[1]);
}

TestSuite(socket, .init = set_up, .fini = tear_down, .timeout = 20);

static uint64_t in_ms(unsigned int ms)
{
	return rji_now_ns() + ms * RJI_NS_PER_MS;
}

static int recv_n(int fd, void *p, size_t n, uint64_t deadline_ns)
{
	struct iovec iov = { p, n };

	return rji_socket_recv(fd, &iov, 1, deadline_ns, &stop);
}

static int send_n(int fd, const void *p, size_t n, uint64_t deadline_ns)
{
	struct iovec iov = { (void *)(uintptr_t)p, n };

	return rji_socket_send(fd, &iov, 1, deadline_ns, &stop);
}

Test(socket, nothing_comes_by_the_deadline)
{
	uint64_t deadline = in_ms(20);
	char c;

	cr_assert_eq(recv_n(pair[0], &c, 1, deadline), RJ_E_TIMEOUT);
	cr_assert_geq(rji_now_ns(), deadline);
}

Test(socket, what_is_there_is_taken_though_the_deadline_has_passed)
{
	char c = 0;

	cr_assert_eq(send_n(pair[1], "x", 1, 1), 0);
	cr_assert_eq(recv_n(pair[0], &c, 1, 1), 0);
	cr_assert_eq(c, 'x');
}

Test(socket, half_of_it_is_not_enough)
{
	char text[4] = "";

	send(pair[1], "ab", 2, 0);
	cr_assert_eq(recv_n(pair[0], text, 4, in_ms(10)), RJ_E_TIMEOUT);
}

Test(socket, peer_that_takes_nothing_ends_in_a_timeout)
{
	size_t len = 8 << 20;
	char *bytes = calloc(1, len);

	cr_assert_eq(send_n(pair[0], bytes, len, in_ms(20)), RJ_E_TIMEOUT);
	free(bytes);
}

Test(socket, stop_ends_a_wait_even_without_deadline)
{
	char c;

	rji_stop_set(&stop);
	cr_assert_eq(recv_n(pair[0], &c, 1, 0), -ECANCELED);
	cr_assert_eq(rji_socket_wait(pair[0], POLLIN, 0, &stop), -ECANCELED);
}

Test(socket, peer_that_closed_is_gone_to_both_directions)
{
	char c;

	close(pair[1]);
	cr_assert_eq(recv_n(pair[0], &c, 1, 0), RJ_E_PEER_GONE);
	cr_assert_eq(send_n(pair[0], "x", 1, 0), RJ_E_PEER_GONE, "and no SIGPIPE");
	pair[1] = -1;
}

Test(socket, peer_that_closed_leaves_what_it_had_sent)
{
	char text[3];

	send(pair[1], "abc", 3, 0);
	close(pair[1]);
	cr_assert_eq(recv_n(pair[0], text, 3, 0), 0);
	cr_assert(!memcmp(text, "abc", 3));
	pair[1] = -1;
}

/* Cut [0, len) of p into vectors of random length, empty ones among them. */
static int cut(struct iovec *iov, int max, char *p, size_t len, uint64_t random)
{
	int n = 0;

	while (len && n < max - 1) {
		size_t part;

		random = random * 6364136223846793005u + 1442695040888963407u;
		part = (random >> 33) % 40;
		part = part < len ? part : len;
		iov[n++] = (struct iovec){ p, part };
		p += part;
		len -= part;
	}
	iov[n++] = (struct iovec){ p, len };
	return n;
}

Test(socket, more_vectors_than_one_call_takes_arrive_in_order)
{
	enum { LEN = 60000, MAX = 5000 };
	struct iovec *iov = calloc(MAX, sizeof(*iov));
	char *sent = malloc(LEN), *got = calloc(1, LEN);

	for (int i = 0; i < LEN; i++)
		sent[i] = (char)(i * 7 + (i >> 8));
	for (uint64_t seed = 1; seed < 6; seed++) {
		int n = cut(iov, MAX, sent, LEN, seed);

		cr_assert_gt(n, 1024);
		memset(got, 0, LEN);
		cr_assert_eq(rji_socket_send(pair[0], iov, n, in_ms(5000), &stop), 0);
		n = cut(iov, MAX, got, LEN, ~seed);
		cr_assert_eq(rji_socket_recv(pair[1], iov, n, in_ms(5000), &stop), 0);
		cr_assert(!memcmp(sent, got, LEN));
	}
	free(iov);
	free(sent);
	free(got);
}

Test(socket, empty_vectors_are_neither_waited_for_nor_taken_for_an_end)
{
	char got[2] = "";
	struct iovec out[4] = { { NULL, 0 }, { "ab", 2 }, { NULL, 0 }, { NULL, 0 } };
	struct iovec in[4] = { { NULL, 0 }, { got, 2 }, { NULL, 0 }, { NULL, 0 } };
	struct iovec none[2] = { { NULL, 0 }, { NULL, 0 } };

	cr_assert_eq(rji_socket_send(pair[0], none, 2, in_ms(1000), &stop), 0);
	cr_assert_eq(rji_socket_recv(pair[1], none, 2, in_ms(1000), &stop), 0);
	cr_assert_eq(rji_socket_send(pair[0], out, 4, in_ms(1000), &stop), 0);
	cr_assert_eq(rji_socket_recv(pair[1], in, 4, in_ms(1000), &stop), 0);
	cr_assert(!memcmp(got, "ab", 2));
}

/* --- listening and connecting --- */

static struct rji_uri loopback(uint16_t port)
{
	return (struct rji_uri){ .scheme = "tcp", .host = "127.0.0.1", .port = port };
}

static int listen_at(const struct rji_uri *at, struct rji_uri *real)
{
	int fd;

	cr_assert_eq(rji_socket_listen(at, &fd, &err), 0, "%s", err.text);
	cr_assert_eq(rji_socket_local(fd, real), 0);
	return fd;
}

static int connect_to(const struct rji_uri *to)
{
	int fd = -1;

	cr_assert_eq(rji_socket_connect(to, in_ms(5000), &stop, &fd, &err), 0, "%s", err.text);
	return fd;
}

Test(socket, any_free_port_is_told)
{
	struct rji_uri at = loopback(0), real, peer;
	int fd = listen_at(&at, &real), client, server;

	cr_assert_str_eq(real.host, "127.0.0.1");
	cr_assert_neq(real.port, 0);
	client = connect_to(&real);
	server = accept(fd, NULL, NULL);
	cr_assert_geq(server, 0);
	cr_assert_eq(rji_socket_peer(client, &peer), 0);
	cr_assert_eq(peer.port, real.port);
	cr_assert_eq(fcntl(client, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_assert_eq(fcntl(client, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	cr_assert_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(client);
	close(server);
	close(fd);
}

Test(socket, any_address_takes_ipv4_and_says_so_plainly)
{
	struct rji_uri at = { .scheme = "tcp" }, real, to, peer;
	int fd = listen_at(&at, &real), client, server;

	to = loopback(real.port);
	client = connect_to(&to);
	server = accept(fd, NULL, NULL);
	cr_assert_eq(rji_socket_peer(server, &peer), 0);
	cr_assert_str_eq(peer.host, "127.0.0.1");
	close(client);
	close(server);
	close(fd);
}

Test(socket, refused_connection_asks_whether_somebody_listens)
{
	struct rji_uri at = loopback(0), real;
	int fd = listen_at(&at, &real), client = -7;
	char where[40];

	close(fd);
	cr_assert_eq(rji_socket_connect(&real, in_ms(5000), &stop, &client, &err), RJ_E_CONNECT);
	cr_assert_eq(err.code, RJ_E_CONNECT);
	cr_assert_eq(err.sys_errno, ECONNREFUSED);
	snprintf(where, sizeof(where), "127.0.0.1:%u", real.port);
	cr_assert_not_null(strstr(err.text, where), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "is the destination listening there?"), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "Connection refused"), "%s", err.text);
	cr_assert_eq(client, -7);
}

Test(socket, port_in_use_is_said_with_the_way_out)
{
	struct rji_uri at = loopback(0), real;
	int fd = listen_at(&at, &real), second = -7;

	cr_assert_eq(rji_socket_listen(&real, &second, &err), -EADDRINUSE);
	cr_assert_not_null(strstr(err.text, "choose another port"), "%s", err.text);
	cr_assert_eq(second, -7);
	close(fd);
}

Test(socket, address_of_another_machine_cannot_be_listened_at)
{
	struct rji_uri at = { .scheme = "tcp", .host = "192.0.2.1" };
	int fd;

	cr_assert_eq(rji_socket_listen(&at, &fd, &err), -EADDRNOTAVAIL);
	cr_assert_not_null(strstr(err.text, "192.0.2.1"), "%s", err.text);
}

static char dir[64];
static struct rji_uri at_path;

static void make_path(void)
{
	strcpy(dir, "/tmp/rj-socket-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	at_path = (struct rji_uri){ .scheme = "unix" };
	snprintf(at_path.path, sizeof(at_path.path), "%s/s", dir);
}

static void remove_path(void)
{
	unlink(at_path.path);
	rmdir(dir);
}

Test(socket, path_nobody_listens_on_any_more_is_replaced)
{
	struct rji_uri real;
	int fd, client;

	make_path();
	fd = listen_at(&at_path, &real);
	cr_assert_str_eq(real.path, at_path.path);
	close(fd); /* the file stays */
	fd = listen_at(&at_path, &real);
	client = connect_to(&at_path);
	close(client);
	close(fd);
	remove_path();
}

Test(socket, path_somebody_listens_on_is_left_alone)
{
	struct rji_uri real;
	int fd, second, client;

	make_path();
	fd = listen_at(&at_path, &real);
	cr_assert_eq(rji_socket_listen(&at_path, &second, &err), -EADDRINUSE);
	cr_assert_not_null(strstr(err.text, at_path.path));
	client = connect_to(&at_path);
	close(client);
	close(fd);
	remove_path();
}

Test(socket, file_that_is_no_socket_is_left_alone)
{
	struct stat st;
	int fd, listening;

	make_path();
	fd = open(at_path.path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	cr_assert_eq(rji_socket_listen(&at_path, &listening, &err), -EADDRINUSE);
	cr_assert_eq(stat(at_path.path, &st), 0);
	cr_assert(S_ISREG(st.st_mode));
	remove_path();
}

Test(socket, missing_path_is_named)
{
	int fd;

	make_path();
	cr_assert_eq(rji_socket_connect(&at_path, in_ms(1000), &stop, &fd, &err), RJ_E_CONNECT);
	cr_assert_not_null(strstr(err.text, at_path.path), "%s", err.text);
	cr_assert_eq(err.sys_errno, ENOENT);
	remove_path();
}

Test(socket, tuned_for_use)
{
	struct rji_uri at = loopback(0), real;
	int fd = listen_at(&at, &real), client = connect_to(&real), got = 0;
	socklen_t len = sizeof(got);

	fcntl(client, F_SETFL, 0);
	fcntl(client, F_SETFD, 0);
	cr_assert_eq(rji_socket_tune(client, 5000), 0);
	cr_assert(fcntl(client, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(client, F_GETFD) & FD_CLOEXEC);
	getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &got, &len);
	cr_assert_eq(got, 1);
	getsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, &got, &len);
	cr_assert_eq(got, 5000);
	cr_assert_eq(rji_socket_tune(pair[0], 5000), 0, "a unix socket has less to tune");
	cr_assert_eq(rji_socket_tune(stop.fd, 5000), -ENOTSOCK);
	cr_assert_eq(rji_socket_tune(-1, 5000), -EBADF);
	close(client);
	close(fd);
}

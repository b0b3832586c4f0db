/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "transport/greeting.h"
#include "transport/socket.h"

static const struct rji_greeting sample = {
	.major = 0x0102,
	.kind = RJI_GREET_LANE,
	.lane = 0x03040506,
	.session_id = { 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b,
			0x1c, 0x1d, 0x1e, 0x1f },
	.token = { 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a,
		   0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35,
		   0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f },
};

static const uint8_t sample_bytes[RJI_GREETING_BYTES] = {
	'R',  'A',  'M',  'J',	'E',  'T',  '\r', '\n', 0x02, 0x01, 0x02, 0x00, 0x06,
	0x05, 0x04, 0x03, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
	0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26,
	0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33,
	0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
};

Test(greeting, has_these_bytes)
{
	uint8_t bytes[RJI_GREETING_BYTES];
	struct rji_greeting g;

	rji_greeting_encode(&sample, bytes);
	cr_assert_arr_eq(bytes, sample_bytes, sizeof(bytes));
	cr_assert_eq(rji_greeting_decode(sample_bytes, &g), 0);
	cr_assert_eq(g.major, sample.major);
	cr_assert_eq(g.kind, sample.kind);
	cr_assert_eq(g.lane, sample.lane);
	cr_assert_arr_eq(g.session_id, sample.session_id, sizeof(g.session_id));
	cr_assert_arr_eq(g.token, sample.token, sizeof(g.token));
}

Test(greeting, every_byte_of_the_magic_counts)
{
	for (int i = 0; i < 8; i++) {
		uint8_t bytes[RJI_GREETING_BYTES];
		struct rji_greeting g = { .major = 77 };

		memcpy(bytes, sample_bytes, sizeof(bytes));
		bytes[i] ^= 0x20;
		cr_assert_eq(rji_greeting_decode(bytes, &g), -EINVAL);
		cr_assert_eq(g.major, 77);
	}
}

/* --- accepting: over unix sockets, where what was sent is there at once --- */

static char dir[64], path[80], logged[4096];
static struct rji_stop stop;
static struct rji_acceptor acceptor;
static int listen_fd;

static void keep_log(void *arg, enum rj_log_level level, const char *line)
{
	strncat(logged, line, sizeof(logged) - strlen(logged) - 1);
	strncat(logged, "\n", sizeof(logged) - strlen(logged) - 1);
}

static const struct rji_host host = { .log = keep_log, .log_level = RJ_LOG_DEBUG };

static void set_up(void)
{
	struct rji_uri at = { 0 };
	struct rj_error err;

	strcpy(dir, "/tmp/rj-greeting-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(at.path, sizeof(at.path), "%s", path);
	rji_error_init(&err);
	cr_assert_eq(rji_socket_listen(&at, &listen_fd, &err), 0, "%s", err.text);
	rji_stop_init(&stop);
	rji_acceptor_init(&acceptor, listen_fd, &host, &stop);
}

static void tear_down(void)
{
	rji_acceptor_fini(&acceptor);
	rji_stop_fini(&stop);
	close(listen_fd);
	unlink(path);
	rmdir(dir);
}

TestSuite(acceptor, .init = set_up, .fini = tear_down);

static int call(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sun.sun_path, path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static void greet(int fd, uint32_t lane, size_t from, size_t to)
{
	struct rji_greeting g = sample;
	uint8_t bytes[RJI_GREETING_BYTES];

	g.lane = lane;
	rji_greeting_encode(&g, bytes);
	cr_assert_eq(send(fd, bytes + from, to - from, MSG_NOSIGNAL), (ssize_t)(to - from));
}

/* What is there now, without waiting. */
static int next_now(uint32_t *lane_p)
{
	struct rji_greeting g;
	int fd, ret = rji_acceptor_next(&acceptor, rji_now_ns(), &g, &fd);

	if (ret == 1) {
		*lane_p = g.lane;
		close(fd);
	}
	return ret;
}

static bool hung_up(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

Test(acceptor, nobody_came_by_the_deadline)
{
	uint32_t lane;

	cr_assert_eq(next_now(&lane), 0);
}

Test(acceptor, the_descriptor_is_the_callers_and_has_nothing_of_the_greeting_left)
{
	struct rji_greeting g;
	int caller = call(), fd;
	char c = 'x';

	greet(caller, 3, 0, RJI_GREETING_BYTES);
	send(caller, &c, 1, 0);
	c = 0;
	cr_assert_eq(rji_acceptor_next(&acceptor, rji_now_ns() + RJI_NS_PER_S, &g, &fd), 1);
	cr_assert_eq(g.lane, 3);
	cr_assert_eq(recv(fd, &c, 1, 0), 1);
	cr_assert_eq(c, 'x');
	rji_acceptor_fini(&acceptor);
	cr_assert_not(hung_up(caller), "not closed with the acceptor");
	close(fd);
	close(caller);
}

Test(acceptor, silent_ones_do_not_keep_others_out)
{
	uint32_t lane = 0;
	int silent[5], caller;

	for (int i = 0; i < 5; i++)
		silent[i] = call();
	caller = call();
	greet(caller, 7, 0, RJI_GREETING_BYTES);
	cr_assert_eq(next_now(&lane), 1);
	cr_assert_eq(lane, 7);
	cr_assert_eq(acceptor.n_pending, 5);
	greet(silent[2], 2, 0, RJI_GREETING_BYTES);
	cr_assert_eq(next_now(&lane), 1);
	cr_assert_eq(lane, 2);
	for (int i = 0; i < 5; i++)
		close(silent[i]);
	close(caller);
}

Test(acceptor, a_table_full_of_silent_ones_does_not_keep_others_out)
{
	int silent[RJI_ACCEPTOR_PENDING], caller, fd;
	struct rji_greeting g;

	for (int i = 0; i < RJI_ACCEPTOR_PENDING; i++)
		silent[i] = call();
	caller = call();
	greet(caller, 9, 0, RJI_GREETING_BYTES);
	cr_assert_eq(rji_acceptor_next(&acceptor, rji_now_ns() + 2 * RJI_NS_PER_S, &g, &fd), 1);
	cr_assert_eq(g.lane, 9);
	close(fd);
	for (int i = 0; i < RJI_ACCEPTOR_PENDING; i++)
		close(silent[i]);
	close(caller);
}

Test(acceptor, greeting_that_comes_byte_by_byte)
{
	int slow = call(), fast = call();
	uint32_t lane = 0;

	for (size_t i = 0; i < RJI_GREETING_BYTES - 1; i++) {
		greet(slow, 5, i, i + 1);
		cr_assert_eq(next_now(&lane), 0, "after %zu bytes", i + 1);
		if (i == 30) {
			greet(fast, 6, 0, RJI_GREETING_BYTES);
			cr_assert_eq(next_now(&lane), 1);
			cr_assert_eq(lane, 6);
		}
	}
	greet(slow, 5, RJI_GREETING_BYTES - 1, RJI_GREETING_BYTES);
	cr_assert_eq(next_now(&lane), 1);
	cr_assert_eq(lane, 5);
	close(slow);
	close(fast);
}

Test(acceptor, strangers_are_known_by_their_first_bytes)
{
	static const char *const says[] = { "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "RAMJET\n",
					    "RAMJET\r\r", "S" };

	for (size_t i = 0; i < sizeof(says) / sizeof(*says); i++) {
		int caller = call();
		uint32_t lane;

		logged[0] = '\0';
		send(caller, says[i], strlen(says[i]), MSG_NOSIGNAL);
		cr_assert_eq(next_now(&lane), 0);
		cr_assert_eq(acceptor.n_pending, 0, "%s", says[i]);
		cr_assert(hung_up(caller));
		cr_assert_not_null(strstr(logged, "does not speak this protocol"), "%s", logged);
		close(caller);
	}
}

Test(acceptor, one_that_closes_early_is_forgotten)
{
	for (size_t n = 0; n < RJI_GREETING_BYTES; n += 21) {
		int caller = call();
		uint32_t lane;

		logged[0] = '\0';
		greet(caller, 1, 0, n);
		cr_assert_eq(next_now(&lane), 0);
		close(caller);
		cr_assert_eq(next_now(&lane), 0);
		cr_assert_eq(acceptor.n_pending, 0);
		cr_assert_not_null(strstr(logged, "closed before it said who it is"), "%s", logged);
	}
}

Test(acceptor, one_that_stays_silent_is_sent_away_at_its_deadline)
{
	int caller = call();
	uint32_t lane;

	greet(caller, 1, 0, RJI_GREETING_BYTES - 1);
	cr_assert_eq(next_now(&lane), 0);
	cr_assert_eq(acceptor.n_pending, 1);
	acceptor.pending[0].deadline_ns = 1;
	cr_assert_eq(next_now(&lane), 0);
	cr_assert_eq(acceptor.n_pending, 0);
	cr_assert(hung_up(caller));
	cr_assert_not_null(strstr(logged, "in time"), "%s", logged);
	close(caller);
}

Test(acceptor, many_at_once_all_get_in)
{
	enum { N = 64 };
	bool seen[N] = { false };
	int caller[N];

	for (uint32_t i = 0; i < N; i++) {
		caller[i] = call();
		greet(caller[i], i, 0, RJI_GREETING_BYTES);
	}
	for (int i = 0; i < N; i++) {
		uint32_t lane = N;

		cr_assert_eq(next_now(&lane), 1);
		cr_assert(lane < N && !seen[lane]);
		seen[lane] = true;
	}
	for (int i = 0; i < N; i++)
		close(caller[i]);
}

Test(acceptor, stop_ends_the_wait)
{
	struct rji_greeting g;
	int fd;

	rji_stop_set(&stop);
	cr_assert_eq(rji_acceptor_next(&acceptor, 0, &g, &fd), -ECANCELED);
}

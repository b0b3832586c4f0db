/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <ramjet/session.h>

#include "base/clock.h"
#include "base/random.h"
#include "transport/frame.h"
#include "transport/greeting.h"
#include "transport/socket.h"
#include "transport/transport.h"

/* Whole lanes of many threads are in tests/stress; here is what one side sees of a strange other. */
#define MEMORY_BYTES 65536u

static const struct rji_transport_ops *const tcp = &rji_tcp_transport;
static struct rji_transport *tp;
static struct rji_stop stop;
static struct rj_error err;
static struct rji_admission adm;
static struct rji_addrs addrs;
static struct rji_uri at;
static uint8_t *memory;
static int listen_fd;
static char logged[4096];

static void keep_log(void *arg, enum rj_log_level level, const char *line)
{
	strncat(logged, line, sizeof(logged) - strlen(logged) - 1);
	strncat(logged, "\n", sizeof(logged) - strlen(logged) - 1);
}

/* The layer above: writes down what is to be applied. Coding 3 is refused, as it were garbage. */
static struct {
	uint32_t n, n_contexts;
	struct applied {
		unsigned int coding;
		uint32_t code_bytes, len_bytes;
		size_t offset_bytes;
		uint8_t first, last; /* of the code */
	} at[8];
	int create_ret;
} applied;

static int create_applying(void **ctx_p)
{
	if (applied.create_ret)
		return applied.create_ret;
	applied.n_contexts++;
	*ctx_p = &applied;
	return 0;
}

static void destroy_applying(void **ctx_p)
{
	cr_assert_eq(*ctx_p, &applied);
	applied.n_contexts--;
	*ctx_p = NULL;
}

static int apply(void *ctx, unsigned int coding, const void *code, uint32_t code_bytes, void *page,
		 uint32_t len_bytes, struct rj_error *e)
{
	const uint8_t *c = code;

	cr_assert_eq(ctx, &applied);
	if (coding == RJI_CODING_ZSTD)
		return rji_fail(e, RJ_E_PROTOCOL, "garbage");
	applied.at[applied.n++] = (struct applied){ coding,
						    code_bytes,
						    len_bytes,
						    (size_t)((uint8_t *)page - memory),
						    code_bytes ? c[0] : (uint8_t)0,
						    code_bytes ? c[code_bytes - 1] : (uint8_t)0 };
	return 0;
}

static const struct rji_apply_ops apply_ops = { create_applying, apply, destroy_applying };
static const struct rji_apply_ops *agreed = &apply_ops;

static const struct rji_host host = { .log = keep_log, .log_level = RJ_LOG_DEBUG };

static void set_up(void)
{
	struct rji_transport_opts o = { .host = &host,
					.stop = &stop,
					.is_destination = true,
					.peer_timeout_ms = 2000,
					.apply = agreed };
	struct rji_uri any = { .scheme = "tcp", .host = "127.0.0.1" };
	struct rji_memory m = { 0, "ram", NULL, MEMORY_BYTES };
	struct rji_listen l = { .host = "127.0.0.1" };
	_Atomic uint64_t done = 0;

	rji_stop_init(&stop);
	rji_error_init(&err);
	rji_random_bytes(&adm, sizeof(adm));
	adm.there = 0;
	adm.n_lanes = 1;
	memory = calloc(1, MEMORY_BYTES); /* on the heap: ASan sees a byte beside it */
	m.host = memory;
	cr_assert_eq(rji_socket_listen(&any, &listen_fd, &err), 0, "%s", err.text);
	rji_socket_local(listen_fd, &at);
	cr_assert_eq(tcp->create(&o, &err, &tp), 0);
	cr_assert_eq(tcp->reg(tp, &m, &done, &err), 0);
	cr_assert_eq(done, MEMORY_BYTES);
	l.control_listen_fd = listen_fd;
	cr_assert_eq(tcp->listen(tp, &l, &addrs, &err), 0);
}

static void tear_down(void)
{
	tcp->destroy(&tp);
	rji_stop_fini(&stop);
	close(listen_fd);
	free(memory);
}

TestSuite(tcp, .init = set_up, .fini = tear_down, .timeout = 20);

static int call(void)
{
	int fd;

	cr_assert_eq(rji_socket_connect(&at, rji_now_ns() + 10 * RJI_NS_PER_S, &stop, &fd, &err),
		     0);
	return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
	cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static struct rji_greeting good_greeting(uint32_t lane)
{
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR,
				  .kind = RJI_GREET_LANE,
				  .lane = lane };

	memcpy(g.session_id, adm.session_id, sizeof(g.session_id));
	memcpy(g.token, adm.token, sizeof(g.token));
	return g;
}

/* Until the other end's kernel has it, which a busy machine may leave for later: then accept() finds it at once. */
static void wait_until_heard(int fd)
{
	int unheard = 1;

	while (unheard)
		cr_assert_eq(ioctl(fd, SIOCOUTQ, &unheard), 0);
}

static int call_and_greet(const struct rji_greeting *g)
{
	uint8_t bytes[RJI_GREETING_BYTES];
	int fd = call();

	rji_greeting_encode(g, bytes);
	say(fd, bytes, sizeof(bytes));
	wait_until_heard(fd);
	return fd;
}

static int accept_lanes(struct rji_lane **lanes, unsigned int ms)
{
	rji_error_init(&err);
	return tcp->accept(tp, &adm, rji_now_ns() + ms * RJI_NS_PER_MS, lanes, &err);
}

/* --- who gets in --- */

static void bad_token(struct rji_greeting *g)
{
	g->token[31] ^= 1;
}
static void bad_session(struct rji_greeting *g)
{
	g->session_id[0] ^= 0x80;
}
static void high_number(struct rji_greeting *g)
{
	g->lane = 1;
}
static void highest_number(struct rji_greeting *g)
{
	g->lane = UINT32_MAX;
}
static void as_control(struct rji_greeting *g)
{
	g->kind = RJI_GREET_CONTROL;
}
static void as_nothing(struct rji_greeting *g)
{
	g->kind = 77;
}
static void other_major(struct rji_greeting *g)
{
	g->major++;
}

static const struct {
	void (*spoil)(struct rji_greeting *g);
	const char *text;
} strangers[] = {
	{ bad_token, "not this session's token" },
	{ bad_session, "not this session's token" },
	{ high_number, "a lane number that is taken or too high" },
	{ highest_number, "a lane number that is taken or too high" },
	{ as_control, "not a lane" },
	{ as_nothing, "not a lane" },
	{ other_major, "another protocol version" },
};

Test(tcp, lanes_that_cannot_show_their_admission_are_refused)
{
	for (size_t i = 0; i < sizeof(strangers) / sizeof(*strangers); i++) {
		struct rji_greeting g = good_greeting(0);
		struct rji_lane *lane = NULL;
		char c;
		int fd;

		strangers[i].spoil(&g);
		fd = call_and_greet(&g);
		logged[0] = '\0';
		cr_assert_eq(accept_lanes(&lane, 30), RJ_E_LANE);
		cr_assert_null(lane);
		cr_assert_not_null(strstr(logged, strangers[i].text), "%s", logged);
		cr_assert_not_null(strstr(err.text, "only 0 of 1 lanes"), "%s", err.text);
		cr_assert_eq(recv(fd, &c, 1, MSG_DONTWAIT), 0, "closed");
		close(fd);
	}
}

Test(tcp, refused_ones_do_not_keep_the_right_one_out)
{
	struct rji_greeting g = good_greeting(0), wrong = g;
	struct rji_lane *lane = NULL;
	int first, second, silent, right;

	bad_token(&wrong);
	first = call_and_greet(&wrong);
	silent = call();
	second = call_and_greet(&wrong);
	right = call_and_greet(&g);
	cr_assert_eq(accept_lanes(&lane, 2000), 0, "%s", err.text);
	cr_assert_not_null(lane);
	tcp->close(&lane);
	cr_assert_null(lane);
	close(first);
	close(second);
	close(silent);
	close(right);
}

Test(tcp, number_that_is_taken_is_refused_and_the_first_keeps_it)
{
	struct rji_greeting g = good_greeting(1);
	struct rji_lane *lanes[2];
	int first, second;

	adm.n_lanes = 2;
	first = call_and_greet(&g);
	second = call_and_greet(&g);
	cr_assert_eq(accept_lanes(lanes, 50), RJ_E_LANE);
	cr_assert_not_null(strstr(logged, "as lane 1: a lane number that is taken"), "%s", logged);
	cr_assert_not_null(strstr(err.text, "only 1 of 2 lanes"), "%s", err.text);
	cr_assert_null(lanes[1], "and what was there is closed");
	close(first);
	close(second);
}

Test(tcp, stop_ends_accepting)
{
	struct rji_lane *lane;

	rji_stop_set(&stop);
	cr_assert_eq(accept_lanes(&lane, 10000), -ECANCELED);
}

/* --- what is taken from a lane --- */

static struct rji_lane *lane;
static int source;

static void open_lane(void)
{
	struct rji_greeting g = good_greeting(0);

	source = call_and_greet(&g);
	cr_assert_eq(accept_lanes(&lane, 2000), 0, "%s", err.text);
	memset(memory, 0x11, MEMORY_BYTES);
}

static void close_lane(void)
{
	tcp->close(&lane);
	close(source);
}

static void say_head(uint16_t type, uint16_t n_extents, uint64_t value)
{
	struct rji_frame f = { type, n_extents, value };
	uint8_t bytes[RJI_FRAME_HEAD_BYTES];

	rji_frame_encode(&f, bytes);
	say(source, bytes, sizeof(bytes));
}

static void say_extents(const struct rji_extent *e, uint32_t n)
{
	uint8_t bytes[RJI_FRAME_MAX_BYTES];

	rji_frame_encode_extents(e, n, bytes);
	say(source, bytes, n * RJI_FRAME_EXTENT_BYTES);
}

static int serve(void)
{
	rji_error_init(&err);
	return tcp->serve(lane, &err);
}

static bool is_untouched(void)
{
	for (size_t i = 0; i < MEMORY_BYTES; i++) {
		if (memory[i] != 0x11)
			return false;
	}
	return true;
}

Test(tcp, pages_go_where_their_extents_say_and_the_fence_is_answered)
{
	const struct rji_extent e[2] = { { 0x8000, 0x1000, 0 }, { 0xfff0, 0x10, 0 } };
	uint8_t pages[0x1010], answer[RJI_FRAME_HEAD_BYTES];
	struct rji_frame f;

	open_lane();
	memset(pages, 0x22, 0x1000);
	memset(pages + 0x1000, 0x33, 0x10);
	say_head(RJI_FRAME_PAGES, 2, sizeof(pages));
	say_extents(e, 2);
	say(source, pages, sizeof(pages));
	say_head(RJI_FRAME_FENCE, 0, 0x1234567890);
	say_head(RJI_FRAME_BYE, 0, 0);
	cr_assert_eq(serve(), 0, "%s", err.text);
	cr_assert_eq(memory[0x7fff], 0x11);
	cr_assert(!memcmp(memory + 0x8000, pages, 0x1000));
	cr_assert_eq(memory[0x9000], 0x11);
	cr_assert_eq(memory[0xffef], 0x11);
	cr_assert(!memcmp(memory + 0xfff0, pages + 0x1000, 0x10));
	cr_assert_eq(recv(source, answer, sizeof(answer), 0), (ssize_t)sizeof(answer));
	cr_assert_eq(rji_frame_decode(answer, &f, &err), 0);
	cr_assert_eq(f.type, RJI_FRAME_FENCED);
	cr_assert_eq(f.value, 0x1234567890);
	close_lane();
}

/* One frame of pages that is not allowed, and what is said of it. */
static const struct {
	struct rji_extent e;
	uint64_t total;
	const char *text;
} hostile[] = {
	{ { MEMORY_BYTES, 0x1000, 0 }, 0x1000, "outside guest memory" },
	{ { MEMORY_BYTES - 0x800, 0x1000, 0 }, 0x1000, "outside guest memory" },
	{ { UINT64_MAX - 0xfff, 0x1000, 0 }, 0x1000, "outside guest memory" },
	{ { 0, 0x1000, 1 }, 0x1000, "outside guest memory: region 1" },
	{ { 0, 0x1000, 255 }, 0x1000, "region 255" },
	{ { 0, 0x1000, 256 }, 0x1000, "region 256" },
	{ { 0, 0x1000, UINT32_MAX }, 0x1000, "outside guest memory" },
	{ { 0, 0, 0 }, 0, "outside guest memory" },
	{ { 0, 0x1000, 0 }, 0x2000, "announced 8192 bytes for extents of 4096" },
	{ { 0, 0x1000, 0 }, 0, "announced 0 bytes" },
};

Test(tcp, pages_that_are_not_allowed_end_the_lane_and_touch_nothing)
{
	const uint8_t page[0x2000] = { 0x99 };

	for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
		open_lane();
		say_head(RJI_FRAME_PAGES, 1, hostile[i].total);
		say_extents(&hostile[i].e, 1);
		say(source, page, sizeof(page));
		cr_assert_eq(serve(), RJ_E_PROTOCOL, "%zu", i);
		cr_assert_not_null(strstr(err.text, hostile[i].text), "%s", err.text);
		cr_assert(is_untouched(), "%zu", i);
		close_lane();
	}
}

Test(tcp, one_bad_extent_spoils_those_before_it)
{
	const struct rji_extent e[2] = { { 0, 0x1000, 0 }, { MEMORY_BYTES, 0x1000, 0 } };
	const uint8_t page[0x2000] = { 0x99 };

	open_lane();
	say_head(RJI_FRAME_PAGES, 2, 0x2000);
	say_extents(e, 2);
	say(source, page, sizeof(page));
	cr_assert_eq(serve(), RJ_E_PROTOCOL);
	cr_assert(is_untouched());
	close_lane();
}

Test(tcp, frames_that_are_not_allowed_end_the_lane)
{
	static const struct rji_frame frames[] = {
		{ 0, 0, 0 },
		{ 9, 0, 0 },
		{ RJI_FRAME_PAGES, 0, 0 },
		{ RJI_FRAME_PAGES, RJI_FRAME_MAX_EXTENTS + 1, 0x1000 },
		{ RJI_FRAME_FENCE, 1, 0 },
		{ RJI_FRAME_FENCED, 0, 1 },
	};

	for (size_t i = 0; i < sizeof(frames) / sizeof(*frames); i++) {
		open_lane();
		say_head(frames[i].type, frames[i].n_extents, frames[i].value);
		cr_assert_eq(serve(), RJ_E_PROTOCOL, "%zu", i);
		cr_assert(err.text[0]);
		close_lane();
	}
}

Test(tcp, lane_that_closes_without_a_word_is_lost)
{
	const struct rji_extent e = { 0, 0x1000, 0 };

	for (int depth = 0; depth < 3; depth++) {
		open_lane();
		if (depth > 0)
			say_head(RJI_FRAME_PAGES, 1, 0x1000);
		if (depth > 1)
			say_extents(&e, 1);
		close(source);
		cr_assert_eq(serve(), RJ_E_LANE);
		cr_assert_eq(err.lane, 0);
		cr_assert_not_null(strstr(err.text, "lane 0 was closed by the peer"), "%s",
				   err.text);
		source = -1;
		close_lane();
	}
}

Test(tcp, stop_ends_serving_in_peace)
{
	open_lane();
	rji_stop_set(&stop);
	cr_assert_eq(serve(), 0);
	close_lane();
}

Test(tcp, withdrawn_lane_takes_no_more)
{
	open_lane();
	tcp->withdraw(tp);
	serve();
	cr_assert(is_untouched());
	tcp->withdraw(tp);
	close_lane();
}

/* --- changes that are coded --- */

static void say_coded(const struct rji_coded *c, uint16_t n)
{
	uint8_t bytes[RJI_FRAME_MAX_BYTES];
	uint64_t total = 0;

	for (uint32_t i = 0; i < n; i++)
		total += c[i].len_bytes;
	say_head(RJI_FRAME_CODED, n, total);
	rji_frame_encode_coded(c, n, bytes);
	say(source, bytes, (size_t)n * RJI_FRAME_CODED_BYTES);
	for (uint32_t i = 0; i < n; i++)
		say(source, c[i].bytes, c[i].len_bytes);
}

Test(tcp, each_change_is_applied_with_its_code_at_its_place_before_the_fence_is_answered)
{
	const struct rji_coded c[3] = {
		{ { 0x1000, 0x1000, 0 }, RJI_CODING_XBZRLE, 5, "abcde" },
		{ { 0x4000, 0x3000, 0 }, RJI_CODING_ZEROS, 0, "" },
		{ { 0xf000, 0x1000, 0 }, RJI_CODING_XBZRLE, 3, "xyz" },
	};
	const struct applied expected[3] = {
		{ RJI_CODING_XBZRLE, 5, 0x1000, 0x1000, 'a', 'e' },
		{ RJI_CODING_ZEROS, 0, 0x3000, 0x4000, 0, 0 },
		{ RJI_CODING_XBZRLE, 3, 0x1000, 0xf000, 'x', 'z' },
	};
	struct rji_frame f;
	uint8_t answer[RJI_FRAME_HEAD_BYTES];

	open_lane();
	say_coded(c, 3);
	say_head(RJI_FRAME_FENCE, 0, 7);
	say_head(RJI_FRAME_BYE, 0, 0);
	cr_assert_eq(serve(), 0, "%s", err.text);
	cr_assert_eq(applied.n, 3);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(applied.at[i].coding, expected[i].coding);
		cr_assert_eq(applied.at[i].code_bytes, expected[i].code_bytes);
		cr_assert_eq(applied.at[i].len_bytes, expected[i].len_bytes);
		cr_assert_eq(applied.at[i].offset_bytes, expected[i].offset_bytes);
		cr_assert_eq(applied.at[i].first, expected[i].first);
		cr_assert_eq(applied.at[i].last, expected[i].last);
	}
	cr_assert_eq(recv(source, answer, sizeof(answer), 0), (ssize_t)sizeof(answer));
	cr_assert_eq(rji_frame_decode(answer, &f, &err), 0);
	cr_assert_eq(f.value, 7);
	cr_assert_eq(applied.n_contexts, 1);
	close_lane();
	cr_assert_eq(applied.n_contexts, 0);
}

Test(tcp, code_that_cannot_be_applied_ends_the_lane)
{
	const struct rji_coded c[3] = {
		{ { 0x1000, 0x1000, 0 }, RJI_CODING_XBZRLE, 1, "a" },
		{ { 0x4000, 0x1000, 0 }, RJI_CODING_ZSTD, 4, "oops" },
		{ { 0xf000, 0x1000, 0 }, RJI_CODING_XBZRLE, 1, "b" },
	};

	open_lane();
	say_coded(c, 3);
	say_head(RJI_FRAME_FENCE, 0, 1);
	cr_assert_eq(serve(), RJ_E_PROTOCOL);
	cr_assert_str_eq(err.text, "garbage");
	cr_assert_eq(applied.n, 1, "nor what is behind it");
	close_lane();
	cr_assert_eq(applied.n_contexts, 0);
}

Test(tcp, changes_that_are_not_allowed_end_the_lane_before_any_is_made)
{
	static const struct rji_coded bad[] = {
		{ { MEMORY_BYTES, 0x1000, 0 }, RJI_CODING_ZEROS, 0, "" },
		{ { 0, 0x1000, 1 }, RJI_CODING_ZEROS, 0, "" },
		{ { MEMORY_BYTES - 1, 1, 0 }, RJI_CODING_ZEROS, 0, "" },
		{ { MEMORY_BYTES - 0x800, 0x800, 0 }, RJI_CODING_ZEROS, 0, "" },
		{ { 0, 0x1000, 0 }, RJI_CODING_XBZRLE, 0, "" },
		{ { 0, 0x1000, 0 }, 4, 1, "a" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		const struct rji_coded c[2] = { { { 0, 0x1000, 0 }, RJI_CODING_XBZRLE, 1, "a" },
						bad[i] };

		open_lane();
		say_coded(c, 2);
		cr_assert_eq(serve(), RJ_E_PROTOCOL, "%zu", i);
		cr_assert_eq(applied.n, 0, "%zu", i);
		close_lane();
	}
}

Test(tcp, change_that_is_cut_off_is_a_lost_lane_and_not_made)
{
	const struct rji_coded c = { { 0, 0x1000, 0 }, RJI_CODING_XBZRLE, 100, "" };
	uint8_t table[RJI_FRAME_CODED_BYTES];

	for (int depth = 0; depth < 3; depth++) {
		open_lane();
		say_head(RJI_FRAME_CODED, 1, 100);
		rji_frame_encode_coded(&c, 1, table);
		if (depth > 0)
			say(source, table, sizeof(table));
		if (depth > 1)
			say(source, table, sizeof(table)); /* some of its 100 bytes */
		close(source);
		cr_assert_eq(serve(), RJ_E_LANE, "%d", depth);
		cr_assert_eq(applied.n, 0);
		source = -1;
		close_lane();
	}
}

Test(tcp, no_memory_to_decode_is_said)
{
	const struct rji_coded c = { { 0, 0x1000, 0 }, RJI_CODING_ZEROS, 0, "" };

	applied.create_ret = -ENOMEM;
	open_lane();
	say_coded(&c, 1);
	cr_assert_eq(serve(), -ENOMEM);
	cr_assert_not_null(strstr(err.text, "no memory for what lane 0 decodes"), "%s", err.text);
	close_lane();
}

Test(tcp, nothing_coded_is_taken_unless_agreed_on)
{
	const struct rji_coded c = { { 0, 0x1000, 0 }, RJI_CODING_ZEROS, 0, "" };

	tear_down();
	agreed = NULL;
	set_up();
	open_lane();
	say_coded(&c, 1);
	cr_assert_eq(serve(), RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "nothing coded was agreed on"), "%s", err.text);
	cr_assert(is_untouched());
	close_lane();
}

/* --- where lanes connect to --- */

static void listen_again(const char *data_addrs, int expected)
{
	struct rji_listen l = { .control_listen_fd = listen_fd,
				.host = "127.0.0.1",
				.data_addrs = data_addrs };
	int ret;

	rji_error_init(&err);
	ret = tcp->listen(tp, &l, &addrs, &err);
	cr_assert_eq(ret, expected, "%s: %d %s", data_addrs, ret, err.text);
}

Test(tcp, lanes_connect_where_control_came_in_unless_told_otherwise)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "127.0.0.1:%u", at.port);
	cr_assert_eq(addrs.n, 1);
	cr_assert_str_eq(addrs.addr[0], expected);
	listen_again("", 0);
	cr_assert_eq(addrs.n, 1);
	listen_again("10.0.9.1,host.example", 0);
	cr_assert_eq(addrs.n, 2);
	snprintf(expected, sizeof(expected), "10.0.9.1:%u", at.port);
	cr_assert_str_eq(addrs.addr[0], expected);
	snprintf(expected, sizeof(expected), "host.example:%u", at.port);
	cr_assert_str_eq(addrs.addr[1], expected);
}

Test(tcp, ipv6_data_addresses_may_have_their_brackets)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "[fd00::1]:%u", at.port);
	listen_again("[fd00::1],fd00::1", 0);
	cr_assert_eq(addrs.n, 2);
	cr_assert_str_eq(addrs.addr[0], expected);
	cr_assert_str_eq(addrs.addr[1], expected);
}

Test(tcp, data_addresses_that_cannot_be_understood_are_refused)
{
	static const char *const bad[] = {
		",", "a,", ",a", "a,,b", "[fd00::1", "[", "[]", "1,2,3,4,5,6,7,8,9",
	};
	char longest[300];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		listen_again(bad[i], -EINVAL);
		cr_assert_not_null(strstr(err.text, "data address"), "%s", err.text);
	}
	listen_again("1,2,3,4,5,6,7,8", 0);
	cr_assert_eq(addrs.n, 8);
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	listen_again(longest, -EINVAL);
}

Test(tcp, nowhere_to_listen_is_said_with_the_way_out)
{
	struct rji_listen l = { .control_listen_fd = -1, .host = "" };

	cr_assert_eq(tcp->listen(tp, &l, &addrs, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "lane_fds"), "%s", err.text);
}

/* --- the source's side --- */

static int connect_lane(const struct rji_addrs *to)
{
	rji_error_init(&err);
	return tcp->connect(tp, 0, to, &adm, rji_now_ns() + RJI_NS_PER_S, &lane, &err);
}

Test(tcp, destination_that_announces_nothing_or_nonsense)
{
	struct rji_addrs none = { 0 }, odd = { .n = 1, .addr = { "]:" } };

	cr_assert_eq(connect_lane(&none), RJ_E_PROTOCOL);
	cr_assert_eq(connect_lane(&odd), RJ_E_URI);
	cr_assert_null(lane);
}

static int accept_by_hand(void)
{
	uint8_t bytes[RJI_GREETING_BYTES];
	int fd = accept(listen_fd, NULL, NULL);

	cr_assert_eq(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), (ssize_t)sizeof(bytes));
	return fd;
}

Test(tcp, answer_to_another_fence_is_refused)
{
	const struct rji_frame answers[] = {
		{ RJI_FRAME_FENCED, 0, 0 }, /* another number */
		{ RJI_FRAME_FENCED, 0, 2 },
		{ RJI_FRAME_FENCE, 0, 1 },
		{ RJI_FRAME_BYE, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		uint8_t bytes[RJI_FRAME_HEAD_BYTES];
		int fd;

		cr_assert_eq(connect_lane(&addrs), 0, "%s", err.text);
		fd = accept_by_hand();
		rji_frame_encode(&answers[i], bytes);
		say(fd, bytes, sizeof(bytes));
		cr_assert_eq(tcp->fence(lane, 0, &err), RJ_E_PROTOCOL, "%zu", i);
		tcp->close(&lane);
		close(fd);
	}
}

Test(tcp, fence_that_is_not_answered_ends_at_its_deadline)
{
	int fd;

	cr_assert_eq(connect_lane(&addrs), 0);
	fd = accept_by_hand();
	cr_assert_eq(tcp->fence(lane, rji_now_ns() + 20 * RJI_NS_PER_MS, &err), RJ_E_LANE);
	cr_assert_not_null(strstr(err.text, "no answer in time"), "%s", err.text);
	cr_assert_eq(err.lane, 0);
	tcp->close(&lane);
	close(fd);
}

Test(tcp, destination_that_is_gone_fails_the_fence)
{
	cr_assert_eq(connect_lane(&addrs), 0);
	close(accept_by_hand());
	cr_assert_eq(tcp->fence(lane, 0, &err), RJ_E_LANE);
	tcp->close(&lane);
}

/* What came in of one frame: head, and all that is behind it. */
static struct rji_frame take_frame(int fd, uint8_t *rest, size_t *len_p)
{
	uint8_t head[RJI_FRAME_HEAD_BYTES];
	struct rji_frame f;

	cr_assert_eq(recv(fd, head, sizeof(head), MSG_WAITALL), (ssize_t)sizeof(head));
	cr_assert_eq(rji_frame_decode(head, &f, &err), 0, "%s", err.text);
	*len_p = f.n_extents * (f.type == RJI_FRAME_PAGES ? (size_t)RJI_FRAME_EXTENT_BYTES
							  : RJI_FRAME_CODED_BYTES) +
		 f.value;
	cr_assert_eq(recv(fd, rest, *len_p, MSG_WAITALL), (ssize_t)*len_p);
	return f;
}

Test(tcp, copies_go_out_instead_of_the_pages)
{
	const struct rji_extent e[2] = { { 0x2000, 0x1000, 0 }, { 0x8000, 0x2000, 0 } };
	uint8_t *room, rest[0x4000];
	const void *from[2];
	struct rji_lane_stats st;
	struct rji_frame f;
	size_t len;
	int fd;

	memset(memory, 0x11, MEMORY_BYTES);
	cr_assert_eq(connect_lane(&addrs), 0);
	fd = accept_by_hand();
	room = tcp->staging(lane, 0x3001);
	cr_assert_not_null(room);
	cr_assert_eq(tcp->staging(lane, 0x3001), room, "one, for as long as there is the lane");
	memset(room, 0x22, 0x2000);
	memset(room + 0x2000, 0x33, 0x1001);
	from[0] = room + 0x2000;
	from[1] = room;
	cr_assert_eq(tcp->post_staged(lane, e, from, 2, &err), 0);
	cr_assert_eq(tcp->drain(lane, &err), 0);
	memset(room, 0x44, 0x3001); /* after that it may be */
	f = take_frame(fd, rest, &len);
	cr_assert_eq(f.type, RJI_FRAME_PAGES);
	cr_assert_eq(f.value, 0x3000);
	for (size_t i = 0; i < 0x3000; i++)
		cr_assert_eq(rest[2 * RJI_FRAME_EXTENT_BYTES + i], i < 0x1000 ? 0x33 : 0x22);
	tcp->stats(lane, &st);
	cr_assert_eq(st.sent_bytes, RJI_FRAME_HEAD_BYTES + len);
	tcp->close(&lane);
	close(fd);
}

/* More than one frame holds, by number and by bytes. */
Test(tcp, changes_go_out_in_as_many_frames_as_it_takes)
{
	const uint32_t n = RJI_FRAME_MAX_EXTENTS + 40, long_bytes = RJI_CODED_PAGES_BYTES;
	struct rji_coded *c = calloc(n, sizeof(*c)), *got = calloc(n, sizeof(*got));
	uint8_t *rest = malloc(2u << 20), *code = malloc(long_bytes);
	const struct rji_memory all = { .len_bytes = 1ull << 30 };
	uint32_t taken = 0, frames = 0, from = 0;
	int fd;

	memset(code, 0x77, long_bytes);
	for (uint32_t i = 0; i < n; i++)
		c[i] = (struct rji_coded){
			.extent = { (uint64_t)i * long_bytes, long_bytes, 0 },
			.coding = i % 3 ? RJI_CODING_ZEROS : RJI_CODING_ZSTD,
			.len_bytes = i % 3    ? 0
				     : i < 60 ? long_bytes
					      : 1,
			.bytes = code,
		};
	cr_assert_eq(connect_lane(&addrs), 0);
	fd = accept_by_hand();
	for (uint32_t i = 0; i < n; i += 20) { /* no more than the socket takes at once */
		uint32_t part = n - i < 20 ? n - i : 20;

		cr_assert_eq(tcp->post_coded(lane, c + i, part, &err), 0);
		from += part;
		while (taken < from) {
			size_t len;
			struct rji_frame f = take_frame(fd, rest, &len);

			cr_assert_eq(f.type, RJI_FRAME_CODED);
			cr_assert_eq(rji_frame_decode_coded(rest, &f, &all, 1, got + taken, &err),
				     0, "%s", err.text);
			for (uint32_t k = 0; k < f.n_extents; k++)
				cr_assert(!memcmp(&got[taken + k].extent, &c[taken + k].extent,
						  sizeof(c->extent)) &&
					  got[taken + k].len_bytes == c[taken + k].len_bytes);
			for (uint64_t k = 0; k < f.value; k++)
				cr_assert_eq(rest[len - 1 - k], 0x77);
			taken += f.n_extents;
			frames++;
		}
	}
	cr_assert_geq(frames, 15);
	/* Zeros have no bytes: all at once. */
	for (uint32_t i = 0; i < n; i++)
		c[i] = (struct rji_coded){ .extent = c[i].extent, .coding = RJI_CODING_ZEROS };
	cr_assert_eq(tcp->post_coded(lane, c, n, &err), 0);
	cr_assert_eq(tcp->post_coded(lane, c, 0, &err), 0, "nothing is nothing");
	for (uint32_t i = 0; i < 2; i++) {
		size_t len;
		struct rji_frame f = take_frame(fd, rest, &len);

		cr_assert_eq(f.n_extents, i ? 40 : RJI_FRAME_MAX_EXTENTS);
		cr_assert_eq(f.value, 0);
	}
	tcp->close(&lane);
	close(fd);
	free(c);
	free(got);
	free(rest);
	free(code);
}

Test(tcp, orderly_end_is_said)
{
	uint8_t bytes[RJI_FRAME_HEAD_BYTES];
	struct rji_frame f;
	int fd;

	cr_assert_eq(connect_lane(&addrs), 0);
	fd = accept_by_hand();
	tcp->close(&lane);
	cr_assert_eq(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), (ssize_t)sizeof(bytes));
	cr_assert_eq(rji_frame_decode(bytes, &f, &err), 0);
	cr_assert_eq(f.type, RJI_FRAME_BYE);
	close(fd);
}

Test(tcp, no_more_regions_than_fit)
{
	struct rji_memory m = { RJ_MAX_REGIONS, "x", memory, 4096 };
	_Atomic uint64_t done = 0;

	cr_assert_eq(tcp->reg(tp, &m, &done, &err), -ENOSPC);
	cr_assert_eq(done, 0);
}

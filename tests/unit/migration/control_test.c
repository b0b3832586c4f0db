/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/control.h"

#define TIMEOUT_MS 5000u

static struct rji_control c;
static struct rji_stop stop;
static struct rj_error err;
static int peer;

static void set_up(void)
{
	int fds[2];

	rji_stop_init(&stop);
	rji_error_init(&err);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	peer = fds[1];
	rji_control_init(&c, fds[0], TIMEOUT_MS, &stop);
}

static void tear_down(void)
{
	rji_control_fini(&c);
	memset(&c, 0, sizeof(c)); /* what it still pointed to is a leak now */
	rji_stop_fini(&stop);
	if (peer >= 0)
		close(peer);
}

TestSuite(control, .init = set_up, .fini = tear_down, .timeout = 10);

/* The peer's side by hand. */
static size_t message(uint8_t *bytes, uint16_t type, const void *payload, uint32_t len)
{
	rji_msg_encode_head(bytes, type, len);
	if (len)
		memcpy(bytes + RJI_MSG_HEAD_BYTES, payload, len);
	return RJI_MSG_HEAD_BYTES + len;
}

static void peer_says(uint16_t type, const void *payload, uint32_t len)
{
	uint8_t bytes[4096];
	size_t n = message(bytes, type, payload, len);

	cr_assert_eq(send(peer, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* The type of the next message the peer gets, 0: none. */
static unsigned int peer_hears(void)
{
	uint8_t head[RJI_MSG_HEAD_BYTES];
	uint32_t len;
	uint16_t type;

	if (recv(peer, head, sizeof(head), 0) != sizeof(head))
		return 0;
	cr_assert_eq(rji_msg_decode_head(head, &type, &len, NULL), 0);
	while (len) {
		char bytes[4096];
		ssize_t n = recv(peer, bytes, len < sizeof(bytes) ? len : sizeof(bytes), 0);

		cr_assert_gt(n, 0);
		len -= (uint32_t)n;
	}
	return type;
}

static void expect(uint16_t type, const void *payload, uint32_t len)
{
	struct rji_msg *msg = rji_control_take(&c);

	cr_assert_not_null(msg);
	cr_assert_eq(msg->type, type, "%s", rji_msg_name(msg->type));
	cr_assert_eq(msg->len_bytes, len);
	cr_assert(!len || !memcmp(msg->payload, payload, len));
	free(msg);
}

Test(control, messages_come_in_order)
{
	peer_says(RJI_MSG_HELLO, "abc", 3);
	peer_says(RJI_MSG_SETUP, NULL, 0);
	peer_says(RJI_MSG_SETUP, "d", 1);
	rji_control_read(&c);
	expect(RJI_MSG_HELLO, "abc", 3);
	expect(RJI_MSG_SETUP, NULL, 0);
	expect(RJI_MSG_SETUP, "d", 1);
	cr_assert_null(rji_control_take(&c));
	cr_assert_eq(rji_control_check(&c, &err), 0);
}

Test(control, queue_may_run_empty_between)
{
	for (uint32_t i = 0; i < 5; i++) {
		peer_says(RJI_MSG_ROUND, &i, sizeof(i));
		rji_control_read(&c);
		expect(RJI_MSG_ROUND, &i, sizeof(i));
		cr_assert_null(rji_control_take(&c));
	}
}

Test(control, messages_may_come_byte_by_byte)
{
	uint8_t bytes[100];
	size_t n = message(bytes, RJI_MSG_HELLO, "0123456789", 10);

	n += message(bytes + n, RJI_MSG_COMMIT, NULL, 0);
	n += message(bytes + n, RJI_MSG_BYE, "x", 1);
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(c.n_queued, i < 18 ? 0u : i < 26 ? 1u : 2u, "after %zu bytes", i);
		send(peer, bytes + i, 1, 0);
		rji_control_read(&c);
	}
	expect(RJI_MSG_HELLO, "0123456789", 10);
	expect(RJI_MSG_COMMIT, NULL, 0);
	expect(RJI_MSG_BYE, "x", 1);
}

Test(control, what_is_sent_arrives)
{
	cr_assert_eq(rji_control_send(&c, RJI_MSG_STOPPING, NULL, 0), 0);
	cr_assert_eq(rji_control_send(&c, RJI_MSG_STATE, "abcdef", 6), 0);
	cr_assert_eq(peer_hears(), RJI_MSG_STOPPING);
	cr_assert_eq(peer_hears(), RJI_MSG_STATE);
	cr_assert_eq(peer_hears(), 0);
}

Test(control, pings_are_answered_and_not_queued)
{
	peer_says(RJI_MSG_PING, NULL, 0);
	peer_says(RJI_MSG_PONG, NULL, 0);
	rji_control_read(&c);
	cr_assert_null(rji_control_take(&c));
	cr_assert_eq(peer_hears(), RJI_MSG_PONG);
	cr_assert_eq(peer_hears(), 0);
}

Test(control, silent_side_pings_before_the_peer_gives_up)
{
	cr_assert_eq(rji_control_check(&c, &err), 0);
	cr_assert_eq(peer_hears(), 0, "not at once");
	cr_assert_leq(rji_control_next_check_ns(&c), rji_now_ns() + TIMEOUT_MS / 2 * RJI_NS_PER_MS);
	c.spoke_ns -= TIMEOUT_MS / 2 * RJI_NS_PER_MS;
	cr_assert_eq(rji_control_check(&c, &err), 0);
	cr_assert_eq(peer_hears(), RJI_MSG_PING);
	cr_assert_eq(rji_control_check(&c, &err), 0);
	cr_assert_eq(peer_hears(), 0, "once");
}

Test(control, speaking_puts_the_ping_off)
{
	c.spoke_ns -= TIMEOUT_MS / 2 * RJI_NS_PER_MS;
	rji_control_send(&c, RJI_MSG_READY, NULL, 0);
	peer_hears();
	rji_control_check(&c, &err);
	cr_assert_eq(peer_hears(), 0);
}

Test(control, silence_is_noticed)
{
	c.heard_ns -= (TIMEOUT_MS - 100) * RJI_NS_PER_MS;
	cr_assert_eq(rji_control_check(&c, &err), 0);
	c.heard_ns -= 200 * RJI_NS_PER_MS;
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
	cr_assert_not_null(strstr(err.text, "nothing was heard from the peer for 5000 ms"), "%s",
			   err.text);
	cr_assert_eq(c.fd, -1);
}

Test(control, any_byte_is_a_sign_of_life)
{
	uint8_t head[RJI_MSG_HEAD_BYTES];

	rji_msg_encode_head(head, RJI_MSG_STATE, 1000000);
	c.heard_ns -= 2ull * TIMEOUT_MS * RJI_NS_PER_MS;
	send(peer, head, 1, 0);
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), 0);
	send(peer, head + 1, sizeof(head) - 1, 0);
	c.heard_ns -= 2ull * TIMEOUT_MS * RJI_NS_PER_MS;
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), 0);
}

Test(control, closed_connection_is_noticed_after_what_was_said_before)
{
	peer_says(RJI_MSG_BYE, NULL, 0);
	close(peer);
	peer = -1;
	rji_control_read(&c);
	expect(RJI_MSG_BYE, NULL, 0);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
	cr_assert_not_null(strstr(err.text, "closed the control connection"), "%s", err.text);
	cr_assert_eq(rji_control_send(&c, RJI_MSG_READY, NULL, 0), RJ_E_PEER_GONE);
	rji_control_read(&c);
}

Test(control, connection_that_closes_inside_a_message_keeps_nothing_of_it)
{
	uint8_t bytes[100];

	message(bytes, RJI_MSG_HELLO, "0123456789", 10);
	send(peer, bytes, 15, 0);
	close(peer);
	peer = -1;
	rji_control_read(&c);
	cr_assert_null(rji_control_take(&c));
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
}

Test(control, sending_to_one_that_is_gone_is_no_signal)
{
	close(peer);
	peer = -1;
	cr_assert_eq(rji_control_send(&c, RJI_MSG_READY, NULL, 0), RJ_E_PEER_GONE);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
}

static void peer_fails(int32_t code, const char *text)
{
	struct rji_msg_failed m = { .code = code };
	struct rji_cursor cursor;
	uint8_t bytes[600];

	strcpy(m.text, text);
	rji_cursor_init(&cursor, bytes, sizeof(bytes));
	rji_put_failed(&cursor, &m);
	peer_says(RJI_MSG_FAILED, bytes, (uint32_t)cursor.pos);
}

Test(control, peers_failure_is_told_in_a_clean_line)
{
	peer_fails(RJ_E_REGION, "no such\nregion \x1b[31m");
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_FAILED);
	cr_assert_str_eq(err.text, "the peer gave up: no such?region ?[31m");
	cr_assert_eq(c.failure.code, RJ_E_REGION);
	cr_assert_null(rji_control_take(&c));
}

Test(control, peers_failure_counts_more_than_its_closing)
{
	peer_fails(RJ_E_REGION, "bad");
	close(peer);
	peer = -1;
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_FAILED);
}

Test(control, failure_that_cannot_be_read_is_one)
{
	peer_says(RJI_MSG_FAILED, "x", 1);
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_FAILED);
	cr_assert_eq(c.failure.code, RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "cannot be read"), "%s", err.text);
}

Test(control, longest_failure_text_fits)
{
	char text[RJ_ERROR_TEXT_BYTES];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	peer_fails(RJ_E_REGION, text);
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_FAILED);
	cr_assert_str_eq(c.failure.text, text);
}

Test(control, message_too_large_is_refused_before_it_is_taken_in)
{
	uint8_t head[RJI_MSG_HEAD_BYTES];

	rji_msg_encode_head(head, RJI_MSG_STATE, RJI_MSG_MAX_BYTES + 1);
	send(peer, head, sizeof(head), 0);
	rji_control_read(&c);
	cr_assert_null(c.partial);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "2097153 bytes (STATE)"), "%s", err.text);
}

Test(control, garbage_is_refused)
{
	send(peer, "GET / HTTP/1.1\r\n", 16, 0);
	rji_control_read(&c);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PROTOCOL);
	cr_assert_eq(c.fd, -1);
}

Test(control, queue_has_a_limit_and_the_rest_waits_in_the_socket)
{
	for (uint32_t i = 0; i < 40; i++)
		peer_says(RJI_MSG_ROUND, &i, sizeof(i));
	rji_control_read(&c);
	cr_assert(rji_control_is_full(&c));
	cr_assert_eq(c.n_queued, 16);
	for (uint32_t i = 0; i < 40; i++) {
		expect(RJI_MSG_ROUND, &i, sizeof(i));
		rji_control_read(&c);
	}
	cr_assert_null(rji_control_take(&c));
}

/* While the queue is full nothing is read: that silence is ours. */
Test(control, full_queue_is_not_taken_for_the_peers_silence)
{
	for (uint32_t i = 0; i < 40; i++)
		peer_says(RJI_MSG_ROUND, &i, sizeof(i));
	rji_control_read(&c);
	c.heard_ns -= 2ull * TIMEOUT_MS * RJI_NS_PER_MS;
	cr_assert_eq(rji_control_check(&c, &err), 0);
	free(rji_control_take(&c));
	cr_assert_eq(rji_control_check(&c, &err), 0, "%s", err.text);
	cr_assert_geq(c.fd, 0);
}

Test(control, peer_that_takes_nothing_is_gone)
{
	size_t len = RJI_MSG_MAX_BYTES;
	uint8_t *bytes = calloc(1, len);

	c.peer_timeout_ms = 20;
	cr_assert_eq(rji_control_send(&c, RJI_MSG_STATE, bytes, len), RJ_E_PEER_GONE);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
	cr_assert_not_null(strstr(err.text, "takes nothing any more"), "%s", err.text);
	free(bytes);
}

Test(control, first_cause_stays)
{
	uint8_t head[RJI_MSG_HEAD_BYTES] = { 0 };

	send(peer, head, sizeof(head), 0);
	rji_control_read(&c);
	rji_control_send(&c, RJI_MSG_READY, NULL, 0);
	cr_assert_eq(rji_control_check(&c, NULL), RJ_E_PROTOCOL);
}

Test(control, hanging_up_keeps_what_is_queued)
{
	peer_says(RJI_MSG_RUNNING, NULL, 0);
	rji_control_read(&c);
	rji_control_hang_up(&c);
	rji_control_hang_up(&c);
	expect(RJI_MSG_RUNNING, NULL, 0);
	cr_assert_eq(rji_control_check(&c, &err), RJ_E_PEER_GONE);
}

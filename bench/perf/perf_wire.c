/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the two ends agree on goes over a connection of its own: a length of four bytes,
 * little-endian, and a JSON object. The source asks, the destination answers each question with
 * one object: { "ok": true, ... } or { "error": "..." }.
 *
 *   hello   transport, memory     what this machine is
 *   open    lanes, admission      addresses and keys; then the lanes are let in
 *   cpu                           CPU time of the threads that receive
 *   close                         pages that arrived; the lanes are gone
 *   bye
 */
#include "bench/perf/perf.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/socket.h"

/* Keys of a TiB in chunks of the smallest size fit; nobody can make us allocate more. */
#define MAX_BYTES (4u << 20)
#define SEND_MS 10000

static int send_bytes(int fd, const struct rji_stop *stop, char *text, size_t n)
{
	uint8_t head[4] = { n & 0xff, n >> 8 & 0xff, n >> 16 & 0xff, n >> 24 & 0xff };
	struct iovec iov[2] = { { head, sizeof(head) }, { text, n } };

	return rji_socket_send(fd, iov, 2, rji_now_ns() + SEND_MS * RJI_NS_PER_MS, stop);
}

int perf_wire_send(int fd, const struct rji_stop *stop, json_t *o, struct rj_error *err)
{
	char *text = json_dumps(o, JSON_COMPACT);
	int ret;

	json_decref(o);
	if (!text)
		return rji_fail(err, -ENOMEM, "no memory for a message");
	ret = strlen(text) <= MAX_BYTES ? send_bytes(fd, stop, text, strlen(text)) : -EMSGSIZE;
	free(text);
	return ret < 0 ? rji_fail(err, ret, "telling the other end: %s", rj_strerror(ret)) : 0;
}

static int recv_text(int fd, const struct rji_stop *stop, uint64_t deadline_ns, char **text_p,
		     size_t *n_p)
{
	uint8_t head[4];
	struct iovec iov = { head, sizeof(head) };
	int ret = rji_socket_recv(fd, &iov, 1, deadline_ns, stop);
	uint32_t n;
	char *text;

	if (ret < 0)
		return ret;
	n = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
	if (!n || n > MAX_BYTES)
		return RJ_E_PROTOCOL;
	text = malloc(n);
	if (!text)
		return -ENOMEM;
	iov = (struct iovec){ text, n };
	ret = rji_socket_recv(fd, &iov, 1, deadline_ns, stop);
	if (ret < 0) {
		free(text);
		return ret;
	}
	*text_p = text;
	*n_p = n;
	return 0;
}

int perf_wire_recv(int fd, const struct rji_stop *stop, uint32_t timeout_ms, json_t **o_p,
		   struct rj_error *err)
{
	char *text;
	size_t n;
	json_t *o;
	int ret = recv_text(fd, stop, rji_now_ns() + timeout_ms * RJI_NS_PER_MS, &text, &n);

	if (ret < 0)
		return rji_fail(err, ret, "waiting for the other end: %s", rj_strerror(ret));
	o = json_loadb(text, n, 0, NULL);
	free(text);
	if (!json_is_object(o)) {
		json_decref(o);
		return rji_fail(err, RJ_E_PROTOCOL,
				"the other end sent something else than ramjet-perf does");
	}
	*o_p = o;
	return 0;
}

int perf_wire_ask(int fd, const struct rji_stop *stop, json_t *question, uint32_t timeout_ms,
		  json_t **answer_p, struct rj_error *err)
{
	json_t *answer;
	const char *why;
	int ret = perf_wire_send(fd, stop, question, err);

	if (!ret)
		ret = perf_wire_recv(fd, stop, timeout_ms, &answer, err);
	if (ret < 0)
		return ret;
	why = json_string_value(json_object_get(answer, "error"));
	if (why) {
		ret = rji_fail(err, RJ_E_PEER_FAILED, "the destination: %.200s", why);
		json_decref(answer);
		return ret;
	}
	*answer_p = answer;
	return 0;
}

json_t *perf_hex(const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = bytes;
	char *text = malloc(2 * n + 1);
	json_t *o = NULL;

	if (text) {
		for (size_t i = 0; i < n; i++) {
			text[2 * i] = digits[b[i] >> 4];
			text[2 * i + 1] = digits[b[i] & 15];
		}
		o = json_stringn(text, 2 * n);
	}
	free(text);
	return o;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int perf_unhex(const json_t *o, void *bytes, size_t max)
{
	const char *text = json_string_value(o);
	size_t n = json_string_length(o) / 2;
	uint8_t *b = bytes;

	if (!text || n > max || json_string_length(o) % 2)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		b[i] = (uint8_t)(high << 4 | low);
	}
	return (int)n;
}

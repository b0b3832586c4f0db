/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <ramjet/error.h>

#include "migration/state_stream.h"

#define QUEUE_BYTES (4u << 20)

static struct rji_state_stream st;
static int wake_fd;

static void set_up(void)
{
	wake_fd = eventfd(0, EFD_NONBLOCK);
	cr_assert_eq(rji_state_stream_init(&st, wake_fd), 0);
}

static void tear_down(void)
{
	rji_state_stream_fini(&st);
	close(wake_fd);
}

TestSuite(state_stream, .init = set_up, .fini = tear_down, .timeout = 10);

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 13 + at / 977);
}

static uint8_t *patterned(uint64_t from, size_t len)
{
	uint8_t *bytes = malloc(len ? len : 1);

	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern(from + i);
	return bytes;
}

static void check_pattern(const uint8_t *bytes, uint64_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(bytes[i], pattern(from + i), "at %lu", from + i);
}

Test(state_stream, what_is_written_is_taken_in_order)
{
	uint64_t written = 0, taken = 0;

	rji_state_stream_reset(&st, true);
	for (size_t part = 1; part < 300000; part = part * 3 + 1) {
		uint8_t *bytes = patterned(written, part), got[5000];
		size_t n;

		cr_assert_eq(rji_state_stream_write(&st, bytes, part), 0);
		written += part;
		for (int i = 0; i < 3; i++) {
			n = rji_state_stream_take(&st, got, sizeof(got));
			check_pattern(got, taken, n);
			taken += n;
		}
		free(bytes);
	}
	while (taken < written) {
		uint8_t got[5000];
		size_t n = rji_state_stream_take(&st, got, sizeof(got));

		cr_assert_gt(n, 0);
		check_pattern(got, taken, n);
		taken += n;
	}
	cr_assert_eq(st.total_bytes, written);
	cr_assert_eq(rji_state_stream_take(&st, &written, 8), 0);
}

Test(state_stream, writing_wakes_the_control_thread)
{
	eventfd_t n;

	rji_state_stream_reset(&st, true);
	cr_assert_eq(rji_state_stream_write(&st, "x", 1), 0);
	cr_assert_eq(eventfd_read(wake_fd, &n), 0);
}

Test(state_stream, closed_one_takes_nothing)
{
	rji_state_stream_reset(&st, false);
	cr_assert_eq(rji_state_stream_write(&st, "x", 1), -ENOTCONN);
	cr_assert_eq(rji_state_stream_read(&st, &wake_fd, 1), RJ_E_STATE);
	cr_assert_eq(st.total_bytes, 0);
}

Test(state_stream, reset_empties_it)
{
	char got[8];

	rji_state_stream_reset(&st, true);
	rji_state_stream_write(&st, "old", 3);
	rji_state_stream_reset(&st, true);
	rji_state_stream_write(&st, "new!", 4);
	cr_assert_eq(rji_state_stream_take(&st, got, sizeof(got)), 4);
	cr_assert(!memcmp(got, "new!", 4));
	cr_assert_eq(st.total_bytes, 4);
}

struct writer {
	pthread_t thread;
	size_t len;
	int ret;
};

static void *write_all(void *arg)
{
	struct writer *w = arg;
	uint8_t *bytes = patterned(0, w->len);

	w->ret = rji_state_stream_write(&st, bytes, w->len);
	free(bytes);
	return NULL;
}

static size_t queued(void)
{
	size_t n;

	pthread_mutex_lock(&st.lock);
	n = st.len_bytes;
	pthread_mutex_unlock(&st.lock);
	return n;
}

static void start_writer(struct writer *w, size_t len)
{
	w->len = len;
	w->ret = 1;
	rji_state_stream_reset(&st, true);
	pthread_create(&w->thread, NULL, write_all, w);
}

Test(state_stream, writer_waits_while_too_much_is_queued)
{
	uint8_t *got = malloc(65536);
	struct writer w;
	size_t taken = 0;

	start_writer(&w, 3 * QUEUE_BYTES + 17);
	while (queued() < QUEUE_BYTES)
		;
	while (taken < w.len) {
		size_t n = rji_state_stream_take(&st, got, 65536);

		cr_assert_leq(queued(), QUEUE_BYTES);
		check_pattern(got, taken, n);
		taken += n;
	}
	pthread_join(w.thread, NULL);
	cr_assert_eq(w.ret, 0);
	cr_assert_eq(rji_state_stream_take(&st, got, 65536), 0);
	free(got);
}

Test(state_stream, closing_sends_a_waiting_writer_home)
{
	struct writer w;

	start_writer(&w, 2 * QUEUE_BYTES);
	while (queued() < QUEUE_BYTES)
		;
	rji_state_stream_open(&st, false);
	pthread_join(w.thread, NULL);
	cr_assert_eq(w.ret, -ENOTCONN);
}

Test(state_stream, what_is_appended_is_read_once_and_then_there_is_no_more)
{
	uint8_t *bytes = patterned(0, 100000), got[7777];
	uint64_t at = 0;
	ssize_t n;

	rji_state_stream_reset(&st, false);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 60000, 1 << 20), 0);
	cr_assert_eq(rji_state_stream_append(&st, bytes + 60000, 40000, 1 << 20), 0);
	rji_state_stream_open(&st, true);
	cr_assert_eq(rji_state_stream_read(&st, got, 0), 0);
	while ((n = rji_state_stream_read(&st, got, sizeof(got))) > 0) {
		check_pattern(got, at, (size_t)n);
		at += (uint64_t)n;
	}
	cr_assert_eq(n, 0);
	cr_assert_eq(at, 100000);
	rji_state_stream_open(&st, false);
	cr_assert_eq(rji_state_stream_read(&st, got, 1), RJ_E_STATE);
	free(bytes);
}

Test(state_stream, more_than_the_limit_is_refused)
{
	const uint8_t bytes[100] = { 0 };

	rji_state_stream_reset(&st, false);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 100, 150), 0);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 51, 150), -EFBIG);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 50, 150), 0);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 1, 150), -EFBIG);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 0, 150), 0);
	cr_assert_eq(rji_state_stream_append(&st, bytes, 1, 100), -EFBIG, "a limit already passed");
	cr_assert_eq(st.total_bytes, 150);
}

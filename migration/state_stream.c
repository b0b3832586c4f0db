/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/state_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <ramjet/error.h>

/* Queued at the source before the writer has to wait. */
#define QUEUE_BYTES (4u << 20)

int rji_state_stream_init(struct rji_state_stream *st, int wake_fd)
{
	memset(st, 0, sizeof(*st));
	st->wake_fd = wake_fd;
	pthread_mutex_init(&st->lock, NULL);
	pthread_cond_init(&st->room, NULL);
	return 0;
}

void rji_state_stream_fini(struct rji_state_stream *st)
{
	free(st->bytes);
	pthread_cond_destroy(&st->room);
	pthread_mutex_destroy(&st->lock);
}

void rji_state_stream_open(struct rji_state_stream *st, bool open)
{
	pthread_mutex_lock(&st->lock);
	st->open = open;
	pthread_cond_broadcast(&st->room);
	pthread_mutex_unlock(&st->lock);
}

void rji_state_stream_reset(struct rji_state_stream *st, bool open)
{
	pthread_mutex_lock(&st->lock);
	st->len_bytes = st->read_bytes = 0;
	st->total_bytes = 0;
	st->open = open;
	pthread_cond_broadcast(&st->room);
	pthread_mutex_unlock(&st->lock);
}

/* With the lock held. */
static int append(struct rji_state_stream *st, const void *p, size_t len_bytes)
{
	if (len_bytes > st->capacity_bytes - st->len_bytes) {
		size_t capacity = st->capacity_bytes ? st->capacity_bytes : 65536;
		uint8_t *bytes;

		while (capacity - st->len_bytes < len_bytes)
			capacity *= 2;
		bytes = realloc(st->bytes, capacity);
		if (!bytes)
			return -ENOMEM;
		st->bytes = bytes;
		st->capacity_bytes = capacity;
	}
	memcpy(st->bytes + st->len_bytes, p, len_bytes);
	st->len_bytes += len_bytes;
	st->total_bytes += len_bytes;
	return 0;
}

int rji_state_stream_write(struct rji_state_stream *st, const void *p, size_t len_bytes)
{
	const uint8_t *at = p;
	int ret = 0;

	pthread_mutex_lock(&st->lock);
	while (len_bytes && !ret) {
		size_t part =
			QUEUE_BYTES - (st->len_bytes < QUEUE_BYTES ? st->len_bytes : QUEUE_BYTES);

		if (!st->open) {
			ret = -ENOTCONN;
		} else if (!part) {
			pthread_cond_wait(&st->room, &st->lock);
		} else {
			part = part < len_bytes ? part : len_bytes;
			ret = append(st, at, part);
			at += part;
			len_bytes -= part;
			eventfd_write(st->wake_fd, 1);
		}
	}
	pthread_mutex_unlock(&st->lock);
	return ret;
}

size_t rji_state_stream_take(struct rji_state_stream *st, void *p, size_t max)
{
	size_t n;

	pthread_mutex_lock(&st->lock);
	n = st->len_bytes - st->read_bytes;
	n = n < max ? n : max;
	if (n)
		memcpy(p, st->bytes + st->read_bytes, n);
	st->read_bytes += n;
	if (st->read_bytes == st->len_bytes) {
		st->read_bytes = st->len_bytes = 0;
		pthread_cond_broadcast(&st->room);
	}
	pthread_mutex_unlock(&st->lock);
	return n;
}

int rji_state_stream_append(struct rji_state_stream *st, const void *p, size_t len_bytes,
			    uint64_t limit)
{
	int ret;

	pthread_mutex_lock(&st->lock);
	if (len_bytes && (st->len_bytes > limit || len_bytes > limit - st->len_bytes))
		ret = -EFBIG;
	else
		ret = append(st, p, len_bytes);
	pthread_mutex_unlock(&st->lock);
	return ret;
}

ssize_t rji_state_stream_read(struct rji_state_stream *st, void *p, size_t len_bytes)
{
	size_t n;

	pthread_mutex_lock(&st->lock);
	if (!st->open) {
		pthread_mutex_unlock(&st->lock);
		return RJ_E_STATE;
	}
	n = st->len_bytes - st->read_bytes;
	n = n < len_bytes ? n : len_bytes;
	if (n)
		memcpy(p, st->bytes + st->read_bytes, n);
	st->read_bytes += n;
	pthread_mutex_unlock(&st->lock);
	return (ssize_t)n;
}

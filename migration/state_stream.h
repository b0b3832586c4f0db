/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_STATE_STREAM_H
#define RJI_MIGRATION_STATE_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Device state on its way. Source: the VMM writes, the control thread takes and sends; the writer
 * waits when too much is queued. Destination: the control thread puts all of it in, then the VMM
 * reads.
 */
struct rji_state_stream {
	pthread_mutex_t lock;
	pthread_cond_t room;
	uint8_t *bytes;
	size_t len_bytes, capacity_bytes, read_bytes;
	uint64_t total_bytes; /* ever put in since reset */
	bool open;	      /* writes or reads are allowed now */
	int wake_fd;	      /* control thread's; borrowed */
};

int rji_state_stream_init(struct rji_state_stream *st, int wake_fd);
void rji_state_stream_fini(struct rji_state_stream *st);
/* Empty it, and open or close it. Closing sends waiting writers home. */
void rji_state_stream_reset(struct rji_state_stream *st, bool open);
void rji_state_stream_open(struct rji_state_stream *st, bool open);

/* Source, the VMM's thread: waits for room. 0; -ENOTCONN when closed; -ENOMEM. */
int rji_state_stream_write(struct rji_state_stream *st, const void *p, size_t len_bytes);
/* Source, control thread: up to max bytes into p; returns how many. */
size_t rji_state_stream_take(struct rji_state_stream *st, void *p, size_t max);

/* Destination, control thread: append. -ENOMEM, -EFBIG past limit. */
int rji_state_stream_append(struct rji_state_stream *st, const void *p, size_t len_bytes,
			    uint64_t limit);
/* Destination, the VMM's thread. RJ_E_STATE when closed. */
ssize_t rji_state_stream_read(struct rji_state_stream *st, void *p, size_t len_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_FILE_RING_H
#define RJI_TRANSPORT_FILE_FILE_RING_H

#include <liburing.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"
#include "base/stop.h"

/*
 * Reads or writes of one thread, many in flight, by io_uring; where that is forbidden (a sandbox, a limit
 * of locked memory), one after the other. A transfer is finished whole: what the kernel did only in part is continued here.
 *
 * The kernel reads or writes the memory until the transfer is done: rji_file_ring_drain() before it goes
 * away, also after a failure.
 */
#define RJI_RING_DEPTH 32u
#define RJI_RING_MAX_BYTES (1u << 20) /* of one transfer; longer ones are the caller's to cut */

/*
 * Registered buffers, if asked for: the kernel takes hold of a piece of memory once, before the first transfer,
 * and need not look its pages up for each. It takes hold of them to write, as if they
 * were written: never of memory whose writes userfaultfd watches, never of holes, which would become memory.
 *
 * A ring has the newest RJI_RING_PIECES pieces, and none from the end of a drain on: whoever takes pages
 * away waits for one, and finds nothing pinned. Where the kernel refuses, transfers go on without.
 */
#define RJI_RING_PIECES 16u
#define RJI_RING_MAX_PIECE_BYTES (1u << 30) /* a longer one goes without */

struct rji_file_buffers {
	_Atomic int refused;	/* -errno; since then all rings go without */
	_Atomic uint64_t bytes; /* written from registered memory; told when a ring drains */
};

struct rji_file_op {
	char *p;
	uint32_t len_bytes, done_bytes;
	uint64_t offset;
	uint64_t tag; /* the caller's */
	int slot;     /* of the piece that it is in; -1: none */
	struct rji_file_op *next_free;
};

struct rji_file_ring {
	struct io_uring uring;
	int no_uring; /* -errno: why there is none */
	int fd;
	bool writes;
	const char *path; /* for messages; the caller's */
	/* A read is done; may be NULL. 0 or negative with err: the ring has failed. */
	int (*done)(void *arg, const struct rji_file_op *op, struct rj_error *err);
	void *arg;
	/* Memory of the transfers' own, own_bytes for each of RJI_RING_DEPTH; NULL: there is none. Not owned. */
	char *own;
	uint32_t own_bytes;
	struct rji_file_buffers *buffers; /* NULL: nothing is registered */
	uint32_t n_pieces;		  /* registered since the last drain */
	char *piece;			  /* the newest */
	uint64_t piece_bytes;		  /* 0: there is none */
	uint64_t buffered_bytes;	  /* not told yet */
	uint32_t limit; /* no more in flight than this, 1 to RJI_RING_DEPTH, which init sets */
	uint32_t n_unsubmitted, n_in_flight;
	int failed; /* the first failure; nothing more is begun */
	struct rji_file_op *free_ops;
	struct rji_file_op ops[RJI_RING_DEPTH];
};

/* fd stays the caller's. */
void rji_file_ring_init(struct rji_file_ring *r, int fd, bool writes, const char *path);
/* Drained before. */
void rji_file_ring_fini(struct rji_file_ring *r);

/* Of a ring that writes: register what rji_file_ring_expect() names. b counts, and must outlive the ring. */
void rji_file_ring_use_buffers(struct rji_file_ring *r, struct rji_file_buffers *b);
/* The next writes are of [p, p + len_bytes), which is no hole. Without buffers it does nothing. */
void rji_file_ring_expect(struct rji_file_ring *r, void *p, uint64_t len_bytes,
			  struct rj_error *err);

/*
 * Begin a transfer; waits for room. p NULL: to memory of the transfer's own, which is there until done()
 * returns. 0, or why this one or one before failed.
 */
int rji_file_ring_start(struct rji_file_ring *r, void *p, uint32_t len_bytes, uint64_t offset,
			uint64_t tag, struct rj_error *err);
/* Hand what was begun to the kernel. */
int rji_file_ring_submit(struct rji_file_ring *r, struct rj_error *err);
/* Wait until nothing is in flight, and let go of registered memory. 0, or why something failed. */
int rji_file_ring_drain(struct rji_file_ring *r, struct rj_error *err);

/* All or nothing, without a ring; memory and offset aligned as the descriptor wants it. 0 or negative with err. */
int rji_file_transfer(int fd, void *p, size_t len_bytes, uint64_t offset, bool writes,
		      const char *path, struct rj_error *err);

#endif

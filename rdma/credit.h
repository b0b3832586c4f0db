/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_CREDIT_H
#define RJI_RDMA_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Our own account of a send queue.
 *
 * A work request occupies its slot until a completion at or after it has been polled, signalled or not: mlx5 moves the
 * queue's tail in ibv_poll_cq() only. Software devices do not insist, so nothing but this account tells when a real one would
 * answer ENOMEM for ever. All counters are monotonic; a request is named by the value of posted before it:
 *
 *     0 ......... freed ......... posted ...... freed + depth
 *      completed       in flight          room
 */

/* What must be known of a request when its completion comes. */
struct rji_rdma_slot {
	uint64_t end_bytes;    /* sq->posted_bytes after it */
	uint64_t offset_bytes; /* guest range, for the error text */
	uint32_t region;       /* UINT32_MAX: not a page */
	uint32_t len_bytes;
};

struct rji_rdma_sq {
	uint64_t posted;
	uint64_t freed;
	uint64_t posted_bytes;
	uint64_t freed_bytes;
	uint32_t depth; /* as asked for; what the device made of it is not ours to use */
	uint32_t mask;	/* of the ring below, which has more than depth slots */
	struct rji_rdma_slot *slot;
};

/* 0 or -ENOMEM. */
int rji_rdma_sq_init(struct rji_rdma_sq *sq, uint32_t depth);
void rji_rdma_sq_fini(struct rji_rdma_sq *sq);

static inline uint32_t rji_rdma_sq_room(const struct rji_rdma_sq *sq)
{
	return sq->depth - (uint32_t)(sq->posted - sq->freed);
}

static inline uint64_t rji_rdma_sq_in_flight_bytes(const struct rji_rdma_sq *sq)
{
	return sq->posted_bytes - sq->freed_bytes;
}

static inline struct rji_rdma_slot *rji_rdma_sq_slot(const struct rji_rdma_sq *sq, uint64_t counter)
{
	return &sq->slot[counter & sq->mask];
}

/* Take a slot, of which there must be one; return the counter which names it. */
uint64_t rji_rdma_sq_take(struct rji_rdma_sq *sq, uint32_t region, uint64_t offset_bytes,
			  uint32_t len_bytes);

/* The newest n requests were taken but not accepted by the device. */
void rji_rdma_sq_untake(struct rji_rdma_sq *sq, uint32_t n);

/*
 * A completion for counter was polled: it and all before it are over. Return the bytes that this frees; false for a counter
 * that is not in flight, in which case the device or somebody's memory is broken.
 */
bool rji_rdma_sq_complete(struct rji_rdma_sq *sq, uint64_t counter, uint64_t *bytes_p);

#endif

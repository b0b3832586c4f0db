/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_LANE_MESSAGE_H
#define RJI_RDMA_LANE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What goes over a lane by SEND. 16 bytes, little-endian:
 *
 *   0 magic u16   2 version u8   3 type u8   4 zero u32   8 sequence number u64
 *
 * ZEROS has the region at 4, and at 8 the first page in 40 bits and above them how many, in pages of 4096 bytes.
 */

#define RJI_RDMA_MESSAGE_BYTES 16

enum rji_rdma_message_type {
	RJI_RDMA_FENCE =
		1, /* source: all writes before this, on this queue pair, are to be in memory. 1, 2, 3 … */
	RJI_RDMA_ANSWER = 2, /* destination: they are; the number of the fence */
	RJI_RDMA_BYE = 3,    /* source: an orderly end; the number of the last fence */
	RJI_RDMA_PING =
		4, /* destination: nothing; the acknowledgement by the peer's port tells that it is there */
	RJI_RDMA_ZEROS =
		5, /* source: these pages are zero; before the next fence is answered. Only where agreed on */
};

#define RJI_RDMA_ZEROS_SHIFT 12
#define RJI_RDMA_ZEROS_PAGE_BITS 40

struct rji_rdma_message {
	enum rji_rdma_message_type type;
	uint32_t region; /* of ZEROS; else 0 */
	uint64_t seq;
};

/* Into exactly RJI_RDMA_MESSAGE_BYTES. */
void rji_rdma_put_message(const struct rji_rdma_message *m, void *buf);
bool rji_rdma_get_message(const void *buf, size_t len_bytes, struct rji_rdma_message *m_p);

#endif

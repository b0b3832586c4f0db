/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_WINDOW_MESSAGE_H
#define RJI_RDMA_WINDOW_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

/*
 * What source and destination say to each other of windows, over the control channel. A message is any number of these, 20
 * bytes each, little-endian:
 *
 *   0 kind u16   2 zero u16   4 region u32   8 device u32   12 window u32   16 key u32
 */

#define RJI_RDMA_WINDOW_MESSAGE_BYTES 20

enum rji_rdma_window_message_kind {
	RJI_RDMA_WINDOW_WANT = 1,    /* source: register it. key 0 */
	RJI_RDMA_WINDOW_KEY = 2,     /* destination: it is, and this is its key, not 0 */
	RJI_RDMA_WINDOW_DROP = 3,    /* source: no request of mine is in it, none will be. key 0 */
	RJI_RDMA_WINDOW_DROPPED = 4, /* destination: its key is void. key 0 */
};

struct rji_rdma_window_message {
	enum rji_rdma_window_message_kind kind;
	uint32_t region;
	uint32_t device; /* of the key table */
	uint32_t window;
	uint32_t key;
};

void rji_rdma_put_window_message(struct rji_cursor *c, const struct rji_rdma_window_message *m);
bool rji_rdma_get_window_message(struct rji_cursor *c, struct rji_rdma_window_message *m_p);

#endif

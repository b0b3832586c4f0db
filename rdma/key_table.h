/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_KEY_TABLE_H
#define RJI_RDMA_KEY_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "rdma/registration.h"

/*
 * The keys of one region as bytes, little-endian; they travel over the control channel only, since who knows them and
 * owns a connection can write guest memory.
 *
 *   0 version u16   2 n_devices u16   4 mode u32   8 base u64   16 len u64
 *   mode ON_DEMAND:         room u64, bytes which may be registered at once, of all regions together
 *   then for each device:   shift u32   n_windows u32
 *   but for ON_DEMAND:      rkey u32 × n_windows, in mode COME 0 where there is none yet
 *
 * A connection's answer tells which of the devices it came in by (struct rji_rdma_welcome).
 */

enum rji_rdma_key_mode {
	RJI_RDMA_KEYS_COMPLETE = 0,
	RJI_RDMA_KEYS_COME = 1,	     /* those that are missing are told by message */
	RJI_RDMA_KEYS_ON_DEMAND = 2, /* all are told by message, when they were asked for */
};

/* Return the length written, -ENOSPC. device[i] tells which of region->here to write. */
int rji_rdma_put_keys(const struct rji_rdma_region *r, const uint32_t *device, uint32_t n_devices,
		      enum rji_rdma_key_mode mode, void *buf, size_t buf_bytes);

/*
 * Read them into region->there, windows of pool, in place of what is there. 0; RJ_E_VERSION; RJ_E_REGION where the length is
 * another; RJ_E_PROTOCOL; RJ_E_MEMLOCK where there is no room for one window a lane; -ENOMEM. Without keys on failure.
 */
int rji_rdma_get_keys(struct rji_rdma_region *r, struct rji_rdma_window_pool *pool,
		      uint32_t n_lanes, const void *keys, size_t len_bytes);

/* Forget them. */
void rji_rdma_drop_keys(struct rji_rdma_region *r);

#endif

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
 *   0 version u16   2 n_devices u16   4 zero u32   8 base u64   16 len u64
 *   then for each device:   shift u32   n_chunks u32   rkey u32 × n_chunks
 *
 * A connection's answer tells which of the devices it came in by (struct rji_rdma_welcome).
 */

/* Return the length written, -ENOSPC. device[i] tells which of region->local to write. */
int rji_rdma_put_keys(const struct rji_rdma_region *r, const uint32_t *device, uint32_t n_devices,
		      void *buf, size_t buf_bytes);

/*
 * Read them into region->remote, in place of what is there. 0; RJ_E_VERSION; RJ_E_REGION where the length is another;
 * RJ_E_PROTOCOL; -ENOMEM. The region is untouched on failure.
 */
int rji_rdma_get_keys(struct rji_rdma_region *r, const void *keys, size_t len_bytes);

/* Forget them. */
void rji_rdma_drop_keys(struct rji_rdma_region *r);

#endif

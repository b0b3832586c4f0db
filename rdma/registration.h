/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_REGISTRATION_H
#define RJI_RDMA_REGISTRATION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "rdma/device.h"
#include "transport/transport.h"

/*
 * Guest memory as the devices know it.
 *
 * A region is registered in chunks of a power of two, because devices limit a registration (max_mr_size is 2 GiB on some),
 * because chunks can be pinned in parallel, and because what rj_discard() lets go of is small then. In the device a byte of
 * the region has the address base + offset, base being the host address modulo 2 MiB: nobody is told a host address, and the
 * kernel can hand the device page tables of huge pages, for which low bits of both addresses must agree
 * (ib_umem_find_best_pgsz()). Chunks are cut at multiples of their size in that space:
 *
 *   0     base                                                            base + len
 *   |      |<-------------------------- region ---------------------------->|
 *   |<------- chunk 0 ------->|<------- chunk 1 ------->|<------ chunk 2 ------->|
 */

#define RJI_RDMA_HUGE_BYTES (2ull << 20)
#define RJI_RDMA_CHUNK_SHIFT 30 /* at the destination: few keys */
#define RJI_RDMA_SOURCE_CHUNK_SHIFT                                                                \
	26 /* what a discard has to let go of, and an empty one need not have */
#define RJI_RDMA_MAX_REGIONS 1024

/* One region on one of our devices. */
struct rji_rdma_chunks {
	uint32_t shift;
	uint32_t n;
	struct ibv_mr **mr;	/* NULL at the source: no data there yet, or being discarded */
	_Atomic uint32_t *lkey; /* of mr[i], 0 without one: one cache line less for the senders */
};

/* One region on one of the peer's devices. */
struct rji_rdma_remote {
	uint32_t shift;
	uint32_t n;
	uint32_t *rkey;
};

struct rji_rdma_region {
	uint32_t id;
	char name[64];
	uint8_t *host;
	uint64_t len_bytes;
	uint64_t base; /* device address of offset 0 */
	uint64_t peer_base;
	uint32_t n_remote;
	struct rji_rdma_chunks local[RJI_RDMA_MAX_DEVICES];
	struct rji_rdma_remote remote[RJI_RDMA_MAX_DEVICES];
};

struct rji_rdma_memory {
	struct rji_rdma_region *region[RJI_RDMA_MAX_REGIONS];
};

struct rji_rdma_transport;

/* How many chunks of 1 << shift bytes cover [base, base + len); base is in the first. */
static inline uint64_t rji_rdma_n_chunks(uint64_t base, uint64_t len_bytes, uint32_t shift)
{
	return ((base + len_bytes - 1) >> shift) + 1;
}

/* The largest chunk a device takes: a power of two, 1 << most at most. 0: it takes no page. */
uint32_t rji_rdma_chunk_shift(uint64_t max_mr_bytes, uint32_t most);

/* The region, or NULL. */
static inline struct rji_rdma_region *rji_rdma_region(const struct rji_rdma_memory *m, uint32_t id)
{
	return id < RJI_RDMA_MAX_REGIONS ? m->region[id] : NULL;
}

/* The operations of the seam. */
int rji_rdma_reg(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		 struct rj_error *err);
void rji_rdma_dereg_all(struct rji_transport *tp);
int rji_rdma_unpin(struct rji_transport *tp, uint32_t region, uint64_t *offset_bytes,
		   uint64_t *len_bytes, struct rj_error *err);
int rji_rdma_repin(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		   uint64_t len_bytes, struct rj_error *err);
int rji_rdma_export_keys(struct rji_transport *tp, uint32_t region, void *buf, size_t buf_bytes,
			 struct rj_error *err);
int rji_rdma_import_keys(struct rji_transport *tp, uint32_t region, const void *keys,
			 size_t len_bytes, struct rj_error *err);

/*
 * Make device i of the transport usable: protection domain, and a registration of every region known so far. Does nothing if
 * that is done. Called with tp->lock held once there are lanes.
 */
int rji_rdma_attach(struct rji_rdma_transport *tp, uint32_t i, struct rj_error *err);
/* Source: a page is to be posted from a chunk which had no data when its region was registered. */
int rji_rdma_register_late(struct rji_rdma_transport *tp, struct rji_rdma_region *r,
			   uint32_t device, uint32_t chunk, struct rj_error *err);
/* The opposite of attach, all devices. */
void rji_rdma_detach_all(struct rji_rdma_transport *tp);

#endif

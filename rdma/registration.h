/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_REGISTRATION_H
#define RJI_RDMA_REGISTRATION_H

#include <stddef.h>
#include <stdint.h>

#include "rdma/device.h"
#include "rdma/window.h"
#include "transport/transport.h"

/*
 * Guest memory as the devices know it.
 *
 * A region is registered in windows of a power of two (window.h), because devices limit a registration (max_mr_size is 2 GiB on
 * some), because windows can be pinned in parallel and sent from one after another, and because what rj_discard() or the cap on
 * pinned memory lets go of is small then. In the device a byte of the region has the address base + offset, base being the host
 * address modulo 2 MiB: nobody is told a host address, and the kernel can hand the device page tables of huge pages, for which low
 * bits of both addresses must agree (ib_umem_find_best_pgsz()). Windows are cut at multiples of their size in that space:
 *
 *   0     base                                                            base + len
 *   |      |<-------------------------- region ---------------------------->|
 *   |<------- window 0 ------>|<------- window 1 ------>|<------ window 2 ------>|
 *
 * Three ways (struct rji_transport_opts):
 *   - all, complete: reg() returns when everything is registered, and the key table has every key. For peers and programs without a
 *     control channel that carries say() and hear();
 *   - all, in the background: reg() returns at once; threads register in the order of addresses, what a lane waits for first. The
 *     destination tells keys as they come;
 *   - lazy: only what the lanes need and are about to need, and never more than the cap. The destination registers what the source wants
 *     and gives back what the source drops; the source decides, because it knows where its requests are.
 */

#define RJI_RDMA_HUGE_BYTES (2ull << 20)
#define RJI_RDMA_COMPLETE_SHIFT                                                                    \
	30 /* at the destination, where nobody sends before all is there: few keys */
#define RJI_RDMA_WINDOW_SHIFT                                                                      \
	26 /* 64 MiB: 5 ms of 100 Gb/s, registered by one thread in about the same time */
#define RJI_RDMA_MIN_WINDOW_SHIFT 21 /* where a cap asks for it */
#define RJI_RDMA_MAX_REGIONS 1024
#define RJI_RDMA_CONTROL_BYTES 4096ull /* a page of messages, pinned for each lane */

struct rji_rdma_region {
	uint32_t id;
	char name[64];
	uint8_t *host;
	uint64_t len_bytes;
	uint64_t base; /* device address of offset 0 */
	uint64_t peer_base;
	uint32_t n_there;
	struct rji_rdma_window_table here[RJI_RDMA_MAX_DEVICES];  /* on our devices */
	struct rji_rdma_window_table there[RJI_RDMA_MAX_DEVICES]; /* on the peer's */
};

struct rji_rdma_memory {
	struct rji_rdma_window_pool here;
	struct rji_rdma_window_pool there; /* source */
	uint32_t shift_most;		   /* of our windows */
	struct rji_rdma_region *region[RJI_RDMA_MAX_REGIONS];
};

struct rji_rdma_transport;

/* The largest window a device takes: a power of two, 1 << most at most. 0: it takes no page. */
uint32_t rji_rdma_window_shift(uint64_t max_mr_bytes, uint32_t most);
/* The largest window of which several for each lane fit in a cap. */
uint32_t rji_rdma_cap_shift(uint64_t cap_bytes, uint32_t n_lanes);

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
void rji_rdma_expect(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes);
int rji_rdma_export_keys(struct rji_transport *tp, uint32_t region, void *buf, size_t buf_bytes,
			 struct rj_error *err);
int rji_rdma_import_keys(struct rji_transport *tp, uint32_t region, const void *keys,
			 size_t len_bytes, struct rj_error *err);

/* Before the first region: how much may be registered at once, in windows of what size. RJ_E_MEMLOCK: not enough. */
int rji_rdma_plan_windows(struct rji_rdma_transport *tp, struct rj_error *err);
/*
 * Make device i of the transport usable: protection domain, and all regions known so far. Does nothing if that is done. Called
 * with tp->lock held once there are lanes.
 */
int rji_rdma_attach(struct rji_rdma_transport *tp, uint32_t i, struct rj_error *err);
/* The opposite of attach, all devices. */
void rji_rdma_detach_all(struct rji_rdma_transport *tp);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_RDMA_H
#define RJI_RDMA_RDMA_H

#include "transport/transport.h"

/*
 * The verbs transport: guest memory is registered, lanes are reliably connected queue pairs made by librdmacm, pages go by
 * RDMA write, fences by SEND and a SEND that answers. Everything in this folder that includes <infiniband/…> or <rdma/…>
 * stays in this folder.
 */
extern const struct rji_transport_ops rji_rdma_transport;

/* The least that may be registered at once for n_lanes, lazily, and how many lanes a cap is enough for. */
uint64_t rji_rdma_least_cap(uint32_t n_lanes);
uint32_t rji_rdma_lanes_for_cap(uint64_t cap_bytes);

/* What rj_plan() wants to know of an address. */
struct rji_rdma_route {
	char device[64];   /* "rxe0/1" */
	bool software;	   /* rxe or siw: no hardware behind it */
	uint64_t rate_bps; /* bits per second of the port; 0: not known */
};

/*
 * Does an RDMA device of this machine reach host (as a source: host is the peer; as a destination: host is our own address)? Blocks up to
 * timeout_ms. 0, or RJ_E_NO_RDMA with the reason and the cure in err.
 */
int rji_rdma_route(const char *devices, const char *host, uint16_t port, uint32_t timeout_ms,
		   struct rji_rdma_route *route_p, struct rj_error *err);

/* rj_env_open(): open the devices named (NULL: all) while we still may. 0; -EINVAL naming a device that is not there. */
int rji_rdma_open_devices(const char *devices, struct rj_error *err);

/* The locked-memory limit in bytes, UINT64_MAX for none; and whether CAP_IPC_LOCK lifts it. */
void rji_rdma_memlock_limit(uint64_t *limit_bytes_p, bool *ipc_lock_p);

#endif

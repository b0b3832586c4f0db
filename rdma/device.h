/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_DEVICE_H
#define RJI_RDMA_DEVICE_H

#include <infiniband/verbs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

#define RJI_RDMA_MAX_DEVICES 8
#define RJI_RDMA_DEVICE_NAME 64

/* An RDMA device as one transport uses it. */
struct rji_rdma_device {
	/* librdmacm's, one for all in this process: ids and MRs can meet */
	struct ibv_context *ctx;
	struct ibv_pd *pd; /* ours alone: no other session's keys reach into this memory */
	uint64_t max_mr_bytes;
	uint64_t rate_bps; /* of its fastest active port; 0: not known */
	uint32_t max_qp_wr;
	uint32_t max_cqe;
	uint32_t max_msg_bytes; /* smallest of its active ports */
	bool software;		/* rxe, siw: its threads need the CPU that we would spin on */
	bool iwarp;
	atomic_bool relaxed; /* registrations may ask for relaxed ordering */
	bool attached;	     /* has a PD, and every region is registered with it */
	char name[RJI_RDMA_DEVICE_NAME];
};

/* The next name of a list "a,b", its length in *len_p; NULL at the end. */
const char *rji_rdma_next_name(const char **list, size_t *len_p);

/* Is name on the list "mlx5_0,mlx5_1"? NULL and "" allow every device. */
bool rji_rdma_device_allowed(const char *devices, const char *name);

/*
 * Fill dev with the allowed devices that have an active port, at most RJI_RDMA_MAX_DEVICES. Return how many, at least
 * one, or RJ_E_NO_RDMA with the cure in err.
 */
int rji_rdma_devices(const char *devices, struct rji_rdma_device *dev, struct rj_error *err);

/* Bits per second of a port, 0: not known. */
uint64_t rji_rdma_port_rate(const struct ibv_port_attr *port);

bool rji_rdma_is_software(const struct ibv_context *ctx);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_PLACEMENT_H
#define RJI_NUMA_PLACEMENT_H

#include <ramjet/session.h>

#include "numa/topology.h"

/*
 * How many lanes there are, on which CPUs each runs, by which port it sends and whose memory it
 * sends first. A pure function of what it is given; docs/design/0008-lanes-near-memory-or-port.md
 * has the reasons.
 *
 *   the CPU touches pages (tcp, unix, software RDMA)    near the memory, as many lanes to a node as
 *                                                       its share of the guest
 *   it does not (RDMA by a device)                      near the port; memory goes by the port that
 *                                                       is nearest to it
 *
 * Lanes that serve the same memory first are a group. Memory is assigned to groups by node; what
 * lies on a node without lanes belongs to the nearest that has some.
 */

#define RJI_MAX_RAILS 8u
#define RJI_NO_RAIL (-1)
#define RJI_WHY_BYTES 128

/* A port of ours, by which lanes go out. */
struct rji_rail {
	char name[64];	   /* "mlx5_0/1" */
	int node;	   /* place in the topology, or RJI_NO_NODE */
	uint64_t rate_bps; /* 0: not known */
};

struct rji_placement_input {
	const struct rji_topology *topology;
	struct rji_cpus cpus;		    /* where lanes may run; not empty */
	uint64_t node_bytes[RJI_MAX_NODES]; /* of the guest, as far as known; all 0: it is not */
	bool cpu_touches_pages;
	bool receives; /* what comes in by a lane may be for any node: near memory only if it is one's */
	uint32_t n_rails; /* lanes are dealt out over them in turn; 0: the kernel's business */
	struct rji_rail rail[RJI_MAX_RAILS];
	uint32_t n_lanes; /* 1 to RJ_MAX_LANES; 0: to be chosen */
};

struct rji_lane_place {
	struct rji_cpus cpus; /* to run on */
	bool narrowed;	      /* they are fewer than those that all lanes may run on */
	int node;	      /* of these; RJI_NO_NODE: of several */
	int rail;	      /* or RJI_NO_RAIL */
	uint32_t group;
	char why[RJI_WHY_BYTES];
};

struct rji_placement {
	uint32_t n_lanes;
	uint32_t n_groups;		      /* at least 1; each has a lane */
	uint8_t group_of_node[RJI_MAX_NODES]; /* of each place in the topology */
	struct rji_lane_place lane[RJ_MAX_LANES];
};

void rji_place(const struct rji_placement_input *in, struct rji_placement *p);

/* How many lanes when nobody says. */
uint32_t rji_place_n_lanes(const struct rji_placement_input *in);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_TOPOLOGY_H
#define RJI_NUMA_TOPOLOGY_H

#include "base/cpus.h"
#include "base/fail.h"

/*
 * The machine as placement sees it: memory nodes, the CPUs near each, and the CPUs this process may
 * use. Plain data, read-only once made. Nodes are called by their place in node[]; the kernel's
 * number, which has gaps on some machines, is os_index.
 */

#define RJI_MAX_NODES 64u
#define RJI_NO_NODE (-1)
#define RJI_NODE_LOCAL 10u /* distances are the kernel's: 10 is local, 20 twice as far */
#define RJI_NODE_REMOTE 20u

struct rji_node {
	uint32_t os_index;
	uint64_t memory_bytes; /* 0: CPUs only */
	struct rji_cpus cpus;  /* near it, usable or not; none: memory only */
};

struct rji_topology {
	uint32_t n_nodes; /* at least 1 */
	struct rji_node node[RJI_MAX_NODES];
	uint8_t distance[RJI_MAX_NODES][RJI_MAX_NODES]; /* of node j's memory for node i's CPUs */
	struct rji_cpus allowed;			/* where the caller might run at creation */
	uint16_t core[RJI_MAX_CPUS];			/* CPUs of one core have the same number */
};

/*
 * Ask hwloc. description NULL: this machine, with the CPUs that the calling thread may run on. Else
 * another machine in hwloc's words, synthetic ("numa:2 core:4 pu:2") or XML, all of it allowed. 0,
 * or -ENOMEM, -EINVAL, with err.
 */
int rji_topology_create(const char *description, struct rji_topology **t_p, struct rj_error *err);
void rji_topology_destroy(struct rji_topology **t_p);

/* The node of the kernel's number, or RJI_NO_NODE. */
int rji_topology_node(const struct rji_topology *t, int os_index);

/* The node that a CPU is near to, or RJI_NO_NODE; of several, the one with the fewest CPUs. */
int rji_topology_node_of_cpu(const struct rji_topology *t, uint32_t cpu);

/* How many cores the CPUs of a set belong to. */
uint32_t rji_topology_cores(const struct rji_topology *t, const struct rji_cpus *cpus);

#endif

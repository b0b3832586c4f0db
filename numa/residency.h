/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_RESIDENCY_H
#define RJI_NUMA_RESIDENCY_H

#include "numa/topology.h"

/* The kernel cannot tell: not touched yet, not mapped here, or on a node the topology lacks. */
#define RJI_NODE_UNKNOWN 0xffu

/* What the kernel is asked: move_pages(2) without a move. 0 or -errno. */
typedef int (*rji_residency_query)(void *arg, unsigned long n, void **pages, int *status);

/*
 * On which node does memory lie? One page of each span_bytes is asked for, its first; node_p gets a
 * byte a span, the node's place in t->node[] or RJI_NODE_UNKNOWN, for all spans in any case. No page
 * is faulted in, nothing is moved; about 0.2 µs a span, asked in slices between which the address
 * space is free for others.
 *
 * Return the number of spans known; -ENOSYS or -EPERM (a sandbox) with none known.
 */
int64_t rji_residency_ask(const struct rji_topology *t, void *base, uint64_t len_bytes,
			  uint64_t span_bytes, uint8_t *node_p);

/* The same of another kernel: tests. */
int64_t rji_residency_ask_by(rji_residency_query query, void *arg, const struct rji_topology *t,
			     void *base, uint64_t len_bytes, uint64_t span_bytes, uint8_t *node_p);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/residency.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>

#define SLICE_SPANS 1024u

static int ask_kernel(void *arg, unsigned long n, void **pages, int *status)
{
	(void)arg;
	return move_pages(0, n, pages, NULL, status, 0) < 0 ? -errno : 0;
}

/* A status is a node, or why there is none: -ENOENT untouched, -EFAULT unmapped or the zero page. */
static uint64_t take_slice(const struct rji_topology *t, const int *status, uint32_t n,
			   uint8_t *node_p)
{
	uint64_t known = 0;

	for (uint32_t i = 0; i < n; i++) {
		int node = status[i] < 0 ? RJI_NO_NODE : rji_topology_node(t, status[i]);

		if (node == RJI_NO_NODE)
			continue;
		node_p[i] = (uint8_t)node;
		known++;
	}
	return known;
}

int64_t rji_residency_ask_by(rji_residency_query query, void *arg, const struct rji_topology *t,
			     void *base, uint64_t len_bytes, uint64_t span_bytes, uint8_t *node_p)
{
	uint64_t n_spans = (len_bytes + span_bytes - 1) / span_bytes;
	void *pages[SLICE_SPANS];
	int status[SLICE_SPANS];
	int64_t known = 0;

	memset(node_p, RJI_NODE_UNKNOWN, n_spans);
	for (uint64_t first = 0; first < n_spans; first += SLICE_SPANS) {
		uint64_t left = n_spans - first;
		uint32_t n = left < SLICE_SPANS ? (uint32_t)left : SLICE_SPANS;
		int ret;

		for (uint32_t i = 0; i < n; i++) {
			pages[i] = (uint8_t *)base + (first + i) * span_bytes;
			status[i] = -ENOENT;
		}
		ret = query(arg, n, pages, status);
		if (ret == -ENOENT) /* of a whole slice: nothing of it is there */
			continue;
		if (ret < 0)
			return ret;
		known += (int64_t)take_slice(t, status, n, node_p + first);
	}
	return known;
}

int64_t rji_residency_ask(const struct rji_topology *t, void *base, uint64_t len_bytes,
			  uint64_t span_bytes, uint8_t *node_p)
{
	return rji_residency_ask_by(ask_kernel, NULL, t, base, len_bytes, span_bytes, node_p);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Lanes and memory on nodes: the lanes by the library's own plan, the memory as asked for. */
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/perf/perf.h"
#include "migration/placing.h"
#include "numa/topology.h"
#include "pagesender/harvest.h"
#include "rdma/rdma.h"
#include "transport/uri.h"

#define ROUTE_MS 2000

/* The ports that lanes to these addresses go out by. */
static void add_rails(const struct rji_addrs *addrs, struct rji_placement_input *in)
{
	in->cpu_touches_pages = false;
	for (uint32_t i = 0; i < addrs->n && i < RJI_MAX_RAILS; i++) {
		struct rji_rail *rail = &in->rail[in->n_rails++];
		struct rji_rdma_route route;
		struct rji_uri to = { 0 };

		*rail = (struct rji_rail){ .node = RJI_NO_NODE };
		if (rji_addr_parse(addrs->addr[i], &to, NULL) < 0 ||
		    rji_rdma_route(NULL, to.host, to.port, ROUTE_MS, &route, NULL) < 0)
			continue;
		rji_rail_of_route(in->topology, &route, rail);
		in->cpu_touches_pages |= route.software;
	}
}

int perf_place(const char *transport, const struct rji_addrs *addrs, const char *cpus,
	       struct rji_pageset *set, uint32_t n_lanes, struct rji_placement *p_p,
	       struct rj_error *err)
{
	struct rji_placement_input *in = calloc(1, sizeof(*in));
	struct rji_topology *t = NULL;
	int ret = in ? rji_topology_create(NULL, &t, err) : rji_fail(err, -ENOMEM, "no memory");

	if (ret < 0)
		goto free_input;
	in->topology = t;
	in->cpus = t->allowed;
	in->cpu_touches_pages = true;
	in->n_lanes = n_lanes;
	if (cpus) {
		struct rji_cpus asked;

		rji_cpus_parse(cpus, &asked); /* it can be: perf_understand() */
		in->cpus = rji_cpus_and(&asked, &t->allowed);
	}
	if (rji_cpus_is_empty(&in->cpus)) {
		ret = rji_fail(err, -EINVAL, "--cpus %s: this process may use none of them", cpus);
		goto destroy_topology;
	}
	if (!strcmp(transport, "rdma"))
		add_rails(addrs, in);
	ret = rji_pageset_locate(set, t, in->node_bytes);
	if (ret < 0)
		rji_fail(err, ret, "no memory for the plan of the lanes");
	else
		rji_place(in, p_p);
destroy_topology:
	rji_topology_destroy(&t);
free_input:
	free(in);
	return ret;
}

/* In equal parts, one behind the other, on each node of a list that perf_understand() has seen. */
int perf_memory_spread(const struct perf_memory *m, const char *nodes, struct rj_error *err)
{
	const uint64_t granule = 2ull << 20;
	struct rji_cpus list; /* a set of numbers */
	uint64_t part, at = 0;

	rji_cpus_parse(nodes, &list);
	part = m->len_bytes / rji_cpus_weight(&list) / granule * granule;
	for (uint32_t node = rji_cpus_next(&list, 0); node < RJI_MAX_CPUS;
	     node = rji_cpus_next(&list, node + 1)) {
		bool last = rji_cpus_next(&list, node + 1) >= RJI_MAX_CPUS;
		struct rji_cpus mask = { 0 };

		rji_cpus_add(&mask, node);
		if (syscall(SYS_mbind, m->at + at, last ? m->len_bytes - at : part, MPOL_BIND,
			    mask.word, (unsigned long)RJI_MAX_CPUS, 0) < 0)
			return rji_fail_sys(err, 0, errno,
					    "--nodes %s: memory cannot be had on node %u", nodes,
					    node);
		at += part;
	}
	return 0;
}

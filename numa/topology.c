/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/topology.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <hwloc.h>

static struct rji_cpus cpus_of(hwloc_const_bitmap_t set)
{
	struct rji_cpus cpus = { 0 };

	for (int i = set ? hwloc_bitmap_first(set) : -1; i >= 0 && i < (int)RJI_MAX_CPUS;
	     i = hwloc_bitmap_next(set, i))
		rji_cpus_add(&cpus, (uint32_t)i);
	return cpus;
}

static void take_nodes(struct rji_topology *t, hwloc_topology_t hw)
{
	hwloc_obj_t obj = NULL;

	while (t->n_nodes < RJI_MAX_NODES &&
	       (obj = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_NUMANODE, obj))) {
		struct rji_node *node = &t->node[t->n_nodes++];

		node->os_index = obj->os_index;
		node->memory_bytes = obj->attr->numanode.local_memory;
		node->cpus = cpus_of(obj->cpuset);
	}
}

/* Machines of one thread a core may show no cores at all: then each CPU is one. */
static void take_cores(struct rji_topology *t, hwloc_topology_t hw)
{
	hwloc_obj_t obj = NULL;
	uint16_t number = RJI_MAX_CPUS;

	for (uint32_t i = 0; i < RJI_MAX_CPUS; i++)
		t->core[i] = (uint16_t)i;
	while ((obj = hwloc_get_next_obj_by_type(hw, HWLOC_OBJ_CORE, obj))) {
		struct rji_cpus cpus = cpus_of(obj->cpuset);

		for (uint32_t i = rji_cpus_next(&cpus, 0); i < RJI_MAX_CPUS;
		     i = rji_cpus_next(&cpus, i + 1))
			t->core[i] = number;
		number++;
	}
}

static uint8_t as_distance(hwloc_uint64_t value)
{
	return value > UINT8_MAX ? UINT8_MAX : (uint8_t)value;
}

static void take_matrix(struct rji_topology *t, const struct hwloc_distances_s *d)
{
	for (unsigned int i = 0; i < d->nbobjs; i++) {
		int from = rji_topology_node(t, (int)d->objs[i]->os_index);

		for (unsigned int j = 0; from >= 0 && j < d->nbobjs; j++) {
			int to = rji_topology_node(t, (int)d->objs[j]->os_index);

			if (to >= 0)
				t->distance[from][to] = as_distance(d->values[i * d->nbobjs + j]);
		}
	}
}

static void take_distances(struct rji_topology *t, hwloc_topology_t hw)
{
	struct hwloc_distances_s *d;
	unsigned int n = 1;

	for (uint32_t i = 0; i < t->n_nodes; i++) {
		for (uint32_t j = 0; j < t->n_nodes; j++)
			t->distance[i][j] = i == j ? RJI_NODE_LOCAL : RJI_NODE_REMOTE;
	}
	if (hwloc_distances_get_by_type(hw, HWLOC_OBJ_NUMANODE, &n, &d,
					HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) ||
	    !n)
		return;
	take_matrix(t, d);
	hwloc_distances_release(hw, d);
}

static int describe(hwloc_topology_t hw, const char *description)
{
	return *description == '<'
		       ? hwloc_topology_set_xmlbuffer(hw, description, (int)strlen(description) + 1)
		       : hwloc_topology_set_synthetic(hw, description);
}

/* hwloc's own structures, loaded. */
static int load(const char *description, hwloc_topology_t *hw_p)
{
	hwloc_topology_t hw;

	if (hwloc_topology_init(&hw))
		return -ENOMEM;
	/* A thread of the VMM's is calling, which must not be moved about to look at CPUs. */
	if (hwloc_topology_set_flags(hw, HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING) ||
	    (description && describe(hw, description)) || hwloc_topology_load(hw)) {
		hwloc_topology_destroy(hw);
		return -EINVAL;
	}
	*hw_p = hw;
	return 0;
}

static int describe_machine(const char *description, struct rji_topology *t)
{
	hwloc_topology_t hw;
	int ret = load(description, &hw);

	if (ret < 0)
		return ret;
	take_nodes(t, hw);
	take_cores(t, hw);
	take_distances(t, hw);
	t->allowed = cpus_of(hwloc_topology_get_topology_cpuset(hw));
	hwloc_topology_destroy(hw);
	return t->n_nodes ? 0 : -EINVAL;
}

/* Looking takes milliseconds, and the machine does not change but for what we are allowed. */
static int describe_this_machine(struct rji_topology *t)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct rji_topology here;
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (!here.n_nodes)
		ret = describe_machine(NULL, &here);
	*t = here;
	pthread_mutex_unlock(&lock);
	return ret < 0 ? ret : rji_cpus_of_thread(&t->allowed);
}

int rji_topology_create(const char *description, struct rji_topology **t_p, struct rj_error *err)
{
	struct rji_topology *t = calloc(1, sizeof(*t));
	int ret = -ENOMEM;

	if (t)
		ret = description ? describe_machine(description, t) : describe_this_machine(t);
	if (ret < 0) {
		free(t);
		return rji_fail(err, ret, "hwloc cannot tell this machine's CPUs and nodes");
	}
	*t_p = t;
	return 0;
}

void rji_topology_destroy(struct rji_topology **t_p)
{
	free(*t_p);
	*t_p = NULL;
}

int rji_topology_node(const struct rji_topology *t, int os_index)
{
	for (uint32_t i = 0; i < t->n_nodes; i++) {
		if (t->node[i].os_index == (uint32_t)os_index)
			return (int)i;
	}
	return RJI_NO_NODE;
}

int rji_topology_node_of_cpu(const struct rji_topology *t, uint32_t cpu)
{
	uint32_t fewest = UINT32_MAX;
	int nearest = RJI_NO_NODE;

	for (uint32_t i = 0; i < t->n_nodes; i++) {
		uint32_t n = rji_cpus_weight(&t->node[i].cpus);

		if (n < fewest && rji_cpus_has(&t->node[i].cpus, cpu)) {
			fewest = n;
			nearest = (int)i;
		}
	}
	return nearest;
}

uint32_t rji_topology_cores(const struct rji_topology *t, const struct rji_cpus *cpus)
{
	uint64_t seen[2 * RJI_MAX_CPUS / 64] = { 0 };
	uint32_t n = 0;

	for (uint32_t i = rji_cpus_next(cpus, 0); i < RJI_MAX_CPUS;
	     i = rji_cpus_next(cpus, i + 1)) {
		uint64_t bit = 1ull << t->core[i] % 64;

		n += !(seen[t->core[i] / 64] & bit);
		seen[t->core[i] / 64] |= bit;
	}
	return n;
}

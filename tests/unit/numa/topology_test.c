/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include <criterion/criterion.h>
#include <hwloc.h>

#include "numa/topology.h"

static struct rji_topology *topology(const char *description)
{
	struct rji_topology *t = NULL;
	struct rj_error err;

	rji_error_init(&err);
	cr_assert_eq(rji_topology_create(description, &t, &err), 0, "%s", err.text);
	return t;
}

static void expect_cpus(const struct rji_cpus *cpus, const char *list)
{
	char text[64];

	rji_cpus_format(cpus, text, sizeof(text));
	cr_assert_str_eq(text, list);
}

Test(topology, nodes_cpus_and_cores_of_a_described_machine)
{
	struct rji_topology *t = topology("numa:2(memory=8GB) core:4 pu:2");
	struct rji_cpus some;

	cr_assert_eq(t->n_nodes, 2);
	expect_cpus(&t->node[0].cpus, "0-7");
	expect_cpus(&t->node[1].cpus, "8-15");
	expect_cpus(&t->allowed, "0-15");
	cr_assert_gt(t->node[1].memory_bytes, 7ull << 30);
	cr_assert_eq(rji_topology_cores(t, &t->allowed), 8);
	cr_assert_eq(rji_cpus_parse("1-2,6-8", &some), 0);
	cr_assert_eq(rji_topology_cores(t, &some), 4, "0+1, 2+3, 6+7 and 8+9");
	cr_assert_eq(rji_topology_node_of_cpu(t, 8), 1);
	cr_assert_eq(rji_topology_node_of_cpu(t, 16), RJI_NO_NODE);
	cr_assert_eq(t->distance[1][1], RJI_NODE_LOCAL);
	cr_assert_eq(t->distance[1][0], RJI_NODE_REMOTE);
	rji_topology_destroy(&t);
	cr_assert_null(t);
}

Test(topology, the_kernels_node_numbers_may_have_gaps)
{
	struct rji_topology *t = topology("numa:3(indexes=0,4,2) pu:1");
	int place = rji_topology_node(t, 4);

	cr_assert_eq(t->n_nodes, 3);
	cr_assert_neq(place, RJI_NO_NODE);
	cr_assert_eq(t->node[place].os_index, 4);
	cr_assert_eq(rji_topology_node(t, 3), RJI_NO_NODE);
	cr_assert_eq(rji_topology_node(t, -1), RJI_NO_NODE);
	rji_topology_destroy(&t);
}

Test(topology, memory_far_from_every_cpu_takes_no_cpu_from_its_node)
{
	struct rji_topology *t = topology("[numa(memory=1GB)] pack:2 [numa] core:2 pu:1");

	cr_assert_eq(t->n_nodes, 3);
	for (uint32_t cpu = 0; cpu < 4; cpu++) {
		int node = rji_topology_node_of_cpu(t, cpu);

		cr_assert_neq(node, RJI_NO_NODE);
		cr_assert_eq(rji_cpus_weight(&t->node[node].cpus), 2);
	}
	rji_topology_destroy(&t);
}

/* hwloc's XML of a machine with distances, which no synthetic description has. */
static void add_distances(hwloc_topology_t hw, hwloc_uint64_t *values)
{
	hwloc_obj_t nodes[3];
	unsigned long kind = HWLOC_DISTANCES_KIND_FROM_OS | HWLOC_DISTANCES_KIND_MEANS_LATENCY;
	hwloc_distances_add_handle_t d = hwloc_distances_add_create(hw, "NUMALatency", kind, 0);

	for (unsigned int i = 0; i < 3; i++)
		nodes[i] = hwloc_get_obj_by_type(hw, HWLOC_OBJ_NUMANODE, i);
	cr_assert_not_null(d);
	cr_assert_eq(hwloc_distances_add_values(hw, d, 3, nodes, values, 0), 0);
	cr_assert_eq(hwloc_distances_add_commit(hw, d, 0), 0);
}

Test(topology, distances_are_the_machines_own)
{
	hwloc_uint64_t values[9] = { 10, 12, 32, 12, 10, 300, 32, 300, 10 };
	struct rji_topology *t;
	hwloc_topology_t hw;
	char *xml;
	int len;

	cr_assert_eq(hwloc_topology_init(&hw), 0);
	cr_assert_eq(hwloc_topology_set_synthetic(hw, "numa:3 pu:2"), 0);
	cr_assert_eq(hwloc_topology_load(hw), 0);
	add_distances(hw, values);
	cr_assert_eq(hwloc_topology_export_xmlbuffer(hw, &xml, &len, 0), 0);
	t = topology(xml);
	cr_assert_eq(t->distance[0][1], 12);
	cr_assert_eq(t->distance[2][0], 32);
	cr_assert_eq(t->distance[1][2], 255, "more than a byte holds");
	hwloc_free_xmlbuffer(hw, xml);
	hwloc_topology_destroy(hw);
	rji_topology_destroy(&t);
}

Test(topology, this_machine_allows_what_the_thread_may_use_and_moves_nobody)
{
	struct rji_topology *t = topology(NULL);
	struct rji_cpus may, one = { 0 };

	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	cr_assert_geq(t->n_nodes, 1);
	cr_assert(rji_cpus_equal(&t->allowed, &may));
	rji_topology_destroy(&t);

	rji_cpus_add(&one, rji_cpus_next(&may, 0));
	cr_assert_eq(rji_cpus_bind(&one), 0);
	t = topology(NULL);
	cr_assert(rji_cpus_equal(&t->allowed, &one));
	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	cr_assert(rji_cpus_equal(&may, &one));
	rji_topology_destroy(&t);
}

Test(topology, a_bad_description_is_an_error_with_a_text)
{
	struct rji_topology *t = NULL;
	struct rj_error err;

	rji_error_init(&err);
	cr_assert_eq(rji_topology_create("no such machine", &t, &err), -EINVAL);
	cr_assert_null(t);
	cr_assert_neq(err.text[0], '\0');
	rji_topology_destroy(&t);
}

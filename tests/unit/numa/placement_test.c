/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "numa/placement.h"

#define G UINT64_C(1000000000)
#define GIB (1ull << 30)

static struct rji_topology *topo;
static struct rji_placement_input in;
static struct rji_placement plan;

/* A described machine, all of it allowed, where the CPU touches pages. */
static void machine(const char *description)
{
	rji_topology_destroy(&topo);
	cr_assert_eq(rji_topology_create(description, &topo, NULL), 0, "%s", description);
	in = (struct rji_placement_input){
		.topology = topo,
		.cpus = topo->allowed,
		.cpu_touches_pages = true,
	};
}

static void port(int node, uint64_t rate_bps)
{
	struct rji_rail *rail = &in.rail[in.n_rails];

	in.cpu_touches_pages = false;
	snprintf(rail->name, sizeof(rail->name), "mlx5_%u/1", in.n_rails++);
	rail->node = node;
	rail->rate_bps = rate_bps;
}

static void cpus(const char *list)
{
	cr_assert_eq(rji_cpus_parse(list, &in.cpus), 0);
}

/* What holds for every plan. */
static void check_plan(void)
{
	bool has_lane[RJ_MAX_LANES] = { false };

	cr_assert(plan.n_lanes >= 1 && plan.n_lanes <= RJ_MAX_LANES);
	if (in.n_lanes)
		cr_assert_eq(plan.n_lanes, in.n_lanes);
	else
		cr_assert_leq(plan.n_lanes, rji_topology_cores(topo, &in.cpus));
	for (uint32_t i = 0; i < plan.n_lanes; i++) {
		const struct rji_lane_place *lane = &plan.lane[i];
		struct rji_cpus outside = rji_cpus_without(&lane->cpus, &in.cpus);

		cr_assert(rji_cpus_is_empty(&outside), "lane %u leaves the set", i);
		cr_assert_not(rji_cpus_is_empty(&lane->cpus), "lane %u has no CPU", i);
		cr_assert_eq(lane->narrowed, !rji_cpus_equal(&lane->cpus, &in.cpus));
		cr_assert_lt(lane->group, plan.n_groups);
		cr_assert_neq(lane->why[0], '\0');
		if (lane->node != RJI_NO_NODE) {
			outside = rji_cpus_without(&lane->cpus, &topo->node[lane->node].cpus);
			cr_assert(rji_cpus_is_empty(&outside), "lane %u is not on its node", i);
		}
		cr_assert_eq(lane->rail, in.n_rails ? (int)(i % in.n_rails) : RJI_NO_RAIL);
		has_lane[lane->group] = true;
	}
	for (uint32_t g = 0; g < plan.n_groups; g++)
		cr_assert(has_lane[g], "nobody sends the memory of group %u first", g);
	for (uint32_t m = 0; m < topo->n_nodes; m++)
		cr_assert_lt(plan.group_of_node[m], plan.n_groups);
}

static void place(void)
{
	memset(&plan, 0xff, sizeof(plan));
	rji_place(&in, &plan);
	check_plan();
}

/* "0 1 0 1": the nodes of the lanes; "-": none. */
static void expect_nodes(const char *expected)
{
	char text[256] = "";

	for (uint32_t i = 0; i < plan.n_lanes; i++) {
		size_t len = strlen(text);

		if (plan.lane[i].node == RJI_NO_NODE)
			snprintf(text + len, sizeof(text) - len, "%s-", i ? " " : "");
		else
			snprintf(text + len, sizeof(text) - len, "%s%d", i ? " " : "",
				 plan.lane[i].node);
	}
	cr_assert_str_eq(text, expected);
}

static void fini(void)
{
	rji_topology_destroy(&topo);
}

TestSuite(placement, .fini = fini);

Test(placement, the_number_of_lanes_where_the_cpu_copies_follows_the_cores)
{
	static const struct {
		const char *machine;
		uint32_t n;
	} sizes[] = {
		{ "numa:1 core:1 pu:1", 1 },  { "numa:1 core:1 pu:2", 1 },
		{ "numa:1 core:2 pu:1", 2 },  { "numa:1 core:2 pu:2", 2 },
		{ "numa:1 core:4 pu:1", 2 },  { "numa:1 core:6 pu:2", 3 },
		{ "numa:2 core:8 pu:2", 8 },  { "numa:2 core:4 pu:1", 4 },
		{ "numa:8 core:16 pu:2", 8 },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		machine(sizes[i].machine);
		place();
		cr_assert_eq(plan.n_lanes, sizes[i].n, "%s: %u", sizes[i].machine, plan.n_lanes);
	}
}

Test(placement, the_number_of_lanes_over_a_device_follows_its_speed_and_the_cores)
{
	static const struct {
		uint64_t rate_bps[2];
		const char *machine;
		uint32_t n;
	} speeds[] = {
		{ { 10 * G }, "numa:1 core:16 pu:1", 1 },
		{ { 25 * G }, "numa:1 core:16 pu:1", 1 },
		{ { 56 * G }, "numa:1 core:16 pu:1", 1 },
		{ { 100 * G }, "numa:1 core:16 pu:1", 2 },
		{ { 200 * G }, "numa:1 core:16 pu:1", 4 },
		{ { 400 * G }, "numa:1 core:16 pu:1", 8 },
		{ { 0 }, "numa:1 core:16 pu:1", 2 },
		{ { 400 * G }, "numa:1 core:4 pu:2", 4 },
		{ { 200 * G }, "numa:1 core:1 pu:2", 1 },
		{ { 100 * G, 100 * G }, "numa:2 core:16 pu:1", 4 },
		{ { 400 * G, 25 * G }, "numa:2 core:16 pu:1", 9 },
	};

	for (size_t i = 0; i < sizeof(speeds) / sizeof(*speeds); i++) {
		machine(speeds[i].machine);
		port(0, speeds[i].rate_bps[0]);
		if (speeds[i].rate_bps[1])
			port(1, speeds[i].rate_bps[1]);
		place();
		cr_assert_eq(plan.n_lanes, speeds[i].n, "%zu: %u", i, plan.n_lanes);
	}
}

Test(placement, on_one_node_lanes_may_run_anywhere_in_the_set)
{
	machine("numa:1 core:2 pu:1");
	in.node_bytes[0] = GIB;
	place();
	expect_nodes("0 0");
	cr_assert_eq(plan.n_groups, 1);
	cr_assert(rji_cpus_equal(&plan.lane[1].cpus, &topo->allowed));
	cpus("1");
	place();
	expect_nodes("0");
	port(RJI_NO_NODE, 100 * G);
	cpus("0-1");
	place();
	expect_nodes("0 0");
}

Test(placement, where_the_cpu_copies_lanes_follow_the_memory)
{
	static const struct {
		uint64_t gib[2];
		uint32_t n_lanes;
		const char *nodes;
	} shares[] = {
		{ { 8, 8 }, 4, "0 1 0 1" },  { { 16, 0 }, 4, "0 0 0 0" }, { { 0, 16 }, 2, "1 1" },
		{ { 12, 4 }, 4, "0 1 0 0" }, { { 4, 12 }, 4, "0 1 1 1" }, { { 9, 7 }, 2, "0 1" },
		{ { 15, 1 }, 2, "0 0" },     { { 5, 11 }, 1, "1" },	  { { 8, 8 }, 1, "0" },
		{ { 8, 8 }, 3, "0 1 0" },
	};

	for (size_t i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
		machine("numa:2 core:4 pu:2");
		in.node_bytes[0] = shares[i].gib[0] * GIB;
		in.node_bytes[1] = shares[i].gib[1] * GIB;
		in.n_lanes = shares[i].n_lanes;
		place();
		expect_nodes(shares[i].nodes);
	}
}

Test(placement, each_nodes_memory_is_first_sent_by_the_lanes_near_it)
{
	machine("numa:4 core:2 pu:1");
	in.node_bytes[0] = in.node_bytes[1] = in.node_bytes[3] = 4 * GIB;
	in.n_lanes = 3;
	place();
	expect_nodes("0 1 3");
	cr_assert_eq(plan.n_groups, 3);
	for (uint32_t i = 0; i < 3; i++)
		cr_assert_eq(plan.group_of_node[plan.lane[i].node], plan.lane[i].group);
}

Test(placement, memory_of_a_node_without_lanes_goes_to_the_nearest_that_has_some)
{
	machine("numa:4 core:2 pu:1");
	for (uint32_t i = 0; i < 4; i++) {
		in.node_bytes[i] = (i == 0 || i == 3) ? 8 * GIB : GIB;
		for (uint32_t j = 0; j < 4; j++)
			topo->distance[i][j] = (uint8_t)(10 + 11 * (i > j ? i - j : j - i));
	}
	in.n_lanes = 2;
	place();
	expect_nodes("0 3");
	cr_assert_eq(plan.group_of_node[1], plan.lane[0].group);
	cr_assert_eq(plan.group_of_node[2], plan.lane[1].group);
}

Test(placement, a_set_that_leaves_out_a_node_sends_its_memory_from_the_nearest)
{
	machine("numa:4 core:2 pu:1"); /* CPUs 0-1, 2-3, 4-5, 6-7 */
	for (uint32_t i = 0; i < 4; i++)
		in.node_bytes[i] = 4 * GIB;
	topo->distance[1][0] = 12; /* node 1's CPUs are the nearest to node 0 */
	cpus("2-7");
	in.n_lanes = 4;
	place();
	expect_nodes("1 1 2 3");
	cr_assert_eq(plan.n_groups, 4);
	cr_assert_neq(plan.lane[0].group, plan.lane[1].group, "the memory stays two queues");
	cr_assert(strstr(plan.lane[0].why, "node 0"), "%s", plan.lane[0].why);
}

Test(placement, a_set_inside_one_node_puts_every_lane_there)
{
	machine("numa:2 core:4 pu:1");
	in.node_bytes[0] = 12 * GIB;
	in.node_bytes[1] = 4 * GIB;
	cpus("5,7");
	place();
	expect_nodes("1 1");
	cr_assert(rji_cpus_equal(&plan.lane[0].cpus, &in.cpus));
	in.node_bytes[0] = in.node_bytes[1] = 0; /* also if nobody knows where the memory is */
	place();
	expect_nodes("1 1");
}

Test(placement, more_lanes_than_a_node_has_cores_go_next_door)
{
	machine("numa:3 core:2 pu:1");
	in.node_bytes[1] = 8 * GIB;
	topo->distance[2][1] = 15;
	in.n_lanes = 5;
	place();
	expect_nodes("1 1 2 2 0");
	cr_assert_eq(plan.n_groups, 1);
	in.n_lanes = 8; /* more than all cores: the rest stays near */
	place();
	expect_nodes("1 1 2 2 0 0 1 1");
}

Test(placement, a_node_without_cpus_is_served_by_the_nearest)
{
	machine("numa:3 core:2 pu:1");
	memset(&topo->node[2].cpus, 0, sizeof(topo->node[2].cpus));
	topo->distance[1][2] = 17;
	topo->distance[0][2] = 28;
	cpus("0-3");
	in.node_bytes[2] = 16 * GIB;
	in.n_lanes = 2;
	place();
	expect_nodes("1 1");
	cr_assert(strstr(plan.lane[0].why, "node 2"), "%s", plan.lane[0].why);
}

Test(placement, a_node_without_memory_gets_no_lane_of_its_own)
{
	machine("numa:2 core:4 pu:1");
	topo->node[0].memory_bytes = 0;
	in.node_bytes[1] = 8 * GIB;
	in.n_lanes = 4;
	place();
	expect_nodes("1 1 1 1");
	cr_assert_eq(plan.n_groups, 1);
}

Test(placement, memory_that_nobody_knows_binds_no_lane)
{
	machine("numa:2 core:4 pu:1");
	in.n_lanes = 4;
	place();
	expect_nodes("- - - -");
	cr_assert_eq(plan.n_groups, 1);
	cr_assert(rji_cpus_equal(&plan.lane[3].cpus, &in.cpus));
}

Test(placement, who_receives_is_near_memory_only_if_it_is_all_in_one_place)
{
	machine("numa:2 core:4 pu:1");
	in.receives = true;
	in.n_lanes = 2;
	in.node_bytes[0] = in.node_bytes[1] = 8 * GIB;
	place();
	expect_nodes("- -");
	cr_assert(strstr(plan.lane[0].why, "several nodes"), "%s", plan.lane[0].why);
	in.node_bytes[0] = GIB / 4;
	place();
	expect_nodes("1 1");
	cr_assert(plan.lane[0].narrowed);
}

Test(placement, over_a_device_lanes_are_near_its_port_wherever_the_memory_is)
{
	machine("numa:2 core:4 pu:1");
	in.node_bytes[0] = 16 * GIB;
	port(1, 200 * G);
	place();
	expect_nodes("1 1 1 1");
	cr_assert_eq(plan.n_groups, 1);
	cr_assert(strstr(plan.lane[0].why, "mlx5_0/1"), "%s", plan.lane[0].why);
	cpus("0-3"); /* none of them near the port */
	place();
	expect_nodes("0 0 0 0");
	cr_assert(strstr(plan.lane[0].why, "which is at node 1"), "%s", plan.lane[0].why);
}

Test(placement, of_two_ports_each_sends_the_memory_near_it)
{
	machine("numa:2 core:4 pu:1");
	port(1, 100 * G);
	port(0, 100 * G);
	place();
	expect_nodes("1 0 1 0");
	cr_assert_eq(plan.n_groups, 2);
	cr_assert_eq(plan.group_of_node[1], plan.lane[0].group);
	cr_assert_eq(plan.group_of_node[0], plan.lane[1].group);
	cr_assert_neq(plan.lane[0].group, plan.lane[1].group);
}

Test(placement, two_ports_of_one_node_are_one_group)
{
	machine("numa:2 core:4 pu:1");
	port(1, 100 * G);
	port(1, 100 * G);
	place();
	expect_nodes("1 1 1 1");
	cr_assert_eq(plan.n_groups, 1);
}

Test(placement, a_port_without_a_node_binds_its_lanes_to_none)
{
	machine("numa:2 core:4 pu:1");
	port(RJI_NO_NODE, 100 * G);
	place();
	expect_nodes("- -");
	port(1,
	     100 * G); /* the other knows its node; what memory is nearer to which, nobody does */
	place();
	expect_nodes("- 1 - 1");
	cr_assert_eq(plan.n_groups, 1);
}

Test(placement, software_rdma_copies_and_so_follows_the_memory)
{
	machine("numa:2 core:2 pu:1");
	port(RJI_NO_NODE, 0);
	in.cpu_touches_pages = true;
	in.node_bytes[0] = in.node_bytes[1] = GIB;
	place();
	expect_nodes("0 1");
	cr_assert_eq(plan.lane[1].rail, 0);
}

Test(placement, eight_nodes_share_eight_lanes_one_each)
{
	machine("numa:8 core:8 pu:2");
	for (uint32_t i = 0; i < 8; i++)
		in.node_bytes[i] = (50 + i % 2) * GIB;
	place();
	expect_nodes("0 1 2 3 4 5 6 7");
	cr_assert_eq(plan.n_groups, 8);
}

/* Random machines, guests, sets and ports: check_plan() holds for all. */
Test(placement, every_plan_stays_inside_the_set_and_serves_every_group)
{
	static const char *const machines[] = {
		"numa:1 core:2 pu:1",	     "numa:2 core:3 pu:2",
		"numa:4 core:2 pu:1",	     "numa:8 core:4 pu:2",
		"pack:2 numa:2 core:2 pu:1", "[numa(memory=1GB)] pack:2 [numa] core:2 pu:1",
	};

	srand(7);
	for (int round = 0; round < 3000; round++) {
		if (round % 500 == 0)
			machine(machines[round / 500]);
		in.n_rails = 0;
		in.cpu_touches_pages = rand() % 2;
		for (int n = rand() % 4; n; n--)
			port(rand() % ((int)topo->n_nodes + 1) - 1, (uint64_t)(rand() % 500) * G);
		in.cpu_touches_pages = rand() % 2;
		in.n_lanes = rand() % 2 ? (uint32_t)rand() % RJ_MAX_LANES + 1 : 0;
		memset(&in.cpus, 0, sizeof(in.cpus));
		for (uint32_t i = 0; i < topo->n_nodes; i++)
			in.node_bytes[i] = rand() % 3 ? (uint64_t)rand() << 10 : 0;
		while (rji_cpus_is_empty(&in.cpus)) {
			for (uint32_t c = rji_cpus_next(&topo->allowed, 0); c < RJI_MAX_CPUS;
			     c = rji_cpus_next(&topo->allowed, c + 1)) {
				if (rand() % 3 == 0)
					rji_cpus_add(&in.cpus, c);
			}
		}
		place();
	}
}

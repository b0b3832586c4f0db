/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/placement.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GBPS UINT64_C(1000000000)

/* What is worked out on the way. */
struct placing {
	const struct rji_placement_input *in;
	const struct rji_topology *t;
	struct rji_placement *p;
	struct rji_cpus cpus[RJI_MAX_NODES]; /* of each node, those that may be used */
	uint32_t cores[RJI_MAX_NODES];
	uint32_t used[RJI_MAX_NODES]; /* lanes there so far */
	uint64_t total;		      /* bytes whose node is known */
	int target[RJ_MAX_LANES];     /* the node each lane wants to be near; RJI_NO_NODE */
};

/* --- how many --- */

/*
 * Queue pairs that a port needs, one a lane: one falls short of 100 Gb/s by single pages, and of
 * 200 and 400 by any (published figures; to be measured on the hardware at hand).
 */
static uint32_t lanes_of_port(uint64_t rate_bps)
{
	if (!rate_bps)
		return 2;
	if (rate_bps <= 60 * GBPS)
		return 1;
	if (rate_bps <= 120 * GBPS)
		return 2;
	return rate_bps <= 250 * GBPS ? 4 : 8;
}

/* Where CPUs copy: enough to fill a link, but not more than half of a larger machine. */
static uint32_t lanes_of_cores(uint32_t cores)
{
	if (cores <= 2)
		return cores;
	return cores >= 16 ? 8 : cores / 2;
}

static uint32_t limit(uint32_t n, uint32_t max)
{
	n = n < max ? n : max;
	return n ? n : 1;
}

uint32_t rji_place_n_lanes(const struct rji_placement_input *in)
{
	uint32_t cores = rji_topology_cores(in->topology, &in->cpus);
	uint32_t n = 0;

	if (in->cpu_touches_pages || !in->n_rails)
		return limit(lanes_of_cores(cores), RJ_MAX_LANES);
	for (uint32_t i = 0; i < in->n_rails; i++)
		n += lanes_of_port(in->rail[i].rate_bps);
	return limit(limit(n, cores), RJ_MAX_LANES);
}

/* --- whose memory --- */

/*
 * Deal out the lanes to nodes by their share of the bytes: whole lanes first, the rest to the
 * largest remainders.
 */
static void apportion(const struct placing *pl, uint32_t *share)
{
	const uint64_t *bytes = pl->in->node_bytes;
	uint32_t left = pl->p->n_lanes;
	uint64_t rest[RJI_MAX_NODES];

	for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
		__uint128_t exact = (__uint128_t)bytes[i] * pl->p->n_lanes;

		share[i] = (uint32_t)(exact / pl->total);
		rest[i] = (uint64_t)(exact % pl->total);
		left -= share[i];
	}
	while (left--) {
		uint32_t most = 0;

		for (uint32_t i = 1; i < pl->t->n_nodes; i++)
			most = rest[i] > rest[most] ? i : most;
		share[most]++;
		rest[most] = 0;
	}
}

/* In turn, so that any first few lanes are spread as well. */
static void target_memory(struct placing *pl)
{
	uint32_t share[RJI_MAX_NODES];
	uint32_t n = 0;

	apportion(pl, share);
	while (n < pl->p->n_lanes) {
		for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
			if (!share[i])
				continue;
			share[i]--;
			pl->target[n++] = (int)i;
		}
	}
}

/* Nine tenths of it lie on one node. */
static bool is_on_one_node(const struct placing *pl)
{
	for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
		if (pl->in->node_bytes[i] >= pl->total - pl->total / 10)
			return true;
	}
	return false;
}

static void target_ports(struct placing *pl)
{
	for (uint32_t i = 0; i < pl->p->n_lanes; i++)
		pl->target[i] = pl->in->rail[pl->p->lane[i].rail].node;
}

/* Lanes of one target are a group; without targets of all lanes there is one for everybody. */
static void group_lanes(struct placing *pl)
{
	uint32_t group[RJI_MAX_NODES], n_groups = 0;
	bool served[RJI_MAX_NODES] = { false };

	for (uint32_t i = 0; i < pl->p->n_lanes; i++) {
		if (pl->target[i] == RJI_NO_NODE)
			return;
		served[pl->target[i]] = true;
	}
	for (uint32_t i = 0; i < pl->t->n_nodes; i++)
		group[i] = served[i] ? n_groups++ : 0;
	for (uint32_t i = 0; i < pl->p->n_lanes; i++)
		pl->p->lane[i].group = group[pl->target[i]];
	for (uint32_t m = 0; m < pl->t->n_nodes; m++) {
		uint32_t best = RJI_MAX_NODES;

		for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
			if (served[i] && (best == RJI_MAX_NODES ||
					  pl->t->distance[i][m] < pl->t->distance[best][m]))
				best = i;
		}
		pl->p->group_of_node[m] = (uint8_t)group[best];
	}
	pl->p->n_groups = n_groups;
}

/* --- where to run --- */

/* The nearest node with a core to spare, else the nearest with any CPU; RJI_NO_NODE: none has. */
static int pick_node(const struct placing *pl, int target)
{
	int best = RJI_NO_NODE;
	bool best_full = true;

	for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
		bool full = pl->used[i] >= pl->cores[i];

		if (!pl->cores[i])
			continue;
		if (best != RJI_NO_NODE &&
		    (full != best_full
			     ? full
			     : pl->t->distance[i][target] >= pl->t->distance[best][target]))
			continue;
		best = (int)i;
		best_full = full;
	}
	return best;
}

static void because(struct rji_lane_place *lane, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void because(struct rji_lane_place *lane, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(lane->why, sizeof(lane->why), fmt, ap);
	va_end(ap);
}

static void explain(const struct placing *pl, struct rji_lane_place *lane, int target)
{
	const struct rji_node *node = pl->t->node;
	const char *name = lane->rail >= 0 ? pl->in->rail[lane->rail].name : "";

	if (!pl->in->cpu_touches_pages && target == lane->node)
		because(lane, "near its port %s", name);
	else if (!pl->in->cpu_touches_pages)
		because(lane, "the nearest free CPUs to port %s, which is at node %u", name,
			node[target].os_index);
	else if (target == lane->node)
		because(lane, "near the memory it sends first");
	else if (!pl->cores[target])
		because(lane, "sends memory of node %u first, which has no CPU to use",
			node[target].os_index);
	else
		because(lane, "sends memory of node %u first, whose cores have a lane each",
			node[target].os_index);
}

static void settle(struct placing *pl, struct rji_lane_place *lane, int target)
{
	lane->node = pick_node(pl, target);
	if (lane->node == RJI_NO_NODE) {
		because(lane, "the CPUs it may use belong to no node");
		return;
	}
	pl->used[lane->node]++;
	lane->cpus = pl->cpus[lane->node];
	lane->narrowed = !rji_cpus_equal(&lane->cpus, &pl->in->cpus);
	explain(pl, lane, target);
}

/* The only node whose CPUs may be used at all, or RJI_NO_NODE. */
static int only_node(const struct placing *pl)
{
	int only = RJI_NO_NODE;

	for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
		if (!pl->cores[i])
			continue;
		if (only != RJI_NO_NODE || !rji_cpus_equal(&pl->cpus[i], &pl->in->cpus))
			return RJI_NO_NODE;
		only = (int)i;
	}
	return only;
}

/* --- */

static void begin(struct placing *pl)
{
	const struct rji_placement_input *in = pl->in;

	memset(pl->p, 0, sizeof(*pl->p));
	pl->p->n_groups = 1;
	pl->p->n_lanes = in->n_lanes ? in->n_lanes : rji_place_n_lanes(in);
	assert(pl->p->n_lanes <= RJ_MAX_LANES);
	for (uint32_t i = 0; i < pl->t->n_nodes; i++) {
		pl->cpus[i] = rji_cpus_and(&pl->t->node[i].cpus, &in->cpus);
		pl->cores[i] = rji_topology_cores(pl->t, &pl->cpus[i]);
	}
	for (uint32_t i = 0; i < pl->p->n_lanes; i++) {
		struct rji_lane_place *lane = &pl->p->lane[i];

		pl->target[i] = RJI_NO_NODE;
		lane->cpus = in->cpus;
		lane->node = only_node(pl);
		lane->rail = in->n_rails ? (int)(i % in->n_rails) : RJI_NO_RAIL;
	}
}

static const char *without_target(const struct placing *pl)
{
	if (pl->t->n_nodes == 1)
		return "this machine has one node";
	if (!pl->in->cpu_touches_pages && pl->in->n_rails)
		return "the port belongs to no node";
	if (pl->in->receives && pl->total)
		return "receives memory of several nodes";
	return "nobody knows where the memory lies: it was not touched yet, or the kernel may not "
	       "be asked";
}

void rji_place(const struct rji_placement_input *in, struct rji_placement *p)
{
	struct placing pl = { .in = in, .t = in->topology, .p = p };

	begin(&pl);
	for (uint32_t i = 0; i < pl.t->n_nodes; i++)
		pl.total += in->node_bytes[i];
	if (pl.t->n_nodes > 1 && !in->cpu_touches_pages && in->n_rails)
		target_ports(&pl);
	else if (pl.t->n_nodes > 1 && in->cpu_touches_pages && pl.total &&
		 (!in->receives || is_on_one_node(&pl)))
		target_memory(&pl);
	group_lanes(&pl);
	for (uint32_t i = 0; i < p->n_lanes; i++) {
		because(&p->lane[i], "%s", without_target(&pl));
		if (pl.target[i] != RJI_NO_NODE)
			settle(&pl, &p->lane[i], pl.target[i]);
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a session's lanes run: gathers what numa/placement.c decides from. The plan is made when the
 * addresses of the lanes are known, and once more before the start for a VMM that wants to see it.
 */
#include "migration/placing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migration/env_impl.h"
#include "migration/session_impl.h"
#include "numa/locality.h"
#include "numa/residency.h"
#include "rdma/rdma.h"

#define ROUTE_MS 500

int rji_session_take_cpus(struct rj_session *s, struct rj_error *err)
{
	const struct rji_cpus *allowed = &s->env->topology->allowed;
	struct rji_cpus cpus, outside;
	char bad[64], have[96];

	s->cpus = *allowed;
	s->own_host.cpus = NULL;
	if (!s->o.cpus)
		return 0;
	if (rji_cpus_parse(s->o.cpus, &cpus) < 0)
		return rji_fail(err, -EINVAL, "cpus \"%.64s\" is no list of CPUs such as 0-3,8",
				s->o.cpus);
	outside = rji_cpus_without(&cpus, allowed);
	if (!rji_cpus_is_empty(&outside)) {
		rji_cpus_format(&outside, bad, sizeof(bad));
		rji_cpus_format(allowed, have, sizeof(have));
		return rji_fail(err, -EINVAL,
				"cpus %.64s: this process may not run on %s, only on %s: name "
				"fewer, or start it with more (taskset, cgroup)",
				s->o.cpus, bad, have);
	}
	s->cpus = cpus;
	s->own_host.cpus = &s->cpus;
	return 0;
}

void rji_rail_of_route(const struct rji_topology *t, const struct rji_rdma_route *route,
		       struct rji_rail *rail)
{
	char sysfs[128];

	snprintf(rail->name, sizeof(rail->name), "%s", route->device);
	snprintf(sysfs, sizeof(sysfs), "/sys/class/infiniband/%.*s",
		 (int)strcspn(route->device, "/"), route->device);
	rail->node = rji_topology_node(t, rji_device_node(sysfs));
	rail->rate_bps = route->rate_bps;
}

/* The port by which an address is reached, or which has it. One that cannot be found is no news here. */
static void add_rail(const struct rj_session *s, const char *host, uint16_t port,
		     struct rji_placement_input *in)
{
	struct rji_rail *rail = &in->rail[in->n_rails];
	struct rji_rdma_route route;

	*rail = (struct rji_rail){ .node = RJI_NO_NODE };
	if (!rji_rdma_route(s->env->devices, host, port, ROUTE_MS, &route, NULL)) {
		rji_rail_of_route(s->env->topology, &route, rail);
		in->cpu_touches_pages |= route.software;
	}
	in->n_rails++;
}

static void begin_input(const struct rj_session *s, const struct rji_addrs *addrs,
			struct rji_placement_input *in)
{
	*in = (struct rji_placement_input){
		.topology = s->env->topology,
		.cpus = s->cpus,
		.cpu_touches_pages = true,
		.receives = s->is_destination,
	};
	if (strcmp(s->ops->name, "rdma") != 0)
		return;
	in->cpu_touches_pages = false;
	if (!addrs)
		add_rail(s, s->uri.host, s->uri.port, in);
	for (uint32_t i = 0; addrs && i < addrs->n && i < RJI_MAX_RAILS; i++) {
		struct rji_uri to = { 0 };

		if (!rji_addr_parse(addrs->addr[i], &to, NULL))
			add_rail(s, to.host, to.port, in);
	}
}

static int choose_lanes(struct rj_session *s, void *arg, struct rj_error *err)
{
	struct rji_placement_input *in;

	(void)arg;
	in = malloc(sizeof(*in));
	if (!in)
		return rji_fail(err, -ENOMEM, "no memory for the plan of the lanes");
	begin_input(s, NULL, in);
	s->o.n_lanes = rji_place_n_lanes(in);
	if (s->o.n_lanes > rji_session_lanes_for_cap(s))
		s->o.n_lanes = rji_session_lanes_for_cap(s);
	free(in);
	return 0;
}

int rji_session_choose_lanes(struct rj_session *s, struct rj_error *err)
{
	if (s->o.n_lanes)
		return 0;
	if (strcmp(s->ops->name, "rdma") != 0)
		return choose_lanes(s, NULL, err);
	return rji_session_aside(s, "rj-place", RJI_WAIT_CANCEL, choose_lanes, NULL, err);
}

/* The destination has no page set: its own regions, summed up. */
static int locate_given(const struct rj_session *s, uint64_t node_bytes[RJI_MAX_NODES])
{
	for (uint32_t i = 0; i < s->n_given; i++) {
		const struct rj_region *r = &s->given[i].r;
		uint64_t n = (r->len_bytes + RJI_SPAN_BYTES - 1) / RJI_SPAN_BYTES;
		uint8_t *node = malloc(n);

		if (!node)
			return -ENOMEM;
		rji_residency_ask(s->env->topology, r->host, r->len_bytes, RJI_SPAN_BYTES, node);
		for (uint64_t k = 0; k < n; k++) {
			if (node[k] != RJI_NODE_UNKNOWN)
				node_bytes[node[k]] += RJI_SPAN_BYTES;
		}
		free(node);
	}
	return 0;
}

/* Nothing to ask on a machine of one node. */
static int locate(struct rj_session *s, uint64_t node_bytes[RJI_MAX_NODES])
{
	if (s->env->topology->n_nodes == 1) {
		node_bytes[0] = s->fig.guest_bytes;
		return 0;
	}
	return s->is_destination ? locate_given(s, node_bytes)
				 : rji_pageset_locate(&s->set, s->env->topology, node_bytes);
}

static int make_plan(struct rj_session *s, struct rji_addrs *addrs, uint32_t n_lanes,
		     struct rj_error *err)
{
	struct rji_placement *placement = malloc(sizeof(*placement)), *before;
	struct rji_placement_input *in = malloc(sizeof(*in));
	int ret = placement && in ? 0 : -ENOMEM;

	if (!ret) {
		begin_input(s, addrs, in);
		in->n_lanes = n_lanes;
		ret = locate(s, in->node_bytes);
	}
	if (ret < 0) {
		free(placement);
		free(in);
		return rji_fail(err, ret, "no memory for the plan of the lanes");
	}
	rji_place(in, placement);
	pthread_mutex_lock(&s->place_lock);
	before = s->placement;
	s->placement = placement;
	memcpy(s->node_bytes, in->node_bytes, sizeof(s->node_bytes));
	for (uint32_t i = 0; i < in->n_rails; i++)
		memcpy(s->rail_name[i], in->rail[i].name, sizeof(s->rail_name[i]));
	pthread_mutex_unlock(&s->place_lock);
	free(before);
	free(in);
	return 0;
}

static int place(struct rj_session *s, void *arg, struct rj_error *err)
{
	return make_plan(s, arg, s->o.n_lanes, err);
}

int rji_session_place(struct rj_session *s, struct rji_addrs *addrs, struct rj_error *err)
{
	size_t n = (size_t)s->o.n_lanes * (s->env->topology->n_nodes + 1);
	struct rji_node_bytes *sent;
	int ret;

	if (strcmp(s->ops->name, "rdma") != 0 && s->env->topology->n_nodes == 1)
		ret = place(s, addrs, err); /* nothing to wait for */
	else
		ret = rji_session_aside(s, "rj-place", RJI_WAIT_MIGRATING, place, addrs, err);
	if (ret < 0 || s->is_destination)
		return ret;
	sent = calloc(n, sizeof(*sent));
	if (!sent || rji_harvest_set_groups(&s->harvest, s->placement->n_groups,
					    s->placement->group_of_node) < 0) {
		free(sent);
		return rji_fail(err, -ENOMEM, "no memory for the plan of the lanes");
	}
	pthread_mutex_lock(&s->place_lock);
	s->node_sent = sent;
	pthread_mutex_unlock(&s->place_lock);
	return 0;
}

void rji_session_forget_places(struct rj_session *s)
{
	free(s->placement);
	free(s->node_sent);
	s->placement = NULL;
	s->node_sent = NULL;
}

/* --- for the VMM --- */

static int32_t kernels_number(const struct rj_session *s, int node)
{
	return node == RJI_NO_NODE ? -1 : (int32_t)s->env->topology->node[node].os_index;
}

/* A plan of what is known before the start. The destination learns from the source how many lanes there are. */
static int preview(struct rj_session *s)
{
	struct rj_error err;
	uint32_t n_lanes = s->o.n_lanes;
	int ret;

	rji_error_init(&err);
	if (s->is_destination)
		return RJ_E_STATE;
	ret = rji_session_take_cpus(s, &err);
	return ret < 0 ? ret : make_plan(s, NULL, n_lanes, &err);
}

static void describe_lane(const struct rj_session *s, uint32_t number, struct rj_lane_plan *lp)
{
	const struct rji_lane_place *lane = &s->placement->lane[number];

	lp->node = kernels_number(s, lane->node);
	rji_cpus_format(&lane->cpus, lp->cpus, sizeof(lp->cpus));
	if (lane->rail != RJI_NO_RAIL)
		snprintf(lp->port, sizeof(lp->port), "%s", s->rail_name[lane->rail]);
	snprintf(lp->why, sizeof(lp->why), "%s", lane->why);
}

int rj_get_lane_plan(struct rj_session *s, uint32_t lane, struct rj_lane_plan *lp_p)
{
	struct rj_lane_plan lp = { .size = sizeof(lp) };
	int ret = 0;

	if (!s || !lp_p || lp_p->size != sizeof(lp))
		return -EINVAL;
	if (!s->started && !lane)
		ret = preview(s);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->place_lock);
	if (!s->placement)
		ret = RJ_E_STATE;
	else if (lane >= s->placement->n_lanes)
		ret = -ENOENT;
	else
		describe_lane(s, lane, &lp);
	pthread_mutex_unlock(&s->place_lock);
	if (!ret)
		*lp_p = lp;
	return ret;
}

/* Its lane's share of a node's memory, in a round that sends everything. */
static uint64_t planned_bytes(const struct rj_session *s, uint32_t number, uint32_t node)
{
	const struct rji_placement *p = s->placement;
	uint32_t group = p->group_of_node[node], n = 0;

	if (p->lane[number].group != group)
		return 0;
	for (uint32_t i = 0; i < p->n_lanes; i++)
		n += p->lane[i].group == group;
	return s->node_bytes[node] / n;
}

static void count(struct rj_session *s, uint32_t number, uint32_t node, struct rj_lane_bytes *lb)
{
	uint32_t n_nodes = s->env->topology->n_nodes;
	/* On one node, where the kernel is not asked, all is counted as not known. */
	uint32_t at = n_nodes == 1 ? 1 : node;
	struct rji_node_bytes *sent = &s->node_sent[number * (n_nodes + 1) + at];
	int own = s->placement->lane[number].node;

	lb->node = node < n_nodes ? kernels_number(s, (int)node) : -1;
	lb->planned_bytes = node < n_nodes ? planned_bytes(s, number, node) : 0;
	lb->sent_bytes = atomic_load_explicit(&sent->all, memory_order_relaxed);
	lb->busy_bytes = atomic_load_explicit(&sent->busy, memory_order_relaxed);
	if (own != RJI_NO_NODE && node < n_nodes)
		lb->locality = own == (int)node ? RJ_LOCAL : RJ_REMOTE;
}

int rj_get_lane_bytes(struct rj_session *s, uint32_t lane, uint32_t index,
		      struct rj_lane_bytes *lb_p)
{
	struct rj_lane_bytes lb = { .size = sizeof(lb), .lane = lane };
	int ret = 1;

	if (!s || !lb_p || lb_p->size != sizeof(lb))
		return -EINVAL;
	pthread_mutex_lock(&s->place_lock);
	if (!s->node_sent)
		ret = RJ_E_STATE;
	else if (lane >= s->placement->n_lanes)
		ret = -ENOENT;
	else if (index > s->env->topology->n_nodes || (index && s->env->topology->n_nodes == 1))
		ret = 0;
	else
		count(s, lane, index, &lb);
	pthread_mutex_unlock(&s->place_lock);
	if (ret > 0)
		*lb_p = lb;
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysfs.h"
#include "migration/probe_impl.h"
#include "rdma/inventory.h"
#include "transport/local_route.h"
#include "transport/uri.h"

static struct rj_probe_port *port_of(struct rj_probe *p, const struct rj_probe_route *r)
{
	for (uint32_t i = 0; i < p->n_devices; i++) {
		for (uint32_t k = 0; k < p->devices[i].n_ports; k++) {
			if (!strcmp(p->devices[i].name, r->device) &&
			    p->devices[i].ports[k].number == r->port)
				return &p->devices[i].ports[k];
		}
	}
	return NULL;
}

const struct rj_probe_device *rji_probe_route_device(const struct rj_probe *p)
{
	for (uint32_t i = 0; p->route && i < p->n_devices; i++) {
		if (!strcmp(p->devices[i].name, p->route->device))
			return &p->devices[i];
	}
	return NULL;
}

/* "mlx5_0/1" */
static void take_device(struct rj_probe_route *r, const char *device_and_port)
{
	size_t len = strcspn(device_and_port, "/");

	snprintf(r->device, sizeof(r->device), "%.*s", (int)len, device_and_port);
	r->port = device_and_port[len] ? (uint32_t)strtoul(device_and_port + len + 1, NULL, 10) : 0;
}

static void take_port(struct rj_probe *probe, struct rj_probe_route *r)
{
	struct rj_probe_port *p = port_of(probe, r);
	int gid;

	if (!p)
		return;
	r->rate_bytes_per_s = p->rate_bytes_per_s;
	r->netdev_mtu_bytes = p->netdev_mtu_bytes;
	if (!r->netdev[0])
		snprintf(r->netdev, sizeof(r->netdev), "%s", p->netdev);
	gid = rji_inventory_choose_gid(p, strcmp(p->transport, "RoCE") ? "" : r->address);
	if (gid >= 0)
		r->gid_index = p->gids[gid].index;
}

static void take_netdev(const char *root, struct rj_probe_route *r)
{
	int64_t mbit;

	if (!r->netdev[0])
		return;
	r->netdev_mtu_bytes =
		(uint32_t)rji_sysfs_number(root, 0, "/sys/class/net/%s/mtu", r->netdev);
	mbit = rji_sysfs_number(root, 0, "/sys/class/net/%s/speed", r->netdev);
	if (mbit > 0)
		r->rate_bytes_per_s = (uint64_t)mbit * 1000000 / 8;
}

/* Which address of ours, over which netdev. A wildcard or nothing: a destination, where any is right. */
static void take_way(const struct rji_uri *uri, struct rj_probe_route *r)
{
	struct rji_local_route way;
	struct rj_error err;

	if (!uri->host[0] || !strcmp(uri->host, "0.0.0.0") || !strcmp(uri->host, "::"))
		return;
	rji_error_init(&err);
	if (!rji_local_route(uri, &way, &err)) {
		snprintf(r->address, sizeof(r->address), "%.47s", way.address);
		snprintf(r->netdev, sizeof(r->netdev), "%s", way.netdev);
	} else if (!r->status) {
		r->status = err.code;
		snprintf(r->why, sizeof(r->why), "%s", err.text);
	}
}

static int read_lanes(struct rj_session *s, struct rj_probe_route *r)
{
	int ret = 0;

	r->lanes = calloc(r->n_lanes, sizeof(*r->lanes));
	if (!r->lanes)
		return -ENOMEM;
	for (uint32_t i = 0; !ret && i < r->n_lanes; i++) {
		r->lanes[i].size = sizeof(r->lanes[i]);
		ret = rj_get_lane_plan(s, i, &r->lanes[i]);
	}
	if (ret) {
		free(r->lanes);
		r->lanes = NULL;
	}
	return ret == -ENOMEM ? ret : 0;
}

/* What a source would say; one that has nowhere to connect to says nothing. */
static int take_lanes(struct rj_env *env, struct rj_probe_route *r)
{
	struct rj_session *s;
	struct rj_opts o;
	char text[320];
	int ret;

	snprintf(text, sizeof(text), "%s%s", r->transport, strstr(r->uri, "://"));
	rj_opts_init(&o);
	o.uri = text;
	o.n_lanes = r->n_lanes;
	ret = rj_source_open(env, &o, &s);
	if (ret)
		return ret == -ENOMEM ? ret : 0;
	ret = read_lanes(s, r);
	rj_close(&s);
	return ret;
}

int rji_probe_route(struct rj_env *env, const char *root, const char *text, struct rj_probe *probe,
		    struct rj_probe_route *route_p)
{
	struct rj_plan plan = { .size = sizeof(plan) };
	struct rj_probe_route r = { .gid_index = UINT32_MAX };
	struct rj_error err;
	struct rji_uri uri;
	int ret;

	rji_error_init(&err);
	ret = rji_uri_parse(text, &uri, &err);
	if (ret)
		return ret;
	snprintf(r.uri, sizeof(r.uri), "%s", text);
	r.status = rj_plan(env, text, &plan);
	snprintf(r.why, sizeof(r.why), "%s", plan.why);
	if (!r.status) {
		snprintf(r.transport, sizeof(r.transport), "%s", plan.transport);
		take_device(&r, plan.device);
		r.n_lanes = plan.n_lanes;
	}
	if (!rji_uri_is_unix(&uri))
		take_way(&uri, &r);
	if (r.device[0])
		take_port(probe, &r);
	else
		take_netdev(root, &r);
	ret = r.status ? 0 : take_lanes(env, &r);
	*route_p = r;
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bench/probe/probe_print.h"

static void set_text(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, *text ? json_string(text) : json_null());
}

static void set_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

/* 0 stands for not known. */
static void set_known(json_t *o, const char *key, uint64_t v)
{
	if (v)
		set_int(o, key, v);
	else
		json_object_set_new(o, key, json_null());
}

static void set_bool(json_t *o, const char *key, bool v)
{
	json_object_set_new(o, key, json_boolean(v));
}

/* Null where it works, else why not. */
static void set_errno(json_t *o, const char *key, int ret)
{
	json_object_set_new(o, key, ret ? json_string(rj_strerror(ret)) : json_null());
}

static void set_percent(json_t *o, const char *key, uint32_t ppm)
{
	json_object_set_new(o, key, json_real(ppm / 1e4));
}

static json_t *gid_object(const struct rj_probe_gid *g)
{
	json_t *o = json_object();

	set_int(o, "index", g->index);
	set_text(o, "type", g->type);
	set_text(o, "gid", g->gid);
	set_text(o, "address", g->address);
	set_bool(o, "chosen", g->chosen);
	return o;
}

static json_t *port_object(const struct rj_probe_port *p)
{
	json_t *o = json_object(), *gids = json_array();

	set_int(o, "port", p->number);
	set_text(o, "transport", p->transport);
	set_text(o, "state", p->state);
	set_text(o, "phys_state", p->phys_state);
	set_text(o, "link_layer", p->link_layer);
	set_text(o, "netdev", p->netdev);
	set_bool(o, "netdev_up", p->netdev_up);
	set_known(o, "netdev_mtu_bytes", p->netdev_mtu_bytes);
	set_known(o, "width", p->width);
	set_known(o, "speed_mbit_per_s", p->speed_mbit_per_s);
	set_known(o, "rate_bits_per_s", p->rate_bits_per_s);
	set_known(o, "rate_bytes_per_s", p->rate_bytes_per_s);
	set_known(o, "active_mtu_bytes", p->active_mtu_bytes);
	set_known(o, "max_mtu_bytes", p->max_mtu_bytes);
	set_percent(o, "mtu_lost_percent", p->mtu_lost_ppm);
	set_percent(o, "max_mtu_lost_percent", p->max_mtu_lost_ppm);
	set_known(o, "netdev_mtu_wanted_bytes", p->netdev_mtu_wanted_bytes);
	for (uint32_t i = 0; i < p->n_gids; i++)
		json_array_append_new(gids, gid_object(&p->gids[i]));
	json_object_set_new(o, "gids", gids);
	return o;
}

static json_t *pcie_object(const struct rj_probe_device *d)
{
	json_t *o = json_object();

	if (!d->pci[0]) {
		json_decref(o);
		return json_null();
	}
	set_text(o, "address", d->pci);
	set_known(o, "width", d->pcie_width);
	set_known(o, "max_width", d->pcie_max_width);
	set_known(o, "mt_per_s", d->pcie_mt_per_s);
	set_known(o, "max_mt_per_s", d->pcie_max_mt_per_s);
	set_known(o, "bits_per_s", d->pcie_bits_per_s);
	return o;
}

static json_t *device_object(const struct rj_probe_device *d)
{
	json_t *o = json_object(), *limits = json_object(), *ports = json_array();

	set_text(o, "device", d->name);
	set_text(o, "firmware", d->firmware);
	set_bool(o, "software", d->software);
	set_bool(o, "allowed", d->allowed);
	set_bool(o, "opened", d->opened == 0);
	json_object_set_new(o, "node", d->node < 0 ? json_null() : json_integer(d->node));
	set_text(o, "node_cpus", d->node_cpus);
	json_object_set_new(o, "pcie", pcie_object(d));
	set_known(limits, "max_mr_bytes", d->max_mr_bytes);
	set_known(limits, "max_qp_wr", d->max_qp_wr);
	set_known(limits, "max_sge", d->max_sge);
	set_known(limits, "max_cqe", d->max_cqe);
	json_object_set_new(o, "limits", limits);
	for (uint32_t i = 0; i < d->n_ports; i++)
		json_array_append_new(ports, port_object(&d->ports[i]));
	json_object_set_new(o, "ports", ports);
	return o;
}

static json_t *machine_object(const struct rj_probe_machine *m)
{
	json_t *o = json_object(), *huge = json_array();

	set_text(o, "kernel", m->kernel);
	set_int(o, "memory_bytes", m->memory_bytes);
	set_int(o, "available_bytes", m->available_bytes);
	set_int(o, "nodes", m->n_nodes);
	set_int(o, "cpus", m->n_cpus);
	set_text(o, "cpus_allowed", m->cpus_allowed);
	set_int(o, "n_cpus_allowed", m->n_cpus_allowed);
	for (uint32_t i = 0; i < m->n_huge; i++) {
		json_t *h = json_object();

		set_int(h, "page_bytes", m->huge[i].page_bytes);
		set_int(h, "pages", m->huge[i].n_pages);
		set_int(h, "free", m->huge[i].n_free);
		json_array_append_new(huge, h);
	}
	json_object_set_new(o, "huge_pages", huge);
	set_text(o, "thp", m->thp);
	set_text(o, "thp_shmem", m->thp_shmem);
	json_object_set_new(o, "memlock_bytes",
			    m->memlock_bytes == UINT64_MAX
				    ? json_null()
				    : json_integer((json_int_t)m->memlock_bytes));
	set_bool(o, "ipc_lock", m->ipc_lock);
	set_errno(o, "rdma_cm_error", m->rdma_cm);
	set_errno(o, "kvm_error", m->kvm);
	set_errno(o, "uffd_wp_error", m->uffd_wp);
	set_bool(o, "has_rxe", m->has_rxe);
	return o;
}

static json_t *lane_object(const struct rj_lane_plan *lane)
{
	json_t *o = json_object();

	json_object_set_new(o, "node", lane->node < 0 ? json_null() : json_integer(lane->node));
	set_text(o, "cpus", lane->cpus);
	set_text(o, "port", lane->port);
	set_text(o, "why", lane->why);
	return o;
}

static json_t *route_object(const struct rj_probe_route *r)
{
	json_t *o = json_object(), *places = json_array();

	set_text(o, "uri", r->uri);
	set_text(o, "transport", r->transport);
	set_text(o, "why", r->why);
	set_text(o, "device", r->device);
	set_known(o, "port", r->port);
	json_object_set_new(o, "gid_index",
			    r->gid_index == UINT32_MAX ? json_null() : json_integer(r->gid_index));
	set_text(o, "address", r->address);
	set_text(o, "netdev", r->netdev);
	set_known(o, "netdev_mtu_bytes", r->netdev_mtu_bytes);
	set_known(o, "lanes", r->n_lanes);
	for (uint32_t i = 0; r->lanes && i < r->n_lanes; i++)
		json_array_append_new(places, lane_object(&r->lanes[i]));
	json_object_set_new(o, "lane_places", places);
	set_known(o, "rate_bytes_per_s", r->rate_bytes_per_s);
	return o;
}

static json_t *problem_object(const struct rj_probe_problem *pr)
{
	static const char *const severity[] = { "", "stops", "slows", "note" };
	json_t *o = json_object();

	set_text(o, "severity", severity[pr->severity]);
	set_text(o, "problem", pr->problem);
	set_text(o, "why", pr->why);
	set_text(o, "fix", pr->fix);
	return o;
}

void probe_print_json(const struct rj_probe *p, const char *error)
{
	json_t *o = json_object(), *devices = json_array(), *problems = json_array();

	set_bool(o, "would_go", p && p->would_go);
	set_text(o, "error", error);
	json_object_set_new(o, "route", p && p->route ? route_object(p->route) : json_null());
	json_object_set_new(o, "machine", p ? machine_object(&p->machine) : json_null());
	for (uint32_t i = 0; p && i < p->n_devices; i++)
		json_array_append_new(devices, device_object(&p->devices[i]));
	json_object_set_new(o, "devices", devices);
	for (uint32_t i = 0; p && i < p->n_problems; i++)
		json_array_append_new(problems, problem_object(&p->problems[i]));
	json_object_set_new(o, "problems", problems);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(o);
}

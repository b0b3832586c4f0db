/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "bench/common/units.h"
#include "bench/probe/probe_print.h"

/* "  name       what", as in the other programs. */
#define LINE(name, ...)                                                                            \
	do {                                                                                       \
		printf("  %-10s ", name);                                                          \
		printf(__VA_ARGS__);                                                               \
		putchar('\n');                                                                     \
	} while (0)

static const char *or_unknown(const char *text)
{
	return *text ? text : "not known";
}

static const char *usable(int ret)
{
	return ret ? rj_strerror(ret) : "usable";
}

static void print_machine(const struct rj_probe_machine *m)
{
	printf("machine\n");
	LINE("kernel", "Linux %s", m->kernel);
	LINE("CPUs", "%u, of which this process may use %u (%s); %u memory node%s", m->n_cpus,
	     m->n_cpus_allowed, or_unknown(m->cpus_allowed), m->n_nodes,
	     m->n_nodes == 1 ? "" : "s");
	LINE("memory", "%s, %s available", UNITS_BYTES(m->memory_bytes),
	     UNITS_BYTES(m->available_bytes));
	for (uint32_t i = 0; i < m->n_huge; i++)
		LINE("huge pages", "of %s: %llu, free %llu", UNITS_BYTES(m->huge[i].page_bytes),
		     (unsigned long long)m->huge[i].n_pages, (unsigned long long)m->huge[i].n_free);
	LINE("THP", "%s; of shared memory %s", or_unknown(m->thp), or_unknown(m->thp_shmem));
	LINE("memlock", "%s%s",
	     m->memlock_bytes == UINT64_MAX ? "no limit" : UNITS_BYTES(m->memlock_bytes),
	     m->ipc_lock ? ", lifted by CAP_IPC_LOCK" : "");
	LINE("/dev/kvm", "%s", usable(m->kvm));
	LINE("uffd", "%s", usable(m->uffd_wp));
}

static void print_pcie(const struct rj_probe_device *d)
{
	if (!d->pci[0])
		return;
	if (!d->pcie_bits_per_s) {
		LINE("slot", "%s, node %d; its link is not told", d->pci, d->node);
		return;
	}
	LINE("slot", "%s, node %d (CPUs %s); PCIe x%u at %.4g GT/s (of x%u, %.4g): about %.0f Gb/s",
	     d->pci, d->node, or_unknown(d->node_cpus), d->pcie_width, d->pcie_mt_per_s / 1e3,
	     d->pcie_max_width, d->pcie_max_mt_per_s / 1e3, (double)d->pcie_bits_per_s / 1e9);
}

static void print_gids(const struct rj_probe_port *p)
{
	for (uint32_t i = 0; i < p->n_gids; i++) {
		const struct rj_probe_gid *g = &p->gids[i];

		LINE("GID", "%3u %s %s%s", g->index, g->type, g->address[0] ? g->address : g->gid,
		     g->chosen ? "  <- lanes use it" : "");
	}
}

static void print_port(const struct rj_probe_device *d, const struct rj_probe_port *p)
{
	printf("%s port %u: %s, %s%s%s\n", d->name, p->number, p->transport, or_unknown(p->state),
	       p->phys_state[0] ? ", " : "", p->phys_state);
	if (p->rate_bits_per_s)
		LINE("rate", "%u x %.4g = %.4g Gb/s%s; without headers %s", p->width,
		     p->speed_mbit_per_s / 1e3, (double)p->rate_bits_per_s / 1e9,
		     d->software ? " (a fiction of software RDMA)" : "",
		     UNITS_RATE(p->rate_bytes_per_s));
	if (p->active_mtu_bytes)
		LINE("MTU", "%u of %u: %.1f %% of the rate goes to headers", p->active_mtu_bytes,
		     p->max_mtu_bytes, p->mtu_lost_ppm / 1e4);
	if (p->netdev[0])
		LINE("netdev", "%s, %s, MTU %u", p->netdev, p->netdev_up ? "up" : "down",
		     p->netdev_mtu_bytes);
	print_gids(p);
}

static void print_device(const struct rj_probe_device *d)
{
	printf("%s%s%s\n", d->name, d->software ? ", software" : "",
	       d->allowed ? "" : ", not to be used");
	if (d->firmware[0])
		LINE("firmware", "%s", d->firmware);
	print_pcie(d);
	if (d->max_qp_wr)
		LINE("limits", "a registration %s, %u requests a queue, %u pieces a request",
		     d->max_mr_bytes > UINT64_MAX / 2 ? "of any size"
						      : UNITS_BYTES(d->max_mr_bytes),
		     d->max_qp_wr, d->max_sge);
	for (uint32_t i = 0; i < d->n_ports; i++)
		print_port(d, &d->ports[i]);
}

static void print_way(const struct rj_probe_route *r)
{
	if (r->device[0]) {
		LINE("device", "%s port %u", r->device, r->port);
		if (r->gid_index != UINT32_MAX)
			LINE("GID", "%u", r->gid_index);
	}
	if (r->address[0])
		LINE("from", "%s%s%s", r->address, r->netdev[0] ? " on " : "", r->netdev);
	LINE("lanes", "%u", r->n_lanes);
	for (uint32_t i = 0; r->lanes && i < r->n_lanes; i++)
		LINE("", "%u on CPUs %s%s%s: %s", i, r->lanes[i].cpus,
		     r->lanes[i].port[0] ? ", by " : "", r->lanes[i].port, r->lanes[i].why);
	if (r->rate_bytes_per_s)
		LINE("rate", "%s", UNITS_RATE(r->rate_bytes_per_s));
}

static void print_route(const struct rj_probe *p, uint64_t guest_bytes)
{
	const struct rj_probe_route *r = p->route;

	if (!r)
		return;
	printf("%s\n", r->uri);
	LINE("transport", "%s: %s", r->status ? "none" : r->transport, r->why);
	if (!r->status)
		print_way(r);
	LINE("so", "a migration of %s %s%s", UNITS_BYTES(guest_bytes),
	     p->would_go ? "would go" : "would not go",
	     p->would_go ? " (whether somebody listens there was not tried)" : "");
}

static void print_problems(const struct rj_probe *p)
{
	static const char *const severity[] = { "", "STOPS", "slows", "note" };

	if (!p->n_problems)
		printf("no problem found\n");
	for (uint32_t i = 0; i < p->n_problems; i++) {
		const struct rj_probe_problem *pr = &p->problems[i];

		printf("%s: %s\n", severity[pr->severity], pr->problem);
		LINE("why", "%s", pr->why);
		LINE("fix", "%s", pr->fix);
	}
}

void probe_print_text(const struct rj_probe *p, uint64_t guest_bytes)
{
	print_machine(&p->machine);
	for (uint32_t i = 0; i < p->n_devices; i++)
		print_device(&p->devices[i]);
	if (!p->n_devices)
		printf("no RDMA device\n");
	print_route(p, guest_bytes);
	print_problems(p);
}

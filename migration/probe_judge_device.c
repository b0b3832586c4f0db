/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cpus.h"
#include "migration/probe_judge.h"

/* What is being judged. */
struct subject {
	struct rji_judge *j;
	const struct rj_probe_device *d;
	enum rj_probe_severity worst;
};

static struct rj_probe_problem *add(const struct subject *s, enum rj_probe_severity severity)
{
	return rji_judge_add(s->j, severity < s->worst ? s->worst : severity);
}

static double gbit(uint64_t bits_per_s)
{
	return (double)bits_per_s / 1e9;
}

static double percent(uint32_t ppm)
{
	return ppm / 1e4;
}

static bool is_active(const struct rj_probe_port *p)
{
	return !strcmp(p->state, "ACTIVE");
}

static bool is_roce(const struct rj_probe_port *p)
{
	return !strcmp(p->transport, "RoCE");
}

static void judge_opened(const struct subject *s)
{
	const char *name = s->d->name;
	struct rj_probe_problem *pr;

	if (!s->d->opened)
		return;
	pr = add(s, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "%s is there, but programs cannot open it", name);
	if (s->d->opened == -ENODEV) {
		RJI_SAY(pr->why, "the kernel's part for programs is not loaded");
		RJI_SAY(pr->fix, "modprobe ib_uverbs rdma_ucm");
	} else if (s->d->opened == -EACCES) {
		RJI_SAY(pr->why, "no permission for its file in /dev/infiniband");
		RJI_SAY(pr->fix, "chmod 666 /dev/infiniband/uverbs* (rdma-core's udev rules do)");
	} else {
		RJI_SAY(pr->why, "rdma-core has no library for it installed");
		RJI_SAY(pr->fix, "apt-get install ibverbs-providers");
	}
}

static void judge_software(const struct subject *s)
{
	struct rj_probe_problem *pr;

	if (!s->d->software)
		return;
	pr = add(s, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem, "%s is software RDMA", s->d->name);
	RJI_SAY(pr->why,
		"it shows the path, not the speed, and needs the CPU time that a card would save");
	RJI_SAY(pr->fix, "for speed a card; without one tcp:// is faster");
}

static uint64_t active_rate(const struct rj_probe_device *d)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < d->n_ports; i++)
		sum += is_active(&d->ports[i]) ? d->ports[i].rate_bits_per_s : 0;
	return sum;
}

static void why_pcie(const struct rj_probe_device *d, struct rj_probe_problem *pr)
{
	RJI_SAY(pr->why, "its link is x%u at %.4g GT/s; the card could do x%u at %.4g GT/s",
		d->pcie_width, d->pcie_mt_per_s / 1e3, d->pcie_max_width,
		d->pcie_max_mt_per_s / 1e3);
	if (d->pcie_width < d->pcie_max_width || d->pcie_mt_per_s < d->pcie_max_mt_per_s)
		RJI_SAY(pr->fix,
			"put the card into a wider or faster slot, or seat it anew; lspci -vv -s %s shows LnkCap and LnkSta",
			d->pci);
	else
		RJI_SAY(pr->fix,
			"the card itself can no more: another card, or ports on two cards");
}

static void judge_pcie(const struct subject *s)
{
	const struct rj_probe_device *d = s->d;
	uint64_t need = active_rate(d);
	struct rj_probe_problem *pr;

	if (!d->pcie_bits_per_s || d->pcie_bits_per_s >= need)
		return;
	pr = add(s, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "the slot of %s carries about %.0f Gb/s, its active port%s %.0f",
		d->name, gbit(d->pcie_bits_per_s), d->n_ports > 1 ? "s" : "", gbit(need));
	why_pcie(d, pr);
}

/* The functions of a card share its slot: "0000:3b:00.0" and "0000:3b:00.1". Told once, by the first of them. */
static void judge_shared_slot(const struct subject *s)
{
	const struct rj_probe *p = s->j->probe;
	const struct rj_probe_device *d = s->d;
	size_t slot = strcspn(d->pci, ".");
	uint64_t need = 0, most = 0;
	struct rj_probe_problem *pr;

	if (!d->pcie_bits_per_s)
		return;
	for (uint32_t i = 0; i < p->n_devices; i++) {
		const struct rj_probe_device *other = &p->devices[i];

		if (strncmp(other->pci, d->pci, slot + 1))
			continue;
		if (other < d)
			return;
		need += active_rate(other);
		most = active_rate(other) > most ? active_rate(other) : most;
	}
	/* Where one alone is too much, that has been said. */
	if (d->pcie_bits_per_s >= need || d->pcie_bits_per_s < most || need == most)
		return;
	pr = add(s, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem,
		"%s shares its slot, which carries about %.0f Gb/s, with devices that make it %.0f",
		d->name, gbit(d->pcie_bits_per_s), gbit(need));
	why_pcie(d, pr);
}

static void judge_cpus(const struct subject *s)
{
	const struct rj_probe_machine *m = &s->j->probe->machine;
	const struct rj_probe_device *d = s->d;
	struct rj_probe_problem *pr;
	struct rji_cpus near, allowed;

	if (rji_cpus_parse(d->node_cpus, &near) || rji_cpus_parse(m->cpus_allowed, &allowed))
		return;
	near = rji_cpus_and(&near, &allowed);
	if (!rji_cpus_is_empty(&near))
		return;
	pr = add(s, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "%.40s is at node %d (CPUs %.48s), this process may run on %.48s only",
		d->name, d->node, d->node_cpus, m->cpus_allowed);
	RJI_SAY(pr->why,
		"lanes would reach the card across the link between the nodes; others have seen the rate halved");
	RJI_SAY(pr->fix, "numactl --cpunodebind=%d PROGRAM, or taskset -c %s PROGRAM", d->node,
		d->node_cpus);
}

/* Why is it not ACTIVE? */
static void judge_state(const struct subject *s, const struct rj_probe_port *p, bool other_active)
{
	struct rj_probe_problem *pr;

	if (is_active(p))
		return;
	pr = add(s, other_active ? RJ_PROBE_NOTE : RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "port %u of %s is %s%s%s", p->number, s->d->name,
		p->state[0] ? p->state : "not there", p->phys_state[0] ? ", its link " : "",
		p->phys_state);
	RJI_SAY(pr->why, "only an ACTIVE port can be used");
	if (strcmp(p->transport, "InfiniBand"))
		RJI_SAY(pr->fix, "ip link set dev %s up; if it stays down: cable, switch port",
			p->netdev[0] ? p->netdev : "NETDEV");
	else if (!strcmp(p->phys_state, "LinkUp"))
		RJI_SAY(pr->fix,
			"the fabric's subnet manager has to bring it up: systemctl start opensm, on one machine of it");
	else
		RJI_SAY(pr->fix, "cable, switch port; ibstat %s shows what it waits for",
			s->d->name);
}

static void judge_address(const struct subject *s, const struct rj_probe_port *p)
{
	struct rj_probe_problem *pr;

	if (!is_roce(p))
		return;
	for (uint32_t i = 0; i < p->n_gids; i++) {
		if (p->gids[i].address[0] && strncmp(p->gids[i].address, "fe80:", 5))
			return;
	}
	pr = add(s, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "port %u of %s has no address", p->number, s->d->name);
	RJI_SAY(pr->why,
		"RoCE takes its GIDs from the addresses of the port's netdev; no URI leads here");
	RJI_SAY(pr->fix, "ip address add ADDRESS/PREFIX dev %s",
		p->netdev[0] ? p->netdev : "NETDEV");
}

static void judge_mtu(const struct subject *s, const struct rj_probe_port *p)
{
	struct rj_probe_problem *pr;

	if (!p->max_mtu_bytes || p->active_mtu_bytes >= p->max_mtu_bytes)
		return;
	pr = add(s, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "packets of port %u of %s carry %u bytes, not %u", p->number,
		s->d->name, p->active_mtu_bytes, p->max_mtu_bytes);
	RJI_SAY(pr->why,
		"headers take %.1f %% of the rate, %.1f %% would do: %.3g of %.4g Gb/s lost",
		percent(p->mtu_lost_ppm), percent(p->max_mtu_lost_ppm),
		gbit(p->rate_bits_per_s) * (p->mtu_lost_ppm - p->max_mtu_lost_ppm) / 1e6,
		gbit(p->rate_bits_per_s));
	if (is_roce(p))
		RJI_SAY(pr->fix,
			"ip link set dev %s mtu %u, on both machines; every switch between has to carry it",
			p->netdev[0] ? p->netdev : "NETDEV", p->netdev_mtu_wanted_bytes);
	else
		RJI_SAY(pr->fix,
			"the subnet manager decides: mtu=5 (4096) in the partition file of opensm");
}

static void judge_iwarp(const struct subject *s, const struct rj_probe_port *p)
{
	struct rj_probe_problem *pr;

	if (strcmp(p->transport, "iWARP"))
		return;
	pr = add(s, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem, "%s is an iWARP device", s->d->name);
	RJI_SAY(pr->why, "ramjet keeps to iWARP's rules, but has never been run on it");
	RJI_SAY(pr->fix, "try it with ramjet-migrate --verify first");
}

void rji_judge_device(struct rji_judge *j, const struct rj_probe_device *d,
		      enum rj_probe_severity worst)
{
	struct subject s = { .j = j, .d = d, .worst = d->allowed ? worst : RJ_PROBE_NOTE };
	bool any_active = false;

	judge_opened(&s);
	judge_software(&s);
	judge_pcie(&s);
	judge_shared_slot(&s);
	judge_cpus(&s);
	for (uint32_t i = 0; i < d->n_ports; i++)
		any_active |= is_active(&d->ports[i]);
	for (uint32_t i = 0; i < d->n_ports; i++) {
		const struct rj_probe_port *p = &d->ports[i];

		judge_state(&s, p, any_active);
		judge_iwarp(&s, p);
		if (!is_active(p))
			continue;
		judge_address(&s, p);
		judge_mtu(&s, p);
	}
}

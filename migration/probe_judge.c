/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/probe_judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "transport/uri.h"

#define MIB (UINT64_C(1) << 20)
#define GBIT_10 (UINT64_C(10000000000) / 8)
#define HUGE_2M (2 * MIB)

struct rj_probe_problem *rji_judge_add(struct rji_judge *j, enum rj_probe_severity severity)
{
	struct rj_probe *p = j->probe;
	struct rj_probe_problem *more, *pr;

	if (p->n_problems == j->capacity) {
		more = reallocarray(p->problems, j->capacity + 16, sizeof(*more));
		if (!more) {
			j->ret = -ENOMEM;
			return &j->nowhere;
		}
		p->problems = more;
		j->capacity += 16;
	}
	pr = &p->problems[p->n_problems++];
	memset(pr, 0, sizeof(*pr));
	pr->severity = severity;
	return pr;
}

static bool by_rdma(const struct rj_probe *p)
{
	return p->route && !strcmp(p->route->transport, "rdma");
}

/* Would RDMA be taken if it could be? */
static bool wants_rdma(const struct rj_probe *p)
{
	return !p->route || !strncmp(p->route->uri, "rdma:", 5) ||
	       !strncmp(p->route->uri, "auto:", 5);
}

static void how_to_get_a_device(const struct rj_probe_machine *m, struct rj_probe_problem *pr)
{
	if (m->has_rxe)
		RJI_SAY(pr->fix,
			"load the card's driver (modprobe mlx5_ib, irdma, bnxt_re, ...); to see the path without a card: rdma link add rxe0 type rxe netdev %s",
			m->netdev[0] ? m->netdev : "NETDEV");
	else
		RJI_SAY(pr->fix,
			"load the card's driver (modprobe mlx5_ib, irdma, bnxt_re, ...), or use tcp://; this kernel brings no software RDMA (rdma_rxe), with one that does: rdma link add rxe0 type rxe netdev %s",
			m->netdev[0] ? m->netdev : "NETDEV");
}

static bool any_active(const struct rj_probe *p)
{
	for (uint32_t i = 0; i < p->n_devices; i++) {
		for (uint32_t k = 0; k < p->devices[i].n_ports; k++) {
			if (!strcmp(p->devices[i].ports[k].state, "ACTIVE"))
				return true;
		}
	}
	return false;
}

static void judge_route(struct rji_judge *j)
{
	const struct rj_probe_route *r = j->probe->route;
	struct rji_uri uri = { .host = "HOST" };
	struct rj_probe_problem *pr;

	if (!r || !r->status)
		return;
	pr = rji_judge_add(j, RJ_PROBE_STOPS);
	RJI_SAY(pr->problem, "a migration by %.150s would not go", r->uri);
	RJI_SAY(pr->why, "%.319s", r->why);
	rji_uri_parse(r->uri, &uri, NULL);
	if (r->status == RJ_E_NO_RDMA && !j->probe->n_devices)
		how_to_get_a_device(&j->probe->machine, pr);
	else if (r->status == RJ_E_NO_RDMA && !any_active(j->probe))
		RJI_SAY(pr->fix, "what is said below of the ports; or use tcp://");
	else if (r->status == RJ_E_NO_RDMA)
		RJI_SAY(pr->fix,
			"give the host's address to an RDMA port's netdev there, and reach it by one here: rdma link; ip route get %.80s; or use tcp://",
			uri.host);
	else
		RJI_SAY(pr->fix, "getent hosts %.80s; ip route get %.80s", uri.host, uri.host);
}

/* Headers of TCP over IPv4 with timestamps, and what Ethernet adds: 1500 leaves 94 % of the rate, 9000 99 %. */
static void judge_tcp_mtu(struct rji_judge *j)
{
	const struct rj_probe_route *r = j->probe->route;
	struct rj_probe_problem *pr;

	if (!r || strcmp(r->transport, "tcp") || r->rate_bytes_per_s < GBIT_10 ||
	    r->netdev_mtu_bytes > 1500)
		return;
	pr = rji_judge_add(j, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem, "packets by %s carry %u bytes", r->netdev, r->netdev_mtu_bytes);
	RJI_SAY(pr->why,
		"of 1500 bytes headers take 5.9 %% of the rate, of 9000 1.0 %%; and the CPU has six times the packets");
	RJI_SAY(pr->fix,
		"ip link set dev %s mtu 9000, on both machines; every switch between has to carry it",
		r->netdev);
}

static void judge_devices(struct rji_judge *j)
{
	const struct rj_probe_device *used = rji_probe_route_device(j->probe);
	struct rj_probe_problem *pr;

	if (!j->probe->n_devices && wants_rdma(j->probe) &&
	    !(j->probe->route && j->probe->route->status)) {
		pr = rji_judge_add(j, RJ_PROBE_SLOWS);
		RJI_SAY(pr->problem, "no RDMA device here: migrations go over tcp");
		RJI_SAY(pr->why,
			"over tcp both ends copy every page; by RDMA the destination's CPU has nothing to do");
		how_to_get_a_device(&j->probe->machine, pr);
	}
	for (uint32_t i = 0; i < j->probe->n_devices; i++) {
		const struct rj_probe_device *d = &j->probe->devices[i];

		rji_judge_device(j, d,
				 d == used || (!used && wants_rdma(j->probe)) ? RJ_PROBE_SLOWS
									      : RJ_PROBE_NOTE);
	}
}

static void judge_rdma_cm(struct rji_judge *j)
{
	int ret = j->probe->machine.rdma_cm;
	struct rj_probe_problem *pr;

	if (!ret || !j->probe->n_devices || !wants_rdma(j->probe))
		return;
	pr = rji_judge_add(j, RJ_PROBE_SLOWS);
	RJI_SAY(pr->problem, "/dev/infiniband/rdma_cm cannot be opened: %s", strerrordesc_np(-ret));
	RJI_SAY(pr->why, "connections by RDMA are made through it; without, only tcp is left");
	RJI_SAY(pr->fix, "%s",
		ret == -EACCES ? "chmod 666 /dev/infiniband/rdma_cm (rdma-core's udev rules do)"
			       : "modprobe rdma_ucm");
}

static void judge_memlock(struct rji_judge *j)
{
	const struct rj_probe_machine *m = &j->probe->machine;
	struct rj_probe_problem *pr;

	if (m->ipc_lock || !j->probe->n_devices || !wants_rdma(j->probe) ||
	    m->memlock_bytes == UINT64_MAX ||
	    (j->guest_bytes && m->memlock_bytes >= j->guest_bytes))
		return;
	pr = rji_judge_add(j,
			   by_rdma(j->probe) && j->guest_bytes ? RJ_PROBE_STOPS : RJ_PROBE_SLOWS);
	if (j->guest_bytes)
		RJI_SAY(pr->problem,
			"the locked-memory limit is %" PRIu64 " bytes, and the guest has %" PRIu64,
			m->memlock_bytes, j->guest_bytes);
	else
		RJI_SAY(pr->problem, "the locked-memory limit is %" PRIu64 " bytes",
			m->memlock_bytes);
	RJI_SAY(pr->why, "by RDMA all of a guest's memory is registered, which locks it");
	if (j->guest_bytes)
		RJI_SAY(pr->fix,
			"as root: ulimit -l %" PRIu64
			"; a user's shell: sudo prlimit --memlock=unlimited --pid $$; a service: LimitMEMLOCK=infinity; or setcap cap_ipc_lock=ep PROGRAM; or register lazily, with a cap below the limit",
			(j->guest_bytes + 1023) / 1024);
	else
		RJI_SAY(pr->fix,
			"as root: ulimit -l unlimited; a user's shell: sudo prlimit --memlock=unlimited --pid $$; a service: LimitMEMLOCK=infinity; or setcap cap_ipc_lock=ep PROGRAM");
}

/* Those of 2 MiB, where there are such. */
static const struct rj_probe_huge *usual_huge(const struct rj_probe_machine *m)
{
	for (uint32_t i = 0; i < m->n_huge; i++)
		if (m->huge[i].page_bytes == HUGE_2M)
			return &m->huge[i];
	return &m->huge[0];
}

/*
 * The number is of all pages, those in use among them; vm.nr_hugepages is of the machine's default size, whichever that is. The rest
 * says what could be better for any guest here.
 */
static void judge_huge_pages(struct rji_judge *j)
{
	const struct rj_probe_huge *h = usual_huge(&j->probe->machine);
	const struct rj_probe_machine *m = &j->probe->machine;
	uint64_t guest = j->guest_bytes ? j->guest_bytes : m->memory_bytes / 2;
	struct rj_probe_problem *pr;
	uint64_t free_bytes = 0;

	for (uint32_t i = 0; i < m->n_huge; i++)
		free_bytes += m->huge[i].page_bytes * m->huge[i].n_free;
	if (!m->n_huge || !j->probe->n_devices || !wants_rdma(j->probe) || free_bytes >= guest)
		return;
	if (m->memory_bytes && guest >= m->memory_bytes)
		return; /* no number of them would do */
	pr = rji_judge_add(j, RJ_PROBE_NOTE);
	if (j->guest_bytes)
		RJI_SAY(pr->problem,
			"free huge pages: %" PRIu64 " MiB, too few for a guest of %" PRIu64 " MiB",
			free_bytes / MIB, guest / MIB);
	else
		RJI_SAY(pr->problem, "free huge pages: %" PRIu64 " MiB", free_bytes / MIB);
	RJI_SAY(pr->why,
		"the kernel pins 1 GiB of 4 KiB pages in about 20 ms and of 2 MiB pages in about 1 ms (measured once, without a card); huge pages help only a guest that is put on them");
	RJI_SAY(pr->fix,
		"echo %" PRIu64 " > /sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
		(h->n_pages > h->n_free ? h->n_pages - h->n_free : 0) +
			(guest + h->page_bytes - 1) / h->page_bytes,
		h->page_bytes / 1024);
}

static void judge_kvm(struct rji_judge *j)
{
	int ret = j->probe->machine.kvm;
	struct rj_probe_problem *pr;

	if (!ret)
		return;
	pr = rji_judge_add(j, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem, "/dev/kvm cannot be opened: %s", strerrordesc_np(-ret));
	RJI_SAY(pr->why, "no virtual machine can run here at full speed");
	RJI_SAY(pr->fix, "%s",
		ret == -EACCES ? "usermod -aG kvm USER"
			       : "modprobe kvm_intel, or kvm_amd (the firmware has to allow it)");
}

static void judge_uffd(struct rji_judge *j)
{
	int ret = j->probe->machine.uffd_wp;
	struct rj_probe_problem *pr;

	if (!ret)
		return;
	pr = rji_judge_add(j, RJ_PROBE_NOTE);
	RJI_SAY(pr->problem, "userfaultfd cannot track writes here: %s", strerrordesc_np(-ret));
	RJI_SAY(pr->why, "matters only to VMMs that track by rj_uffd_wp_create(), not by KVM");
	RJI_SAY(pr->fix, "%s",
		ret == -EPERM
			? "sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd"
			: "Linux 6.7 or newer");
}

/* By insertion: keeps the order of equals, and problems are few. */
static void sort(struct rj_probe *p)
{
	for (uint32_t i = 1; i < p->n_problems; i++) {
		struct rj_probe_problem moved = p->problems[i];
		uint32_t k = i;

		for (; k && p->problems[k - 1].severity > moved.severity; k--)
			p->problems[k] = p->problems[k - 1];
		p->problems[k] = moved;
	}
}

int rji_probe_judge(struct rj_probe *p, uint64_t guest_bytes)
{
	struct rji_judge j = { .probe = p, .guest_bytes = guest_bytes };

	judge_route(&j);
	judge_rdma_cm(&j);
	judge_devices(&j);
	judge_memlock(&j);
	judge_tcp_mtu(&j);
	judge_huge_pages(&j);
	judge_kvm(&j);
	judge_uffd(&j);
	sort(p);
	p->would_go = !p->n_problems || p->problems[0].severity != RJ_PROBE_STOPS;
	return j.ret;
}

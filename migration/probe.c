/* SPDX-License-Identifier: BSD-2-Clause */
#include <ramjet/probe.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/sysfs.h"
#include "base/uffd.h"
#include "migration/env_impl.h"
#include "migration/probe_impl.h"
#include "numa/locality.h"
#include "numa/machine.h"
#include "numa/pci_link.h"
#include "rdma/inventory.h"
#include "rdma/rdma.h"

static int try_open(const char *root, const char *file)
{
	char path[RJI_SYSFS_PATH];
	int fd;

	snprintf(path, sizeof(path), "%s%s", root, file);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int try_uffd(void)
{
	struct rji_uffd u;
	int ret = rji_uffd_open(&u);

	if (!ret)
		rji_uffd_close(&u);
	return ret;
}

static void look_at_machine(const char *root, struct rj_probe_machine *m)
{
	bool ipc_lock;

	rji_machine_look(root, m);
	rji_rdma_memlock_limit(&m->memlock_bytes, &ipc_lock);
	m->ipc_lock = ipc_lock;
	m->rdma_cm = try_open(root, "/dev/infiniband/rdma_cm");
	m->kvm = try_open(root, "/dev/kvm");
	m->uffd_wp = try_uffd();
}

static void place(const char *root, struct rj_probe_device *d)
{
	char sysfs[RJI_SYSFS_PATH], dir[2 * RJI_SYSFS_PATH];
	struct rji_pci_link link;

	snprintf(sysfs, sizeof(sysfs), "%s/sys", root);
	snprintf(dir, sizeof(dir), "%s/class/infiniband/%s", sysfs, d->name);
	d->node = rji_device_node_in(sysfs, dir);
	rji_node_cpus(root, d->node, d->node_cpus, sizeof(d->node_cpus));
	if (!d->pci[0])
		return;
	rji_pci_link(root, d->pci, &link);
	d->pcie_width = link.width;
	d->pcie_max_width = link.max_width;
	d->pcie_mt_per_s = link.mt_per_s;
	d->pcie_max_mt_per_s = link.max_mt_per_s;
	d->pcie_bits_per_s = rji_pcie_bits_per_s(link.width, link.mt_per_s);
}

static int look_at_devices(const char *root, const char *devices, struct rj_probe *p)
{
	int n = rji_inventory_take(root, devices, &p->devices);

	if (n < 0)
		return n;
	p->n_devices = (uint32_t)n;
	for (int i = 0; i < n; i++)
		place(root, &p->devices[i]);
	return 0;
}

static int look(const char *root, struct rj_env *env, const char *uri, struct rj_probe *p)
{
	int ret;

	look_at_machine(root, &p->machine);
	ret = look_at_devices(root, env->devices, p);
	if (ret || !uri)
		return ret;
	p->route = calloc(1, sizeof(*p->route));
	return p->route ? rji_probe_route(env, root, uri, p, p->route) : -ENOMEM;
}

int rji_probe_take(const char *root, struct rj_env *env, const char *uri, uint64_t guest_bytes,
		   struct rj_probe **probe_p)
{
	struct rj_probe *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	ret = look(root, env, uri, p);
	if (!ret)
		ret = rji_probe_judge(p, guest_bytes);
	if (ret)
		rj_probe_destroy(&p);
	else
		*probe_p = p;
	return ret;
}

int rj_probe_create(struct rj_env *env, const char *uri, uint64_t guest_bytes,
		    struct rj_probe **probe_p)
{
	if (!env || !probe_p)
		return -EINVAL;
	return rji_probe_take("", env, uri, guest_bytes, probe_p);
}

void rj_probe_destroy(struct rj_probe **probe_p)
{
	struct rj_probe *p;

	if (!probe_p || !*probe_p)
		return;
	p = *probe_p;
	rji_inventory_free(p->devices, (int)p->n_devices);
	if (p->route)
		free(p->route->lanes);
	free(p->route);
	free(p->problems);
	free(p);
	*probe_p = NULL;
}

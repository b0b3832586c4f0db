/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sysfs.h"
#include "rdma/inventory.h"

static uint32_t mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

static void look_at(struct ibv_context *ctx, struct rj_probe_device *d)
{
	struct ibv_device_attr attr;
	struct ibv_port_attr port;

	if (!ibv_query_device(ctx, &attr)) {
		d->max_mr_bytes = attr.max_mr_size;
		d->max_qp_wr = (uint32_t)attr.max_qp_wr;
		d->max_sge = (uint32_t)attr.max_sge;
		d->max_cqe = (uint32_t)attr.max_cqe;
	}
	for (uint32_t i = 0; i < d->n_ports; i++) {
		struct rj_probe_port *p = &d->ports[i];

		if (ibv_query_port(ctx, (uint8_t)p->number, &port))
			continue;
		p->active_mtu_bytes = mtu_bytes(port.active_mtu);
		p->max_mtu_bytes = mtu_bytes(port.max_mtu);
	}
}

/* Why verbs do not know a device that the kernel has. */
static int why_not(const char *root, const char *name)
{
	struct dirent **list;
	int n = rji_sysfs_names(root, &list, "/sys/class/infiniband_verbs");
	int ret = -ENODEV;

	for (int i = 0; i < n; i++) {
		const char *node = list[i]->d_name; /* uverbs0, and the file abi_version */
		char dev[64], path[RJI_SYSFS_PATH];

		if (rji_sysfs_text(root, dev, sizeof(dev), "/sys/class/infiniband_verbs/%s/ibdev",
				   node) ||
		    strcmp(dev, name))
			continue;
		snprintf(path, sizeof(path), "%s/dev/infiniband/%s", root, node);
		ret = access(path, R_OK | W_OK) && errno == EACCES ? -EACCES : -ENOTSUP;
	}
	rji_sysfs_names_free(list, n);
	return ret;
}

void rji_inventory_verbs(const char *root, struct rj_probe_device *list, int n)
{
	/* librdmacm's contexts, which are there already: rj_env_open(). */
	struct ibv_context **ctx = n ? rdma_get_devices(NULL) : NULL;

	for (int i = 0; i < n; i++) {
		struct rj_probe_device *d = &list[i];
		struct ibv_context **c = ctx;

		while (c && *c && strcmp(ibv_get_device_name((*c)->device), d->name))
			c++;
		if (c && *c)
			look_at(*c, d);
		else
			d->opened = why_not(root, d->name);
	}
	if (ctx)
		rdma_free_devices(ctx);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/inventory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysfs.h"
#include "rdma/device.h"
#include "rdma/port_rate.h"

#define CLASS "/sys/class/infiniband"

/* "0000:0000:0000:0000:0000:ffff:c000:0207" stands for 192.0.2.7. */
static void address_of(const char *gid, char *buf, size_t buf_bytes)
{
	struct in6_addr in6;

	if (inet_pton(AF_INET6, gid, &in6) != 1)
		return;
	if (IN6_IS_ADDR_V4MAPPED(&in6))
		inet_ntop(AF_INET, in6.s6_addr + 12, buf, (socklen_t)buf_bytes);
	else
		inet_ntop(AF_INET6, &in6, buf, (socklen_t)buf_bytes);
}

static bool is_zero(const char *gid)
{
	return !gid[strspn(gid, "0:")];
}

/* One entry of the table; false where it is not in use. */
static bool read_gid(const char *root, const char *dev, const struct rj_probe_port *p,
		     const char *index, struct rj_probe_gid *g)
{
	char type[32];

	memset(g, 0, sizeof(*g));
	if (rji_sysfs_text(root, g->gid, sizeof(g->gid), CLASS "/%s/ports/%u/gids/%s", dev,
			   p->number, index) ||
	    is_zero(g->gid))
		return false;
	g->index = (uint32_t)strtoul(index, NULL, 10);
	rji_sysfs_text(root, type, sizeof(type), CLASS "/%s/ports/%u/gid_attrs/types/%s", dev,
		       p->number, index);
	if (!strcmp(p->transport, "RoCE")) {
		snprintf(g->type, sizeof(g->type), "%s",
			 strcmp(type, "IB/RoCE v1") ? "RoCE v2" : "RoCE v1");
		address_of(g->gid, g->address, sizeof(g->address));
	} else {
		snprintf(g->type, sizeof(g->type), "IB");
	}
	return true;
}

static int read_gids(const char *root, const char *dev, struct rj_probe_port *p)
{
	struct dirent **list;
	int n = rji_sysfs_names(root, &list, CLASS "/%s/ports/%u/gids", dev, p->number);

	if (n <= 0)
		return 0;
	p->gids = calloc((size_t)n, sizeof(*p->gids));
	for (int i = 0; p->gids && i < n; i++) {
		if (read_gid(root, dev, p, list[i]->d_name, &p->gids[p->n_gids]))
			p->n_gids++;
	}
	rji_sysfs_names_free(list, n);
	return p->gids ? 0 : -ENOMEM;
}

/* How well an entry suits lanes when no address decides: rdma_cm takes RoCE v2, and routed addresses reach further. */
static int suits(const struct rj_probe_gid *g)
{
	bool local = !strncmp(g->address, "fe80:", 5);

	return 4 * !strcmp(g->type, "RoCE v2") + 2 * (g->address[0] && !local) +
	       (strchr(g->address, '.') != NULL);
}

int rji_inventory_choose_gid(struct rj_probe_port *p, const char *address)
{
	int best = -1;

	for (uint32_t i = 0; i < p->n_gids; i++) {
		p->gids[i].chosen = 0;
		if (*address && strcmp(p->gids[i].address, address))
			continue;
		if (best < 0 || suits(&p->gids[i]) > suits(&p->gids[best]))
			best = (int)i;
	}
	if (best >= 0)
		p->gids[best].chosen = 1;
	return best;
}

/* The netdev of a port: as its GIDs say, else software's parent, else the one below the same card. */
static void find_netdev(const char *root, const char *dev, struct rj_probe_port *p)
{
	struct dirent **list;
	int n;

	for (uint32_t i = 0; i < p->n_gids; i++) {
		if (!rji_sysfs_text(root, p->netdev, sizeof(p->netdev),
				    CLASS "/%s/ports/%u/gid_attrs/ndevs/%u", dev, p->number,
				    p->gids[i].index))
			return;
	}
	if (!rji_sysfs_text(root, p->netdev, sizeof(p->netdev), CLASS "/%s/parent", dev))
		return;
	n = rji_sysfs_names(root, &list, CLASS "/%s/device/net", dev);
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		int64_t port =
			rji_sysfs_number(root, 0, CLASS "/%s/device/net/%s/dev_port", dev, name);

		if (n == 1 || port + 1 == p->number)
			snprintf(p->netdev, sizeof(p->netdev), "%.15s", name);
	}
	rji_sysfs_names_free(list, n);
}

static void read_netdev(const char *root, struct rj_probe_port *p)
{
	char state[16];

	if (!p->netdev[0])
		return;
	p->netdev_mtu_bytes =
		(uint32_t)rji_sysfs_number(root, 0, "/sys/class/net/%s/mtu", p->netdev);
	/* "unknown" is what virtual netdevs say that are up. */
	rji_sysfs_text(root, state, sizeof(state), "/sys/class/net/%s/operstate", p->netdev);
	p->netdev_up = !strcmp(state, "up") || !strcmp(state, "unknown");
}

/* "4: ACTIVE" */
static void read_state(const char *root, const char *dev, uint32_t port, const char *file,
		       char *buf, size_t buf_bytes)
{
	const char *name;
	char text[64];

	rji_sysfs_text(root, text, sizeof(text), CLASS "/%s/ports/%u/%s", dev, port, file);
	name = strchr(text, ':');
	name = name ? name + 1 + strspn(name + 1, " ") : text;
	snprintf(buf, buf_bytes, "%.*s", (int)buf_bytes - 1, name);
}

static int read_port(const char *root, const char *dev, bool iwarp, struct rj_probe_port *p)
{
	char rate[64];
	int ret;

	read_state(root, dev, p->number, "state", p->state, sizeof(p->state));
	read_state(root, dev, p->number, "phys_state", p->phys_state, sizeof(p->phys_state));
	rji_sysfs_text(root, p->link_layer, sizeof(p->link_layer), CLASS "/%s/ports/%u/link_layer",
		       dev, p->number);
	snprintf(p->transport, sizeof(p->transport), "%s",
		 iwarp				     ? "iWARP"
		 : strcmp(p->link_layer, "Ethernet") ? "InfiniBand"
						     : "RoCE");
	rji_sysfs_text(root, rate, sizeof(rate), CLASS "/%s/ports/%u/rate", dev, p->number);
	rji_port_take_rate(rate, p);
	ret = read_gids(root, dev, p);
	find_netdev(root, dev, p);
	read_netdev(root, p);
	rji_inventory_choose_gid(p, "");
	return ret;
}

static int read_ports(const char *root, struct rj_probe_device *d)
{
	bool iwarp = rji_sysfs_number(root, 1, CLASS "/%s/node_type", d->name) == 4;
	struct dirent **list;
	int ret = 0;
	int n = rji_sysfs_names(root, &list, CLASS "/%s/ports", d->name);

	if (n <= 0)
		return 0;
	d->ports = calloc((size_t)n, sizeof(*d->ports));
	if (!d->ports)
		ret = -ENOMEM;
	for (int i = 0; !ret && i < n; i++) {
		d->ports[i].number = (uint32_t)strtoul(list[i]->d_name, NULL, 10);
		d->n_ports++;
		ret = read_port(root, d->name, iwarp, &d->ports[i]);
	}
	rji_sysfs_names_free(list, n);
	return ret;
}

static int read_device(const char *root, const char *name, struct rj_probe_device *d)
{
	snprintf(d->name, sizeof(d->name), "%.63s", name);
	rji_sysfs_text(root, d->firmware, sizeof(d->firmware), CLASS "/%s/fw_ver", name);
	/* rxe and siw have no bus device below them. */
	d->software = !rji_sysfs_exists(root, CLASS "/%s/device", name);
	rji_sysfs_link(root, d->pci, sizeof(d->pci), CLASS "/%s/device", name);
	d->node = -1;
	return read_ports(root, d);
}

int rji_inventory_sysfs(const char *root, struct rj_probe_device **list_p)
{
	struct rj_probe_device *d = NULL;
	struct dirent **names;
	int n = rji_sysfs_names(root, &names, CLASS);
	int ret = 0;

	if (n > 0) {
		d = calloc((size_t)n, sizeof(*d));
		ret = d ? 0 : -ENOMEM;
	}
	for (int i = 0; !ret && i < n; i++)
		ret = read_device(root, names[i]->d_name, &d[i]);
	rji_sysfs_names_free(names, n);
	if (ret) {
		rji_inventory_free(d, d ? n : 0);
		return ret;
	}
	*list_p = d;
	return n > 0 ? n : 0;
}

int rji_inventory_take(const char *root, const char *devices, struct rj_probe_device **list_p)
{
	struct rj_probe_device *d;
	int n = rji_inventory_sysfs(root, &d);

	if (n < 0)
		return n;
	rji_inventory_verbs(root, d, n);
	for (int i = 0; i < n; i++) {
		d[i].allowed = rji_rdma_device_allowed(devices, d[i].name);
		for (uint32_t k = 0; k < d[i].n_ports; k++)
			rji_port_conclude(&d[i].ports[k]);
	}
	*list_p = d;
	return n;
}

void rji_inventory_free(struct rj_probe_device *list, int n)
{
	for (int i = 0; i < n; i++) {
		for (uint32_t k = 0; k < list[i].n_ports; k++)
			free(list[i].ports[k].gids);
		free(list[i].ports);
	}
	free(list);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/device.h"

#include <errno.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rdma/rdma.h"

const char *rji_rdma_next_name(const char **list, size_t *len_p)
{
	const char *name = *list + strspn(*list, ", ");

	*len_p = strcspn(name, ", ");
	*list = name + *len_p;
	return *len_p ? name : NULL;
}

bool rji_rdma_device_allowed(const char *devices, const char *name)
{
	const char *item;
	size_t len;

	if (!devices || !*devices)
		return true;
	while ((item = rji_rdma_next_name(&devices, &len)))
		if (len == strlen(name) && !memcmp(item, name, len))
			return true;
	return false;
}

/* In units of 100 Mb/s: IBTA vol. 1, 14.2.5.6 PortInfo.LinkSpeedActive and LinkWidthActive. */
static unsigned int lane_speed(uint8_t active_speed)
{
	switch (active_speed) {
	case 1: return 25;     /* SDR */
	case 2: return 50;     /* DDR */
	case 4:		       /* QDR */
	case 8: return 100;    /* FDR10 */
	case 16: return 140;   /* FDR */
	case 32: return 250;   /* EDR */
	case 64: return 500;   /* HDR */
	case 128: return 1000; /* NDR */
	default: return 0;
	}
}

static unsigned int lanes_of_width(uint8_t active_width)
{
	switch (active_width) {
	case 1: return 1;
	case 2: return 4;
	case 4: return 8;
	case 8: return 12;
	case 16: return 2;
	default: return 0;
	}
}

uint64_t rji_rdma_port_rate(const struct ibv_port_attr *port)
{
	return 100000000ull * lane_speed(port->active_speed) * lanes_of_width(port->active_width);
}

/* rxe and siw have no bus device below them, only a parent netdev. */
bool rji_rdma_is_software(const struct ibv_context *ctx)
{
	char path[IBV_SYSFS_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/device", ctx->device->ibdev_path);
	return access(path, F_OK) != 0;
}

/* What the active ports have in common; false without one. */
static bool probe_ports(struct rji_rdma_device *d, uint8_t n_ports)
{
	struct ibv_port_attr port;
	bool active = false;
	uint64_t rate;

	for (unsigned int i = 1; i <= n_ports; i++) {
		if (ibv_query_port(d->ctx, (uint8_t)i, &port) || port.state != IBV_PORT_ACTIVE)
			continue;
		active = true;
		rate = rji_rdma_port_rate(&port);
		if (rate > d->rate_bps)
			d->rate_bps = rate;
		if (port.max_msg_sz && port.max_msg_sz < d->max_msg_bytes)
			d->max_msg_bytes = port.max_msg_sz;
	}
	return active;
}

static bool probe(struct rji_rdma_device *d, struct ibv_context *ctx)
{
	struct ibv_device_attr attr;

	memset(d, 0, sizeof(*d));
	d->ctx = ctx;
	snprintf(d->name, sizeof(d->name), "%s", ibv_get_device_name(ctx->device));
	if (ibv_query_device(ctx, &attr))
		return false;
	d->software = rji_rdma_is_software(ctx);
	d->iwarp = ctx->device->transport_type == IBV_TRANSPORT_IWARP;
	atomic_init(&d->relaxed, true);
	d->max_mr_bytes = attr.max_mr_size;
	d->max_qp_wr = (uint32_t)attr.max_qp_wr;
	d->max_cqe = (uint32_t)attr.max_cqe;
	d->max_msg_bytes = UINT32_MAX;
	return probe_ports(d, attr.phys_port_cnt);
}

static int no_device(int n_found, const char *devices, struct rj_error *err)
{
	if (n_found)
		return rji_fail(
			err, RJ_E_NO_RDMA,
			"none of the %d RDMA devices is %s%s and has an active port: see 'rdma link'",
			n_found, devices && *devices ? "one of " : "allowed",
			devices && *devices ? devices : "");
	return rji_fail(
		err, RJ_E_NO_RDMA,
		"no RDMA device here: load its driver and rdma_ucm, or make a software one with "
		"'rdma link add rxe0 type rxe netdev NETDEV', or use tcp://");
}

int rji_rdma_devices(const char *devices, struct rji_rdma_device *dev, struct rj_error *err)
{
	struct ibv_context **list;
	int n_found = 0;
	int n = 0;

	list = rdma_get_devices(&n_found);
	if (!list)
		return no_device(0, devices, err);
	for (int i = 0; i < n_found && n < RJI_RDMA_MAX_DEVICES; i++) {
		const char *name = ibv_get_device_name(list[i]->device);

		if (rji_rdma_device_allowed(devices, name) && probe(&dev[n], list[i]))
			n++;
	}
	rdma_free_devices(list);
	return n ? n : no_device(n_found, devices, err);
}

static bool is_there(struct ibv_context **list, const char *name, size_t len)
{
	for (; list && *list; list++) {
		const char *have = ibv_get_device_name((*list)->device);

		if (strlen(have) == len && !memcmp(have, name, len))
			return true;
	}
	return false;
}

int rji_rdma_open_devices(const char *devices, struct rj_error *err)
{
	/* Opens them all and keeps them open in librdmacm, for the process's life. */
	struct ibv_context **list = rdma_get_devices(NULL);
	const char *name;
	int ret = 0;
	size_t len;

	while (!ret && devices && (name = rji_rdma_next_name(&devices, &len)))
		if (!is_there(list, name, len))
			ret = rji_fail(err, -EINVAL,
				       "there is no RDMA device %.*s: see 'rdma link'", (int)len,
				       name);
	if (list)
		rdma_free_devices(list);
	return ret;
}

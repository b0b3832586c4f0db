/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/verbs_shim/shim_internal.h"

/* Devices, protection domains, registrations. */

#undef ibv_reg_mr
#undef ibv_query_port

struct shim_device shim_device[SHIM_MAX_DEVICES];
struct shim_mr *shim_mrs;

static char sysfs[64];
static uint32_t next_key;

struct shim_pd {
	struct ibv_pd base;
	uint32_t n_users;
};

int shim_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
int shim_req_notify_cq(struct ibv_cq *cq, int solicited_only);
int shim_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int shim_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
void shim_pd_use(struct ibv_pd *pd, int change);

void shim_devices_init(void)
{
	char path[128];

	snprintf(sysfs, sizeof(sysfs), "/tmp/verbs_shim.XXXXXX");
	if (!mkdtemp(sysfs))
		abort();
	snprintf(path, sizeof(path), "%s/device", sysfs);
	if (shim_config.hardware && mkdir(path, 0700))
		abort();
	next_key = (uint32_t)shim_random() & 0xffff;
	for (uint32_t i = 0; i < shim_config.n_devices; i++) {
		struct shim_device *d = &shim_device[i];

		memset(d, 0, sizeof(*d));
		snprintf(d->dev.name, sizeof(d->dev.name), "shim%u", i);
		snprintf(d->dev.ibdev_path, sizeof(d->dev.ibdev_path), "%s", sysfs);
		d->dev.transport_type = IBV_TRANSPORT_IB;
		d->ctx.device = &d->dev;
		d->ctx.num_comp_vectors = 2;
		d->ctx.ops.poll_cq = shim_poll_cq;
		d->ctx.ops.req_notify_cq = shim_req_notify_cq;
		d->ctx.ops.post_send = shim_post_send;
		d->ctx.ops.post_recv = shim_post_recv;
	}
}

void shim_devices_fini(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/device", sysfs);
	rmdir(path);
	rmdir(sysfs);
}

struct ibv_context **rdma_get_devices(int *num_devices)
{
	struct ibv_context **list = NULL;
	uint32_t n = shim_config.n_devices;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_GET_DEVICES)) {
		errno = ENODEV;
		n = 0;
	} else {
		list = calloc(n + 1, sizeof(struct ibv_context *));
		for (uint32_t i = 0; i < n; i++)
			list[i] = &shim_device[i].ctx;
		shim_object("device lists", 1);
	}
	if (num_devices)
		*num_devices = (int)n;
	pthread_mutex_unlock(&shim_lock);
	return list;
}

void rdma_free_devices(struct ibv_context **list)
{
	pthread_mutex_lock(&shim_lock);
	shim_object("device lists", -1);
	pthread_mutex_unlock(&shim_lock);
	free(list);
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	bool fail;

	pthread_mutex_lock(&shim_lock);
	fail = shim_fault(SHIM_QUERY_DEVICE);
	pthread_mutex_unlock(&shim_lock);
	if (fail)
		return EIO;
	memset(attr, 0, sizeof(*attr));
	attr->max_mr_size = shim_config.max_mr_bytes ? shim_config.max_mr_bytes : UINT64_MAX;
	attr->max_qp_wr = shim_config.max_qp_wr ? (int)shim_config.max_qp_wr : 4096;
	attr->max_cqe = 32767;
	attr->phys_port_cnt = 1;
	return 0;
}

int ibv_query_port(struct ibv_context *context, uint8_t port_num,
		   struct _compat_ibv_port_attr *compat)
{
	struct ibv_port_attr *attr = (void *)compat;
	bool fail;

	pthread_mutex_lock(&shim_lock);
	fail = shim_fault(SHIM_QUERY_PORT);
	pthread_mutex_unlock(&shim_lock);
	if (fail)
		return EIO;
	if (port_num != 1)
		return EINVAL;
	attr->state = IBV_PORT_ACTIVE;
	attr->max_msg_sz = shim_config.max_msg_bytes ? shim_config.max_msg_bytes : 1u << 31;
	attr->active_width = 2;
	attr->active_speed = 32;
	return 0;
}

int ibv_query_gid(struct ibv_context *context, uint8_t port_num, int index, union ibv_gid *gid)
{
	return ENODATA;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct shim_pd *pd = NULL;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_ALLOC_PD)) {
		errno = ENOMEM;
	} else {
		pd = calloc(1, sizeof(*pd));
		pd->base.context = context;
		shim_object("protection domains", 1);
	}
	pthread_mutex_unlock(&shim_lock);
	return pd ? &pd->base : NULL;
}

void shim_pd_use(struct ibv_pd *pd, int change)
{
	((struct shim_pd *)pd)->n_users += (uint32_t)change;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	if (((struct shim_pd *)pd)->n_users)
		shim_broken("a protection domain is freed with %u users",
			    ((struct shim_pd *)pd)->n_users);
	pthread_mutex_lock(&shim_lock);
	shim_object("protection domains", -1);
	pthread_mutex_unlock(&shim_lock);
	free(pd);
	return 0;
}

static int check_registration(size_t length, unsigned int access)
{
	if (shim_fault(SHIM_REG_MR))
		return ENOMEM;
	if (!length)
		return EINVAL;
	if (shim_config.max_mr_bytes && length > shim_config.max_mr_bytes)
		return EINVAL;
	if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) &&
	    !(access & IBV_ACCESS_LOCAL_WRITE))
		return EINVAL;
	if (access & IBV_ACCESS_RELAXED_ORDERING && shim_config.refuse_relaxed)
		return EOPNOTSUPP;
	if (shim_config.pin_limit && shim_count.registered_bytes + length > shim_config.pin_limit)
		return ENOMEM;
	return 0;
}

static struct ibv_mr *reg(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			  unsigned int access)
{
	struct shim_mr *mr = NULL;
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = check_registration(length, access);
	if (!ret) {
		mr = calloc(1, sizeof(*mr));
		mr->base = (struct ibv_mr){
			.context = pd->context,
			.pd = pd,
			.addr = addr,
			.length = length,
		};
		mr->iova = iova;
		mr->access = access;
		mr->base.lkey = ++next_key << 8 | (uint32_t)(shim_random() & 0xff);
		if (access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ))
			mr->base.rkey = mr->base.lkey;
		mr->next = shim_mrs;
		shim_mrs = mr;
		shim_pd_use(pd, 1);
		shim_count.registered_bytes += length;
		if (shim_count.registered_bytes > shim_count.max_registered_bytes)
			shim_count.max_registered_bytes = shim_count.registered_bytes;
		if (length > shim_count.max_mr_bytes)
			shim_count.max_mr_bytes = length;
		shim_object("registrations", 1);
	}
	pthread_mutex_unlock(&shim_lock);
	errno = ret ? ret : errno;
	return mr ? &mr->base : NULL;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return reg(pd, addr, length, (uintptr_t)addr, (unsigned int)access);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	if ((iova ^ (uintptr_t)addr) & 4095)
		shim_broken("iova and address of a registration differ below the page size");
	if (shim_config.on_registration)
		shim_config.on_registration(addr, length);
	return reg(pd, addr, length, iova, access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	struct shim_mr **at = &shim_mrs;

	pthread_mutex_lock(&shim_lock);
	while (*at && &(*at)->base != mr)
		at = &(*at)->next;
	if (!*at)
		shim_broken("a registration is given back twice");
	*at = (*at)->next;
	shim_count.registered_bytes -= mr->length;
	shim_pd_use(mr->pd, -1);
	shim_object("registrations", -1);
	pthread_mutex_unlock(&shim_lock);
	free(mr);
	return 0;
}

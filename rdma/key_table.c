/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/key_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "rdma/lane_hello.h"

#define MIN_SHIFT 12
#define MAX_SHIFT 40

int rji_rdma_put_keys(const struct rji_rdma_region *r, const uint32_t *device, uint32_t n_devices,
		      void *buf, size_t buf_bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, buf_bytes);
	rji_put_u16(&c, RJI_RDMA_VERSION);
	rji_put_u16(&c, (uint16_t)n_devices);
	rji_put_u32(&c, 0);
	rji_put_u64(&c, r->base);
	rji_put_u64(&c, r->len_bytes);
	for (uint32_t i = 0; i < n_devices; i++) {
		const struct rji_rdma_chunks *chunks = &r->local[device[i]];

		rji_put_u32(&c, chunks->shift);
		rji_put_u32(&c, chunks->n);
		for (uint32_t k = 0; k < chunks->n; k++)
			rji_put_u32(&c, chunks->mr[k]->rkey);
	}
	return c.bad ? -ENOSPC : (int)c.pos;
}

static int get_device(struct rji_cursor *c, uint64_t base, uint64_t len_bytes,
		      struct rji_rdma_remote *remote_p)
{
	struct rji_rdma_remote remote = { 0 };

	remote.shift = rji_get_u32(c);
	remote.n = rji_get_u32(c);
	if (c->bad || remote.shift < MIN_SHIFT || remote.shift > MAX_SHIFT ||
	    base >= 1ull << remote.shift)
		return RJ_E_PROTOCOL;
	/* Only the one number of chunks that covers the region; and never more memory than bytes have come. */
	if (remote.n != rji_rdma_n_chunks(base, len_bytes, remote.shift) ||
	    remote.n > rji_cursor_left(c) / sizeof(*remote.rkey))
		return RJ_E_PROTOCOL;
	remote.rkey = malloc(remote.n * sizeof(*remote.rkey));
	if (!remote.rkey)
		return -ENOMEM;
	for (uint32_t k = 0; k < remote.n; k++)
		remote.rkey[k] = rji_get_u32(c);
	*remote_p = remote;
	return 0;
}

static int get_head(struct rji_cursor *c, const struct rji_rdma_region *r, uint32_t *n_p,
		    uint64_t *base_p)
{
	uint16_t version = rji_get_u16(c);
	uint16_t n = rji_get_u16(c);
	uint32_t zero = rji_get_u32(c);
	uint64_t base = rji_get_u64(c);
	uint64_t len = rji_get_u64(c);

	if (c->bad)
		return RJ_E_PROTOCOL;
	if (version != RJI_RDMA_VERSION)
		return RJ_E_VERSION;
	if (len != r->len_bytes)
		return RJ_E_REGION;
	if (zero || n == 0 || n > RJI_RDMA_MAX_DEVICES || base >= RJI_RDMA_HUGE_BYTES)
		return RJ_E_PROTOCOL;
	*n_p = n;
	*base_p = base;
	return 0;
}

static void free_remotes(struct rji_rdma_remote *remote, uint32_t n)
{
	while (n--)
		free(remote[n].rkey);
}

void rji_rdma_drop_keys(struct rji_rdma_region *r)
{
	free_remotes(r->remote, r->n_remote);
	r->n_remote = 0;
}

int rji_rdma_get_keys(struct rji_rdma_region *r, const void *keys, size_t len_bytes)
{
	struct rji_rdma_remote remote[RJI_RDMA_MAX_DEVICES];
	struct rji_cursor c;
	uint32_t n, got = 0;
	uint64_t base;
	int ret;

	rji_cursor_init_const(&c, keys, len_bytes);
	ret = get_head(&c, r, &n, &base);
	while (!ret && got < n) {
		ret = get_device(&c, base, r->len_bytes, &remote[got]);
		if (!ret)
			got++;
	}
	if (!ret && !rji_cursor_done(&c))
		ret = RJ_E_PROTOCOL;
	if (ret) {
		free_remotes(remote, got);
		return ret;
	}
	rji_rdma_drop_keys(r);
	memcpy(r->remote, remote, n * sizeof(*remote));
	r->n_remote = n;
	r->peer_base = base;
	return 0;
}

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
		      enum rji_rdma_key_mode mode, void *buf, size_t buf_bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, buf_bytes);
	rji_put_u16(&c, RJI_RDMA_VERSION);
	rji_put_u16(&c, (uint16_t)n_devices);
	rji_put_u32(&c, mode);
	rji_put_u64(&c, r->base);
	rji_put_u64(&c, r->len_bytes);
	if (mode == RJI_RDMA_KEYS_ON_DEMAND)
		rji_put_u64(&c, n_devices ? r->here[device[0]].pool->room_bytes : 0);
	for (uint32_t i = 0; i < n_devices; i++) {
		const struct rji_rdma_window_table *t = &r->here[device[i]];

		rji_put_u32(&c, t->shift);
		rji_put_u32(&c, t->n);
		for (uint32_t k = 0; mode != RJI_RDMA_KEYS_ON_DEMAND && k < t->n; k++)
			rji_put_u32(&c,
				    atomic_load_explicit(&t->window[k].key, memory_order_relaxed));
	}
	return c.bad ? -ENOSPC : (int)c.pos;
}

/* What a table says, before anything is made of it. */
struct parsed {
	enum rji_rdma_key_mode mode;
	uint32_t n_devices;
	uint64_t base, room_bytes;
	struct {
		uint32_t shift, n;
		const uint8_t *keys; /* NULL: on demand */
	} device[RJI_RDMA_MAX_DEVICES];
};

static int get_device(struct rji_cursor *c, struct parsed *p, uint32_t i, uint64_t len_bytes)
{
	uint32_t shift = rji_get_u32(c);
	uint32_t n = rji_get_u32(c);

	if (c->bad || shift < MIN_SHIFT || shift > MAX_SHIFT || p->base >= 1ull << shift)
		return RJ_E_PROTOCOL;
	/* Only the one number of windows that covers the region. */
	if (n != rji_rdma_n_windows(p->base, len_bytes, shift))
		return RJ_E_PROTOCOL;
	p->device[i].shift = shift;
	p->device[i].n = n;
	p->device[i].keys = NULL;
	if (p->mode == RJI_RDMA_KEYS_ON_DEMAND)
		return 0;
	if (n > rji_cursor_left(c) / sizeof(uint32_t))
		return RJ_E_PROTOCOL;
	p->device[i].keys = rji_get_view(c, n * sizeof(uint32_t));
	return 0;
}

static int get_head(struct rji_cursor *c, const struct rji_rdma_region *r, struct parsed *p)
{
	uint16_t version = rji_get_u16(c);
	uint16_t n = rji_get_u16(c);
	uint32_t mode = rji_get_u32(c);
	uint64_t base = rji_get_u64(c);
	uint64_t len = rji_get_u64(c);

	if (c->bad)
		return RJ_E_PROTOCOL;
	if (version != RJI_RDMA_VERSION)
		return RJ_E_VERSION;
	if (len != r->len_bytes)
		return RJ_E_REGION;
	if (mode > RJI_RDMA_KEYS_ON_DEMAND || n == 0 || n > RJI_RDMA_MAX_DEVICES ||
	    base >= RJI_RDMA_HUGE_BYTES)
		return RJ_E_PROTOCOL;
	*p = (struct parsed){ .mode = mode, .n_devices = n, .base = base };
	if (mode == RJI_RDMA_KEYS_ON_DEMAND)
		p->room_bytes = rji_get_u64(c);
	return c->bad ? RJ_E_PROTOCOL : 0;
}

static int parse(struct parsed *p, const struct rji_rdma_region *r, const void *keys,
		 size_t len_bytes)
{
	struct rji_cursor c;
	int ret;

	rji_cursor_init_const(&c, keys, len_bytes);
	ret = get_head(&c, r, p);
	for (uint32_t i = 0; !ret && i < p->n_devices; i++)
		ret = get_device(&c, p, i, r->len_bytes);
	return !ret && !rji_cursor_done(&c) ? RJ_E_PROTOCOL : ret;
}

static int fill(struct rji_rdma_window_table *t, const struct parsed *p, const uint8_t *keys)
{
	struct rji_cursor c;

	if (!keys)
		return 0;
	rji_cursor_init_const(&c, keys, (size_t)t->n * sizeof(uint32_t));
	for (uint32_t k = 0; k < t->n; k++) {
		uint32_t key = rji_get_u32(&c);

		if (!key && p->mode != RJI_RDMA_KEYS_COME)
			return RJ_E_PROTOCOL;
		if (key && rji_rdma_windows_take(&t->window[k]))
			rji_rdma_windows_came(&t->window[k], key);
	}
	return 0;
}

static int make_table(struct rji_rdma_region *r, struct rji_rdma_window_pool *pool, uint32_t i,
		      const struct parsed *p)
{
	struct rji_rdma_window_table *t = &r->there[i];
	int ret;

	*t = (struct rji_rdma_window_table){
		.owner = r,
		.region = r->id,
		.device = i,
		.shift = p->device[i].shift,
		.n = p->device[i].n,
		.base = p->base,
		.len_bytes = r->len_bytes,
		.unasked = p->mode == RJI_RDMA_KEYS_COME,
	};
	ret = rji_rdma_window_table_init(t, pool);
	if (!ret) {
		pthread_mutex_lock(&pool->lock);
		ret = fill(t, p, p->device[i].keys);
		pthread_mutex_unlock(&pool->lock);
	}
	return ret;
}

/* The room is told with each region, and one for all. */
static int check_room(const struct rji_rdma_window_pool *pool, const struct parsed *p,
		      uint32_t n_lanes)
{
	bool on_demand = p->mode == RJI_RDMA_KEYS_ON_DEMAND;
	uint64_t room = on_demand ? p->room_bytes : RJI_RDMA_NO_LIMIT;
	uint32_t lanes = n_lanes ? n_lanes : 1;

	if (pool->n_tables && pool->room_bytes != room)
		return RJ_E_PROTOCOL;
	for (uint32_t i = 0; i < p->n_devices; i++)
		if (room >> p->device[i].shift < lanes)
			return RJ_E_MEMLOCK;
	return 0;
}

void rji_rdma_drop_keys(struct rji_rdma_region *r)
{
	while (r->n_there) {
		struct rji_rdma_window_table *t = &r->there[--r->n_there];
		struct rji_rdma_window_pool *pool = t->pool;

		pthread_mutex_lock(&pool->lock);
		rji_rdma_window_table_fini(t);
		pthread_mutex_unlock(&pool->lock);
	}
}

int rji_rdma_get_keys(struct rji_rdma_region *r, struct rji_rdma_window_pool *pool,
		      uint32_t n_lanes, const void *keys, size_t len_bytes)
{
	struct parsed p;
	int ret = parse(&p, r, keys, len_bytes);

	rji_rdma_drop_keys(r);
	if (!ret)
		ret = check_room(pool, &p, n_lanes);
	if (ret)
		return ret;
	if (!pool->n_tables && p.mode == RJI_RDMA_KEYS_ON_DEMAND)
		rji_rdma_window_pool_limit(pool, p.room_bytes, p.device[0].shift, n_lanes);
	r->peer_base = p.base;
	for (uint32_t i = 0; !ret && i < p.n_devices; i++) {
		r->n_there = i + 1;
		ret = make_table(r, pool, i, &p);
	}
	if (ret)
		rji_rdma_drop_keys(r);
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/registration.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/key_table.h"
#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"

/*
 * Regions and what is registered of them, as a whole; single windows are the registrar's. Two threads come here: the session's, one
 * at a time, and the VMM's with unpin and repin (the session keeps them apart). Lanes never do.
 */

/* In the background, more than this many windows of a region make a key table that is long for no use. */
#define MANY_WINDOWS 1024

uint32_t rji_rdma_window_shift(uint64_t max_mr_bytes, uint32_t most)
{
	uint32_t shift = most;

	while (shift >= 12 && 1ull << shift > max_mr_bytes)
		shift--;
	return shift >= 12 ? shift : 0;
}

/* For each lane: one it is in, one it has just left, two ahead of it. */
uint32_t rji_rdma_cap_shift(uint64_t cap_bytes, uint32_t n_lanes)
{
	uint32_t shift = RJI_RDMA_WINDOW_SHIFT;

	while (shift > RJI_RDMA_MIN_WINDOW_SHIFT && (uint64_t)n_lanes << (shift + 2) > cap_bytes)
		shift--;
	return shift;
}

uint64_t rji_rdma_least_cap(uint32_t n_lanes)
{
	return n_lanes * ((1ull << RJI_RDMA_MIN_WINDOW_SHIFT) + RJI_RDMA_CONTROL_BYTES);
}

uint32_t rji_rdma_lanes_for_cap(uint64_t cap_bytes)
{
	uint64_t n = cap_bytes / rji_rdma_least_cap(1);

	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* Lazily without a cap: a limit on locked memory is one. */
static uint64_t cap_of(const struct rji_rdma_transport *tp)
{
	uint64_t left = rji_rdma_memlock_left();

	if (tp->pin_cap_bytes || left == RJI_RDMA_NO_LIMIT)
		return tp->pin_cap_bytes ? tp->pin_cap_bytes : RJI_RDMA_NO_LIMIT;
	rji_log(tp->host, RJ_LOG_INFO,
		"rdma: no more than %" PRIu64 " bytes are registered at once: the memlock limit",
		left);
	return left;
}

int rji_rdma_plan_windows(struct rji_rdma_transport *tp, struct rj_error *err)
{
	struct rji_rdma_memory *m = &tp->memory;
	uint32_t n_lanes = tp->n_lanes ? tp->n_lanes : 1;
	uint64_t messages = n_lanes * RJI_RDMA_CONTROL_BYTES;
	uint64_t least = rji_rdma_least_cap(n_lanes);
	uint64_t cap;

	m->shift_most = RJI_RDMA_WINDOW_SHIFT;
	if (!tp->lazy)
		return 0;
	cap = cap_of(tp);
	if (cap < least)
		return rji_fail(err, RJ_E_MEMLOCK,
				"%" PRIu64
				" bytes of pinned memory are too little: %u lanes need %" PRIu64
				" at least; allow more (--pin-cap, ulimit -l) or use fewer lanes",
				cap, n_lanes, least);
	if (cap == RJI_RDMA_NO_LIMIT)
		return 0;
	m->shift_most = rji_rdma_cap_shift(cap - messages, n_lanes);
	rji_rdma_window_pool_limit(&m->here, cap - messages, m->shift_most, n_lanes);
	return 0;
}

static uint32_t window_shift(const struct rji_rdma_transport *tp, uint32_t device,
			     uint64_t len_bytes)
{
	uint32_t most = tp->memory.shift_most;

	if (tp->is_destination && !tp->background)
		most = RJI_RDMA_COMPLETE_SHIFT;
	while (tp->is_destination && !tp->lazy && most < RJI_RDMA_COMPLETE_SHIFT &&
	       len_bytes >> most > MANY_WINDOWS)
		most++;
	return rji_rdma_window_shift(tp->device[device].max_mr_bytes, most);
}

/* --- a region on a device --- */

/* Is nothing of a table registered, or on the way? */
static bool is_empty(const void *arg)
{
	const struct rji_rdma_window_table *t = arg;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->window[i].state != RJI_RDMA_WINDOW_ABSENT)
			return false;
	return true;
}

/* Has all of it come that will? */
static bool is_settled(const void *arg)
{
	const struct rji_rdma_window_table *t = arg;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct rji_rdma_window *w = &t->window[i];

		if (w->state == RJI_RDMA_WINDOW_COMING ||
		    (w->list != RJI_RDMA_LIST_NONE && !t->pool->failure.code))
			return false;
	}
	return true;
}

static void region_leave(struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i)
{
	struct rji_rdma_window_table *t = &r->here[i];

	if (!t->window)
		return;
	pthread_mutex_lock(&t->pool->lock);
	for (uint32_t k = 0; k < t->n; k++)
		rji_rdma_windows_block(&t->window[k]);
	rji_rdma_registrar_help(tp, is_empty, t);
	rji_rdma_window_table_fini(t);
	pthread_mutex_unlock(&tp->memory.here.lock);
}

/* Set off the registration of all of it, and see it through where nobody can be told later. */
static int register_all(struct rji_rdma_transport *tp, struct rji_rdma_window_table *t,
			struct rj_error *err)
{
	int ret = 0;

	pthread_mutex_lock(&t->pool->lock);
	rji_rdma_windows_all(t);
	if (!tp->background) {
		rji_rdma_registrar_help(tp, is_settled, t);
		ret = t->pool->failure.code;
		if (ret && err && !err->code)
			*err = t->pool->failure;
	}
	pthread_mutex_unlock(&t->pool->lock);
	return ret;
}

/* Make a region known to device i. */
static int region_enter(struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i,
			struct rj_error *err)
{
	struct rji_rdma_window_table *t = &r->here[i];
	int ret;

	*t = (struct rji_rdma_window_table){
		.owner = r,
		.region = r->id,
		.device = i,
		.shift = window_shift(tp, i, r->len_bytes),
		.base = r->base,
		.len_bytes = r->len_bytes,
	};
	if (!t->shift)
		return rji_fail(err, RJ_E_NO_RDMA,
				"%s registers no more than %" PRIu64 " bytes at once",
				tp->device[i].name, tp->device[i].max_mr_bytes);
	t->n = (uint32_t)rji_rdma_n_windows(r->base, r->len_bytes, t->shift);
	ret = rji_rdma_window_table_init(t, &tp->memory.here);
	if (ret)
		return rji_fail(err, ret, "no memory for %u windows", t->n);
	rji_rdma_registrar_locate(tp, t);
	ret = rji_rdma_registrar_start(tp, err);
	if (!ret && !tp->lazy)
		ret = register_all(tp, t, err);
	if (ret)
		region_leave(tp, r, i);
	return ret;
}

/* --- devices --- */

static int alloc_pd(struct rji_rdma_device *dev, struct rj_error *err)
{
	dev->pd = ibv_alloc_pd(dev->ctx);
	if (!dev->pd)
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "no protection domain of %s",
				    dev->name);
	return 0;
}

int rji_rdma_attach(struct rji_rdma_transport *tp, uint32_t i, struct rj_error *err)
{
	struct rji_rdma_device *dev = &tp->device[i];
	uint32_t id;
	int ret;

	if (dev->attached)
		return 0;
	ret = alloc_pd(dev, err);
	for (id = 0; !ret && id < RJI_RDMA_MAX_REGIONS; id++)
		if (tp->memory.region[id])
			ret = region_enter(tp, tp->memory.region[id], i, err);
	if (!ret) {
		dev->attached = true;
		return 0;
	}
	while (id--)
		if (tp->memory.region[id])
			region_leave(tp, tp->memory.region[id], i);
	if (dev->pd)
		ibv_dealloc_pd(dev->pd);
	dev->pd = NULL;
	return ret;
}

void rji_rdma_detach_all(struct rji_rdma_transport *tp)
{
	for (uint32_t i = 0; i < tp->n_devices; i++) {
		struct rji_rdma_device *dev = &tp->device[i];
		int ret = dev->attached ? ibv_dealloc_pd(dev->pd) : 0;

		if (ret)
			rji_log(tp->host, RJ_LOG_ERROR,
				"rdma: the protection domain of %s is in use: %s", dev->name,
				strerrordesc_np(ret));
		dev->attached = false;
		dev->pd = NULL;
	}
}

static uint32_t n_attached(const struct rji_rdma_transport *tp)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < tp->n_devices; i++)
		n += tp->device[i].attached;
	return n;
}

/* --- regions --- */

static void region_free(struct rji_rdma_transport *tp, struct rji_rdma_region *r)
{
	for (uint32_t i = 0; i < tp->n_devices; i++)
		region_leave(tp, r, i);
	rji_rdma_drop_keys(r);
	free(r);
}

/* Where hear() looks, in another thread. */
static void publish(struct rji_rdma_transport *tp, uint32_t id, struct rji_rdma_region *r)
{
	pthread_mutex_lock(&tp->memory.here.lock);
	tp->memory.region[id] = r;
	pthread_mutex_unlock(&tp->memory.here.lock);
}

void rji_rdma_dereg_all(struct rji_transport *base)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);

	for (uint32_t id = 0; id < RJI_RDMA_MAX_REGIONS; id++) {
		struct rji_rdma_region *r = tp->memory.region[id];

		if (!r)
			continue;
		publish(tp, id, NULL);
		region_free(tp, r);
	}
}

/* Modulo a huge page, or the smallest window where that is less: the first window must not end before base. */
static uint64_t base_of(const struct rji_rdma_transport *tp, const struct rji_memory *m)
{
	uint64_t modulus = RJI_RDMA_HUGE_BYTES;

	for (uint32_t i = 0; i < tp->n_devices; i++) {
		uint32_t shift = window_shift(tp, i, m->len_bytes);

		if (shift && 1ull << shift < modulus)
			modulus = 1ull << shift;
	}
	return (uintptr_t)m->host % modulus;
}

static struct rji_rdma_region *region_new(const struct rji_rdma_transport *tp,
					  const struct rji_memory *m)
{
	struct rji_rdma_region *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->id = m->region;
	snprintf(r->name, sizeof(r->name), "%s", m->name ? m->name : "");
	r->host = m->host;
	r->len_bytes = m->len_bytes;
	r->base = base_of(tp, m);
	return r;
}

/* Everything registered at once must fit in what the operator allows. */
static int check_cap(const struct rji_rdma_transport *tp, const struct rji_memory *m,
		     struct rj_error *err)
{
	uint64_t need = (m->len_bytes + tp->given_bytes) * (n_attached(tp) ? n_attached(tp) : 1) +
			tp->n_lanes * RJI_RDMA_CONTROL_BYTES;

	if (tp->lazy || !tp->pin_cap_bytes || need <= tp->pin_cap_bytes)
		return 0;
	return rji_fail(
		err, RJ_E_MEMLOCK,
		"registering all memory needs %" PRIu64 " bytes at least, and %" PRIu64
		" are allowed: allow more (--pin-cap), or register lazily (--register lazy)",
		need, tp->pin_cap_bytes);
}

static int check_new_region(const struct rji_rdma_transport *tp, const struct rji_memory *m,
			    struct rj_error *err)
{
	if (m->region >= RJI_RDMA_MAX_REGIONS)
		return rji_fail(err, -EINVAL, "region %u: rdma takes %u regions at most", m->region,
				RJI_RDMA_MAX_REGIONS);
	if (tp->memory.region[m->region])
		return rji_fail(err, -EEXIST, "region %u is there already", m->region);
	if (!m->host || !m->len_bytes)
		return rji_fail(err, -EINVAL, "region %u has no memory", m->region);
	if (tp->lazy) /* plan_windows() has seen to it */
		return 0;
	if (check_cap(tp, m, err))
		return RJ_E_MEMLOCK;
	return rji_rdma_memlock(m->name,
				(m->len_bytes + tp->given_bytes) * n_attached(tp) -
					rji_rdma_pinned_now(tp),
				0, false, err);
}

int rji_rdma_reg(struct rji_transport *base, const struct rji_memory *m, _Atomic uint64_t *done,
		 struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r;
	int ret = check_new_region(tp, m, err);

	if (ret)
		return ret;
	r = region_new(tp, m);
	if (!r)
		return rji_fail(err, -ENOMEM, "no memory for region \"%s\"", m->name);
	for (uint32_t i = 0; !ret && i < tp->n_devices; i++)
		if (tp->device[i].attached)
			ret = region_enter(tp, r, i, err);
	if (ret) {
		region_free(tp, r);
		return ret;
	}
	publish(tp, m->region, r);
	tp->given_bytes += m->len_bytes;
	if (done)
		atomic_fetch_add_explicit(done, m->len_bytes, memory_order_relaxed);
	return 0;
}

/* --- discards, source --- */

static struct rji_rdma_region *find(struct rji_rdma_transport *tp, uint32_t id,
				    uint64_t offset_bytes, uint64_t len_bytes, struct rj_error *err)
{
	struct rji_rdma_region *r = rji_rdma_region(&tp->memory, id);

	if (r && len_bytes && offset_bytes <= r->len_bytes &&
	    len_bytes <= r->len_bytes - offset_bytes)
		return r;
	rji_fail(err, -EINVAL, "bytes %" PRIu64 " to %" PRIu64 " of region %u: there are none",
		 offset_bytes, offset_bytes + len_bytes, id);
	return NULL;
}

/* Windows of one table, [first, last). */
struct some {
	struct rji_rdma_window_table *t;
	uint32_t first, last;
};

static struct some some_of(struct rji_rdma_window_table *t, uint64_t offset_bytes,
			   uint64_t len_bytes)
{
	uint64_t from = t->base + offset_bytes;

	return (struct some){ t, (uint32_t)(from >> t->shift),
			      (uint32_t)((from + len_bytes - 1) >> t->shift) + 1 };
}

/* Widen a range to whole windows, of every device it is registered with. */
static void widen(struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint64_t *offset_bytes,
		  uint64_t *len_bytes)
{
	uint64_t from = r->base + *offset_bytes;
	uint64_t to = from + *len_bytes;
	uint64_t start, end;

	/* Powers of two: the largest window's limits are limits of all others. */
	for (uint32_t i = 0; i < tp->n_devices; i++) {
		struct rji_rdma_window_table *t = &r->here[i];

		if (!t->window)
			continue;
		rji_rdma_window_range(&t->window[from >> t->shift], &start, &end);
		from = start < from ? start : from;
		rji_rdma_window_range(&t->window[(to - 1) >> t->shift], &start, &end);
		to = end > to ? end : to;
	}
	*offset_bytes = from - r->base;
	*len_bytes = to - from;
}

static bool are_gone(const void *arg)
{
	const struct some *some = arg;

	for (uint32_t i = some->first; i < some->last; i++) {
		struct rji_rdma_window *w = &some->t->window[i];

		if (w->state == RJI_RDMA_WINDOW_READY)
			rji_rdma_windows_block(w); /* the last lane may have left it by now */
		if (w->state != RJI_RDMA_WINDOW_ABSENT)
			return false;
	}
	return true;
}

int rji_rdma_unpin(struct rji_transport *base, uint32_t region, uint64_t *offset_bytes,
		   uint64_t *len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = find(tp, region, *offset_bytes, *len_bytes, err);
	struct rji_rdma_window_pool *pool = &tp->memory.here;

	if (!r)
		return -EINVAL;
	pthread_mutex_lock(&tp->lock);
	widen(tp, r, offset_bytes, len_bytes);
	for (uint32_t i = 0; i < tp->n_devices; i++) {
		struct some some;

		if (!r->here[i].window)
			continue;
		some = some_of(&r->here[i], *offset_bytes, *len_bytes);
		pthread_mutex_lock(&pool->lock);
		for (uint32_t k = some.first; k < some.last; k++)
			rji_rdma_windows_block(&some.t->window[k]);
		rji_rdma_registrar_help(tp, are_gone, &some);
		pthread_mutex_unlock(&pool->lock);
	}
	pthread_mutex_unlock(&tp->lock);
	return 0;
}

/* Lazily they come again when a lane needs them. */
static int repin_some(struct rji_rdma_transport *tp, const struct some *some, struct rj_error *err)
{
	int ret = 0;

	for (uint32_t i = some->first; !ret && i < some->last; i++) {
		struct rji_rdma_window *w = &some->t->window[i];
		bool taken;

		pthread_mutex_lock(&some->t->pool->lock);
		rji_rdma_windows_unblock(w);
		taken = !tp->lazy && rji_rdma_windows_take(w);
		pthread_mutex_unlock(&some->t->pool->lock);
		if (taken)
			ret = rji_rdma_register_window(tp, w, err);
	}
	return ret;
}

int rji_rdma_repin(struct rji_transport *base, uint32_t region, uint64_t offset_bytes,
		   uint64_t len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = find(tp, region, offset_bytes, len_bytes, err);
	int ret = 0;

	if (!r)
		return -EINVAL;
	pthread_mutex_lock(&tp->lock);
	for (uint32_t i = 0; !ret && i < tp->n_devices; i++) {
		struct some some;

		if (!r->here[i].window)
			continue;
		some = some_of(&r->here[i], offset_bytes, len_bytes);
		ret = repin_some(tp, &some, err);
	}
	pthread_mutex_unlock(&tp->lock);
	return ret;
}

/* --- rounds, source --- */

static void expect(struct rji_rdma_window_table *t, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct some some = some_of(t, offset_bytes, len_bytes);

	for (uint32_t i = some.first; i < some.last; i++)
		rji_rdma_window_expect(&t->window[i]);
}

void rji_rdma_expect(struct rji_transport *base, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = find(tp, region, offset_bytes, len_bytes, NULL);

	if (!r)
		return;
	for (uint32_t i = 0; i < tp->n_devices; i++)
		if (r->here[i].window)
			expect(&r->here[i], offset_bytes, len_bytes);
	for (uint32_t i = 0; i < r->n_there; i++)
		expect(&r->there[i], offset_bytes, len_bytes);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/registration.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rdma/key_table.h"
#include "rdma/rdma_transport.h"

/*
 * Pinning costs about 0.1 s a GB and thread with 4 KiB pages, which for one thread is as long as 100 Gb/s takes to send the
 * same: so the chunks of a region are shared among a few threads. They take the next chunk from a counter, which ends the
 * work of all when one fails or stop is set.
 *
 * The destination's memory may be written by the peer's queue pairs and by nothing else: no remote read, no atomics. The
 * source's is read by its own device only, which needs no access right at all (access 0). Both kinds are in a protection
 * domain of this transport alone.
 *
 * Registering populates every page it covers, also for reading. A sparse guest would come to its full size by that, so at the
 * source a chunk without a page in memory is left out until a lane has one to send. mincore() does not know pages that are
 * swapped out: such a chunk is late, not lost.
 */

#define MAX_WORKERS 4

/* Pages looked at by one mincore(). */
#define SLICE_PAGES 4096u

/* The work of some threads on chunks [first, last) of a region on a device. */
struct work {
	const struct rji_rdma_transport *tp;
	struct rji_rdma_device *dev;
	const struct rji_rdma_region *region;
	struct rji_rdma_chunks *chunks;
	_Atomic uint64_t *done;
	bool undo;
	bool only_data; /* leave out what is empty */
	uint32_t last;
	_Atomic uint32_t next;
	_Atomic int sys_errno; /* of the first that failed */
	_Atomic uint32_t failed_chunk;
};

uint32_t rji_rdma_chunk_shift(uint64_t max_mr_bytes, uint32_t most)
{
	uint32_t shift = most;

	while (shift >= 12 && 1ull << shift > max_mr_bytes)
		shift--;
	return shift >= 12 ? shift : 0;
}

static uint32_t chunk_shift(const struct rji_rdma_transport *tp, uint32_t device)
{
	return rji_rdma_chunk_shift(tp->device[device].max_mr_bytes,
				    tp->is_destination ? RJI_RDMA_CHUNK_SHIFT
						       : RJI_RDMA_SOURCE_CHUNK_SHIFT);
}

/* Device addresses [*from, *to) of a chunk. */
static void chunk_range(const struct rji_rdma_region *r, uint32_t shift, uint32_t chunk,
			uint64_t *from_p, uint64_t *to_p)
{
	uint64_t from = (uint64_t)chunk << shift;
	uint64_t to = (uint64_t)(chunk + 1) << shift;

	*from_p = from < r->base ? r->base : from;
	*to_p = to > r->base + r->len_bytes ? r->base + r->len_bytes : to;
}

static struct ibv_mr *register_range(struct rji_rdma_device *dev, void *addr, uint64_t len_bytes,
				     uint64_t iova, bool writable)
{
	unsigned int access = writable ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0;
	bool relaxed = writable && atomic_load_explicit(&dev->relaxed, memory_order_relaxed);
	struct ibv_mr *mr;

	if (!relaxed)
		return ibv_reg_mr_iova2(dev->pd, addr, len_bytes, iova, access);
	mr = ibv_reg_mr_iova2(dev->pd, addr, len_bytes, iova, access | IBV_ACCESS_RELAXED_ORDERING);
	if (mr || (errno != EINVAL && errno != EOPNOTSUPP))
		return mr;
	/* An optional flag, which some kernels refuse all the same. */
	mr = ibv_reg_mr_iova2(dev->pd, addr, len_bytes, iova, access);
	if (mr)
		atomic_store_explicit(&dev->relaxed, false, memory_order_relaxed);
	return mr;
}

/* Is any page of it in memory? Where that cannot be told: yes. */
static bool has_data(uint8_t *at, uint64_t len_bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned char in_memory[SLICE_PAGES];

	while (len_bytes) {
		uint64_t slice = len_bytes < SLICE_PAGES * page ? len_bytes : SLICE_PAGES * page;

		if (mincore(at, slice, in_memory))
			return true;
		for (uint64_t i = 0; i < (slice + page - 1) / page; i++)
			if (in_memory[i] & 1)
				return true;
		at += slice;
		len_bytes -= slice;
	}
	return false;
}

static int register_chunk(struct work *w, uint32_t chunk)
{
	const struct rji_rdma_region *r = w->region;
	uint64_t from, to;
	struct ibv_mr *mr;

	if (w->chunks->mr[chunk])
		return 0;
	chunk_range(r, w->chunks->shift, chunk, &from, &to);
	if (w->only_data && !has_data(r->host + (from - r->base), to - from)) {
		if (w->done)
			atomic_fetch_add_explicit(w->done, to - from, memory_order_relaxed);
		return 0;
	}
	mr = register_range(w->dev, r->host + (from - r->base), to - from, from,
			    w->tp->is_destination);
	if (!mr)
		return errno ? errno : ENOMEM;
	w->chunks->mr[chunk] = mr;
	atomic_store_explicit(&w->chunks->lkey[chunk], mr->lkey, memory_order_relaxed);
	if (w->done)
		atomic_fetch_add_explicit(w->done, to - from, memory_order_relaxed);
	return 0;
}

static int deregister_chunk(struct work *w, uint32_t chunk)
{
	struct ibv_mr *mr = w->chunks->mr[chunk];
	int ret;

	w->chunks->mr[chunk] = NULL;
	atomic_store_explicit(&w->chunks->lkey[chunk], 0, memory_order_relaxed);
	ret = mr ? ibv_dereg_mr(mr) : 0;
	if (ret)
		rji_log(w->tp->host, RJ_LOG_ERROR,
			"rdma: deregistering chunk %u of region \"%s\": %s", chunk, w->region->name,
			strerrordesc_np(ret));
	return 0; /* nothing is better for leaving the others registered */
}

static void *work_thread(void *arg)
{
	struct work *w = arg;
	uint32_t chunk;
	int ret, none;

	for (;;) {
		chunk = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
		if (chunk >= w->last)
			return NULL;
		if (w->undo)
			ret = deregister_chunk(w, chunk);
		else if (w->tp->stop && rji_stop_is_set(w->tp->stop))
			ret = ECANCELED;
		else
			ret = register_chunk(w, chunk);
		if (!ret)
			continue;
		none = 0;
		if (atomic_compare_exchange_strong(&w->sys_errno, &none, ret))
			atomic_store(&w->failed_chunk, chunk);
		atomic_store(&w->next, w->last);
	}
}

/* By this thread, and helpers where there is something to share. 0 or the errno of the first failure. */
static int work_run(struct work *w)
{
	pthread_t helper[MAX_WORKERS - 1];
	uint32_t n_chunks = w->last - w->next;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t n = 0;

	while (n < MAX_WORKERS - 1 && n + 1 < n_chunks && (long)n + 1 < cpus) {
		if (rji_thread_start(w->tp->host, "rj-register", work_thread, w, &helper[n]) < 0)
			break;
		n++;
	}
	work_thread(w);
	while (n--)
		pthread_join(helper[n], NULL);
	return w->sys_errno;
}

static void deregister(const struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i,
		       uint32_t first, uint32_t last)
{
	struct work w = {
		.tp = tp,
		.region = r,
		.chunks = &r->local[i],
		.undo = true,
		.next = first,
		.last = last,
	};

	work_run(&w);
}

static int explain(struct work *w, int sys_errno, struct rj_error *err)
{
	const struct rji_rdma_region *r = w->region;
	uint64_t from, to;
	int ret;

	if (sys_errno == ECANCELED)
		return rji_fail(err, -ECANCELED, "stopped while registering region \"%s\"",
				r->name);
	if (err)
		err->region = r->id;
	if (sys_errno == EPERM || sys_errno == ENOMEM) {
		ret = rji_rdma_memlock(r->name, r->len_bytes, sys_errno, err);
		if (ret == RJ_E_MEMLOCK)
			return ret;
	}
	chunk_range(r, w->chunks->shift, w->failed_chunk, &from, &to);
	return rji_fail_sys(err, 0, sys_errno,
			    "registering bytes %" PRIu64 " to %" PRIu64 " of region \"%s\" with %s",
			    from - r->base, to - r->base, r->name, w->dev->name);
}

/* Register chunks [first, last) of a region on device i. On failure none of them is. */
static int register_chunks(struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i,
			   uint32_t first, uint32_t last, _Atomic uint64_t *done,
			   struct rj_error *err)
{
	struct work w = {
		.tp = tp,
		.dev = &tp->device[i],
		.region = r,
		.chunks = &r->local[i],
		.done = done,
		.only_data = !tp->is_destination,
		.next = first,
		.last = last,
	};
	int sys_errno = work_run(&w);

	if (!sys_errno)
		return 0;
	deregister(tp, r, i, first, last);
	return explain(&w, sys_errno, err);
}

int rji_rdma_register_late(struct rji_rdma_transport *tp, struct rji_rdma_region *r,
			   uint32_t device, uint32_t chunk, struct rj_error *err)
{
	struct work w = {
		.tp = tp,
		.dev = &tp->device[device],
		.region = r,
		.chunks = &r->local[device],
		.next = chunk,
		.last = chunk + 1,
	};
	int sys_errno;

	pthread_mutex_lock(&tp->lock);
	sys_errno = work_run(&w);
	pthread_mutex_unlock(&tp->lock);
	return sys_errno ? explain(&w, sys_errno, err) : 0;
}

static void region_leave(const struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i)
{
	struct rji_rdma_chunks *c = &r->local[i];

	if (!c->mr)
		return;
	deregister(tp, r, i, 0, c->n);
	free(c->mr);
	free(c->lkey);
	*c = (struct rji_rdma_chunks){ 0 };
}

/* Make a region known to device i. */
static int region_enter(struct rji_rdma_transport *tp, struct rji_rdma_region *r, uint32_t i,
			_Atomic uint64_t *done, struct rj_error *err)
{
	struct rji_rdma_chunks *c = &r->local[i];
	int ret;

	c->shift = chunk_shift(tp, i);
	if (!c->shift)
		return rji_fail(err, RJ_E_NO_RDMA,
				"%s registers no more than %" PRIu64 " bytes at once",
				tp->device[i].name, tp->device[i].max_mr_bytes);
	c->n = (uint32_t)rji_rdma_n_chunks(r->base, r->len_bytes, c->shift);
	c->mr = calloc(c->n, sizeof(struct ibv_mr *));
	c->lkey = calloc(c->n, sizeof(*c->lkey));
	ret = c->mr && c->lkey ? 0 : rji_fail(err, -ENOMEM, "no memory for %u keys", c->n);
	if (!ret)
		ret = register_chunks(tp, r, i, 0, c->n, done, err);
	if (!ret)
		return 0;
	free(c->mr);
	free(c->lkey);
	*c = (struct rji_rdma_chunks){ 0 };
	return ret;
}

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
			ret = region_enter(tp, tp->memory.region[id], i, NULL, err);
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

static void region_free(const struct rji_rdma_transport *tp, struct rji_rdma_region *r)
{
	for (uint32_t i = 0; i < tp->n_devices; i++)
		region_leave(tp, r, i);
	rji_rdma_drop_keys(r);
	free(r);
}

void rji_rdma_dereg_all(struct rji_transport *base)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);

	for (uint32_t id = 0; id < RJI_RDMA_MAX_REGIONS; id++) {
		if (!tp->memory.region[id])
			continue;
		region_free(tp, tp->memory.region[id]);
		tp->memory.region[id] = NULL;
	}
}

static uint32_t n_attached(const struct rji_rdma_transport *tp)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < tp->n_devices; i++)
		n += tp->device[i].attached;
	return n;
}

/* Modulo a huge page, or the smallest chunk where that is less: the first chunk must not end before base. */
static uint64_t base_of(const struct rji_rdma_transport *tp, const void *host)
{
	uint64_t modulus = RJI_RDMA_HUGE_BYTES;

	for (uint32_t i = 0; i < tp->n_devices; i++) {
		uint32_t shift = chunk_shift(tp, i);

		if (shift && 1ull << shift < modulus)
			modulus = 1ull << shift;
	}
	return (uintptr_t)host % modulus;
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
	r->base = base_of(tp, m->host);
	return r;
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
	return rji_rdma_memlock(m->name, m->len_bytes * n_attached(tp), 0, err);
}

int rji_rdma_reg(struct rji_transport *base, const struct rji_memory *m, _Atomic uint64_t *done,
		 struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	bool counted = false;
	struct rji_rdma_region *r;
	int ret = check_new_region(tp, m, err);

	if (ret)
		return ret;
	r = region_new(tp, m);
	if (!r)
		return rji_fail(err, -ENOMEM, "no memory for region \"%s\"", m->name);
	for (uint32_t i = 0; !ret && i < tp->n_devices; i++) {
		if (!tp->device[i].attached)
			continue;
		ret = region_enter(tp, r, i, counted ? NULL : done, err);
		counted = true;
	}
	if (ret) {
		region_free(tp, r);
		return ret;
	}
	tp->memory.region[m->region] = r;
	if (!counted && done) /* nothing pinned yet: the first lane tells the device */
		atomic_fetch_add_explicit(done, m->len_bytes, memory_order_relaxed);
	return 0;
}

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

/* Widen a range to whole chunks, of every device it is registered with. */
static void widen(const struct rji_rdma_transport *tp, const struct rji_rdma_region *r,
		  uint64_t *offset_bytes, uint64_t *len_bytes)
{
	uint64_t from = r->base + *offset_bytes;
	uint64_t to = from + *len_bytes;
	uint64_t start, end;

	/* Powers of two: the largest chunk's limits are limits of all others. */
	for (uint32_t i = 0; i < tp->n_devices; i++) {
		const struct rji_rdma_chunks *c = &r->local[i];

		if (!c->mr)
			continue;
		chunk_range(r, c->shift, (uint32_t)(from >> c->shift), &start, &end);
		from = start < from ? start : from;
		chunk_range(r, c->shift, (uint32_t)((to - 1) >> c->shift), &start, &end);
		to = end > to ? end : to;
	}
	*offset_bytes = from - r->base;
	*len_bytes = to - from;
}

int rji_rdma_unpin(struct rji_transport *base, uint32_t region, uint64_t *offset_bytes,
		   uint64_t *len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = find(tp, region, *offset_bytes, *len_bytes, err);
	uint64_t from, to;

	if (!r)
		return -EINVAL;
	pthread_mutex_lock(&tp->lock);
	widen(tp, r, offset_bytes, len_bytes);
	from = r->base + *offset_bytes;
	to = from + *len_bytes;
	for (uint32_t i = 0; i < tp->n_devices; i++) {
		uint32_t shift = r->local[i].shift;

		if (r->local[i].mr)
			deregister(tp, r, i, (uint32_t)(from >> shift),
				   (uint32_t)((to - 1) >> shift) + 1);
	}
	pthread_mutex_unlock(&tp->lock);
	return 0;
}

int rji_rdma_repin(struct rji_transport *base, uint32_t region, uint64_t offset_bytes,
		   uint64_t len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = find(tp, region, offset_bytes, len_bytes, err);
	uint64_t from, to;
	int ret = 0;

	if (!r)
		return -EINVAL;
	from = r->base + offset_bytes;
	to = from + len_bytes;
	pthread_mutex_lock(&tp->lock);
	for (uint32_t i = 0; !ret && i < tp->n_devices; i++) {
		uint32_t shift = r->local[i].shift;

		if (r->local[i].mr)
			ret = register_chunks(tp, r, i, (uint32_t)(from >> shift),
					      (uint32_t)((to - 1) >> shift) + 1, NULL, err);
	}
	pthread_mutex_unlock(&tp->lock);
	return ret;
}

int rji_rdma_export_keys(struct rji_transport *base, uint32_t region, void *buf, size_t buf_bytes,
			 struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = rji_rdma_region(&tp->memory, region);
	uint32_t device[RJI_RDMA_MAX_DEVICES];
	uint32_t n = 0;
	int ret;

	if (!r)
		return rji_fail(err, -EINVAL, "there is no region %u", region);
	for (uint32_t i = 0; i < tp->n_devices; i++)
		if (tp->device[i].attached)
			device[n++] = i;
	ret = rji_rdma_put_keys(r, device, n, buf, buf_bytes);
	if (ret < 0)
		return rji_fail(err, ret, "the keys of region \"%s\" need more than %zu bytes",
				r->name, buf_bytes);
	return ret;
}

int rji_rdma_import_keys(struct rji_transport *base, uint32_t region, const void *keys,
			 size_t len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = rji_rdma_region(&tp->memory, region);
	int ret;

	if (!r)
		return rji_fail(err, -EINVAL, "there is no region %u", region);
	ret = rji_rdma_get_keys(r, keys, len_bytes);
	if (!ret)
		return 0;
	if (err)
		err->region = region;
	return rji_fail(err, ret, "the destination's keys of region \"%s\" (%zu bytes): %s",
			r->name, len_bytes, rj_strerror(ret));
}

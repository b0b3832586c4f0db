/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/registrar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "numa/residency.h"
#include "rdma/rdma_transport.h"

/*
 * The destination's memory may be written by the peer's queue pairs and by nothing else: no remote read, no atomics. The
 * source's is read by its own device only, which needs no access right at all (access 0). Both kinds are in a protection
 * domain of this transport alone.
 *
 * Registering populates every page it covers, also for reading. A sparse guest would come to its full size by that, so at the
 * source a window without a page in memory is left out until a lane has one to send. mincore() does not know pages that are
 * swapped out: such a window is late, not lost.
 */

/* Pages of a window whose node the kernel is asked for; the first that is in memory tells. */
#define SAMPLES 8u

/* Pages looked at by one mincore(). */
#define SLICE_PAGES 4096u

/* Since Linux 5.14; headers may be older. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

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

static int explain(const struct rji_rdma_transport *tp, const struct rji_rdma_window *w,
		   int sys_errno, struct rj_error *err)
{
	const struct rji_rdma_region *r = w->table->owner;
	uint64_t from, to;
	int ret;

	if (sys_errno == ECANCELED)
		return rji_fail(err, -ECANCELED, "stopped while registering region \"%s\"",
				r->name);
	if (err)
		err->region = r->id;
	rji_rdma_window_range(w, &from, &to);
	if (sys_errno == EPERM || sys_errno == ENOMEM) {
		ret = rji_rdma_memlock(r->name, tp->lazy ? to - from : r->len_bytes, sys_errno,
				       tp->lazy, err);
		if (ret == RJ_E_MEMLOCK)
			return ret;
	}
	return rji_fail_sys(err, 0, sys_errno,
			    "registering bytes %" PRIu64 " to %" PRIu64 " of region \"%s\" with %s",
			    from - r->base, to - r->base, r->name,
			    tp->device[w->table->device].name);
}

/*
 * In few calls what registering would do page by page; where it is refused, that does it. By huge pages: a call holds the
 * process's map of memory for its whole time, and with it whoever wants to change that, be it to connect a lane.
 */
static void populate(const struct rji_rdma_transport *tp, uint8_t *at, uint64_t len_bytes)
{
	while (len_bytes) {
		uint64_t n = RJI_RDMA_HUGE_BYTES - ((uintptr_t)at & (RJI_RDMA_HUGE_BYTES - 1));

		n = n < len_bytes ? n : len_bytes;
		if ((tp->stop && rji_stop_is_set(tp->stop)) || madvise(at, n, MADV_POPULATE_WRITE))
			return;
		at += n;
		len_bytes -= n;
	}
}

/* Into w->mr, which stays NULL where there is nothing to register. 0 or an errno. */
static int register_memory(struct rji_rdma_transport *tp, struct rji_rdma_window *w)
{
	const struct rji_rdma_region *r = w->table->owner;
	uint64_t from, to;
	struct ibv_mr *mr;
	uint8_t *at;

	if (tp->stop && rji_stop_is_set(tp->stop))
		return ECANCELED;
	rji_rdma_window_range(w, &from, &to);
	at = r->host + (from - r->base);
	if (!tp->is_destination && !w->demanded && !has_data(at, to - from))
		return 0;
	if (tp->is_destination)
		populate(tp, at, to - from);
	mr = register_range(&tp->device[w->table->device], at, to - from, from, tp->is_destination);
	if (!mr)
		return errno ? errno : ENOMEM;
	w->mr = mr;
	rji_rdma_pinned(tp, (int64_t)(to - from));
	return 0;
}

/*
 * Whoever waits must not find the window absent before it finds the failure: it would ask for it again, and get it. Of a window
 * that is registered for nobody but the caller (alone), the caller hears.
 */
static int fail_window(struct rji_rdma_transport *tp, struct rji_rdma_window *w, int sys_errno,
		       bool alone, struct rj_error *err)
{
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	int ret = explain(tp, w, sys_errno, err);

	pthread_mutex_lock(&pool->lock);
	if (!alone)
		rji_rdma_windows_fail(pool, err);
	rji_rdma_windows_left_out(w);
	pthread_mutex_unlock(&pool->lock);
	return ret;
}

static uint32_t key_of(const struct rji_rdma_transport *tp, const struct ibv_mr *mr)
{
	return tp->is_destination ? mr->rkey : mr->lkey;
}

/* The peer is to know, once it has the table. */
static void tell(struct rji_rdma_transport *tp, struct rji_rdma_window *w)
{
	/* One that came when it was to go again stands in another list by now. */
	if (!tp->is_destination || !w->table->told || w->list != RJI_RDMA_LIST_NONE)
		return;
	rji_rdma_windows_tell(w);
	if (tp->wake_fd >= 0)
		eventfd_write(tp->wake_fd, 1);
}

static int register_window(struct rji_rdma_transport *tp, struct rji_rdma_window *w, bool alone,
			   struct rj_error *err)
{
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	uint64_t start = rji_now_ns();
	int sys_errno = register_memory(tp, w);

	rji_rdma_spent(tp, rji_now_ns() - start);
	if (sys_errno)
		return fail_window(tp, w, sys_errno, alone, err);
	pthread_mutex_lock(&pool->lock);
	if (w->mr) {
		rji_rdma_windows_came(w, key_of(tp, w->mr));
		tell(tp, w);
	} else {
		rji_rdma_windows_left_out(w);
	}
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

int rji_rdma_register_window(struct rji_rdma_transport *tp, struct rji_rdma_window *w,
			     struct rj_error *err)
{
	return register_window(tp, w, true, err);
}

static void deregister_window(struct rji_rdma_transport *tp, struct rji_rdma_window *w)
{
	const struct rji_rdma_region *r = w->table->owner;
	uint64_t from, to;
	int ret = ibv_dereg_mr(w->mr);

	/* Nothing is better for leaving the others registered. */
	if (ret)
		rji_log(tp->host, RJ_LOG_ERROR,
			"rdma: deregistering window %u of region \"%s\": %s",
			rji_rdma_window_index(w), r->name, strerrordesc_np(ret));
	w->mr = NULL;
	rji_rdma_window_range(w, &from, &to);
	rji_rdma_pinned(tp, -(int64_t)(to - from));
	pthread_mutex_lock(&tp->memory.here.lock);
	rji_rdma_windows_gone(w);
	rji_rdma_evicted(tp, tp->memory.here.evictions);
	tell(tp, w);
	pthread_mutex_unlock(&tp->memory.here.lock);
}

/* One window that was taken from the list. Called and returns with the lock held. */
static void work(struct rji_rdma_transport *tp, struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	bool coming = w->state == RJI_RDMA_WINDOW_COMING;
	struct rj_error why;
	int ret = 0;

	rji_error_init(&why);
	pthread_mutex_unlock(&pool->lock);
	if (coming)
		ret = register_window(tp, w, false, &why);
	else
		deregister_window(tp, w);
	if (ret && tp->wake_fd >= 0)
		eventfd_write(tp->wake_fd, 1);
	pthread_mutex_lock(&pool->lock);
}

static void *registrar_thread(void *arg)
{
	const struct rji_rdma_registrar_thread *self = arg;
	struct rji_rdma_transport *tp = self->tp;
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	struct rji_rdma_window *w;
	uint64_t told_ns = 0, now_ns;

	pthread_mutex_lock(&pool->lock);
	while (!tp->registrar.stopping) {
		w = rji_rdma_windows_todo(pool, self->node);
		if (!w) {
			pthread_cond_wait(&pool->changed, &pool->lock);
			continue;
		}
		work(tp, w);
		now_ns = rji_thread_cpu_ns();
		rji_rdma_cpu(tp, now_ns - told_ns);
		told_ns = now_ns;
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* --- places --- */

/* The CPUs near a node that this session may use. */
static struct rji_cpus cpus_near(const struct rji_rdma_transport *tp, const struct rji_topology *t,
				 uint32_t node)
{
	const struct rji_cpus *ours = tp->host && tp->host->cpus ? tp->host->cpus : &t->allowed;

	return rji_cpus_and(&t->node[node].cpus, ours);
}

void rji_rdma_registrar_place(struct rji_rdma_transport *tp, const struct rji_topology *t)
{
	struct rji_rdma_registrar *g = &tp->registrar;

	g->topology = t;
	g->n_homes = 0;
	for (uint32_t i = 0; t && i < t->n_nodes; i++) {
		struct rji_cpus cpus = cpus_near(tp, t, i);

		if (t->node[i].memory_bytes && !rji_cpus_is_empty(&cpus))
			g->home[g->n_homes++] = (uint8_t)i;
	}
	if (g->n_homes == 1)
		g->n_homes = 0;
}

static uint8_t node_of(const struct rji_rdma_transport *tp, const struct rji_rdma_window *w)
{
	const struct rji_rdma_region *r = w->table->owner;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint8_t node[SAMPLES];
	uint64_t from, to, pages, apart;

	rji_rdma_window_range(w, &from, &to);
	pages = (to - from + page - 1) / page;
	apart = (pages + SAMPLES - 1) / SAMPLES;
	rji_residency_ask(tp->registrar.topology, r->host + (from - r->base), to - from,
			  apart * page, node);
	for (uint32_t i = 0; i < (pages + apart - 1) / apart; i++)
		if (node[i] != RJI_NODE_UNKNOWN)
			return node[i] + 1;
	return 0;
}

void rji_rdma_registrar_locate(const struct rji_rdma_transport *tp, struct rji_rdma_window_table *t)
{
	for (uint32_t i = 0; tp->registrar.n_homes && i < t->n; i++)
		t->window[i].node = node_of(tp, &t->window[i]);
}

/* --- threads --- */

static int start_thread(struct rji_rdma_transport *tp, uint32_t number)
{
	struct rji_rdma_registrar *g = &tp->registrar;
	struct rji_rdma_registrar_thread *self = &g->thread[number];
	struct rji_cpus cpus;
	uint32_t node;

	*self = (struct rji_rdma_registrar_thread){ .tp = tp };
	if (!g->n_homes)
		return rji_thread_start(tp->host, "rj-register", registrar_thread, self,
					&self->thread);
	node = g->home[number % g->n_homes];
	self->node = (uint8_t)(node + 1);
	cpus = cpus_near(tp, g->topology, node);
	return rji_thread_start_on(tp->host, "rj-register", &cpus, registrar_thread, self,
				   &self->thread);
}

static uint32_t n_threads(const struct rji_rdma_registrar *g)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t n = g->n_homes > RJI_RDMA_REGISTRARS ? g->n_homes : RJI_RDMA_REGISTRARS;

	if (n > RJI_RDMA_MAX_REGISTRARS)
		n = RJI_RDMA_MAX_REGISTRARS;
	if (cpus > 0 && (long)n > cpus)
		n = (uint32_t)cpus;
	return n;
}

int rji_rdma_registrar_start(struct rji_rdma_transport *tp, struct rj_error *err)
{
	struct rji_rdma_registrar *g = &tp->registrar;
	int ret = 0;

	if (g->n)
		return 0;
	g->stopping = false;
	while (!ret && g->n < n_threads(g)) {
		ret = start_thread(tp, g->n);
		g->n += !ret;
	}
	return g->n ? 0 : rji_fail_sys(err, ret, -ret, "cannot start the thread rj-register");
}

void rji_rdma_registrar_stop(struct rji_rdma_transport *tp)
{
	struct rji_rdma_window_pool *pool = &tp->memory.here;

	pthread_mutex_lock(&pool->lock);
	tp->registrar.stopping = true;
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	while (tp->registrar.n)
		pthread_join(tp->registrar.thread[--tp->registrar.n].thread, NULL);
}

void rji_rdma_registrar_help(struct rji_rdma_transport *tp, bool (*ready)(const void *arg),
			     const void *arg)
{
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	struct rji_rdma_window *w;

	while (!ready(arg)) {
		w = rji_rdma_windows_todo(pool, 0);
		if (w)
			work(tp, w);
		else
			pthread_cond_wait(&pool->changed, &pool->lock);
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>

#include "rdma/rdma_transport.h"

/*
 * A lane is in one window here and in one at the destination while it posts, and stays in those before until the last
 * request it posted in them has completed. Requests complete in order, so that is a ring with the value of sq.posted at
 * the time it moved on.
 *
 *   left:  window 3 until 812, window 4 until 950        here: window 5
 *                                  ▲ sq.freed = 830: window 3 is left for good
 *
 * Whoever waits for a window goes on taking completions, which is what makes its old windows free, and so may make the room for
 * the new one.
 */

/* A window that the destination is to register, or this side: seconds where memory has to be found for gigabytes. */
#define PATIENCE 20u /* peer timeouts */

static void leave_oldest(struct rji_rdma_lane *lane)
{
	rji_rdma_window_leave(lane->left[lane->left_first].window);
	lane->left_first = (lane->left_first + 1) % RJI_RDMA_MAX_LEFT;
	lane->left_n--;
}

void rji_rdma_retire(struct rji_rdma_lane *lane)
{
	while (lane->left_n && lane->left[lane->left_first].until <= lane->sq.freed)
		leave_oldest(lane);
}

/* From a grip to the ring. */
static void move_on(struct rji_rdma_lane *lane, struct rji_rdma_grip *grip)
{
	uint32_t at = (lane->left_first + lane->left_n) % RJI_RDMA_MAX_LEFT;

	if (!grip->window)
		return;
	lane->left[at] = (struct rji_rdma_left){ grip->window, lane->sq.posted };
	lane->left_n++;
	grip->window = NULL;
}

/* The ring needs a free place; the oldest's requests are on their way once the chain is handed over. */
static int make_place(struct rji_rdma_lane *lane)
{
	int ret;

	rji_rdma_retire(lane);
	if (lane->left_n < RJI_RDMA_MAX_LEFT)
		return 0;
	ret = rji_rdma_flush(lane);
	while (ret >= 0 && lane->left_n == RJI_RDMA_MAX_LEFT) {
		ret = rji_rdma_wait_progress(lane, 0);
		rji_rdma_retire(lane);
	}
	return ret < 0 ? ret : 0;
}

void rji_rdma_let_go(struct rji_rdma_lane *lane)
{
	struct rji_rdma_grip *grips[] = { &lane->here, &lane->there };

	for (int i = 0; i < 2; i++) {
		if (grips[i]->window)
			rji_rdma_window_leave(grips[i]->window);
		grips[i]->window = NULL;
	}
	while (lane->left_n)
		leave_oldest(lane);
}

static int lost(struct rji_rdma_lane *lane, const struct rji_rdma_window_pool *pool)
{
	lane->first.sys_errno = pool->failure.sys_errno;
	lane->first.region = pool->failure.region;
	if (pool->failure.code == -ECANCELED)
		return -ECANCELED;
	return rji_rdma_lane_fail(lane, pool->failure.code, "%.400s", pool->failure.text);
}

static int late(struct rji_rdma_lane *lane, const struct rji_rdma_window *w)
{
	const struct rji_rdma_window_table *t = w->table;

	return rji_rdma_lane_fail(lane, RJ_E_PEER_GONE,
				  "window %u of region %u did not get registered %s within %u ms",
				  rji_rdma_window_index(w), t->region,
				  t->pool == &lane->tp->memory.here ? "here" : "at the destination",
				  PATIENCE * lane->tp->peer_timeout_ms);
}

/* Sleep until a window came or went, or something completed. 0 or negative. */
static int sleep_once(struct rji_rdma_lane *lane, uint64_t until_ns)
{
	int ret;

	lane->woken = false;
	lane->awaits = true;
	ret = rji_rdma_wait(lane, until_ns);
	lane->awaits = false;
	rji_rdma_retire(lane);
	return ret < 0 ? ret : 0;
}

/*
 * Wait until the lane is in the window. The lock is held at the begin and at the end. As long as windows come patience has no end:
 * with all of a large guest to register this one's turn may be minutes away.
 */
static int await(struct rji_rdma_lane *lane, struct rji_rdma_window *w)
{
	uint64_t patience_ns = (uint64_t)PATIENCE * lane->tp->peer_timeout_ms * RJI_NS_PER_MS;
	uint64_t until_ns = rji_now_ns() + patience_ns;
	struct rji_rdma_window_pool *pool = w->table->pool;
	int ret = 0;

	while (!ret && !rji_rdma_window_enter(w)) {
		rji_rdma_windows_demand(w);
		if (pool->failure.code)
			return lost(lane, pool);
		pthread_mutex_unlock(&pool->lock);
		ret = sleep_once(lane, until_ns);
		if (lane->woken)
			until_ns = rji_now_ns() + patience_ns;
		if (!ret && rji_now_ns() >= until_ns)
			ret = late(lane, w);
		pthread_mutex_lock(&pool->lock);
	}
	return ret;
}

static int enter_late(struct rji_rdma_lane *lane, struct rji_rdma_window *w, bool first)
{
	struct rji_rdma_waiter waiter = { .fd = lane->window_fd };
	struct rji_rdma_window_pool *pool = w->table->pool;
	uint64_t start_ns = rji_now_ns();
	int ret = rji_rdma_flush(lane);

	if (ret)
		return ret;
	pthread_mutex_lock(&pool->lock);
	LIST_INSERT_HEAD(&pool->waiters, &waiter, link);
	w->waiters++;
	rji_rdma_windows_demand(w);
	if (first)
		rji_rdma_windows_ahead(w);
	ret = await(lane, w);
	w->waiters--;
	LIST_REMOVE(&waiter, link);
	pthread_mutex_unlock(&pool->lock);
	rji_rdma_waited(lane->tp, rji_now_ns() - start_ns);
	return ret;
}

static void look_ahead(struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	pthread_mutex_lock(&pool->lock);
	rji_rdma_windows_ahead(w);
	pthread_mutex_unlock(&pool->lock);
}

int rji_rdma_move(struct rji_rdma_lane *lane, struct rji_rdma_grip *grip, struct rji_rdma_window *w)
{
	bool first = rji_rdma_window_met(w);
	int ret = make_place(lane);

	if (ret)
		return ret;
	move_on(lane, grip);
	if (!rji_rdma_window_enter(w))
		ret = enter_late(lane, w, first);
	else if (first)
		look_ahead(w);
	if (ret)
		return ret;
	grip->window = w;
	/* Stays until we leave. */
	grip->key = atomic_load_explicit(&w->key, memory_order_relaxed);
	return 0;
}

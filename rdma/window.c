/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define AHEAD_MAX 4u	     /* windows before each lane */
#define AHEAD_LOOK_MAX 4096u /* how far to look for them */
#define AT_ONCE 4u	     /* of a node on the way at once, but for those a lane waits for */

void rji_rdma_window_pool_init(struct rji_rdma_window_pool *pool)
{
	memset(pool, 0, sizeof(*pool));
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->changed, NULL);
	rji_error_init(&pool->failure);
	for (int i = 0; i < RJI_RDMA_N_LISTS; i++)
		TAILQ_INIT(&pool->list[i]);
	TAILQ_INIT(&pool->ready);
	LIST_INIT(&pool->waiters);
	pool->room_bytes = RJI_RDMA_NO_LIMIT;
	pool->ahead = AHEAD_MAX;
	pool->todo_fd = -1;
}

void rji_rdma_window_pool_fini(struct rji_rdma_window_pool *pool)
{
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
}

void rji_rdma_window_pool_limit(struct rji_rdma_window_pool *pool, uint64_t room_bytes,
				uint32_t shift, uint32_t n_lanes)
{
	uint64_t each = (room_bytes >> shift) / (n_lanes ? n_lanes : 1);

	pool->room_bytes = room_bytes;
	pool->ahead = AHEAD_MAX;
	if (room_bytes != RJI_RDMA_NO_LIMIT && each <= AHEAD_MAX)
		pool->ahead = each ? (uint32_t)each - 1 : 0;
}

int rji_rdma_window_table_init(struct rji_rdma_window_table *t, struct rji_rdma_window_pool *pool)
{
	t->pool = pool;
	t->window = calloc(t->n, sizeof(*t->window));
	if (!t->window)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->n; i++) {
		t->window[i].table = t;
		t->window[i].list = RJI_RDMA_LIST_NONE;
	}
	pool->n_tables++;
	return 0;
}

void rji_rdma_window_range(const struct rji_rdma_window *w, uint64_t *from_p, uint64_t *to_p)
{
	const struct rji_rdma_window_table *t = w->table;
	uint64_t from = (uint64_t)rji_rdma_window_index(w) << t->shift;
	uint64_t to = from + (1ull << t->shift);

	*from_p = from < t->base ? t->base : from;
	*to_p = to > t->base + t->len_bytes ? t->base + t->len_bytes : to;
}

static uint64_t bytes_of(const struct rji_rdma_window *w)
{
	uint64_t from, to;

	rji_rdma_window_range(w, &from, &to);
	return to - from;
}

static void count_ready(const struct rji_rdma_window *w, bool more)
{
	_Atomic uint64_t *total = w->table->pool->ready_bytes;

	if (total)
		atomic_fetch_add_explicit(total, more ? bytes_of(w) : -bytes_of(w),
					  memory_order_relaxed);
}

static void unlist(struct rji_rdma_window *w)
{
	if (w->list != RJI_RDMA_LIST_NONE)
		TAILQ_REMOVE(&w->table->pool->list[w->list], w, link);
	w->list = RJI_RDMA_LIST_NONE;
}

static void enlist(struct rji_rdma_window *w, enum rji_rdma_window_list list)
{
	unlist(w);
	TAILQ_INSERT_TAIL(&w->table->pool->list[list], w, link);
	w->list = (uint8_t)list;
}

/* Take a window out of the pool's account, whatever becomes of it. */
static void forget(struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	unlist(w);
	if (w->state == RJI_RDMA_WINDOW_READY) {
		TAILQ_REMOVE(&pool->ready, w, ready);
		count_ready(w, false);
	}
	if (w->state == RJI_RDMA_WINDOW_COMING)
		pool->n_coming[w->node]--;
	if (w->state == RJI_RDMA_WINDOW_LEAVING)
		pool->going_bytes -= bytes_of(w);
	if (w->state != RJI_RDMA_WINDOW_ABSENT)
		pool->used_bytes -= bytes_of(w);
}

void rji_rdma_window_table_fini(struct rji_rdma_window_table *t)
{
	for (uint32_t i = 0; t->window && i < t->n; i++)
		forget(&t->window[i]);
	if (t->window)
		t->pool->n_tables--;
	free(t->window);
	*t = (struct rji_rdma_window_table){ 0 };
}

static void touch(struct rji_rdma_window *w)
{
	uint64_t now = atomic_fetch_add_explicit(&w->table->pool->clock, 1, memory_order_relaxed);

	atomic_store_explicit(&w->used_at, now, memory_order_relaxed);
}

/* Something came, went, or failed. */
static void tell_waiters(struct rji_rdma_window_pool *pool)
{
	struct rji_rdma_waiter *waiter;

	LIST_FOREACH(waiter, &pool->waiters, link)
	eventfd_write(waiter->fd, 1);
	pthread_cond_broadcast(&pool->changed);
}

static void to_do(struct rji_rdma_window *w, enum rji_rdma_window_state state)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	w->state = (uint8_t)state;
	enlist(w, RJI_RDMA_LIST_TODO);
	if (pool->todo_fd >= 0)
		eventfd_write(pool->todo_fd, 1);
	pthread_cond_broadcast(&pool->changed);
}

static bool has_room(const struct rji_rdma_window_pool *pool, uint64_t bytes)
{
	return pool->used_bytes <= pool->room_bytes && bytes <= pool->room_bytes - pool->used_bytes;
}

static void begin_coming(struct rji_rdma_window *w, bool demanded)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	w->demanded = demanded;
	pool->used_bytes += bytes_of(w);
	pool->n_coming[w->node]++;
	to_do(w, RJI_RDMA_WINDOW_COMING);
}

bool rji_rdma_windows_take(struct rji_rdma_window *w)
{
	if (w->state != RJI_RDMA_WINDOW_ABSENT || w->blocked)
		return false;
	unlist(w);
	w->demanded = false;
	w->state = RJI_RDMA_WINDOW_COMING;
	w->table->pool->used_bytes += bytes_of(w);
	w->table->pool->n_coming[w->node]++;
	return true;
}

/* No lane is in it, and from now on none enters. */
static bool close_window(struct rji_rdma_window *w)
{
	uint32_t none = 0;

	return atomic_compare_exchange_strong(&w->users, &none, RJI_RDMA_WINDOW_GOING);
}

static void begin_going(struct rji_rdma_window *w, bool evicted)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	TAILQ_REMOVE(&pool->ready, w, ready);
	count_ready(w, false);
	/* Lanes were kept out by close_window(): nobody reads this key any more. */
	atomic_store_explicit(&w->key, 0, memory_order_relaxed);
	pool->going_bytes += bytes_of(w);
	w->evicted = evicted;
	to_do(w, RJI_RDMA_WINDOW_LEAVING);
}

/* Which is to go rather? */
static bool goes_before(const struct rji_rdma_window *a, const struct rji_rdma_window *b)
{
	bool a_needed = atomic_load_explicit(&a->expected, memory_order_relaxed);
	bool b_needed = atomic_load_explicit(&b->expected, memory_order_relaxed);

	if (a_needed != b_needed)
		return b_needed;
	return atomic_load_explicit(&a->used_at, memory_order_relaxed) <
	       atomic_load_explicit(&b->used_at, memory_order_relaxed);
}

static struct rji_rdma_window *least_used(struct rji_rdma_window_pool *pool, bool for_demand)
{
	struct rji_rdma_window *w, *found = NULL;

	TAILQ_FOREACH(w, &pool->ready, ready)
	{
		if (w->waiters || atomic_load(&w->users))
			continue;
		if (!for_demand && atomic_load_explicit(&w->expected, memory_order_relaxed))
			continue;
		if (!found || goes_before(w, found))
			found = w;
	}
	return found;
}

/* Send windows away until there is going to be room. False: lanes are in all that could go. */
static bool make_room(struct rji_rdma_window_pool *pool, uint64_t bytes, bool for_demand)
{
	/* Before looking: a lane that leaves while we look sees it. Pairs with rji_rdma_window_leave(). */
	atomic_store(&pool->starving, true);
	while (pool->used_bytes - pool->going_bytes + bytes > pool->room_bytes) {
		struct rji_rdma_window *w = least_used(pool, for_demand);

		if (!w)
			return false;
		if (close_window(w))
			begin_going(w, true);
	}
	return true;
}

/* Start what there is room for, in the order of need. */
static void step(struct rji_rdma_window_pool *pool)
{
	struct rji_rdma_window *w;

	atomic_store(&pool->starving, false);
	for (int i = RJI_RDMA_LIST_DEMAND; i < RJI_RDMA_N_LISTS; i++) {
		bool demand = i == RJI_RDMA_LIST_DEMAND;

		while ((w = TAILQ_FIRST(&pool->list[i]))) {
			if (pool->failure.code)
				return;
			if (!demand && pool->n_coming[w->node] >= AT_ONCE)
				break;
			if (!has_room(pool, bytes_of(w))) {
				make_room(pool, bytes_of(w), demand);
				return; /* gone() or leave() comes here again */
			}
			begin_coming(w, demand);
		}
	}
}

void rji_rdma_window_leave(struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	touch(w);
	/* Both in one order with make_room()'s store and look. */
	if (atomic_fetch_sub(&w->users, 1) != 1 || !atomic_load(&pool->starving))
		return;
	pthread_mutex_lock(&pool->lock);
	step(pool);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
}

static bool may_come(const struct rji_rdma_window *w)
{
	return w->state == RJI_RDMA_WINDOW_ABSENT && !w->blocked;
}

void rji_rdma_windows_demand(struct rji_rdma_window *w)
{
	if (may_come(w) && w->list != RJI_RDMA_LIST_DEMAND)
		enlist(w, RJI_RDMA_LIST_DEMAND);
	step(w->table->pool);
}

void rji_rdma_windows_ahead(struct rji_rdma_window *w)
{
	struct rji_rdma_window_table *t = w->table;
	struct rji_rdma_window_pool *pool = t->pool;
	struct rji_rdma_window *end = t->window + t->n;
	uint32_t n = 0;

	if (end - w > AHEAD_LOOK_MAX)
		end = w + AHEAD_LOOK_MAX;
	for (w++; w < end && n < pool->ahead; w++) {
		if (!atomic_load_explicit(&w->expected, memory_order_relaxed))
			continue;
		n++;
		if (may_come(w) &&
		    (w->list == RJI_RDMA_LIST_NONE || w->list >= RJI_RDMA_LIST_LATER))
			enlist(w, RJI_RDMA_LIST_SOON);
	}
	step(pool);
}

void rji_rdma_windows_all(struct rji_rdma_window_table *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		if (may_come(&t->window[i]) && t->window[i].list == RJI_RDMA_LIST_NONE)
			enlist(&t->window[i], RJI_RDMA_LIST_LATER + t->window[i].node);
	}
	step(t->pool);
}

/* Not on the way yet: only wished for. */
static void forget_wish(struct rji_rdma_window *w)
{
	if (w->state == RJI_RDMA_WINDOW_ABSENT)
		unlist(w);
}

void rji_rdma_windows_block(struct rji_rdma_window *w)
{
	w->blocked = true;
	forget_wish(w);
	if (w->state == RJI_RDMA_WINDOW_READY && close_window(w))
		begin_going(w, false);
	else if (w->state == RJI_RDMA_WINDOW_READY)
		atomic_store(&w->table->pool->starving, true);
}

void rji_rdma_windows_unblock(struct rji_rdma_window *w)
{
	w->blocked = false;
	if (w->waiters)
		rji_rdma_windows_demand(w);
}

bool rji_rdma_windows_bring(struct rji_rdma_window *w)
{
	if (!may_come(w) || w->list != RJI_RDMA_LIST_NONE || !has_room(w->table->pool, bytes_of(w)))
		return false;
	begin_coming(w, true);
	return true;
}

bool rji_rdma_windows_drop(struct rji_rdma_window *w)
{
	if (w->state != RJI_RDMA_WINDOW_READY || w->list != RJI_RDMA_LIST_NONE || !close_window(w))
		return false;
	begin_going(w, true);
	return true;
}

/* How much rather than others somebody at a node does it: a lane waits for it, or for its room; it is near. */
static int rank(const struct rji_rdma_window *w, uint8_t node)
{
	bool urgent = w->waiters || w->demanded || w->state == RJI_RDMA_WINDOW_LEAVING;

	return 2 * urgent + (w->node == node);
}

struct rji_rdma_window *rji_rdma_windows_todo(struct rji_rdma_window_pool *pool, uint8_t node)
{
	struct rji_rdma_window *best = TAILQ_FIRST(&pool->list[RJI_RDMA_LIST_TODO]);

	if (!best)
		return NULL;
	for (struct rji_rdma_window *w = best; node && w; w = TAILQ_NEXT(w, link))
		if (rank(w, node) > rank(best, node))
			best = w;
	unlist(best);
	return best;
}

void rji_rdma_windows_came(struct rji_rdma_window *w, uint32_t key)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	assert(w->state == RJI_RDMA_WINDOW_COMING && key);
	pool->n_coming[w->node]--;
	w->state = RJI_RDMA_WINDOW_READY;
	TAILQ_INSERT_TAIL(&pool->ready, w, ready);
	count_ready(w, true);
	touch(w);
	/* Pairs with rji_rdma_window_enter(). */
	atomic_store_explicit(&w->key, key, memory_order_release);
	if (w->blocked)
		rji_rdma_windows_block(w);
	tell_waiters(pool);
	step(pool);
}

bool rji_rdma_windows_came_by_itself(struct rji_rdma_window *w, uint32_t key)
{
	unlist(w); /* of wishes, or of those still to be said */
	if (w->state != RJI_RDMA_WINDOW_COMING && !rji_rdma_windows_take(w))
		return false;
	rji_rdma_windows_came(w, key);
	return true;
}

static void absent(struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	pool->used_bytes -= bytes_of(w);
	w->state = RJI_RDMA_WINDOW_ABSENT;
	tell_waiters(pool);
	step(pool);
}

void rji_rdma_windows_left_out(struct rji_rdma_window *w)
{
	assert(w->state == RJI_RDMA_WINDOW_COMING);
	w->table->pool->n_coming[w->node]--;
	absent(w);
}

void rji_rdma_windows_gone(struct rji_rdma_window *w)
{
	struct rji_rdma_window_pool *pool = w->table->pool;

	assert(w->state == RJI_RDMA_WINDOW_LEAVING);
	pool->going_bytes -= bytes_of(w);
	pool->evictions += w->evicted;
	atomic_fetch_and_explicit(&w->users, ~RJI_RDMA_WINDOW_GOING, memory_order_release);
	absent(w);
}

void rji_rdma_windows_fail(struct rji_rdma_window_pool *pool, const struct rj_error *why)
{
	if (!pool->failure.code)
		pool->failure = *why;
	tell_waiters(pool);
	if (pool->todo_fd >= 0)
		eventfd_write(pool->todo_fd, 1);
}

void rji_rdma_windows_tell(struct rji_rdma_window *w)
{
	enlist(w, RJI_RDMA_LIST_TELL);
}

struct rji_rdma_window *rji_rdma_windows_told(struct rji_rdma_window_pool *pool)
{
	struct rji_rdma_window *w = TAILQ_FIRST(&pool->list[RJI_RDMA_LIST_TELL]);

	if (w)
		unlist(w);
	return w;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_WINDOW_H
#define RJI_RDMA_WINDOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/fail.h"
#include "numa/topology.h"

/*
 * Which windows of memory are registered, and which are to be: the account, without any verbs.
 *
 * A region is registered in windows of a power of two. Each is in one of four states; somebody else does the work, and tells
 * when it is over:
 *
 *            step(): there is room                came()
 *   ABSENT ───────────────────────► COMING ───────────────────────► READY: it has a key
 *      ▲                              │ left_out()                    │ step(): least recently used, no lane in it
 *      ├──────────────────────────────┘                               ▼
 *      └──────────────────────────────────────────────────────────  GOING
 *                                  gone()
 *
 * COMING and GOING windows stand in the pool's todo list until whoever does the work takes them: threads which register (here),
 * or messages to the peer (there: the same windows of the destination's memory, seen from the source).
 *
 * Room: the windows of a pool which are not ABSENT have at most room_bytes. What a lane waits for (DEMAND) comes first, then
 * what lanes will come to soon (SOON), then, where everything is to be registered, the rest (LATER). For DEMAND any window goes that
 * no lane is in, those this round still needs last; for SOON only one this round does not need any more.
 *
 * Of each node's windows a few are on their way at once, but for those a lane waits for: so whoever registers finds near ones in
 * todo as long as there are any. On a machine of one node all windows are of node 0.
 *
 * A lane is in a window (users) from before it takes the key until its last request there has completed, so that no key
 * goes while a request has it. Entering and leaving is one atomic operation each, per window and not per page; whoever wants a
 * window to go swaps users from 0 to GOING, after which nobody enters. A lane that must wait for a window is in one other at
 * most (of the other pool), and that one is not in this pool's way: with room for one window a lane, every lane gets on.
 */

#define RJI_RDMA_WINDOW_GOING 0x80000000u
#define RJI_RDMA_NO_LIMIT UINT64_MAX

enum rji_rdma_window_state {
	RJI_RDMA_WINDOW_ABSENT,
	RJI_RDMA_WINDOW_COMING,
	RJI_RDMA_WINDOW_READY,
	RJI_RDMA_WINDOW_LEAVING,
};

#define RJI_RDMA_N_NODES (RJI_MAX_NODES + 1) /* and 0 */

enum rji_rdma_window_list {
	RJI_RDMA_LIST_TODO,
	RJI_RDMA_LIST_TELL, /* destination: the peer is to be told */
	RJI_RDMA_LIST_DEMAND,
	RJI_RDMA_LIST_SOON,
	RJI_RDMA_LIST_LATER, /* of node 0; those of the other nodes follow */
	RJI_RDMA_N_LISTS = RJI_RDMA_LIST_LATER + RJI_RDMA_N_NODES,
	RJI_RDMA_LIST_NONE = RJI_RDMA_N_LISTS,
};

struct rji_rdma_window_table;

struct rji_rdma_window {
	struct rji_rdma_window_table *table;
	uint8_t node; /* 1 + its place in the topology, set before it is in any list; 0: not known */
	_Atomic uint32_t key;	  /* 0: none */
	_Atomic uint32_t users;	  /* and RJI_RDMA_WINDOW_GOING */
	_Atomic uint64_t used_at; /* by the pool's clock */
	atomic_bool expected;	  /* this round has pages here, and no lane has come to them yet */
	/* under the pool's lock */
	uint8_t state;
	uint8_t list;
	bool blocked;  /* its pages are being discarded */
	bool demanded; /* by a lane, so that it is to come even if it is empty */
	bool evicted;  /* it goes to make room */
	uint32_t waiters;
	TAILQ_ENTRY(rji_rdma_window) link; /* in the list above */
	TAILQ_ENTRY(rji_rdma_window) ready;
	void *mr; /* of whoever registers */
};

/* A region on one device. Byte offset has the address base + offset; windows are cut at multiples of their size there. */
struct rji_rdma_window_table {
	struct rji_rdma_window_pool *pool;
	void *owner;
	uint32_t region;
	uint32_t device;
	uint32_t shift;
	uint32_t n;
	uint64_t base;
	uint64_t len_bytes;
	bool told;    /* destination: keys that come from now on are told by message */
	bool unasked; /* source: keys come also of windows that nobody wanted */
	struct rji_rdma_window *window;
};

/* A lane that waits for windows: fd, an eventfd, is written whenever one of the pool came, went, or failed. */
struct rji_rdma_waiter {
	int fd;
	LIST_ENTRY(rji_rdma_waiter) link;
};

TAILQ_HEAD(rji_rdma_window_queue, rji_rdma_window);

struct rji_rdma_window_pool {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* something came or went, or is to do */
	uint64_t room_bytes;
	uint64_t used_bytes;
	uint64_t going_bytes;
	_Atomic uint64_t *ready_bytes; /* kept for those who want to know; NULL */
	uint64_t evictions;
	uint32_t n_coming[RJI_RDMA_N_NODES];
	uint32_t n_tables;
	uint32_t ahead; /* windows that are to be on their way before each lane */
	int todo_fd;	/* an eventfd, written when there is something to do; -1 */
	_Atomic uint64_t clock;
	atomic_bool starving; /* room is wanted: who leaves a window tells */
	struct rj_error failure;
	struct rji_rdma_window_queue list[RJI_RDMA_N_LISTS];
	struct rji_rdma_window_queue ready; /* in no order */
	LIST_HEAD(, rji_rdma_waiter) waiters;
};

/* How many windows of 1 << shift bytes cover [base, base + len); base is in the first. */
static inline uint64_t rji_rdma_n_windows(uint64_t base, uint64_t len_bytes, uint32_t shift)
{
	return ((base + len_bytes - 1) >> shift) + 1;
}

static inline uint32_t rji_rdma_window_index(const struct rji_rdma_window *w)
{
	return (uint32_t)(w - w->table->window);
}

void rji_rdma_window_pool_init(struct rji_rdma_window_pool *pool);
void rji_rdma_window_pool_fini(struct rji_rdma_window_pool *pool);

/*
 * Before any table: how many bytes there may be, and for whom. Sets how far ahead windows come, which is what is left when
 * every lane has one.
 */
void rji_rdma_window_pool_limit(struct rji_rdma_window_pool *pool, uint64_t room_bytes,
				uint32_t shift, uint32_t n_lanes);

/* shift, n, base and len_bytes are set. All windows ABSENT. 0 or -ENOMEM. */
int rji_rdma_window_table_init(struct rji_rdma_window_table *t, struct rji_rdma_window_pool *pool);
/* With the lock, where there are other threads. No lane is in any of its windows. */
void rji_rdma_window_table_fini(struct rji_rdma_window_table *t);

/* Addresses [*from, *to) of a window. */
void rji_rdma_window_range(const struct rji_rdma_window *w, uint64_t *from_p, uint64_t *to_p);

/* --- lanes --- */

/* Enter, if it has a key: then until leave() it keeps it. */
static inline bool rji_rdma_window_enter(struct rji_rdma_window *w)
{
	/* Acquire: the key seen below is of the registration under which this was allowed. */
	uint32_t users = atomic_fetch_add_explicit(&w->users, 1, memory_order_acq_rel);

	if (!(users & RJI_RDMA_WINDOW_GOING) && atomic_load_explicit(&w->key, memory_order_acquire))
		return true;
	/* Nobody waits for this one's going: whoever wants it to go looks at users under the lock. */
	atomic_fetch_sub_explicit(&w->users, 1, memory_order_acq_rel);
	return false;
}

/* Takes the lock only when somebody waits for room. */
void rji_rdma_window_leave(struct rji_rdma_window *w);

/* This round has pages in it. */
static inline void rji_rdma_window_expect(struct rji_rdma_window *w)
{
	atomic_store_explicit(&w->expected, true, memory_order_relaxed);
}

/* A lane comes to it: is it the first of this round? */
static inline bool rji_rdma_window_met(struct rji_rdma_window *w)
{
	return atomic_load_explicit(&w->expected, memory_order_relaxed) &&
	       atomic_exchange_explicit(&w->expected, false, memory_order_relaxed);
}

/* --- with the lock held --- */

/* A lane needs it. */
void rji_rdma_windows_demand(struct rji_rdma_window *w);
/* A lane has come to w: those which it will come to next are to be on their way. */
void rji_rdma_windows_ahead(struct rji_rdma_window *w);
/* All of a table, when nothing else is to be done. */
void rji_rdma_windows_all(struct rji_rdma_window_table *t);
/* Let go of a window, now or when it has come; it does not come again before unblock. */
void rji_rdma_windows_block(struct rji_rdma_window *w);
void rji_rdma_windows_unblock(struct rji_rdma_window *w);
/* An ABSENT window is the caller's to register, at once. False: it may not come. */
bool rji_rdma_windows_take(struct rji_rdma_window *w);
/* Destination: the peer wants it (gone). False: it is not ABSENT (READY), or there is no room. */
bool rji_rdma_windows_bring(struct rji_rdma_window *w);
bool rji_rdma_windows_drop(struct rji_rdma_window *w);

/*
 * The next COMING or LEAVING window of todo, which is the caller's to do; NULL. To one at a node: first what a lane waits for, of
 * equals what is near. To others (0) in the order of need.
 */
struct rji_rdma_window *rji_rdma_windows_todo(struct rji_rdma_window_pool *pool, uint8_t node);
/* What became of it. */
void rji_rdma_windows_came(struct rji_rdma_window *w, uint32_t key);
/* The same, whether it was wanted or not. False: it had come before. */
bool rji_rdma_windows_came_by_itself(struct rji_rdma_window *w, uint32_t key);
void rji_rdma_windows_left_out(struct rji_rdma_window *w);
void rji_rdma_windows_gone(struct rji_rdma_window *w);
/* The pool is of no use any more, for this reason; the first stays. */
void rji_rdma_windows_fail(struct rji_rdma_window_pool *pool, const struct rj_error *why);
/* Destination: put a window on the list of those the peer is to be told of; take the next, NULL. */
void rji_rdma_windows_tell(struct rji_rdma_window *w);
struct rji_rdma_window *rji_rdma_windows_told(struct rji_rdma_window_pool *pool);

#endif

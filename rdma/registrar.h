/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_REGISTRAR_H
#define RJI_RDMA_REGISTRAR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"
#include "rdma/window.h"

/*
 * Threads that register windows and give them back, as the pool of windows here says.
 *
 * Pinning costs about 0.1 s a GB and thread with 4 KiB pages, which for one thread is as long as 100 Gb/s takes to send the same:
 * so there are a few. Windows are taken in order, so that they are ready in the order of need.
 *
 * Where the session's CPUs are near several nodes, each thread is bound to those of one, the next thread to the next; it takes
 * windows of that node first, and others when there are none. The kernel is asked where memory lies that was touched before; what was
 * not is anybody's, and comes to lie where its policy says: without one, with whoever registers it.
 */

#define RJI_RDMA_REGISTRARS 4 /* or one a node, if there are more of these, up to */
#define RJI_RDMA_MAX_REGISTRARS 16

struct rji_rdma_transport;

struct rji_rdma_registrar_thread {
	struct rji_rdma_transport *tp;
	pthread_t thread;
	uint8_t node; /* whose windows it takes first, as windows have it; 0: of none */
};

struct rji_rdma_registrar {
	struct rji_rdma_registrar_thread thread[RJI_RDMA_MAX_REGISTRARS];
	uint32_t n;
	bool stopping; /* under the pool's lock */
	const struct rji_topology *topology;
	uint32_t n_homes;	     /* nodes for threads; 0: of no interest */
	uint8_t home[RJI_MAX_NODES]; /* places in the topology */
};

/* Which nodes get threads. topology NULL: of no interest. */
void rji_rdma_registrar_place(struct rji_rdma_transport *tp, const struct rji_topology *topology);
/* Where do the windows of a new table lie? */
void rji_rdma_registrar_locate(const struct rji_rdma_transport *tp,
			       struct rji_rdma_window_table *t);
/* Start the threads, if that was not done. 0, or why not even one started. */
int rji_rdma_registrar_start(struct rji_rdma_transport *tp, struct rj_error *err);
void rji_rdma_registrar_stop(struct rji_rdma_transport *tp);

/*
 * Help, and wait until ready(arg) or nothing is left that could change it. The pool's lock is held when this is called, when it
 * returns, and for ready().
 */
void rji_rdma_registrar_help(struct rji_rdma_transport *tp, bool (*ready)(const void *arg),
			     const void *arg);

/* Register one window that the caller took (rji_rdma_windows_take()), in this thread; without the lock. */
int rji_rdma_register_window(struct rji_rdma_transport *tp, struct rji_rdma_window *w,
			     struct rj_error *err);

#endif

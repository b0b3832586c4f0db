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
 * so there are a few. Windows are taken in order, so that they are ready in the order of need. No thread is bound to a node: the
 * place for that is work(), which knows the window.
 */

#define RJI_RDMA_MAX_REGISTRARS 4

struct rji_rdma_registrar {
	pthread_t thread[RJI_RDMA_MAX_REGISTRARS];
	uint32_t n;
	bool stopping; /* under the pool's lock */
};

struct rji_rdma_transport;

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

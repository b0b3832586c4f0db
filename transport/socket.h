/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_SOCKET_H
#define RJI_TRANSPORT_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/fail.h"
#include "base/stop.h"
#include "transport/uri.h"

/*
 * Stream sockets with deadlines, for the control channel and the tcp lanes. Descriptors are
 * non-blocking and close-on-exec. Every wait ends with -ECANCELED when stop is set, with
 * RJ_E_TIMEOUT at the deadline (CLOCK_MONOTONIC; 0: none).
 */

/* Connect to a host and port, each of its addresses in turn, or to a path. RJ_E_CONNECT. */
int rji_socket_connect(const struct rji_uri *to, uint64_t deadline_ns, const struct rji_stop *stop,
		       int *fd_p, struct rj_error *err);

/*
 * Listen at a host and port or at a path (a socket file nobody listens on any more is replaced).
 * -errno.
 */
int rji_socket_listen(const struct rji_uri *at, int *fd_p, struct rj_error *err);

/*
 * Make a descriptor that was handed in fit for use: non-blocking, no delay, a silent peer noticed
 * in timeout_ms.
 */
int rji_socket_tune(int fd, uint32_t timeout_ms);

/* This machine's side, and the other's, of a socket: the address and port, or the path. */
int rji_socket_local(int fd, struct rji_uri *uri_p);
int rji_socket_peer(int fd, struct rji_uri *uri_p);

/*
 * All of it. The vectors are consumed. RJ_E_PEER_GONE when the peer closed or reset the connection.
 */
int rji_socket_send(int fd, struct iovec *iov, int n, uint64_t deadline_ns,
		    const struct rji_stop *stop);
int rji_socket_recv(int fd, struct iovec *iov, int n, uint64_t deadline_ns,
		    const struct rji_stop *stop);

/* Wait until fd is ready for events (POLLIN, POLLOUT). 0, RJ_E_TIMEOUT or -ECANCELED. */
int rji_socket_wait(int fd, short events, uint64_t deadline_ns, const struct rji_stop *stop);

#endif

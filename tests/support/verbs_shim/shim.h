/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_VERBS_SHIM_H
#define RJ_TESTS_VERBS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A strict stand-in for the calls of libibverbs and librdmacm that rdma/ makes. A program that links it gets these
 * functions in place of the libraries' own, which are linked too but never reached.
 *
 * Both ends of a connection are in this process. A thread of the shim plays the devices: it takes work requests from the
 * send queues, at moments and in an order between queue pairs which follow a seed, reads the pages, acknowledges, and places
 * the bytes at the destination some time later: after the completion at the requester (which proves nothing), and before
 * the receive of a SEND behind them completes (which does). With reorder, writes between two SENDs are placed in any order.
 *
 * Rules that software devices forgive are kept, and end the program with a message when they are broken by us: a send
 * queue's slot is free only when a completion at or after it was polled; a completion queue that could overrun; a receive
 * missing when a connection is made; events unacknowledged or objects in use when something is destroyed; retry_count 7. Of a
 * failed completion all but wr_id, status, qp_num and vendor_err is poison. Wrong keys, bounds and rights fail as they do
 * on a device.
 *
 * Addresses: device k ("shim0", …) has 192.0.2.(k+1) and 2001:db8::(k+1). 192.0.2.77 never answers; nothing else is
 * reachable.
 */

struct shim_config {
	uint64_t seed;
	uint32_t n_devices;  /* 0: one */
	bool reorder;	     /* place writes late and in any order */
	bool hardware;	     /* not marked as a software device */
	bool refuse_relaxed; /* registrations with relaxed ordering fail */
	bool refuse_inline;
	bool refuse_narrow;	/* modify_qp in RTS fails */
	uint64_t max_mr_bytes;	/* 0: no limit */
	uint32_t max_qp_wr;	/* 0: 4096 */
	uint32_t max_msg_bytes; /* 0: 2 GiB */
	uint64_t pin_limit;	/* bytes registered at most, else ENOMEM; 0: none */
	/* Each registration of guest memory, in its thread, before it is made. */
	void (*on_registration)(const void *addr, size_t len_bytes);
};

/* Begin anew. Nothing of an earlier use may be left. */
void shim_start(const struct shim_config *c);

/* End; true if everything was given back, else what was not is printed. */
bool shim_stop(void);

/* What can be made to fail. */
#define SHIM_KINDS(X)                                                                              \
	X(GET_DEVICES)                                                                             \
	X(QUERY_DEVICE)                                                                            \
	X(QUERY_PORT)                                                                              \
	X(ALLOC_PD)                                                                                \
	X(REG_MR)                                                                                  \
	X(CREATE_CHANNEL)                                                                          \
	X(CREATE_CQ)                                                                               \
	X(REQ_NOTIFY)                                                                              \
	X(POLL_CQ) /* of those that return something */                                            \
	X(POST_SEND)                                                                               \
	X(POST_RECV)                                                                               \
	X(MODIFY_QP)                                                                               \
	X(EXECUTE) /* a request completes with an error */                                         \
	X(CM_CHANNEL)                                                                              \
	X(CM_CREATE_ID)                                                                            \
	X(CM_BIND)                                                                                 \
	X(CM_LISTEN)                                                                               \
	X(CM_RESOLVE_ADDR)                                                                         \
	X(CM_RESOLVE_ROUTE)                                                                        \
	X(CM_CREATE_QP)                                                                            \
	X(CM_CONNECT)                                                                              \
	X(CM_ACCEPT)                                                                               \
	X(CM_MIGRATE)                                                                              \
	X(CM_GET_EVENT) /* of those that return something: the event is an error */                \
	X(CM_SET_OPTION)                                                                           \
	X(CM_DISCONNECT)

enum shim_kind {
#define SHIM_ENUM(name) SHIM_##name,
	SHIM_KINDS(SHIM_ENUM)
#undef SHIM_ENUM
		SHIM_N_KINDS
};

const char *shim_kind_name(enum shim_kind kind);

/* The nth call of a kind from now on fails, once. */
void shim_fail(enum shim_kind kind, uint32_t nth);
/* Did it come to that? */
bool shim_has_failed(void);
void shim_fail_none(void);

/* Hold back what is not executed yet, or let it go on. */
void shim_pause(bool paused);

struct shim_counts {
	uint64_t writes;
	uint64_t write_bytes;
	uint64_t sends;
	uint64_t posts;	       /* calls of ibv_post_send() */
	uint64_t rnr;	       /* times a SEND found no receive */
	uint64_t max_mr_bytes; /* largest registration */
	uint64_t max_write_bytes;
	uint64_t registered_bytes; /* now */
	uint64_t max_registered_bytes;
	uint64_t max_queued_bytes; /* in one send queue */
	uint64_t wide;		   /* requests on queue pairs that a peer could read from */
};

struct shim_counts shim_counts(void);

#endif

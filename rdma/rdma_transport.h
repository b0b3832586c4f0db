/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_RDMA_TRANSPORT_H
#define RJI_RDMA_RDMA_TRANSPORT_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/host.h"
#include "base/stop.h"
#include "rdma/credit.h"
#include "rdma/device.h"
#include "rdma/lane_hello.h"
#include "rdma/lane_message.h"
#include "rdma/registrar.h"
#include "rdma/registration.h"
#include "transport/transport.h"

/*
 * The two objects of the verbs transport, and what its files offer each other.
 *
 * Threads: everything of a lane belongs to the one thread that uses it, but for sent_bytes and for the queue pair's way into
 * ERR (withdraw), which any thread may take. tp->lock guards the list of lanes and, while lanes connect, the devices'
 * attachment. No verbs call that waits is made under it, except registration on a device that nobody foresaw.
 *
 * Names: the seam's struct rji_transport and struct rji_lane are ours as struct rji_rdma_transport and struct rji_rdma_lane;
 * rji_rdma_transport_of() and rji_rdma_lane_of() are the only places that know.
 */

#define RJI_RDMA_CHAIN 64 /* work requests of one ibv_post_send(), one doorbell */
#define RJI_RDMA_SQ_DEPTH 256
#define RJI_RDMA_RECVS 16
#define RJI_RDMA_CONTROLS 16 /* SENDs of ours under way at most */
/* A longer one is slower on one queue pair, and stands in the way of an urgent one. */
#define RJI_RDMA_MAX_WR_BYTES (128u << 10)
#define RJI_RDMA_MAX_LISTENERS RJI_MAX_ADDRS

struct rji_rdma_transport {
	const struct rji_host *host;
	struct rji_stop *stop;
	bool is_destination;
	int gid_index;
	int traffic_class;
	uint32_t peer_timeout_ms;
	char *devices;

	bool zeros;	       /* destination: may be told by messages */
	bool lazy, background; /* registration.h */
	uint64_t pin_cap_bytes;
	uint32_t n_lanes;
	int wake_fd; /* written when say() has something to say; -1 */
	struct rji_pins *pins;
	uint64_t given_bytes; /* of all regions */
	struct rji_rdma_memory memory;
	struct rji_rdma_registrar registrar;
	uint32_t n_devices;
	struct rji_rdma_device device[RJI_RDMA_MAX_DEVICES];

	pthread_mutex_t lock;
	struct rji_rdma_lane *lanes;
	struct rji_stop withdrawn; /* set by withdraw(): no queue pair may leave ERR any more */

	struct rdma_event_channel *listen_channel;
	struct rdma_cm_id *listener[RJI_RDMA_MAX_LISTENERS];
	uint32_t n_listeners;
};

/* A window that a lane is in, and its key. */
struct rji_rdma_grip {
	struct rji_rdma_window *window; /* NULL: none */
	uint32_t key;
};

/* One that it has left, but for requests below until. */
struct rji_rdma_left {
	struct rji_rdma_window *window;
	uint64_t until;
};

#define RJI_RDMA_MAX_LEFT 16

struct rji_rdma_lane {
	struct rji_rdma_transport *tp;
	struct rji_rdma_lane *next; /* in tp->lanes */
	uint32_t number;
	bool listed;
	struct rji_rdma_device *dev;
	uint32_t device;      /* index of dev */
	uint32_t peer_device; /* index into region->remote */

	struct rdma_event_channel *cm;
	struct rdma_cm_id *id;
	struct ibv_comp_channel *events;
	struct ibv_cq *cq;
	struct ibv_qp *qp;    /* id->qp */
	unsigned int unacked; /* events of cq; a mutex is taken to acknowledge, so many at once */
	bool armed;

	struct rji_rdma_sq sq;
	uint32_t recvs; /* posted and not completed */
	uint32_t chain_max;
	uint32_t chain_n;
	uint64_t chain_bytes;
	uint64_t chain_max_bytes;
	uint64_t window_bytes; /* in flight at most, but always four requests */
	uint32_t max_wr_bytes;
	struct ibv_send_wr wr[RJI_RDMA_CHAIN];
	struct ibv_sge sge[RJI_RDMA_CHAIN];

	struct rji_rdma_grip here, there;
	struct rji_rdma_left left[RJI_RDMA_MAX_LEFT]; /* a ring */
	uint32_t left_first, left_n;
	int window_fd; /* eventfd: a window came or went */
	bool awaits;   /* it is watched */
	bool woken;

	void *staged; /* source: copies of pages */
	struct ibv_mr *staged_mr;
	uint8_t *control; /* RJI_RDMA_CONTROLS send slots, then RJI_RDMA_RECVS receive slots */
	struct ibv_mr *control_mr;
	bool inlined;
	uint64_t controls_posted;
	uint64_t controls_done;

	uint64_t fence_seq;    /* source: asked last. destination: answered last */
	uint64_t answered_seq; /* source */
	uint64_t clean_at;     /* source: sq.posted when the last answered fence was asked */
	uint64_t asked_at;     /* source: the same for the fence under way */
	bool bye;	       /* destination: the source has said that it ends */
	bool closing;	       /* flushes are no news any more */
	struct rj_error first; /* first.code: the lane has failed, by this */
	_Atomic uint64_t sent_bytes;
	_Atomic uint64_t requests, posts, polls; /* as in struct rji_lane_stats */
};

static inline struct rji_rdma_transport *rji_rdma_transport_of(struct rji_transport *tp)
{
	return (struct rji_rdma_transport *)(void *)tp;
}

static inline struct rji_rdma_lane *rji_rdma_lane_of(struct rji_lane *lane)
{
	return (struct rji_rdma_lane *)(void *)lane;
}

/* --- wr_id: what a completion is of, when opcode is not valid (it is not, on failure) --- */

enum rji_rdma_op {
	RJI_RDMA_OP_WRITE = 1, /* with its counter in lane->sq */
	RJI_RDMA_OP_SEND = 2,  /* the same */
	RJI_RDMA_OP_RECV = 3,  /* with its slot */
};

#define RJI_RDMA_OP_SHIFT 56

static inline uint64_t rji_rdma_wr_id(enum rji_rdma_op op, uint64_t n)
{
	return (uint64_t)op << RJI_RDMA_OP_SHIFT | n;
}

static inline enum rji_rdma_op rji_rdma_wr_op(uint64_t wr_id)
{
	return (enum rji_rdma_op)(wr_id >> RJI_RDMA_OP_SHIFT);
}

static inline uint64_t rji_rdma_wr_n(uint64_t wr_id)
{
	return wr_id & ((1ull << RJI_RDMA_OP_SHIFT) - 1);
}

/* Counts that any thread may read and only the lane's own writes. */
static inline void rji_rdma_count(_Atomic uint64_t *total, uint64_t n)
{
	atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* --- figures of what is pinned; any thread --- */

static inline void rji_rdma_pinned(const struct rji_rdma_transport *tp, int64_t bytes)
{
	uint64_t now, peak;

	if (!tp->pins)
		return;
	now = atomic_fetch_add_explicit(&tp->pins->now_bytes, (uint64_t)bytes,
					memory_order_relaxed) +
	      (uint64_t)bytes;
	peak = atomic_load_explicit(&tp->pins->peak_bytes, memory_order_relaxed);
	while (now > peak &&
	       !atomic_compare_exchange_weak_explicit(&tp->pins->peak_bytes, &peak, now,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

static inline uint64_t rji_rdma_pinned_now(const struct rji_rdma_transport *tp)
{
	return tp->pins ? atomic_load_explicit(&tp->pins->now_bytes, memory_order_relaxed) : 0;
}

static inline void rji_rdma_spent(const struct rji_rdma_transport *tp, uint64_t register_ns)
{
	if (tp->pins)
		atomic_fetch_add_explicit(&tp->pins->register_ns, register_ns,
					  memory_order_relaxed);
}

static inline void rji_rdma_waited(const struct rji_rdma_transport *tp, uint64_t wait_ns)
{
	if (tp->pins)
		atomic_fetch_add_explicit(&tp->pins->wait_ns, wait_ns, memory_order_relaxed);
}

static inline void rji_rdma_cpu(const struct rji_rdma_transport *tp, uint64_t cpu_ns)
{
	if (tp->pins)
		atomic_fetch_add_explicit(&tp->pins->cpu_ns, cpu_ns, memory_order_relaxed);
}

static inline void rji_rdma_evicted(const struct rji_rdma_transport *tp, uint64_t n)
{
	if (tp->pins)
		atomic_store_explicit(&tp->pins->evictions, n, memory_order_relaxed);
}

/* --- queue_pair.c: a lane's verbs objects --- */

/* A lane without any; close it with rji_rdma_lane_free(), which copes with every stage. */
struct rji_rdma_lane *rji_rdma_lane_new(struct rji_rdma_transport *tp, uint32_t number);
/* Give it its queue pair, on lane->id's device, with receives posted. */
int rji_rdma_lane_setup(struct rji_rdma_lane *lane, uint32_t n_lanes, struct rj_error *err);
/* Once connected: what rdma_cm has no option for. */
void rji_rdma_lane_narrow(struct rji_rdma_lane *lane);

/* --- teardown.c --- */

/* Stop the queue pair, take what still completes, give everything back. NULL is fine. */
void rji_rdma_lane_free(struct rji_rdma_lane *lane);
void rji_rdma_withdraw(struct rji_transport *tp);
void rji_rdma_close(struct rji_lane **lane_p);

/* --- completion.c: what comes back --- */

/* The lane has failed: record the first reason. Return code. */
int rji_rdma_lane_fail(struct rji_rdma_lane *lane, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Tell the caller of an operation, ret being what it returns. */
int rji_rdma_lane_report(const struct rji_rdma_lane *lane, int ret, struct rj_error *err);
/* Take what has completed: how much, or the code by which the lane failed. */
int rji_rdma_poll(struct rji_rdma_lane *lane);
/*
 * Wait until something completes: how much, at least 1; 0 when until_ns (never 0) is past; -ECANCELED; -ESHUTDOWN after
 * withdraw(); or the code by which the lane failed.
 */
int rji_rdma_wait(struct rji_rdma_lane *lane, uint64_t until_ns);
/* The same for one who cannot go on without: the peer timeout or the deadline (0: none) is a failure. 0 or negative. */
int rji_rdma_wait_progress(struct rji_rdma_lane *lane, uint64_t deadline_ns);
int rji_rdma_post_recv(struct rji_rdma_lane *lane, uint32_t slot);

/* --- post.c --- */

int rji_rdma_post(struct rji_lane *lane, const struct rji_extent *e, uint32_t n,
		  struct rj_error *err);
int rji_rdma_drain(struct rji_lane *lane, struct rj_error *err);
/* SEND a message behind all writes. The caller has seen to it that there is a slot. */
int rji_rdma_send(struct rji_rdma_lane *lane, const struct rji_rdma_message *m);
/* Is there a slot? */
bool rji_rdma_can_send(const struct rji_rdma_lane *lane);

/* Extents from their places, or from copies; what is not handed over was never posted. */
int rji_rdma_post_all(struct rji_rdma_lane *lane, const struct rji_extent *e,
		      const void *const *from, uint32_t n);

/* Hand over what is gathered. */
int rji_rdma_flush(struct rji_rdma_lane *lane);

/* --- staged.c --- */

void *rji_rdma_staging(struct rji_lane *lane, size_t len_bytes);
void rji_rdma_free_staging(struct rji_rdma_lane *lane);
int rji_rdma_post_staged(struct rji_lane *lane, const struct rji_extent *e, const void *const *from,
			 uint32_t n, struct rj_error *err);
int rji_rdma_post_coded(struct rji_lane *lane, const struct rji_coded *c, uint32_t n,
			struct rj_error *err);
/* Destination: RJI_RDMA_ZEROS came. 0 or negative after rji_rdma_lane_fail(). */
int rji_rdma_clear(struct rji_rdma_lane *lane, const struct rji_rdma_message *m);

/* --- grip.c: a lane and the windows it posts in --- */

/* Out of line: leave the window of a grip for another, which may have to be waited for. 0 or negative. */
int rji_rdma_move(struct rji_rdma_lane *lane, struct rji_rdma_grip *grip,
		  struct rji_rdma_window *window);
/* Be in a window. */
static inline int rji_rdma_hold(struct rji_rdma_lane *lane, struct rji_rdma_grip *grip,
				struct rji_rdma_window *window)
{
	return __builtin_expect(grip->window == window, 1) ? 0 : rji_rdma_move(lane, grip, window);
}
/* Leave those whose last request has completed. */
void rji_rdma_retire(struct rji_rdma_lane *lane);
/* Nothing is in flight (any more): leave all windows. */
void rji_rdma_let_go(struct rji_rdma_lane *lane);

/* --- window_talk.c: what both ends say about windows over control --- */

int rji_rdma_say(struct rji_transport *tp, void *buf, size_t buf_bytes, struct rj_error *err);
int rji_rdma_hear(struct rji_transport *tp, const void *bytes, size_t len_bytes,
		  struct rj_error *err);

/* --- fence.c, serve.c --- */

int rji_rdma_fence(struct rji_lane *lane, uint64_t deadline_ns, struct rj_error *err);
int rji_rdma_serve(struct rji_lane *lane, struct rj_error *err);
/* A message has come; from rji_rdma_poll(). 0 or negative after rji_rdma_lane_fail(). */
int rji_rdma_source_heard(struct rji_rdma_lane *lane, const struct rji_rdma_message *m);
int rji_rdma_destination_heard(struct rji_rdma_lane *lane, const struct rji_rdma_message *m);

/* --- cm_event.c: rdma_cm without its blocking calls --- */

/* A channel whose fd does not block. NULL and errno. */
struct rdma_event_channel *rji_rdma_cm_channel(void);
/* The next event, to be acknowledged. 0; -ECANCELED; -ESHUTDOWN; -ETIMEDOUT; -errno. */
int rji_rdma_cm_next(const struct rji_rdma_transport *tp, struct rdma_event_channel *channel,
		     uint64_t deadline_ns, struct rdma_cm_event **ev_p);
/* Options that must be set before a connection is made; what a fabric does not know is left out without a word. */
void rji_rdma_cm_options(const struct rji_rdma_transport *tp, struct rdma_cm_id *id);
void rji_rdma_cm_param(struct rdma_conn_param *param, const void *private_data, uint8_t len_bytes);

/* --- cm_listen.c, cm_accept.c, cm_connect.c --- */

int rji_rdma_listen(struct rji_transport *tp, const struct rji_listen *l, struct rji_addrs *addrs,
		    struct rj_error *err);
void rji_rdma_unlisten(struct rji_rdma_transport *tp);
int rji_rdma_accept(struct rji_transport *tp, const struct rji_admission *adm, uint64_t deadline_ns,
		    struct rji_lane **lanes, struct rj_error *err);
int rji_rdma_connect(struct rji_transport *tp, uint32_t lane, const struct rji_addrs *addrs,
		     const struct rji_admission *adm, uint64_t deadline_ns,
		     struct rji_lane **lane_p, struct rj_error *err);

/* Which of our devices have the addresses of a list, as bits; 0 if one of them has none, or there is no list. */
uint32_t rji_rdma_devices_at(const struct rji_rdma_transport *tp, const char *hosts);
/* Our device of an id; -1: none. */
int rji_rdma_device_of(const struct rji_rdma_transport *tp, const struct rdma_cm_id *id);

/* --- cm_address.c --- */

/* "10.0.9.1:7471", "[fd00::1%eth0]:7471" into sa. 0 or -EINVAL. */
int rji_rdma_parse_address(const char *text, struct sockaddr_storage *sa_p);
/* The opposite, into RJI_ADDR_BYTES. */
void rji_rdma_format_address(const struct sockaddr *sa, char *text);
/* A host without a port, numeric or a name. 0 or RJ_E_CONNECT. */
int rji_rdma_resolve_host(const char *host, uint16_t port, struct sockaddr_storage *sa_p,
			  struct rj_error *err);
bool rji_rdma_is_any(const struct sockaddr *sa);

/* --- memlock.c --- */

/*
 * May this process pin so many more bytes? 0, or RJ_E_MEMLOCK naming the bytes and the cure. sys_errno 0: ask before; EPERM or
 * ENOMEM: explain why a registration failed, -sys_errno if it is not the limit. lazy: what the cure is.
 */
int rji_rdma_memlock(const char *region, uint64_t more_bytes, int sys_errno, bool lazy,
		     struct rj_error *err);
/* What the limit leaves; RJI_RDMA_NO_LIMIT. */
uint64_t rji_rdma_memlock_left(void);

#endif

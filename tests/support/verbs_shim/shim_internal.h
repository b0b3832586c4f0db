/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_VERBS_SHIM_INTERNAL_H
#define RJ_TESTS_VERBS_SHIM_INTERNAL_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>

#include "tests/support/verbs_shim/shim.h"

/* What the parts of the shim share. One lock guards all of it. */

#define SHIM_MAX_DEVICES 4

struct shim_device {
	struct ibv_device dev;
	struct ibv_context ctx;
};

struct shim_channel { /* of completions */
	struct ibv_comp_channel base;
	struct shim_cq *first; /* with events not fetched */
	uint32_t n_cqs;
};

struct shim_cq {
	struct ibv_cq base;
	struct shim_cq *next;
	struct ibv_wc *wc; /* a ring */
	uint32_t *sq_end;  /* for each: what it frees of its queue pair's send queue, +1 */
	struct shim_qp **qp;
	uint32_t head, n;
	uint32_t n_claimed; /* by the work queues attached */
	uint32_t n_qps;
	bool armed;
	uint32_t events; /* queued at the channel */
	uint32_t unacked;
};

struct shim_mr {
	struct ibv_mr base;
	struct shim_mr *next;
	uint64_t iova;
	unsigned int access;
};

struct shim_request {
	struct shim_request *next;
	struct ibv_send_wr wr; /* sg_list is not kept */
	struct ibv_sge sge;
	uint8_t *inlined;
	uint32_t number;
	bool executed; /* and not acknowledged yet */
	uint32_t hold; /* steps until then */
};

struct shim_placement { /* bytes acknowledged, not in memory yet */
	struct shim_placement *next;
	void *to;
	uint32_t len;
	uint8_t bytes[];
};

struct shim_receive {
	struct shim_receive *next;
	uint64_t wr_id;
	struct ibv_sge sge;
};

struct shim_qp {
	struct ibv_qp base;
	struct shim_qp *next;
	struct shim_qp *peer;
	struct shim_request *sq, **sq_tail;
	struct shim_receive *rq, **rq_tail;
	struct shim_placement *placements; /* on their way to the peer */
	uint32_t n_placements;
	uint32_t sq_depth, rq_depth;
	uint32_t posted, freed, n_receives;
	uint64_t queued_bytes;
	unsigned int access;
};

struct shim_cm_channel {
	struct rdma_event_channel base;
	struct shim_event *first, **tail;
	uint32_t n_ids;
};

struct shim_event {
	struct rdma_cm_event base;
	struct shim_event *next;
	uint8_t private_data[256];
};

enum shim_id_state {
	SHIM_ID_IDLE,
	SHIM_ID_BOUND,
	SHIM_ID_LISTENING,
	SHIM_ID_RESOLVED,
	SHIM_ID_ROUTED,
	SHIM_ID_CONNECTING,
	SHIM_ID_REQUESTED,
	SHIM_ID_ACCEPTED, /* passive: the peer has not heard yet */
	SHIM_ID_CONNECTED,
	SHIM_ID_ENDED,
};

struct shim_id {
	struct rdma_cm_id base;
	struct shim_id *next;
	struct shim_id *peer;
	enum shim_id_state state;
	uint32_t unacked;
	bool has_timeout;
	bool said_disconnect;
};

extern pthread_mutex_t shim_lock;
extern pthread_cond_t shim_work;
extern struct shim_config shim_config;
extern struct shim_device shim_device[SHIM_MAX_DEVICES];
extern struct shim_counts shim_count;
extern struct shim_qp *shim_qps;
extern struct shim_mr *shim_mrs;
extern struct shim_id *shim_ids;

/* Objects that are alive, by the name of their kind. */
void shim_object(const char *kind, int change);

/* Our user broke a rule. */
void shim_broken(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Is this the call that is to fail? Under the lock. */
bool shim_fault(enum shim_kind kind);

uint64_t shim_random(void);

/* Under the lock. */
void shim_complete(struct shim_cq *cq, struct shim_qp *qp, const struct ibv_wc *wc,
		   uint32_t sq_end);
void shim_qp_error(struct shim_qp *qp);
void shim_step(void);
bool shim_has_work(void);
void shim_devices_init(void);
void shim_devices_fini(void);
void shim_event_fd(int fd, int change);
struct shim_qp *shim_qp_new(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void shim_qp_free(struct shim_qp *qp);

#endif

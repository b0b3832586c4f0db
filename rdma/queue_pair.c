/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "rdma/rdma_transport.h"

/*
 * A lane's verbs objects: one completion queue for both directions, one queue pair, one small registered buffer for messages.
 *
 * The completion queue holds as many entries as both work queues have slots: on an error every outstanding request, signalled
 * or not, completes with a flush (IBTA vol. 1, 10.3.1.5), and an overrun is the end of the queue.
 *
 * Receives are posted before the connection is made and always again: the peer's first message may be there before we know
 * of the connection, and on the side that posts nothing else their flush is the only notice that the queue pair has died.
 */

#define CONTROL_BYTES ((size_t)(RJI_RDMA_CONTROLS + RJI_RDMA_RECVS) * RJI_RDMA_MESSAGE_BYTES)

/* In flight: enough for 2 ms of the port, 4 MiB, shared by the lanes. More only queues in front of what is urgent. */
#define WINDOW_MAX_BYTES (4ull << 20)
#define WINDOW_MIN_BYTES (64ull << 10)

struct rji_rdma_lane *rji_rdma_lane_new(struct rji_rdma_transport *tp, uint32_t number)
{
	struct rji_rdma_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return NULL;
	lane->tp = tp;
	lane->number = number;
	lane->window_fd = -1;
	rji_error_init(&lane->first);
	atomic_init(&lane->sent_bytes, 0);
	return lane;
}

static uint64_t window(const struct rji_rdma_device *dev, uint32_t n_lanes)
{
	uint64_t bytes = dev->rate_bps ? dev->rate_bps / 8 / 500 : WINDOW_MAX_BYTES;

	if (bytes > WINDOW_MAX_BYTES)
		bytes = WINDOW_MAX_BYTES;
	bytes /= n_lanes ? n_lanes : 1;
	return bytes < WINDOW_MIN_BYTES ? WINDOW_MIN_BYTES : bytes;
}

static uint32_t send_depth(const struct rji_rdma_transport *tp, const struct rji_rdma_device *dev)
{
	uint32_t depth = tp->is_destination ? RJI_RDMA_CONTROLS : RJI_RDMA_SQ_DEPTH;

	if (depth > dev->max_qp_wr)
		depth = dev->max_qp_wr;
	if (depth + RJI_RDMA_RECVS > dev->max_cqe)
		depth = dev->max_cqe > 2 * RJI_RDMA_RECVS ? dev->max_cqe - RJI_RDMA_RECVS
							  : RJI_RDMA_RECVS;
	return depth;
}

static int make_cq(struct rji_rdma_lane *lane, struct rj_error *err)
{
	struct ibv_context *ctx = lane->dev->ctx;
	int vector = ctx->num_comp_vectors > 0 ? (int)lane->number % ctx->num_comp_vectors : 0;
	int flags;

	lane->events = ibv_create_comp_channel(ctx);
	if (!lane->events)
		return rji_fail_sys(err, RJ_E_LANE, errno, "no completion channel of %s",
				    lane->dev->name);
	flags = fcntl(lane->events->fd, F_GETFL);
	if (flags < 0 || fcntl(lane->events->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return rji_fail_sys(err, RJ_E_LANE, errno, "the completion channel of %s",
				    lane->dev->name);
	lane->cq = ibv_create_cq(ctx, (int)(lane->sq.depth + RJI_RDMA_RECVS), lane, lane->events,
				 vector);
	if (!lane->cq)
		return rji_fail_sys(err, RJ_E_LANE, errno, "no completion queue of %s",
				    lane->dev->name);
	return 0;
}

static int make_control(struct rji_rdma_lane *lane, struct rj_error *err)
{
	lane->control = aligned_alloc(RJI_RDMA_CONTROL_BYTES, RJI_RDMA_CONTROL_BYTES);
	if (!lane->control)
		return rji_fail(err, -ENOMEM, "no memory for messages");
	memset(lane->control, 0, CONTROL_BYTES);
	lane->control_mr =
		ibv_reg_mr(lane->dev->pd, lane->control, CONTROL_BYTES, IBV_ACCESS_LOCAL_WRITE);
	if (lane->control_mr) {
		rji_rdma_pinned(lane->tp, RJI_RDMA_CONTROL_BYTES);
		return 0;
	}
	if ((errno == EPERM || errno == ENOMEM) &&
	    rji_rdma_memlock("messages", RJI_RDMA_CONTROL_BYTES, errno, lane->tp->lazy, err) ==
		    RJ_E_MEMLOCK)
		return RJ_E_MEMLOCK;
	return rji_fail_sys(err, RJ_E_LANE, errno, "registering a message buffer with %s",
			    lane->dev->name);
}

/*
 * From here on withdraw() finds the queue pair. If it came before, the queue pair goes to ERR while it still is in INIT,
 * and rdma_cm's own way to RTS fails: nothing leads out of ERR but RESET.
 */
static void enlist(struct rji_rdma_lane *lane)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct rji_rdma_transport *tp = lane->tp;

	pthread_mutex_lock(&tp->lock);
	lane->next = tp->lanes;
	tp->lanes = lane;
	lane->listed = true;
	if (rji_stop_is_set(&tp->withdrawn))
		ibv_modify_qp(lane->qp, &attr, IBV_QP_STATE);
	pthread_mutex_unlock(&tp->lock);
}

static int make_qp(struct rji_rdma_lane *lane, struct rj_error *err)
{
	struct ibv_qp_init_attr attr = {
		.qp_context = lane,
		.send_cq = lane->cq,
		.recv_cq = lane->cq,
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = lane->sq.depth,
			.max_recv_wr = RJI_RDMA_RECVS,
			.max_send_sge = 1,
			.max_recv_sge = 1,
			.max_inline_data = RJI_RDMA_MESSAGE_BYTES,
		},
	};

	lane->inlined = true;
	if (rdma_create_qp(lane->id, lane->dev->pd, &attr)) {
		attr.cap = (struct ibv_qp_cap){ lane->sq.depth, RJI_RDMA_RECVS, 1, 1, 0 };
		lane->inlined = false;
		if (rdma_create_qp(lane->id, lane->dev->pd, &attr))
			return rji_fail_sys(err, RJ_E_LANE, errno, "no queue pair of %s",
					    lane->dev->name);
	}
	lane->qp = lane->id->qp;
	enlist(lane);
	return 0;
}

/* What never changes of the requests that post() chains. */
static void make_chain(struct rji_rdma_lane *lane)
{
	for (unsigned int i = 0; i < RJI_RDMA_CHAIN; i++) {
		lane->wr[i].sg_list = &lane->sge[i];
		lane->wr[i].num_sge = 1;
		lane->wr[i].opcode = IBV_WR_RDMA_WRITE;
		lane->wr[i].next = i + 1 < RJI_RDMA_CHAIN ? &lane->wr[i + 1] : NULL;
	}
}

static void size_chain(struct rji_rdma_lane *lane, uint32_t n_lanes)
{
	uint32_t half = lane->sq.depth / 2;

	/* The last of each chain is signalled, so that one is at least every half queue. */
	lane->chain_max = half < RJI_RDMA_CHAIN ? half : RJI_RDMA_CHAIN;
	lane->window_bytes = window(lane->dev, n_lanes);
	lane->chain_max_bytes = lane->window_bytes / 4;
	lane->max_wr_bytes = RJI_RDMA_MAX_WR_BYTES;
	if (lane->max_wr_bytes > lane->dev->max_msg_bytes)
		lane->max_wr_bytes = lane->dev->max_msg_bytes;
}

int rji_rdma_lane_setup(struct rji_rdma_lane *lane, uint32_t n_lanes, struct rj_error *err)
{
	int ret = rji_rdma_sq_init(&lane->sq, send_depth(lane->tp, lane->dev));

	if (ret)
		return rji_fail(err, ret, "no memory for a lane");
	lane->window_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lane->window_fd < 0)
		return rji_fail_sys(err, 0, errno, "no eventfd for a lane");
	ret = make_cq(lane, err);
	if (!ret)
		ret = make_control(lane, err);
	if (!ret)
		ret = make_qp(lane, err);
	for (uint32_t i = 0; !ret && i < RJI_RDMA_RECVS; i++)
		ret = rji_rdma_post_recv(lane, i);
	if (ret)
		return rji_rdma_lane_report(lane, ret, err);
	make_chain(lane);
	size_chain(lane, n_lanes);
	return 0;
}

/*
 * rdma_cm lets the peer do everything remote there is on this queue pair, and leaves the pause after a missing receive at its
 * longest, 655 ms (IBTA vol. 1, table 45: code 0). Both may be changed in RTS. The registrations' own rights hold in any
 * case, so a device which does not want to is no reason to fail.
 */
void rji_rdma_lane_narrow(struct rji_rdma_lane *lane)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.qp_access_flags = lane->tp->is_destination ? IBV_ACCESS_REMOTE_WRITE : 0,
		.min_rnr_timer = 12, /* 0.64 ms */
	};
	int ret = ibv_modify_qp(lane->qp, &attr,
				IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER);

	if (ret)
		ret = ibv_modify_qp(lane->qp, &attr, IBV_QP_STATE | IBV_QP_ACCESS_FLAGS);
	if (ret)
		rji_log(lane->tp->host, RJ_LOG_DEBUG,
			"rdma: lane %u: access flags stay as they are: %s", lane->number,
			strerrordesc_np(ret));
}

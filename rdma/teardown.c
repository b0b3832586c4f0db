/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "rdma/rdma_transport.h"

/*
 * The ends of a lane.
 *
 * withdraw() is the promise that no byte of guest memory changes any more: a queue pair in ERR answers no request (IBTA vol.
 * 1, 10.3.1.5), and nothing leads from there back to where it does. That takes one command a queue pair and can be done from any
 * thread, where taking back the registrations of a large guest takes seconds. Should a device refuse the command, the
 * registrations go all the same: late, but certain.
 *
 * Freeing: queue pair to ERR, poll until all that was posted has come back, then destroy. Nothing here waits for the peer:
 * for DISCONNECTED after a link failure one would wait 80 to 100 s.
 *
 * Order of destruction, each holding on to the next: queue pair, rdma_cm's id, its channel; completion queue (events
 * acknowledged), its channel; registration, buffer.
 */

#define BYE_NS RJI_NS_PER_S
#define DRAIN_NS RJI_NS_PER_S

static int to_error(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct ibv_qp_init_attr init;
	int ret = ibv_modify_qp(qp, &attr, IBV_QP_STATE);

	if (!ret)
		return 0;
	/* A queue pair that is not connected yet has no way in either. */
	if (!ibv_query_qp(qp, &attr, IBV_QP_STATE, &init) &&
	    (attr.qp_state == IBV_QPS_RESET || attr.qp_state == IBV_QPS_ERR))
		return 0;
	return ret;
}

void rji_rdma_withdraw(struct rji_transport *base)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	bool refused = false;
	int ret;

	pthread_mutex_lock(&tp->lock);
	rji_stop_set(&tp->withdrawn);
	for (struct rji_rdma_lane *lane = tp->lanes; lane; lane = lane->next) {
		ret = to_error(lane->qp);
		if (!ret)
			continue;
		rji_log(tp->host, RJ_LOG_ERROR,
			"rdma: lane %u: %s does not stop its queue pair: %s", lane->number,
			lane->dev->name, strerrordesc_np(ret));
		refused = true;
	}
	pthread_mutex_unlock(&tp->lock);
	if (refused)
		rji_rdma_dereg_all(base);
}

static void delist(struct rji_rdma_lane *lane)
{
	struct rji_rdma_lane **at = &lane->tp->lanes;

	if (!lane->listed)
		return;
	pthread_mutex_lock(&lane->tp->lock);
	while (*at != lane)
		at = &(*at)->next;
	*at = lane->next;
	pthread_mutex_unlock(&lane->tp->lock);
}

static void drain(struct rji_rdma_lane *lane)
{
	const struct timespec moment = { .tv_nsec = 50000 };
	uint64_t until = rji_now_ns() + DRAIN_NS;

	lane->closing = true;
	to_error(lane->qp);
	for (;;) {
		rji_rdma_poll(lane);
		if ((lane->recvs == 0 && lane->sq.freed == lane->sq.posted) || rji_now_ns() > until)
			return;
		nanosleep(&moment, NULL);
	}
}

static void free_cq(struct rji_rdma_lane *lane)
{
	struct ibv_cq *cq;
	void *ctx;

	if (lane->cq) {
		/* ibv_destroy_cq() waits for every event that was fetched; one that was not does not matter. */
		while (!ibv_get_cq_event(lane->events, &cq, &ctx))
			lane->unacked++;
		if (lane->unacked)
			ibv_ack_cq_events(lane->cq, lane->unacked);
		ibv_destroy_cq(lane->cq);
	}
	if (lane->events)
		ibv_destroy_comp_channel(lane->events);
}

void rji_rdma_lane_free(struct rji_rdma_lane *lane)
{
	if (!lane)
		return;
	delist(lane);
	if (lane->qp) {
		drain(lane);
		rdma_destroy_qp(lane->id);
	}
	rji_rdma_let_go(lane);
	if (lane->id)
		rdma_destroy_id(lane->id);
	if (lane->cm)
		rdma_destroy_event_channel(lane->cm);
	free_cq(lane);
	rji_rdma_free_staging(lane);
	if (lane->control_mr) {
		ibv_dereg_mr(lane->control_mr);
		rji_rdma_pinned(lane->tp, -(int64_t)RJI_RDMA_CONTROL_BYTES);
	}
	if (lane->window_fd >= 0)
		close(lane->window_fd);
	free(lane->control);
	rji_rdma_sq_fini(&lane->sq);
	free(lane);
}

static bool is_clean(const struct rji_rdma_lane *lane)
{
	return !lane->first.code && lane->sq.posted == lane->clean_at &&
	       lane->answered_seq == lane->fence_seq;
}

/* Tell the destination that this is no accident, and let its port acknowledge before the connection goes. */
static void say_bye(struct rji_rdma_lane *lane)
{
	struct rji_rdma_message bye = { .type = RJI_RDMA_BYE, .seq = lane->fence_seq };
	uint64_t until = rji_now_ns() + BYE_NS;
	int ret = rji_rdma_can_send(lane) ? rji_rdma_send(lane, &bye) : -EAGAIN;

	while (ret >= 0 && lane->sq.freed != lane->sq.posted && rji_now_ns() < until)
		ret = rji_rdma_wait(lane, until);
}

void rji_rdma_close(struct rji_lane **base_p)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(*base_p);

	*base_p = NULL;
	if (!lane)
		return;
	if (!lane->tp->is_destination && is_clean(lane))
		say_bye(lane);
	rdma_disconnect(lane->id);
	rji_rdma_lane_free(lane);
}

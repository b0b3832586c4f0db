/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "rdma/rdma_transport.h"

/*
 * The destination takes its lanes.
 *
 * Until a lane is established its id stays on the listeners' channel, so that one thread waits in one place for all; then it
 * moves to a channel of the lane's own, whose thread is told of the connection's end.
 *
 *   CONNECT_REQUEST ── admitted? ──no──► reject with the reason, log, go on
 *        │ yes
 *   queue pair, receives posted, rdma_accept() with a welcome
 *        │
 *   ESTABLISHED ── id moves ── counted            REJECTED, UNREACHABLE, … ── lane is free again
 *
 * Nothing a stranger does ends the waiting: without the token there is no queue pair, and what the kernel keeps of an
 * unanswered request is bounded by the listeners' backlog.
 */

struct acceptor {
	struct rji_rdma_transport *tp;
	const struct rji_admission *adm;
	struct rji_rdma_lane **lane; /* by number; NULL: not there yet */
	uint32_t n_established;
};

static enum rji_rdma_refusal judge(const struct acceptor *a, const struct rdma_cm_id *id,
				   const struct rji_rdma_hello *hello)
{
	int i = rji_rdma_device_of(a->tp, id);

	if (!rji_secret_equal(hello->session_id, a->adm->session_id, RJI_SESSION_ID_BYTES))
		return RJI_RDMA_REFUSED_SESSION;
	if (!rji_secret_equal(hello->token, a->adm->token, RJI_TOKEN_BYTES))
		return RJI_RDMA_REFUSED_TOKEN;
	if (hello->lane >= a->adm->n_lanes)
		return RJI_RDMA_REFUSED_LANE;
	if (a->lane[hello->lane])
		return RJI_RDMA_REFUSED_TAKEN;
	return i < 0 || !a->tp->device[i].attached ? RJI_RDMA_REFUSED_DEVICE
						   : RJI_RDMA_REFUSED_NONE;
}

/* The peer counts only the devices whose keys it got. */
static uint32_t exported_index(const struct rji_rdma_transport *tp, uint32_t device)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < device; i++)
		n += tp->device[i].attached;
	return n;
}

static void reject(struct rdma_cm_id *id, enum rji_rdma_refusal reason)
{
	uint8_t bytes[RJI_RDMA_REFUSAL_BYTES];

	rji_rdma_put_refusal(reason, bytes);
	rdma_reject(id, bytes, sizeof(bytes));
}

static int accept_lane(struct acceptor *a, struct rji_rdma_lane *lane, struct rj_error *err)
{
	uint8_t bytes[RJI_RDMA_WELCOME_BYTES];
	struct rji_rdma_welcome w = {
		.lane = (uint16_t)lane->number,
		.device = exported_index(a->tp, lane->device),
		.max_msg_bytes = lane->dev->max_msg_bytes,
	};
	struct rdma_conn_param param;
	int ret;

	lane->cm = rji_rdma_cm_channel();
	if (!lane->cm)
		return rji_fail_sys(err, RJ_E_LANE, errno, "no rdma_cm channel");
	ret = rji_rdma_lane_setup(lane, a->adm->n_lanes, err);
	if (ret)
		return ret;
	rji_rdma_put_welcome(&w, bytes);
	rji_rdma_cm_param(&param, bytes, sizeof(bytes));
	rji_rdma_cm_options(a->tp, lane->id);
	if (rdma_accept(lane->id, &param))
		return rji_fail_sys(err, RJ_E_LANE, errno, "accepting lane %u", lane->number);
	return 0;
}

/* Takes over id. A failure is ours, not the peer's. */
static int admit(struct acceptor *a, struct rdma_cm_id *id, uint32_t number, struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_new(a->tp, number);
	int ret;

	if (!lane) {
		reject(id, RJI_RDMA_REFUSED_FAILED);
		rdma_destroy_id(id);
		return rji_fail(err, -ENOMEM, "no memory for a lane");
	}
	lane->id = id;
	lane->device = (uint32_t)rji_rdma_device_of(a->tp, id);
	lane->dev = &a->tp->device[lane->device];
	id->context = lane;
	ret = accept_lane(a, lane, err);
	if (ret) {
		reject(id, RJI_RDMA_REFUSED_FAILED);
		rji_rdma_lane_free(lane);
		return ret;
	}
	a->lane[number] = lane;
	return 0;
}

/* Acknowledges the event. */
static int requested(struct acceptor *a, struct rdma_cm_event *ev, struct rj_error *err)
{
	struct rji_rdma_hello hello = { 0 };
	struct rdma_cm_id *id = ev->id;
	enum rji_rdma_refusal reason;

	reason = rji_rdma_get_hello(ev->param.conn.private_data, ev->param.conn.private_data_len,
				    &hello);
	rdma_ack_cm_event(ev);
	if (!reason)
		reason = judge(a, id, &hello);
	if (!reason)
		return admit(a, id, hello.lane, err);
	char from[RJI_ADDR_BYTES];

	rji_rdma_format_address(rdma_get_peer_addr(id), from);
	rji_log(a->tp->host, RJ_LOG_WARN, "rdma: refused a connection from %s: %s", from,
		rji_rdma_refusal_text(reason));
	reject(id, reason);
	rdma_destroy_id(id);
	return 0;
}

static int established(struct acceptor *a, struct rji_rdma_lane *lane, struct rj_error *err)
{
	/* Moves what events there are as well; the one at hand has been acknowledged, or this would wait for ever. */
	if (rdma_migrate_id(lane->id, lane->cm))
		return rji_fail_sys(err, RJ_E_LANE, errno, "moving lane %u to a channel of its own",
				    lane->number);
	rji_rdma_lane_narrow(lane);
	a->n_established++;
	return 0;
}

static void lost(struct acceptor *a, struct rji_rdma_lane *lane, enum rdma_cm_event_type type)
{
	rji_log(a->tp->host, RJ_LOG_WARN, "rdma: lane %u went before it was there: %s",
		lane->number, rdma_event_str(type));
	a->lane[lane->number] = NULL;
	rji_rdma_lane_free(lane);
}

static int take_event(struct acceptor *a, struct rdma_cm_event *ev, struct rj_error *err)
{
	struct rji_rdma_lane *lane = ev->id->context;
	enum rdma_cm_event_type type = ev->event;

	if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
		return requested(a, ev, err);
	rdma_ack_cm_event(ev);
	switch (type) {
	case RDMA_CM_EVENT_ESTABLISHED: return established(a, lane, err);
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
	case RDMA_CM_EVENT_DISCONNECTED: lost(a, lane, type); return 0;
	case RDMA_CM_EVENT_DEVICE_REMOVAL:
		return rji_fail(err, RJ_E_NO_RDMA, "the RDMA device was removed");
	default: return 0;
	}
}

static int accept_all(struct acceptor *a, uint64_t deadline_ns, struct rj_error *err)
{
	struct rdma_cm_event *ev;
	int ret = 0;

	while (!ret && a->n_established < a->adm->n_lanes) {
		ret = rji_rdma_cm_next(a->tp, a->tp->listen_channel, deadline_ns, &ev);
		if (!ret)
			ret = take_event(a, ev, err);
		else if (ret == -ETIMEDOUT)
			ret = rji_fail(err, RJ_E_TIMEOUT, "%u of %u lanes came in time",
				       a->n_established, a->adm->n_lanes);
		else
			ret = rji_fail(err, ret == -ESHUTDOWN ? -ECANCELED : ret,
				       "waiting for lanes: %s", strerrordesc_np(-ret));
	}
	return ret;
}

int rji_rdma_accept(struct rji_transport *base, const struct rji_admission *adm,
		    uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	struct acceptor a = { .tp = rji_rdma_transport_of(base), .adm = adm };
	int ret;

	if (!a.tp->listen_channel || !adm->n_lanes || adm->n_lanes > UINT16_MAX)
		return rji_fail(err, -EINVAL, "accepting %u lanes", adm->n_lanes);
	a.lane = calloc(adm->n_lanes, sizeof(struct rji_rdma_lane *));
	if (a.lane)
		ret = accept_all(&a, deadline_ns, err);
	else
		ret = rji_fail(err, -ENOMEM, "no memory for %u lanes", adm->n_lanes);
	for (uint32_t i = 0; a.lane && i < adm->n_lanes; i++) {
		if (ret)
			rji_rdma_lane_free(a.lane[i]);
		else
			lanes[i] = (struct rji_lane *)(void *)a.lane[i];
	}
	free(a.lane);
	if (!ret) /* nobody else is to come */
		rji_rdma_unlisten(a.tp);
	return ret;
}

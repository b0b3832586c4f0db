/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>

#include "rdma/rdma_transport.h"

/*
 * The destination's half: it sleeps while the port writes, and wakes to answer fences.
 *
 * A write leaves no trace here, so a source that writes for minutes without a fence looks like one that has gone. When nothing
 * was heard for a while we send a ping: the peer's port acknowledges it without the peer's program, and if it does not, the
 * send fails after the retries (RETRY_EXC), or is still unacknowledged at the peer timeout.
 */

int rji_rdma_destination_heard(struct rji_rdma_lane *lane, const struct rji_rdma_message *m)
{
	struct rji_rdma_message answer = { .type = RJI_RDMA_ANSWER, .seq = m->seq };

	if (lane->bye)
		return rji_rdma_lane_fail(lane, RJ_E_PROTOCOL, "the source goes on after its end");
	if (m->type == RJI_RDMA_ZEROS && lane->tp->zeros)
		return rji_rdma_clear(lane, m);
	if (m->type == RJI_RDMA_BYE && m->seq == lane->fence_seq) {
		lane->bye = true;
		return 0;
	}
	if (m->type != RJI_RDMA_FENCE || m->seq != lane->fence_seq + 1)
		return rji_rdma_lane_fail(lane, RJ_E_PROTOCOL,
					  "message of type %d and number %" PRIu64
					  " where fence %" PRIu64 " was due",
					  m->type, m->seq, lane->fence_seq + 1);
	if (!rji_rdma_can_send(lane))
		return rji_rdma_lane_fail(lane, RJ_E_PROTOCOL,
					  "the source asks for fences and takes no answers");
	lane->fence_seq = m->seq;
	return rji_rdma_send(lane, &answer);
}

/* Nothing was heard for half of the peer timeout. */
static int ask_if_there(struct rji_rdma_lane *lane)
{
	struct rji_rdma_message ping = { .type = RJI_RDMA_PING, .seq = lane->fence_seq };

	if (lane->controls_posted != lane->controls_done)
		return rji_rdma_lane_fail(lane, RJ_E_PEER_GONE,
					  "the source's port has acknowledged nothing for %u ms",
					  lane->tp->peer_timeout_ms / 2);
	return rji_rdma_send(lane, &ping);
}

static int serve(struct rji_rdma_lane *lane)
{
	uint64_t pause_ns = lane->tp->peer_timeout_ms * RJI_NS_PER_MS / 2;
	int n = 1;

	while (n >= 0 && !lane->bye) {
		n = rji_rdma_wait(lane, rji_now_ns() + pause_ns);
		if (n == 0)
			n = ask_if_there(lane);
	}
	/* What a withdrawn or stopped lane flushes is our own doing, and what a source does then does not matter. */
	if (lane->bye || rji_stop_is_set(&lane->tp->withdrawn) ||
	    (lane->tp->stop && rji_stop_is_set(lane->tp->stop)))
		return 0;
	return n;
}

int rji_rdma_serve(struct rji_lane *base, struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = serve(lane);

	if (lane->bye)
		rdma_disconnect(lane->id);
	return rji_rdma_lane_report(lane, ret, err);
}

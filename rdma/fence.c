/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>

#include "rdma/rdma_transport.h"

/*
 * The fence, source's half.
 *
 * A completion of an RDMA write says that the responder's port has acknowledged it, not that it is in memory (IBTA vol. 1,
 * 9.7.5.1.6 and o9-20). What does say so is the completion, at the destination, of a receive whose SEND was posted behind the
 * writes on the same queue pair; with relaxed ordering too, "a completion still ensures that all data is visible, including
 * data from prior transfers" (ibv_reg_mr(3)). So the destination answers with a SEND of its own, and only that counts:
 *
 *   source                         destination
 *   WRITE WRITE … WRITE
 *   SEND fence n          ──►      receive completes: all writes before are in memory
 *                         ◄──      SEND answer n
 *   receive and sends have completed: fence() returns
 *
 * A fence that ran into its deadline has failed for its caller, but the lane lives: its late answer is known by its number.
 */

int rji_rdma_source_heard(struct rji_rdma_lane *lane, const struct rji_rdma_message *m)
{
	if (m->type == RJI_RDMA_PING)
		return 0;
	/* Answers come in the order of the fences, each once. */
	if (m->type != RJI_RDMA_ANSWER || m->seq != lane->answered_seq + 1 ||
	    m->seq > lane->fence_seq)
		return rji_rdma_lane_fail(lane, RJ_E_PROTOCOL,
					  "message of type %d and number %" PRIu64
					  " where an answer to %" PRIu64 " was due",
					  m->type, m->seq, lane->answered_seq + 1);
	lane->answered_seq = m->seq;
	return 0;
}

/*
 * The answer alone is not all: it may overtake the acknowledgement of what it answers, and until that is here the port may send
 * again, that is, read the pages again.
 */
static bool is_over(const struct rji_rdma_lane *lane)
{
	return lane->answered_seq == lane->fence_seq && lane->sq.freed >= lane->asked_at;
}

/* A deadline that has passed already still gets one look at what has come. */
static int ask(struct rji_rdma_lane *lane, uint64_t deadline_ns)
{
	struct rji_rdma_message m = { .type = RJI_RDMA_FENCE };
	int ret = rji_rdma_poll(lane);

	while (ret >= 0 && !rji_rdma_can_send(lane))
		ret = rji_rdma_wait_progress(lane, deadline_ns);
	if (ret < 0)
		return ret;
	m.seq = lane->fence_seq + 1;
	ret = rji_rdma_send(lane, &m);
	if (ret)
		return ret;
	lane->fence_seq = m.seq;
	lane->asked_at = lane->sq.posted;
	while (ret >= 0 && !is_over(lane))
		ret = rji_rdma_wait_progress(lane, deadline_ns);
	return ret < 0 ? ret : 0;
}

int rji_rdma_fence(struct rji_lane *base, uint64_t deadline_ns, struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = lane->first.code ? lane->first.code : ask(lane, deadline_ns);

	if (!ret) {
		lane->clean_at = lane->asked_at;
		rji_rdma_let_go(lane);
		return 0;
	}
	if (ret == RJ_E_TIMEOUT)
		return rji_fail(err, ret,
				"lane %u: the destination did not answer the fence in time",
				lane->number);
	return rji_rdma_lane_report(lane, ret, err);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "rdma/rdma_transport.h"

/*
 * What comes back on a lane: completions, and rdma_cm's events of its connection.
 *
 * The first completion that is not a success is the news, and the lane has failed; those after it are flushes. Of such a
 * completion only wr_id, status, qp_num and vendor_err are defined (ibv_poll_cq(3)), which is why wr_id says what it is of.
 * An idle or a broken connection may give no rdma_cm event at all, so whoever waits also has a limit.
 *
 * Waiting: poll, spin for somewhat more than a round trip where hardware does the work, then arm the event, poll once more
 * (a completion may have come before it was armed, and gives no event), and sleep in poll(2) together with the fds that
 * mean stop. Software devices work in kernel threads on our CPUs, so nothing is spun for them.
 *
 * The device's asynchronous events are left alone: their fd belongs to librdmacm's context, which the host program may share.
 * What they would tell arrives here as well: a broken queue pair by the flush of its receives, a removed device through
 * rdma_cm, all else as silence.
 */

#define BATCH 32
#define SPIN_NS 30000
#define ACK_EVENTS 64

int rji_rdma_lane_fail(struct rji_rdma_lane *lane, int code, const char *fmt, ...)
{
	char text[RJ_ERROR_TEXT_BYTES - 32];
	va_list ap;

	if (lane->first.code || lane->closing)
		return lane->first.code ? lane->first.code : code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	lane->first.lane = lane->number;
	return rji_fail(&lane->first, code, "lane %u: %s", lane->number, text);
}

int rji_rdma_lane_report(const struct rji_rdma_lane *lane, int ret, struct rj_error *err)
{
	size_t size;

	if (ret >= 0 || !err || err->code)
		return ret;
	if (ret == lane->first.code) {
		size = err->size;
		*err = lane->first;
		err->size = size;
		return ret;
	}
	return rji_fail(err, ret, "lane %u: %s", lane->number,
			ret == -ECANCELED ? "stopped" : rj_strerror(ret));
}

/* What an operator can do about the status of a failed request. */
static const char *hint(enum ibv_wc_status status)
{
	switch (status) {
	case IBV_WC_RETRY_EXC_ERR: return ": the peer's port does not answer";
	case IBV_WC_RNR_RETRY_EXC_ERR: return ": the peer takes no messages";
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR: return ": the destination does not allow it (any more)";
	case IBV_WC_LOC_PROT_ERR: return ": our memory is not registered there";
	case IBV_WC_WR_FLUSH_ERR: return ": the connection broke";
	default: return "";
	}
}

static void failed_write(struct rji_rdma_lane *lane, const struct ibv_wc *wc)
{
	const struct rji_rdma_slot *slot = rji_rdma_sq_slot(&lane->sq, rji_rdma_wr_n(wc->wr_id));
	const struct rji_rdma_region *r = rji_rdma_region(&lane->tp->memory, slot->region);

	lane->first.region = slot->region;
	lane->first.offset_bytes = slot->offset_bytes;
	rji_rdma_lane_fail(lane, RJ_E_LANE,
			   "RDMA write of %u bytes at 0x%" PRIx64
			   " of region \"%s\": %s (status %d, vendor 0x%x)%s",
			   slot->len_bytes, slot->offset_bytes, r ? r->name : "?",
			   ibv_wc_status_str(wc->status), wc->status, wc->vendor_err,
			   hint(wc->status));
}

/* The first completion with an error. */
static void failed(struct rji_rdma_lane *lane, const struct ibv_wc *wc)
{
	const char *what = rji_rdma_wr_op(wc->wr_id) == RJI_RDMA_OP_RECV ? "receive" : "send";

	if (lane->first.code || lane->closing)
		return;
	lane->first.wc_status = wc->status;
	lane->first.wc_vendor_err = wc->vendor_err;
	if (rji_rdma_wr_op(wc->wr_id) == RJI_RDMA_OP_WRITE) {
		failed_write(lane, wc);
		return;
	}
	rji_rdma_lane_fail(lane, RJ_E_LANE, "%s on qp 0x%x: %s (status %d, vendor 0x%x)%s", what,
			   wc->qp_num, ibv_wc_status_str(wc->status), wc->status, wc->vendor_err,
			   hint(wc->status));
}

static uint8_t *recv_slot(struct rji_rdma_lane *lane, uint32_t slot)
{
	return lane->control + (RJI_RDMA_CONTROLS + slot) * (size_t)RJI_RDMA_MESSAGE_BYTES;
}

int rji_rdma_post_recv(struct rji_rdma_lane *lane, uint32_t slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)recv_slot(lane, slot),
		.length = RJI_RDMA_MESSAGE_BYTES,
		.lkey = lane->control_mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = rji_rdma_wr_id(RJI_RDMA_OP_RECV, slot),
		.sg_list = &sge,
		.num_sge = 1,
	};
	struct ibv_recv_wr *bad;
	int ret = ibv_post_recv(lane->qp, &wr, &bad);

	if (ret)
		return rji_rdma_lane_fail(lane, RJ_E_LANE, "posting a receive: %s",
					  strerrordesc_np(ret));
	lane->recvs++;
	return 0;
}

static void received(struct rji_rdma_lane *lane, const struct ibv_wc *wc)
{
	uint32_t slot = (uint32_t)rji_rdma_wr_n(wc->wr_id);
	struct rji_rdma_message m;

	lane->recvs--;
	if (wc->status != IBV_WC_SUCCESS || lane->first.code || lane->closing)
		return;
	if (wc->byte_len != RJI_RDMA_MESSAGE_BYTES ||
	    !rji_rdma_get_message(recv_slot(lane, slot), RJI_RDMA_MESSAGE_BYTES, &m)) {
		rji_rdma_lane_fail(lane, RJ_E_PROTOCOL,
				   "the peer sent %u bytes which are no message", wc->byte_len);
		return;
	}
	/* Before the answer goes out, which allows the peer to send its next. */
	if (rji_rdma_post_recv(lane, slot))
		return;
	if (lane->tp->is_destination)
		rji_rdma_destination_heard(lane, &m);
	else
		rji_rdma_source_heard(lane, &m);
}

static void sent(struct rji_rdma_lane *lane, const struct ibv_wc *wc)
{
	uint64_t bytes;

	if (!rji_rdma_sq_complete(&lane->sq, rji_rdma_wr_n(wc->wr_id), &bytes)) {
		rji_rdma_lane_fail(lane, RJ_E_LANE,
				   "%s completed a request that is not there (0x%" PRIx64 ")",
				   lane->dev->name, wc->wr_id);
		return;
	}
	if (rji_rdma_wr_op(wc->wr_id) == RJI_RDMA_OP_SEND)
		lane->controls_done++;
	if (wc->status == IBV_WC_SUCCESS)
		atomic_fetch_add_explicit(&lane->sent_bytes, bytes, memory_order_relaxed);
}

static void take(struct rji_rdma_lane *lane, const struct ibv_wc *wc)
{
	if (wc->status != IBV_WC_SUCCESS)
		failed(lane, wc);
	if (rji_rdma_wr_op(wc->wr_id) == RJI_RDMA_OP_RECV)
		received(lane, wc);
	else
		sent(lane, wc);
}

int rji_rdma_poll(struct rji_rdma_lane *lane)
{
	struct ibv_wc wc[BATCH];
	int total = 0;
	int n;

	do {
		n = ibv_poll_cq(lane->cq, BATCH, wc);
		rji_rdma_count(&lane->polls, 1);
		if (n < 0)
			return rji_rdma_lane_fail(lane, RJ_E_LANE,
						  "polling the completion queue of %s failed",
						  lane->dev->name);
		for (int i = 0; i < n; i++)
			take(lane, &wc[i]);
		total += n;
	} while (n == BATCH);
	return lane->first.code ? lane->first.code : total;
}

/* Events of the connection. Whoever is told DISCONNECTED must answer at once: the peer's end waits for it, up to 100 s. */
static void take_cm_events(struct rji_rdma_lane *lane)
{
	enum rdma_cm_event_type type;
	struct rdma_cm_event *ev;

	while (!rdma_get_cm_event(lane->cm, &ev)) {
		type = ev->event;
		rdma_ack_cm_event(ev);
		if (type == RDMA_CM_EVENT_DISCONNECTED) {
			rji_rdma_poll(
				lane); /* the source's last word came before, and spares it the blame */
			if (!lane->bye)
				rji_rdma_lane_fail(lane, RJ_E_PEER_GONE,
						   "the peer closed the connection");
			rdma_disconnect(lane->id);
		} else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
			rji_rdma_lane_fail(lane, RJ_E_LANE, "%s was removed", lane->dev->name);
		}
		/* ADDR_CHANGE is a hint, TIMEWAIT_EXIT comes late and means nothing to us. */
	}
}

static void take_cq_events(struct rji_rdma_lane *lane)
{
	struct ibv_cq *cq;
	void *ctx;

	while (!ibv_get_cq_event(lane->events, &cq, &ctx)) {
		lane->armed = false;
		if (++lane->unacked < ACK_EVENTS)
			continue;
		ibv_ack_cq_events(lane->cq, lane->unacked);
		lane->unacked = 0;
	}
}

static int stopped(const struct rji_rdma_lane *lane)
{
	if (lane->tp->stop && rji_stop_is_set(lane->tp->stop))
		return -ECANCELED;
	return rji_stop_is_set(&lane->tp->withdrawn) ? -ESHUTDOWN : 0;
}

static int spin(struct rji_rdma_lane *lane)
{
	uint64_t until;
	int n = 0;

	if (lane->dev->software)
		return 0;
	until = rji_now_ns() + SPIN_NS;
	while (!n && rji_now_ns() < until)
		n = rji_rdma_poll(lane);
	return n;
}

static int sleep_until(struct rji_rdma_lane *lane, uint64_t until_ns)
{
	struct pollfd fd[] = {
		{ .fd = lane->events->fd, .events = POLLIN },
		{ .fd = lane->cm->fd, .events = POLLIN },
		{ .fd = lane->tp->withdrawn.fd, .events = POLLIN },
		{ .fd = lane->tp->stop ? lane->tp->stop->fd : -1, .events = POLLIN },
		{ .fd = lane->awaits ? lane->window_fd : -1, .events = POLLIN },
	};
	int n = poll(fd, 5, rji_ms_until(until_ns));
	eventfd_t many;

	if (n < 0 && errno != EINTR)
		return rji_rdma_lane_fail(lane, RJ_E_LANE, "poll: %s", strerrordesc_np(errno));
	if (fd[0].revents)
		take_cq_events(lane);
	if (fd[1].revents)
		take_cm_events(lane);
	if (fd[4].revents & POLLIN)
		lane->woken = !eventfd_read(lane->window_fd, &many);
	return 0;
}

static int arm(struct rji_rdma_lane *lane)
{
	if (lane->armed)
		return 0;
	if (ibv_req_notify_cq(lane->cq, 0))
		return rji_rdma_lane_fail(lane, RJ_E_LANE, "%s does not notify of completions",
					  lane->dev->name);
	lane->armed = true;
	return rji_rdma_poll(lane);
}

int rji_rdma_wait(struct rji_rdma_lane *lane, uint64_t until_ns)
{
	int n = stopped(lane);

	if (!n)
		n = rji_rdma_poll(lane);
	if (!n)
		n = spin(lane);
	while (!n) {
		n = arm(lane);
		if (!n)
			n = sleep_until(lane, until_ns);
		if (!n)
			n = rji_rdma_poll(lane);
		if (!n)
			n = stopped(lane);
		if (!n && (rji_now_ns() >= until_ns || (lane->awaits && lane->woken)))
			return 0;
	}
	return n;
}

int rji_rdma_wait_progress(struct rji_rdma_lane *lane, uint64_t deadline_ns)
{
	uint64_t silent_ns = rji_now_ns() + lane->tp->peer_timeout_ms * RJI_NS_PER_MS;
	bool due = deadline_ns && deadline_ns < silent_ns;
	int n = rji_rdma_wait(lane, due ? deadline_ns : silent_ns);

	if (n)
		return n < 0 ? n : 0;
	if (due)
		return RJ_E_TIMEOUT;
	return rji_rdma_lane_fail(lane, RJ_E_PEER_GONE, "nothing came from the peer for %u ms",
				  lane->tp->peer_timeout_ms);
}

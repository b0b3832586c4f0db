/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "rdma/rdma_transport.h"

/*
 * From extents to work requests.
 *
 * An extent is cut where a registration ends, here or at the destination (a request has one lkey and one rkey), and at
 * max_wr_bytes. Requests are gathered in a chain and handed over by one ibv_post_send(), which rings the doorbell once; single
 * posts would cap the rate at about two million a second. Only the last of a chain is signalled: its completion frees the
 * slots of all.
 *
 *   extent    |---------------------------------------|
 *   here      ....|--------- window 1 --------|-- window 2
 *   there     -- window 0 ---|-------- window 1 -------
 *   requests  |--------------|----------------|-------|
 *
 * No allocation, lock, system call or log on this path, but for the doorbell, for waiting when too much is in flight, and where a
 * lane comes to a window that is not registered (grip.c).
 */

/* All of a region that cutting needs, for this lane's two devices. */
struct view {
	struct rji_rdma_region *region;
	const struct rji_rdma_window_table *here;
	const struct rji_rdma_window_table *there;
};

static uint64_t min3(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

static int look_up(const struct rji_rdma_lane *lane, const struct rji_extent *e, struct view *v)
{
	struct rji_rdma_region *r = rji_rdma_region(&lane->tp->memory, e->region);

	if (!r || e->len_bytes == 0 || e->offset_bytes > r->len_bytes ||
	    e->len_bytes > r->len_bytes - e->offset_bytes || lane->peer_device >= r->n_there)
		return -EINVAL;
	v->region = r;
	v->here = &r->here[lane->device];
	v->there = &r->there[lane->peer_device];
	return 0;
}

/* Bytes from device address at to the end of its window. */
static uint64_t to_window_end(uint64_t at, uint32_t shift)
{
	return (1ull << shift) - (at & ((1ull << shift) - 1));
}

static int ring(struct rji_rdma_lane *lane)
{
	uint32_t n = lane->chain_n;
	struct ibv_send_wr *last = &lane->wr[n - 1];
	struct ibv_send_wr *bad = NULL;
	struct ibv_send_wr *next = last->next;
	int ret;

	last->next = NULL;
	last->send_flags = IBV_SEND_SIGNALED;
	ret = ibv_post_send(lane->qp, lane->wr, &bad);
	rji_rdma_count(&lane->requests, n);
	rji_rdma_count(&lane->posts, 1);
	last->next = next;
	last->send_flags = 0;
	lane->chain_n = 0;
	lane->chain_bytes = 0;
	if (!ret)
		return 0;
	/* Those before bad are under way, and unsignalled: only the queue pair's end will bring them back. */
	rji_rdma_sq_untake(&lane->sq, n - (bad ? (uint32_t)(bad - lane->wr) : 0));
	return rji_rdma_lane_fail(lane, RJ_E_LANE, "posting %u RDMA writes: %s", n,
				  strerrordesc_np(ret));
}

int rji_rdma_flush(struct rji_rdma_lane *lane)
{
	return lane->chain_n ? ring(lane) : 0;
}

static bool has_room(const struct rji_rdma_lane *lane, uint64_t len_bytes)
{
	const struct rji_rdma_sq *sq = &lane->sq;

	/* One slot is for the fence, which must not wait for what it is to confirm. */
	if (rji_rdma_sq_room(sq) <= 1)
		return false;
	return sq->posted - sq->freed < 4 ||
	       rji_rdma_sq_in_flight_bytes(sq) + len_bytes <= lane->window_bytes;
}

static int make_room(struct rji_rdma_lane *lane, uint64_t len_bytes)
{
	int ret;

	if (lane->chain_n == lane->chain_max || lane->chain_bytes >= lane->chain_max_bytes) {
		ret = rji_rdma_flush(lane);
		if (ret)
			return ret;
	}
	if (has_room(lane, len_bytes))
		return 0;
	ret = rji_rdma_flush(lane);
	if (!ret)
		ret = rji_rdma_poll(lane);
	while (ret >= 0 && !has_room(lane, len_bytes))
		ret = rji_rdma_wait_progress(lane, 0);
	return ret < 0 ? ret : 0;
}

/* from NULL: the pages themselves. */
static void append(struct rji_rdma_lane *lane, const struct view *v, uint64_t offset_bytes,
		   uint32_t len_bytes, const void *from)
{
	uint64_t there = v->region->peer_base + offset_bytes;
	struct ibv_send_wr *wr = &lane->wr[lane->chain_n];
	struct ibv_sge *sge = &lane->sge[lane->chain_n];

	/* The address in our own registration is the iova given to ibv_reg_mr_iova2(), not the pointer. */
	sge->addr = from ? (uintptr_t)from : v->region->base + offset_bytes;
	sge->length = len_bytes;
	sge->lkey = from ? lane->staged_mr->lkey : lane->here.key;
	wr->wr.rdma.remote_addr = there;
	wr->wr.rdma.rkey = lane->there.key;
	wr->wr_id = rji_rdma_wr_id(RJI_RDMA_OP_WRITE, rji_rdma_sq_take(&lane->sq, v->region->id,
								       offset_bytes, len_bytes));
	lane->chain_n++;
	lane->chain_bytes += len_bytes;
}

static int hold_here(struct rji_rdma_lane *lane, const struct view *v, uint64_t here)
{
	return rji_rdma_hold(lane, &lane->here, &v->here->window[here >> v->here->shift]);
}

static int hold_there(struct rji_rdma_lane *lane, const struct view *v, uint64_t there)
{
	return rji_rdma_hold(lane, &lane->there, &v->there->window[there >> v->there->shift]);
}

/* A copy needs no window here. */
static int post_extent(struct rji_rdma_lane *lane, const struct view *v, const struct rji_extent *e,
		       const char *from)
{
	uint64_t offset = e->offset_bytes;
	uint64_t left = e->len_bytes;
	int ret;

	while (left) {
		uint64_t here = v->region->base + offset;
		uint64_t there = v->region->peer_base + offset;
		uint64_t cut = min3(from ? left : to_window_end(here, v->here->shift),
				    to_window_end(there, v->there->shift),
				    left < lane->max_wr_bytes ? left : lane->max_wr_bytes);

		ret = from ? 0 : hold_here(lane, v, here);
		if (!ret)
			ret = hold_there(lane, v, there);
		if (!ret)
			ret = make_room(lane, cut);
		if (ret)
			return ret;
		append(lane, v, offset, (uint32_t)cut, from);
		from = from ? from + cut : NULL;
		offset += cut;
		left -= cut;
	}
	return 0;
}

static int post_each(struct rji_rdma_lane *lane, const struct rji_extent *e,
		     const void *const *from, uint32_t n)
{
	struct view v;
	int ret;

	for (uint32_t i = 0; i < n; i++) {
		ret = look_up(lane, &e[i], &v);
		if (ret)
			return rji_rdma_lane_fail(lane, ret,
						  "%u bytes at 0x%" PRIx64
						  " of region %u cannot be sent: there are none",
						  e[i].len_bytes, e[i].offset_bytes, e[i].region);
		ret = post_extent(lane, &v, &e[i], from ? from[i] : NULL);
		if (ret)
			return ret;
	}
	return rji_rdma_flush(lane);
}

int rji_rdma_post_all(struct rji_rdma_lane *lane, const struct rji_extent *e,
		      const void *const *from, uint32_t n)
{
	int ret = post_each(lane, e, from, n);

	if (ret &&
	    lane->chain_n) { /* cancelled in between: what is not handed over was never posted */
		rji_rdma_sq_untake(&lane->sq, lane->chain_n);
		lane->chain_n = 0;
		lane->chain_bytes = 0;
	}
	return ret;
}

int rji_rdma_post(struct rji_lane *base, const struct rji_extent *e, uint32_t n,
		  struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = lane->first.code ? lane->first.code : rji_rdma_post_all(lane, e, NULL, n);

	return rji_rdma_lane_report(lane, ret, err);
}

int rji_rdma_drain(struct rji_lane *base, struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = rji_rdma_poll(lane);

	while (ret >= 0 && lane->sq.freed != lane->sq.posted)
		ret = rji_rdma_wait_progress(lane, 0);
	if (ret >= 0)
		rji_rdma_let_go(lane);
	return rji_rdma_lane_report(lane, ret < 0 ? ret : 0, err);
}

bool rji_rdma_can_send(const struct rji_rdma_lane *lane)
{
	return rji_rdma_sq_room(&lane->sq) > 0 &&
	       lane->controls_posted - lane->controls_done < RJI_RDMA_CONTROLS;
}

int rji_rdma_send(struct rji_rdma_lane *lane, const struct rji_rdma_message *m)
{
	uint8_t *slot =
		lane->control + lane->controls_posted % RJI_RDMA_CONTROLS * RJI_RDMA_MESSAGE_BYTES;
	struct ibv_sge sge = {
		.addr = (uintptr_t)slot,
		.length = RJI_RDMA_MESSAGE_BYTES,
		.lkey = lane->control_mr->lkey,
	};
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED | (lane->inlined ? IBV_SEND_INLINE : 0u),
	};
	struct ibv_send_wr *bad;
	int ret;

	rji_rdma_put_message(m, slot);
	wr.wr_id = rji_rdma_wr_id(RJI_RDMA_OP_SEND, rji_rdma_sq_take(&lane->sq, UINT32_MAX, 0,
								     RJI_RDMA_MESSAGE_BYTES));
	ret = ibv_post_send(lane->qp, &wr, &bad);
	if (ret) {
		rji_rdma_sq_untake(&lane->sq, 1);
		return rji_rdma_lane_fail(lane, RJ_E_LANE, "posting a message: %s",
					  strerrordesc_np(ret));
	}
	lane->controls_posted++;
	return 0;
}

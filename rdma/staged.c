/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/rdma_transport.h"
#include "transport/clear.h"

/*
 * What goes out besides guest pages as they are: copies of them, written to the same places from a buffer of
 * the lane's own, and messages that say which pages are zero.
 *
 * A message waits for no write and no write for it: a page is in one of them only, in a round, and the fence
 * behind both is answered by the thread that has cleared before.
 */

void *rji_rdma_staging(struct rji_lane *base, size_t len_bytes)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);

	/* What a cap or a limit allows is for guest memory. */
	if (lane->staged || lane->tp->pin_cap_bytes || rji_rdma_memlock_left() != RJI_RDMA_NO_LIMIT)
		return lane->staged;
	len_bytes = (len_bytes + RJI_RDMA_CONTROL_BYTES - 1) & ~(RJI_RDMA_CONTROL_BYTES - 1);
	lane->staged = aligned_alloc(RJI_RDMA_CONTROL_BYTES, len_bytes);
	if (!lane->staged)
		return NULL;
	lane->staged_mr = ibv_reg_mr(lane->qp->pd, lane->staged, len_bytes, 0);
	if (lane->staged_mr)
		rji_rdma_pinned(lane->tp, (int64_t)len_bytes);
	else
		rji_rdma_free_staging(lane);
	return lane->staged;
}

void rji_rdma_free_staging(struct rji_rdma_lane *lane)
{
	if (lane->staged_mr) {
		rji_rdma_pinned(lane->tp, -(int64_t)lane->staged_mr->length);
		ibv_dereg_mr(lane->staged_mr);
	}
	free(lane->staged);
	lane->staged_mr = NULL;
	lane->staged = NULL;
}

int rji_rdma_post_staged(struct rji_lane *base, const struct rji_extent *e, const void *const *from,
			 uint32_t n, struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = lane->first.code ? lane->first.code : rji_rdma_post_all(lane, e, from, n);

	return rji_rdma_lane_report(lane, ret, err);
}

static int send_zeros(struct rji_rdma_lane *lane, const struct rji_extent *e)
{
	struct rji_rdma_message m = {
		.type = RJI_RDMA_ZEROS,
		.region = e->region,
		.seq = e->offset_bytes >> RJI_RDMA_ZEROS_SHIFT |
		       (uint64_t)(e->len_bytes >> RJI_RDMA_ZEROS_SHIFT) << RJI_RDMA_ZEROS_PAGE_BITS,
	};
	int ret = rji_rdma_can_send(lane) ? 0 : rji_rdma_poll(lane);

	while (ret >= 0 && !rji_rdma_can_send(lane))
		ret = rji_rdma_wait_progress(lane, 0);
	return ret < 0 ? ret : rji_rdma_send(lane, &m);
}

int rji_rdma_post_coded(struct rji_lane *base, const struct rji_coded *c, uint32_t n,
			struct rj_error *err)
{
	struct rji_rdma_lane *lane = rji_rdma_lane_of(base);
	int ret = lane->first.code;

	for (uint32_t i = 0; !ret && i < n; i++)
		ret = c[i].coding == RJI_CODING_ZEROS ? send_zeros(lane, &c[i].extent) : -EINVAL;
	return rji_rdma_lane_report(lane, ret, err);
}

int rji_rdma_clear(struct rji_rdma_lane *lane, const struct rji_rdma_message *m)
{
	const struct rji_rdma_region *r = rji_rdma_region(&lane->tp->memory, m->region);
	uint64_t page = m->seq & ((1ull << RJI_RDMA_ZEROS_PAGE_BITS) - 1);
	uint64_t offset = page << RJI_RDMA_ZEROS_SHIFT;
	uint64_t len = (m->seq >> RJI_RDMA_ZEROS_PAGE_BITS) << RJI_RDMA_ZEROS_SHIFT;

	if (!r || !len || offset > r->len_bytes || len > r->len_bytes - offset)
		return rji_rdma_lane_fail(lane, RJ_E_PROTOCOL,
					  "the source wants zeros outside guest memory: region %u "
					  "offset 0x%" PRIx64 " length 0x%" PRIx64,
					  m->region, offset, len);
	rji_clear_memory(r->host + offset, len);
	return 0;
}

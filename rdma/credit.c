/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/credit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int rji_rdma_sq_init(struct rji_rdma_sq *sq, uint32_t depth)
{
	uint32_t size = 2;

	while (size <= depth)
		size *= 2;
	*sq = (struct rji_rdma_sq){ .depth = depth, .mask = size - 1 };
	sq->slot = calloc(size, sizeof(*sq->slot));
	return sq->slot ? 0 : -ENOMEM;
}

void rji_rdma_sq_fini(struct rji_rdma_sq *sq)
{
	free(sq->slot);
	sq->slot = NULL;
}

uint64_t rji_rdma_sq_take(struct rji_rdma_sq *sq, uint32_t region, uint64_t offset_bytes,
			  uint32_t len_bytes)
{
	assert(rji_rdma_sq_room(sq) > 0);
	sq->posted_bytes += len_bytes;
	*rji_rdma_sq_slot(sq, sq->posted) = (struct rji_rdma_slot){
		.end_bytes = sq->posted_bytes,
		.offset_bytes = offset_bytes,
		.region = region,
		.len_bytes = len_bytes,
	};
	return sq->posted++;
}

void rji_rdma_sq_untake(struct rji_rdma_sq *sq, uint32_t n)
{
	assert(n <= sq->posted - sq->freed);
	while (n--)
		sq->posted_bytes -= rji_rdma_sq_slot(sq, --sq->posted)->len_bytes;
}

bool rji_rdma_sq_complete(struct rji_rdma_sq *sq, uint64_t counter, uint64_t *bytes_p)
{
	uint64_t end;

	if (counter < sq->freed || counter >= sq->posted)
		return false;
	end = rji_rdma_sq_slot(sq, counter)->end_bytes;
	*bytes_p = end - sq->freed_bytes;
	sq->freed_bytes = end;
	sq->freed = counter + 1;
	return true;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/lane_message.h"

#include "base/cursor.h"
#include "rdma/lane_hello.h"

#define MAGIC 0x4a52u /* "RJ" */

void rji_rdma_put_message(const struct rji_rdma_message *m, void *buf)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, RJI_RDMA_MESSAGE_BYTES);
	rji_put_u16(&c, MAGIC);
	rji_put_u8(&c, RJI_RDMA_VERSION);
	rji_put_u8(&c, (uint8_t)m->type);
	rji_put_u32(&c, m->region);
	rji_put_u64(&c, m->seq);
}

bool rji_rdma_get_message(const void *buf, size_t len_bytes, struct rji_rdma_message *m_p)
{
	struct rji_rdma_message m;
	struct rji_cursor c;
	uint16_t magic;
	uint8_t version, type;

	rji_cursor_init_const(&c, buf, len_bytes);
	magic = rji_get_u16(&c);
	version = rji_get_u8(&c);
	type = rji_get_u8(&c);
	m.region = rji_get_u32(&c);
	m.seq = rji_get_u64(&c);
	if (!rji_cursor_done(&c) || magic != MAGIC || version != RJI_RDMA_VERSION ||
	    type < RJI_RDMA_FENCE || type > RJI_RDMA_ZEROS || (m.region && type != RJI_RDMA_ZEROS))
		return false;
	m.type = (enum rji_rdma_message_type)type;
	*m_p = m;
	return true;
}

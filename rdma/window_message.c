/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/window_message.h"

void rji_rdma_put_window_message(struct rji_cursor *c, const struct rji_rdma_window_message *m)
{
	rji_put_u16(c, (uint16_t)m->kind);
	rji_put_u16(c, 0);
	rji_put_u32(c, m->region);
	rji_put_u32(c, m->device);
	rji_put_u32(c, m->window);
	rji_put_u32(c, m->key);
}

bool rji_rdma_get_window_message(struct rji_cursor *c, struct rji_rdma_window_message *m_p)
{
	uint16_t kind = rji_get_u16(c);
	uint16_t zero = rji_get_u16(c);
	struct rji_rdma_window_message m = { .region = rji_get_u32(c) };

	m.device = rji_get_u32(c);
	m.window = rji_get_u32(c);
	m.key = rji_get_u32(c);
	if (c->bad || zero || kind < RJI_RDMA_WINDOW_WANT || kind > RJI_RDMA_WINDOW_DROPPED)
		return false;
	if ((kind == RJI_RDMA_WINDOW_KEY) != (m.key != 0))
		return false;
	m.kind = (enum rji_rdma_window_message_kind)kind;
	*m_p = m;
	return true;
}

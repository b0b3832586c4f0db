/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/message.h"

#include <string.h>

static const char *const names[] = {
	[RJI_MSG_FAILED] = "FAILED",
	[RJI_MSG_PING] = "PING",
	[RJI_MSG_PONG] = "PONG",
	[RJI_MSG_HELLO] = "HELLO",
	[RJI_MSG_HELLO_OK] = "HELLO_OK",
	[RJI_MSG_SETUP] = "SETUP",
	[RJI_MSG_SETUP_OK] = "SETUP_OK",
	[RJI_MSG_REGIONS] = "REGIONS",
	[RJI_MSG_REGION_OK] = "REGION_OK",
	[RJI_MSG_LANES] = "LANES",
	[RJI_MSG_LANES_OK] = "LANES_OK",
	[RJI_MSG_ROUND] = "ROUND",
	[RJI_MSG_READY] = "READY",
	[RJI_MSG_READY_OK] = "READY_OK",
	[RJI_MSG_STOPPING] = "STOPPING",
	[RJI_MSG_STATE] = "STATE",
	[RJI_MSG_ROLLBACK] = "ROLLBACK",
	[RJI_MSG_ROLLBACK_OK] = "ROLLBACK_OK",
	[RJI_MSG_FINISH] = "FINISH",
	[RJI_MSG_PREPARED] = "PREPARED",
	[RJI_MSG_COMMIT] = "COMMIT",
	[RJI_MSG_RUNNING] = "RUNNING",
	[RJI_MSG_REFUSED] = "REFUSED",
	[RJI_MSG_BYE] = "BYE",
	[RJI_MSG_LANES_RESET] = "LANES_RESET",
	[RJI_MSG_LANES_GONE] = "LANES_GONE",
	[RJI_MSG_WINDOWS] = "WINDOWS",
};

const char *rji_msg_name(unsigned int type)
{
	return type && type <= RJI_MSG_LAST ? names[type] : "?";
}

void rji_msg_encode_head(uint8_t bytes[RJI_MSG_HEAD_BYTES], uint16_t type, uint32_t len_bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, RJI_MSG_HEAD_BYTES);
	rji_put_u32(&c, len_bytes);
	rji_put_u16(&c, type);
	rji_put_u16(&c, 0);
}

int rji_msg_decode_head(const uint8_t bytes[RJI_MSG_HEAD_BYTES], uint16_t *type_p,
			uint32_t *len_bytes_p, struct rj_error *err)
{
	struct rji_cursor c;
	uint32_t len;
	uint16_t type;

	rji_cursor_init_const(&c, bytes, RJI_MSG_HEAD_BYTES);
	len = rji_get_u32(&c);
	type = rji_get_u16(&c);
	if (!type || type > RJI_MSG_LAST || rji_get_u16(&c))
		return rji_fail(err, RJ_E_PROTOCOL, "the peer sent an unknown message (type %u)",
				type);
	if (len > RJI_MSG_MAX_BYTES)
		return rji_fail(err, RJ_E_PROTOCOL, "the peer sent a message of %u bytes (%s)", len,
				rji_msg_name(type));
	*type_p = type;
	*len_bytes_p = len;
	return 0;
}

/* After the last field: was all there? What a later minor appended is ignored. */
static int complete(const struct rji_cursor *c)
{
	return c->bad ? RJ_E_PROTOCOL : 0;
}

void rji_put_failed(struct rji_cursor *c, const struct rji_msg_failed *m)
{
	rji_put_u32(c, (uint32_t)m->code);
	rji_put_string(c, m->text);
}

int rji_get_failed(struct rji_cursor *c, struct rji_msg_failed *m)
{
	m->code = (int32_t)rji_get_u32(c);
	rji_get_string(c, m->text, sizeof(m->text));
	for (char *p = m->text; *p; p++) {
		/* it is shown to people and logged in one line */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	if (m->code >= 0)
		m->code = RJ_E_PROTOCOL;
	return complete(c);
}

void rji_put_hello(struct rji_cursor *c, const struct rji_msg_hello *m)
{
	rji_put_u16(c, m->minor);
	rji_put_string(c, m->transport);
	rji_put_u32(c, m->n_lanes);
	rji_put_u32(c, m->peer_timeout_ms);
	rji_put_u64(c, m->guest_bytes);
	rji_put_bytes(c, m->session_id, sizeof(m->session_id));
	rji_put_bytes(c, m->secret, sizeof(m->secret));
	rji_put_u64(c, m->features);
}

int rji_get_hello(struct rji_cursor *c, struct rji_msg_hello *m)
{
	m->minor = rji_get_u16(c);
	rji_get_string(c, m->transport, sizeof(m->transport));
	m->n_lanes = rji_get_u32(c);
	m->peer_timeout_ms = rji_get_u32(c);
	m->guest_bytes = rji_get_u64(c);
	rji_get_bytes(c, m->session_id, sizeof(m->session_id));
	rji_get_bytes(c, m->secret, sizeof(m->secret));
	m->features = rji_get_u64(c);
	if (!m->n_lanes || m->n_lanes > RJ_MAX_LANES)
		return RJ_E_PROTOCOL;
	return complete(c);
}

void rji_put_hello_ok(struct rji_cursor *c, const struct rji_msg_hello_ok *m)
{
	rji_put_u16(c, m->minor);
	rji_put_u32(c, m->n_lanes);
	rji_put_u32(c, m->outcome_keep_ms);
	rji_put_u64(c, m->features);
}

int rji_get_hello_ok(struct rji_cursor *c, struct rji_msg_hello_ok *m)
{
	m->minor = rji_get_u16(c);
	m->n_lanes = rji_get_u32(c);
	m->outcome_keep_ms = rji_get_u32(c);
	m->features = rji_get_u64(c);
	if (!m->n_lanes || m->n_lanes > RJ_MAX_LANES)
		return RJ_E_PROTOCOL;
	return complete(c);
}

void rji_put_region(struct rji_cursor *c, const struct rji_msg_region *m)
{
	rji_put_string(c, m->name);
	rji_put_u64(c, m->len_bytes);
	rji_put_u64(c, m->gpa);
	rji_put_u32(c, m->page_bytes);
	rji_put_u32(c, m->flags);
}

int rji_get_region(struct rji_cursor *c, struct rji_msg_region *m)
{
	rji_get_string(c, m->name, sizeof(m->name));
	m->len_bytes = rji_get_u64(c);
	m->gpa = rji_get_u64(c);
	m->page_bytes = rji_get_u32(c);
	m->flags = rji_get_u32(c);
	if (!m->name[0])
		return RJ_E_PROTOCOL;
	return complete(c);
}

void rji_put_region_ok(struct rji_cursor *c, const struct rji_msg_region_ok *m)
{
	rji_put_u32(c, m->region);
	rji_put_u32(c, m->flags);
	rji_put_u32(c, (uint32_t)m->keys_bytes);
	rji_put_bytes(c, m->keys, m->keys_bytes);
}

int rji_get_region_ok(struct rji_cursor *c, struct rji_msg_region_ok *m)
{
	m->region = rji_get_u32(c);
	m->flags = rji_get_u32(c);
	m->keys_bytes = rji_get_u32(c);
	m->keys = rji_get_view(c, m->keys_bytes);
	return complete(c);
}

void rji_put_lanes(struct rji_cursor *c, const struct rji_msg_lanes *m)
{
	rji_put_bytes(c, m->token, sizeof(m->token));
	rji_put_u32(c, m->addrs.n);
	for (uint32_t i = 0; i < m->addrs.n; i++)
		rji_put_string(c, m->addrs.addr[i]);
}

int rji_get_lanes(struct rji_cursor *c, struct rji_msg_lanes *m)
{
	memset(m, 0, sizeof(*m));
	rji_get_bytes(c, m->token, sizeof(m->token));
	m->addrs.n = rji_get_u32(c);
	if (m->addrs.n > RJI_MAX_ADDRS)
		return RJ_E_PROTOCOL;
	for (uint32_t i = 0; i < m->addrs.n; i++)
		rji_get_string(c, m->addrs.addr[i], sizeof(m->addrs.addr[i]));
	return complete(c);
}

void rji_put_lanes_gone(struct rji_cursor *c, const struct rji_msg_lanes_gone *m)
{
	rji_put_u64(c, m->lanes);
	rji_put_bytes(c, m->token, sizeof(m->token));
}

int rji_get_lanes_gone(struct rji_cursor *c, struct rji_msg_lanes_gone *m)
{
	m->lanes = rji_get_u64(c);
	rji_get_bytes(c, m->token, sizeof(m->token));
	return complete(c);
}

void rji_put_range(struct rji_cursor *c, const struct rji_msg_range *m)
{
	rji_put_u32(c, m->region);
	rji_put_u64(c, m->offset_bytes);
	rji_put_u64(c, m->len_bytes);
}

int rji_get_range(struct rji_cursor *c, struct rji_msg_range *m)
{
	m->region = rji_get_u32(c);
	m->offset_bytes = rji_get_u64(c);
	m->len_bytes = rji_get_u64(c);
	return complete(c);
}

void rji_put_finish(struct rji_cursor *c, const struct rji_msg_finish *m)
{
	rji_put_u32(c, m->run);
	rji_put_u64(c, m->state_bytes);
}

int rji_get_finish(struct rji_cursor *c, struct rji_msg_finish *m)
{
	m->run = rji_get_u32(c);
	m->state_bytes = rji_get_u64(c);
	return m->run > 1 ? RJ_E_PROTOCOL : complete(c);
}

void rji_put_prepared(struct rji_cursor *c, const struct rji_msg_prepared *m)
{
	rji_put_u64(c, m->load_ns);
}

int rji_get_prepared(struct rji_cursor *c, struct rji_msg_prepared *m)
{
	m->load_ns = rji_get_u64(c);
	return complete(c);
}

void rji_put_running(struct rji_cursor *c, const struct rji_msg_running *m)
{
	rji_put_u64(c, m->acquire_ns);
	rji_put_u64(c, m->revoke_ns);
	rji_put_u64(c, m->resume_ns);
}

int rji_get_running(struct rji_cursor *c, struct rji_msg_running *m)
{
	m->acquire_ns = rji_get_u64(c);
	m->revoke_ns = rji_get_u64(c);
	m->resume_ns = rji_get_u64(c);
	return complete(c);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/lane_hello.h"

#include "base/cursor.h"

#define MAGIC 0x52446a72u /* "rjDR" */

static void put_head(struct rji_cursor *c, size_t len_bytes)
{
	rji_put_u32(c, MAGIC);
	rji_put_u8(c, RJI_RDMA_VERSION);
	rji_put_u8(c, (uint8_t)len_bytes);
}

/* The length is checked before the version: both ends must agree on where the version is, nothing else. */
static enum rji_rdma_refusal get_head(struct rji_cursor *c, size_t want_bytes)
{
	uint32_t magic = rji_get_u32(c);
	uint8_t version = rji_get_u8(c);
	uint8_t len = rji_get_u8(c);

	if (c->bad || magic != MAGIC)
		return RJI_RDMA_REFUSED_GARBAGE;
	if (version != RJI_RDMA_VERSION)
		return RJI_RDMA_REFUSED_VERSION;
	return len == want_bytes && len <= c->len_bytes ? RJI_RDMA_REFUSED_NONE
							: RJI_RDMA_REFUSED_GARBAGE;
}

void rji_rdma_put_hello(const struct rji_rdma_hello *h, void *buf)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, RJI_RDMA_HELLO_BYTES);
	put_head(&c, RJI_RDMA_HELLO_BYTES);
	rji_put_u16(&c, h->lane);
	rji_put_bytes(&c, h->session_id, sizeof(h->session_id));
	rji_put_bytes(&c, h->token, sizeof(h->token));
}

enum rji_rdma_refusal rji_rdma_get_hello(const void *buf, size_t len_bytes,
					 struct rji_rdma_hello *h_p)
{
	enum rji_rdma_refusal bad;
	struct rji_rdma_hello h;
	struct rji_cursor c;

	rji_cursor_init_const(&c, buf, len_bytes);
	bad = get_head(&c, RJI_RDMA_HELLO_BYTES);
	if (bad)
		return bad;
	h.lane = rji_get_u16(&c);
	rji_get_bytes(&c, h.session_id, sizeof(h.session_id));
	rji_get_bytes(&c, h.token, sizeof(h.token));
	if (c.bad)
		return RJI_RDMA_REFUSED_GARBAGE;
	*h_p = h;
	return RJI_RDMA_REFUSED_NONE;
}

void rji_rdma_put_welcome(const struct rji_rdma_welcome *w, void *buf)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, RJI_RDMA_WELCOME_BYTES);
	put_head(&c, RJI_RDMA_WELCOME_BYTES);
	rji_put_u16(&c, w->lane);
	rji_put_u32(&c, w->device);
	rji_put_u32(&c, w->max_msg_bytes);
}

int rji_rdma_get_welcome(const void *buf, size_t len_bytes, struct rji_rdma_welcome *w_p)
{
	struct rji_rdma_welcome w;
	enum rji_rdma_refusal bad;
	struct rji_cursor c;

	rji_cursor_init_const(&c, buf, len_bytes);
	bad = get_head(&c, RJI_RDMA_WELCOME_BYTES);
	if (bad)
		return bad == RJI_RDMA_REFUSED_VERSION ? RJ_E_VERSION : RJ_E_PROTOCOL;
	w.lane = rji_get_u16(&c);
	w.device = rji_get_u32(&c);
	w.max_msg_bytes = rji_get_u32(&c);
	/* Less than a page a message is no path MTU we would get a connection with. */
	if (c.bad || w.max_msg_bytes < 4096)
		return RJ_E_PROTOCOL;
	*w_p = w;
	return 0;
}

void rji_rdma_put_refusal(enum rji_rdma_refusal reason, void *buf)
{
	struct rji_cursor c;

	rji_cursor_init(&c, buf, RJI_RDMA_REFUSAL_BYTES);
	put_head(&c, RJI_RDMA_REFUSAL_BYTES);
	rji_put_u16(&c, (uint16_t)reason);
}

enum rji_rdma_refusal rji_rdma_get_refusal(const void *buf, size_t len_bytes)
{
	enum rji_rdma_refusal bad;
	struct rji_cursor c;
	uint16_t reason;

	rji_cursor_init_const(&c, buf, len_bytes);
	bad = get_head(&c, RJI_RDMA_REFUSAL_BYTES);
	if (bad == RJI_RDMA_REFUSED_VERSION)
		return bad;
	reason = rji_get_u16(&c);
	if (bad || c.bad || reason > RJI_RDMA_REFUSED_FAILED)
		return RJI_RDMA_REFUSED_NONE;
	return (enum rji_rdma_refusal)reason;
}

const char *rji_rdma_refusal_text(enum rji_rdma_refusal reason)
{
	static const char *const text[] = { [RJI_RDMA_REFUSED_NONE] = "it gave no reason",
#define RJI_RDMA_REFUSAL_TEXT(name, words) [RJI_RDMA_REFUSED_##name] = words,
					    RJI_RDMA_REFUSALS(RJI_RDMA_REFUSAL_TEXT)
#undef RJI_RDMA_REFUSAL_TEXT
	};

	return text[reason];
}

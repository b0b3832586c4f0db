/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/cursor.h"

#include <endian.h>
#include <string.h>

void rji_cursor_init(struct rji_cursor *c, void *bytes, size_t len_bytes)
{
	*c = (struct rji_cursor){ .bytes = bytes, .len_bytes = len_bytes };
}

void rji_cursor_init_const(struct rji_cursor *c, const void *bytes, size_t len_bytes)
{
	rji_cursor_init(c, (void *)(uintptr_t)bytes, len_bytes);
}

/* Step over the next n bytes; NULL, and bad, if they are not there. */
static uint8_t *advance(struct rji_cursor *c, size_t n)
{
	uint8_t *at = c->bytes + c->pos;

	if (c->bad || n > c->len_bytes - c->pos) {
		c->bad = true;
		return NULL;
	}
	c->pos += n;
	return at;
}

void rji_put_bytes(struct rji_cursor *c, const void *p, size_t len_bytes)
{
	uint8_t *at = advance(c, len_bytes);

	if (at && len_bytes)
		memcpy(at, p, len_bytes);
}

void rji_get_bytes(struct rji_cursor *c, void *p, size_t len_bytes)
{
	const uint8_t *at = advance(c, len_bytes);

	if (at && len_bytes)
		memcpy(p, at, len_bytes);
	else if (len_bytes)
		memset(p, 0, len_bytes);
}

void rji_put_u8(struct rji_cursor *c, uint8_t v)
{
	rji_put_bytes(c, &v, sizeof(v));
}

void rji_put_u16(struct rji_cursor *c, uint16_t v)
{
	v = htole16(v);
	rji_put_bytes(c, &v, sizeof(v));
}

void rji_put_u32(struct rji_cursor *c, uint32_t v)
{
	v = htole32(v);
	rji_put_bytes(c, &v, sizeof(v));
}

void rji_put_u64(struct rji_cursor *c, uint64_t v)
{
	v = htole64(v);
	rji_put_bytes(c, &v, sizeof(v));
}

void rji_put_string(struct rji_cursor *c, const char *s)
{
	size_t len = strlen(s);

	if (len > UINT16_MAX) {
		c->bad = true;
		return;
	}
	rji_put_u16(c, (uint16_t)len);
	rji_put_bytes(c, s, len);
}

uint8_t rji_get_u8(struct rji_cursor *c)
{
	uint8_t v;

	rji_get_bytes(c, &v, sizeof(v));
	return v;
}

uint16_t rji_get_u16(struct rji_cursor *c)
{
	uint16_t v;

	rji_get_bytes(c, &v, sizeof(v));
	return le16toh(v);
}

uint32_t rji_get_u32(struct rji_cursor *c)
{
	uint32_t v;

	rji_get_bytes(c, &v, sizeof(v));
	return le32toh(v);
}

uint64_t rji_get_u64(struct rji_cursor *c)
{
	uint64_t v;

	rji_get_bytes(c, &v, sizeof(v));
	return le64toh(v);
}

const void *rji_get_view(struct rji_cursor *c, size_t len_bytes)
{
	return advance(c, len_bytes);
}

void rji_get_string(struct rji_cursor *c, char *s, size_t size)
{
	size_t len = rji_get_u16(c);
	const char *text = rji_get_view(c, len);

	if (!text || len >= size || memchr(text, 0, len)) {
		c->bad = true;
		s[0] = '\0';
		return;
	}
	memcpy(s, text, len);
	s[len] = '\0';
}

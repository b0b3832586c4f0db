/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_CURSOR_H
#define RJI_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The only way bytes of a message are written or read: a position in a buffer that never leaves it.
 * The first access that would sets bad, and from then on everything reads as 0 and nothing is
 * written, so that a parser checks once, at its end. Integers are little-endian.
 */
struct rji_cursor {
	uint8_t *bytes;
	size_t len_bytes;
	size_t pos;
	bool bad;
};

void rji_cursor_init(struct rji_cursor *c, void *bytes, size_t len_bytes);
/* For reading only; the bytes are not written to. */
void rji_cursor_init_const(struct rji_cursor *c, const void *bytes, size_t len_bytes);

void rji_put_u8(struct rji_cursor *c, uint8_t v);
void rji_put_u16(struct rji_cursor *c, uint16_t v);
void rji_put_u32(struct rji_cursor *c, uint32_t v);
void rji_put_u64(struct rji_cursor *c, uint64_t v);
void rji_put_bytes(struct rji_cursor *c, const void *p, size_t len_bytes);
/* A u16 length and so many bytes. */
void rji_put_string(struct rji_cursor *c, const char *s);

uint8_t rji_get_u8(struct rji_cursor *c);
uint16_t rji_get_u16(struct rji_cursor *c);
uint32_t rji_get_u32(struct rji_cursor *c);
uint64_t rji_get_u64(struct rji_cursor *c);
void rji_get_bytes(struct rji_cursor *c, void *p, size_t len_bytes);
/*
 * Into s with a NUL; bad if it does not fit into size bytes, is empty-terminated inside or has a
 * NUL in it.
 */
void rji_get_string(struct rji_cursor *c, char *s, size_t size);
/* A view of the next len_bytes, NULL when bad. */
const void *rji_get_view(struct rji_cursor *c, size_t len_bytes);

static inline size_t rji_cursor_left(const struct rji_cursor *c)
{
	return c->bad ? 0 : c->len_bytes - c->pos;
}

/* All was read and nothing was out of bounds. */
static inline bool rji_cursor_done(const struct rji_cursor *c)
{
	return !c->bad && c->pos == c->len_bytes;
}

#endif

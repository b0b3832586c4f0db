/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_state.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x54534a52u /* "RJST" */
#define VERSION 1
#define HEADER_BYTES 16u
#define SECTION_BYTES 8u

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, 4);
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return le16toh(v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return le32toh(v);
}

void guest_state_init(struct guest_state *st)
{
	*st = (struct guest_state){ .len_bytes = HEADER_BYTES };
}

void guest_state_fini(struct guest_state *st)
{
	free(st->bytes);
	st->bytes = NULL;
}

void guest_state_put(struct guest_state *st, uint32_t tag, const void *p, uint32_t len_bytes)
{
	uint8_t *bytes = realloc(st->bytes, st->len_bytes + SECTION_BYTES + len_bytes);

	if (!bytes) {
		st->no_memory = true;
		return;
	}
	st->bytes = bytes;
	put32(bytes + st->len_bytes, tag);
	put32(bytes + st->len_bytes + 4, len_bytes);
	memcpy(bytes + st->len_bytes + SECTION_BYTES, p, len_bytes);
	st->len_bytes += SECTION_BYTES + len_bytes;
	st->n_sections++;
}

int guest_state_write(struct guest_state *st, uint16_t kind, struct rj_session *s)
{
	if (st->no_memory || !st->bytes)
		return -ENOMEM;
	put32(st->bytes, MAGIC);
	put16(st->bytes + 4, VERSION);
	put16(st->bytes + 6, kind);
	put32(st->bytes + 8, st->len_bytes);
	put32(st->bytes + 12, st->n_sections);
	return rj_state_write(s, st->bytes, st->len_bytes);
}

static int refuse(char *why, size_t why_bytes, const char *text)
{
	snprintf(why, why_bytes, "device state refused: %s", text);
	return -EINVAL;
}

/* All of it, and one byte more than there may be. */
static int read_all(struct guest_state *st, struct rj_session *s, char *why, size_t why_bytes)
{
	st->bytes = malloc(GUEST_STATE_MAX_BYTES + 1);
	if (!st->bytes)
		return -ENOMEM;
	st->len_bytes = 0;
	while (st->len_bytes <= GUEST_STATE_MAX_BYTES) {
		ssize_t n = rj_state_read(s, st->bytes + st->len_bytes,
					  GUEST_STATE_MAX_BYTES + 1 - st->len_bytes);

		if (n < 0) {
			snprintf(why, why_bytes, "device state cannot be read: %s",
				 rj_strerror((int)n));
			return (int)n;
		}
		if (!n)
			return 0;
		st->len_bytes += (uint32_t)n;
	}
	return refuse(why, why_bytes, "it is too long");
}

static int check_sections(struct guest_state *st, char *why, size_t why_bytes)
{
	uint32_t pos = HEADER_BYTES, n = 0;

	while (pos < st->len_bytes) {
		if (st->len_bytes - pos < SECTION_BYTES ||
		    st->len_bytes - pos - SECTION_BYTES < get32(st->bytes + pos + 4))
			return refuse(why, why_bytes, "a section reaches past its end");
		pos += SECTION_BYTES + get32(st->bytes + pos + 4);
		n++;
	}
	if (n != get32(st->bytes + 12))
		return refuse(why, why_bytes, "it has another number of sections than it says");
	st->n_sections = n;
	return 0;
}

int guest_state_read(struct guest_state *st, uint16_t kind, struct rj_session *s, char *why,
		     size_t why_bytes)
{
	int ret = read_all(st, s, why, why_bytes);

	if (ret)
		return ret;
	if (st->len_bytes < HEADER_BYTES || get32(st->bytes) != MAGIC)
		return refuse(why, why_bytes, "it is not of a bench guest");
	if (get16(st->bytes + 4) != VERSION)
		return refuse(why, why_bytes,
			      "of another version: use the same build on both ends");
	if (get16(st->bytes + 6) != kind)
		return refuse(why, why_bytes, "it is of another kind of guest");
	if (get32(st->bytes + 8) != st->len_bytes)
		return refuse(why, why_bytes, "it is cut off or has bytes too many");
	return check_sections(st, why, why_bytes);
}

/* Where the next section at or behind pos with this tag is; 0: none. */
static uint32_t find(const struct guest_state *st, uint32_t pos, uint32_t tag)
{
	while (pos < st->len_bytes) {
		if (get32(st->bytes + pos) == tag)
			return pos;
		pos += SECTION_BYTES + get32(st->bytes + pos + 4);
	}
	return 0;
}

int guest_state_take(struct guest_state *st, uint32_t tag, void *p, uint32_t len_bytes, char *why,
		     size_t why_bytes)
{
	uint32_t pos = find(st, HEADER_BYTES, tag);

	if (!pos || get32(st->bytes + pos + 4) != len_bytes ||
	    find(st, pos + SECTION_BYTES + len_bytes, tag)) {
		snprintf(why, why_bytes,
			 "device state refused: section %u is missing, doubled or not of %u bytes",
			 tag, len_bytes);
		return -EINVAL;
	}
	memcpy(p, st->bytes + pos + SECTION_BYTES, len_bytes);
	st->n_taken++;
	return 0;
}

int guest_state_taken(const struct guest_state *st, char *why, size_t why_bytes)
{
	if (st->n_taken != st->n_sections)
		return refuse(why, why_bytes, "it has sections nobody knows");
	return 0;
}

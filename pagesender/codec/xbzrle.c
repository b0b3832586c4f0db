/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/codec/xbzrle.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* RJI_XBZRLE_PORTABLE: a test of what other machines run. */
#if defined(__SSE2__) && !defined(RJI_XBZRLE_PORTABLE)
#define USE_SSE2 1
#include <emmintrin.h>
#endif

#define BLOCK_BYTES 64u
#define LENGTH_MAX_BYTES 4u

/* A bit for each byte of a block, the low one for the first: set where they differ. */
#ifdef USE_SSE2

static inline uint64_t equal16(const uint8_t *old, const uint8_t *now)
{
	__m128i a = _mm_loadu_si128((const __m128i *)(const void *)old);
	__m128i b = _mm_loadu_si128((const __m128i *)(const void *)now);

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

static inline uint64_t changed_bytes(const uint8_t *old, const uint8_t *now)
{
	return ~(equal16(old, now) | equal16(old + 16, now + 16) << 16 |
		 equal16(old + 32, now + 32) << 32 | equal16(old + 48, now + 48) << 48);
}

#else

static inline uint64_t nonzero_bytes(uint64_t x)
{
	const uint64_t low7 = 0x7f7f7f7f7f7f7f7full;
	uint64_t top_bits = (((x & low7) + low7) | x) & ~low7;

	return (top_bits >> 7) * 0x0102040810204080ull >> 56;
}

static inline uint64_t changed_bytes(const uint8_t *old, const uint8_t *now)
{
	uint64_t changed = 0;

	for (uint32_t i = 0; i < BLOCK_BYTES; i += sizeof(uint64_t)) {
		uint64_t a, b;

		memcpy(&a, old + i, sizeof(a));
		memcpy(&b, now + i, sizeof(b));
		changed |= nonzero_bytes(le64toh(a ^ b)) << i;
	}
	return changed;
}

#endif

/* The same for the block at i, which the end of the page may cut. */
static inline uint64_t changed_at(const uint8_t *old, const uint8_t *now, uint32_t i,
				  uint32_t len_bytes)
{
	uint64_t changed = 0;

	if (i < len_bytes && len_bytes - i >= BLOCK_BYTES)
		return changed_bytes(old + i, now + i);
	for (uint32_t k = 0; i + k < len_bytes; k++)
		changed |= (uint64_t)(old[i + k] != now[i + k]) << k;
	return changed;
}

static inline uint32_t length_bytes(uint32_t n)
{
	return n < 1u << 7 ? 1 : n < 1u << 14 ? 2 : n < 1u << 21 ? 3 : 4;
}

static inline uint8_t *put_length(uint8_t *out, uint32_t n)
{
	for (; n >= 0x80; n >>= 7)
		*out++ = (uint8_t)(n | 0x80);
	*out++ = (uint8_t)n;
	return out;
}

/* Reads it at *at, which moves on. false: cut short, too long, or a byte more than needed. */
static inline bool get_length(const uint8_t *code, uint32_t code_bytes, uint32_t *at, uint32_t *n_p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < LENGTH_MAX_BYTES && *at < code_bytes; i++) {
		uint8_t byte = code[(*at)++];

		n |= (uint32_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		*n_p = n;
		return byte || !i;
	}
	return false;
}

/* Where the code goes, and how far it is. */
struct coder {
	const uint8_t *now;
	uint8_t *out;
	uint32_t n, out_bytes;
	uint32_t done;	/* of the page */
	uint32_t begin; /* of the change that is open */
};

static inline int put_change(struct coder *c, uint32_t end)
{
	uint32_t equal = c->begin - c->done, n = end - c->begin;
	uint8_t *to = c->out + c->n;

	if (c->out_bytes - c->n < length_bytes(equal) + length_bytes(n) + n)
		return -ENOSPC;
	to = put_length(put_length(to, equal), n);
	memcpy(to, c->now + c->begin, n);
	c->n = (uint32_t)(to - c->out) + n;
	c->done = end;
	return 0;
}

/*
 * A bit for each byte, a block at a time. Up to three equal bytes between changed ones are cheaper as changed, since the
 * two counts cost 2 bytes or 3. So each bit is first stretched over the three behind it, and then only what has all of
 * the three behind it stays:
 *
 *   changed    1 . . . 1 1 . . . . 1 . . .
 *   stretched  1 1 1 1 1 1 1 1 1 . 1 1 1 1
 *   coded      1 1 1 1 1 1 . . . . 1 . . .
 *
 * Both need bits of a neighbour: stretching the last ones of the block before, the second the first ones of the
 * block behind. So a block is coded when the next has been looked at.
 */
int rji_xbzrle_encode(const uint8_t *old, const uint8_t *now, uint32_t len_bytes, uint8_t *out,
		      uint32_t out_bytes)
{
	struct coder c = { .now = now, .out = out, .out_bytes = out_bytes };
	uint64_t before = 0, stretched = 0, open = 0;

	assert(len_bytes <= RJI_XBZRLE_MAX_BYTES);
	/* One past the end, where nothing changed: it ends what is open. */
	for (uint32_t i = 0; i < len_bytes + 2 * BLOCK_BYTES; i += BLOCK_BYTES) {
		uint64_t changed = changed_at(old, now, i, len_bytes), next, coded, turns;

		if (!(changed | before | stretched))
			continue; /* and nothing is open */
		next = changed | (changed << 1 | before >> 63) | (changed << 2 | before >> 62) |
		       (changed << 3 | before >> 61);
		coded = stretched & (stretched >> 1 | next << 63) & (stretched >> 2 | next << 62) &
			(stretched >> 3 | next << 61);
		/* Where a change begins or ends, in turn. */
		for (turns = coded ^ (coded << 1 | open); turns; turns &= turns - 1) {
			uint32_t at = i - BLOCK_BYTES + (uint32_t)__builtin_ctzll(turns);

			open ^= 1;
			if (open)
				c.begin = at;
			else if (put_change(&c, at) < 0)
				return -ENOSPC;
		}
		stretched = next;
		before = changed;
	}
	return (int)c.n;
}

int rji_xbzrle_decode(const uint8_t *code, uint32_t code_bytes, uint8_t *page, uint32_t len_bytes)
{
	uint32_t from = 0, to = 0;

	assert(len_bytes <= RJI_XBZRLE_MAX_BYTES);
	do {
		bool first = !from;
		uint32_t equal, n;

		if (!get_length(code, code_bytes, &from, &equal) ||
		    !get_length(code, code_bytes, &from, &n))
			return -EBADMSG;
		if ((!equal && !first) || equal > len_bytes - to)
			return -EBADMSG;
		to += equal;
		if (!n || n > len_bytes - to || n > code_bytes - from)
			return -EBADMSG;
		memcpy(page + to, code + from, n);
		to += n;
		from += n;
	} while (from < code_bytes);
	return 0;
}

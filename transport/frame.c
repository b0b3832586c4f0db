/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/frame.h"

#include <inttypes.h>

#include "base/cursor.h"

void rji_frame_encode(const struct rji_frame *f, uint8_t bytes[RJI_FRAME_HEAD_BYTES])
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, RJI_FRAME_HEAD_BYTES);
	rji_put_u16(&c, f->type);
	rji_put_u16(&c, f->n_extents);
	rji_put_u32(&c, 0);
	rji_put_u64(&c, f->value);
}

static bool has_table(unsigned int type)
{
	return type == RJI_FRAME_PAGES || type == RJI_FRAME_CODED;
}

int rji_frame_decode(const uint8_t bytes[RJI_FRAME_HEAD_BYTES], struct rji_frame *f_p,
		     struct rj_error *err)
{
	struct rji_frame f;
	struct rji_cursor c;
	uint32_t zero;

	rji_cursor_init_const(&c, bytes, RJI_FRAME_HEAD_BYTES);
	f.type = rji_get_u16(&c);
	f.n_extents = rji_get_u16(&c);
	zero = rji_get_u32(&c);
	f.value = rji_get_u64(&c);
	if (f.type < RJI_FRAME_PAGES || f.type > RJI_FRAME_CODED || zero)
		return rji_fail(err, RJ_E_PROTOCOL, "a lane sent an unknown frame (type %u)",
				f.type);
	if (has_table(f.type) ? !f.n_extents || f.n_extents > RJI_FRAME_MAX_EXTENTS
			      : f.n_extents != 0)
		return rji_fail(err, RJ_E_PROTOCOL,
				"a lane sent a frame of type %u with %u extents", f.type,
				f.n_extents);
	if (f.type == RJI_FRAME_CODED && f.value > RJI_FRAME_MAX_CODES_BYTES)
		return rji_fail(err, RJ_E_PROTOCOL, "a lane sent %" PRIu64 " bytes of codes",
				f.value);
	*f_p = f;
	return 0;
}

static void put_extent(struct rji_cursor *c, const struct rji_extent *e)
{
	rji_put_u64(c, e->offset_bytes);
	rji_put_u32(c, e->len_bytes);
	rji_put_u32(c, e->region);
}

/* One that lies in one of the regions. */
static int get_extent(struct rji_cursor *c, const struct rji_memory *regions, uint32_t n_regions,
		      struct rji_extent *e, struct rj_error *err)
{
	const struct rji_memory *m;

	e->offset_bytes = rji_get_u64(c);
	e->len_bytes = rji_get_u32(c);
	e->region = rji_get_u32(c);
	m = e->region < n_regions ? &regions[e->region] : NULL;
	if (m && e->len_bytes && e->offset_bytes <= m->len_bytes &&
	    e->len_bytes <= m->len_bytes - e->offset_bytes)
		return 0;
	return rji_fail(err, RJ_E_PROTOCOL,
			"a lane sent pages outside guest memory: region %u offset 0x%" PRIx64
			" length 0x%x",
			e->region, e->offset_bytes, e->len_bytes);
}

static int check_total(uint64_t announced, uint64_t total, struct rj_error *err)
{
	if (total == announced)
		return 0;
	return rji_fail(err, RJ_E_PROTOCOL,
			"a lane announced %" PRIu64 " bytes for extents of %" PRIu64, announced,
			total);
}

void rji_frame_encode_extents(const struct rji_extent *e, uint32_t n, uint8_t *bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, (size_t)n * RJI_FRAME_EXTENT_BYTES);
	for (uint32_t i = 0; i < n; i++)
		put_extent(&c, &e[i]);
}

int rji_frame_decode_extents(const uint8_t *bytes, const struct rji_frame *f,
			     const struct rji_memory *regions, uint32_t n_regions,
			     struct rji_extent *e, struct rj_error *err)
{
	struct rji_cursor c;
	uint64_t total = 0;

	rji_cursor_init_const(&c, bytes, (size_t)f->n_extents * RJI_FRAME_EXTENT_BYTES);
	for (uint32_t i = 0; i < f->n_extents; i++) {
		int ret = get_extent(&c, regions, n_regions, &e[i], err);

		if (ret < 0)
			return ret;
		total += e[i].len_bytes;
	}
	return check_total(f->value, total, err);
}

void rji_frame_encode_coded(const struct rji_coded *coded, uint32_t n, uint8_t *bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, (size_t)n * RJI_FRAME_CODED_BYTES);
	for (uint32_t i = 0; i < n; i++) {
		put_extent(&c, &coded[i].extent);
		rji_put_u16(&c, coded[i].coding);
		rji_put_u16(&c, 0);
		rji_put_u32(&c, coded[i].len_bytes);
	}
}

/*
 * Zeros have no code and any length, in whole pages of 4096 bytes, by which they are made; the others a code that
 * is no longer than what it makes.
 */
static bool is_plausible(const struct rji_coded *c)
{
	if (c->coding == RJI_CODING_ZEROS)
		return !c->len_bytes &&
		       !((c->extent.offset_bytes | c->extent.len_bytes) % RJI_CODED_ZEROS_BYTES);
	return c->coding <= RJI_CODING_ZSTD && c->len_bytes &&
	       c->extent.len_bytes <= RJI_CODED_PAGES_BYTES && c->len_bytes <= c->extent.len_bytes;
}

int rji_frame_decode_coded(const uint8_t *bytes, const struct rji_frame *f,
			   const struct rji_memory *regions, uint32_t n_regions,
			   struct rji_coded *coded, struct rj_error *err)
{
	struct rji_cursor c;
	uint64_t total = 0;

	rji_cursor_init_const(&c, bytes, (size_t)f->n_extents * RJI_FRAME_CODED_BYTES);
	for (uint32_t i = 0; i < f->n_extents; i++) {
		int ret = get_extent(&c, regions, n_regions, &coded[i].extent, err);
		uint16_t zero;

		if (ret < 0)
			return ret;
		coded[i].coding = rji_get_u16(&c);
		zero = rji_get_u16(&c);
		coded[i].len_bytes = rji_get_u32(&c);
		coded[i].bytes = NULL;
		if (zero || !coded[i].coding || !is_plausible(&coded[i]))
			return rji_fail(err, RJ_E_PROTOCOL,
					"a lane sent %u bytes of coding %u for 0x%x bytes of pages",
					coded[i].len_bytes, coded[i].coding,
					coded[i].extent.len_bytes);
		total += coded[i].len_bytes;
	}
	return check_total(f->value, total, err);
}

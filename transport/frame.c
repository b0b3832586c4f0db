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
	if (f.type < RJI_FRAME_PAGES || f.type > RJI_FRAME_BYE || zero)
		return rji_fail(err, RJ_E_PROTOCOL, "a lane sent an unknown frame (type %u)",
				f.type);
	if (f.type == RJI_FRAME_PAGES ? !f.n_extents || f.n_extents > RJI_FRAME_MAX_EXTENTS
				      : f.n_extents != 0)
		return rji_fail(err, RJ_E_PROTOCOL,
				"a lane sent a frame of type %u with %u extents", f.type,
				f.n_extents);
	*f_p = f;
	return 0;
}

void rji_frame_encode_extents(const struct rji_extent *e, uint32_t n, uint8_t *bytes)
{
	struct rji_cursor c;

	rji_cursor_init(&c, bytes, (size_t)n * RJI_FRAME_EXTENT_BYTES);
	for (uint32_t i = 0; i < n; i++) {
		rji_put_u64(&c, e[i].offset_bytes);
		rji_put_u32(&c, e[i].len_bytes);
		rji_put_u32(&c, e[i].region);
	}
}

int rji_frame_decode_extents(const uint8_t *bytes, const struct rji_frame *f,
			     const struct rji_memory *regions, uint32_t n_regions,
			     struct rji_extent *e, struct rj_error *err)
{
	struct rji_cursor c;
	uint64_t total = 0;

	rji_cursor_init_const(&c, bytes, (size_t)f->n_extents * RJI_FRAME_EXTENT_BYTES);
	for (uint32_t i = 0; i < f->n_extents; i++) {
		const struct rji_memory *m;

		e[i].offset_bytes = rji_get_u64(&c);
		e[i].len_bytes = rji_get_u32(&c);
		e[i].region = rji_get_u32(&c);
		m = e[i].region < n_regions ? &regions[e[i].region] : NULL;
		if (!m || !e[i].len_bytes || e[i].offset_bytes > m->len_bytes ||
		    e[i].len_bytes > m->len_bytes - e[i].offset_bytes)
			return rji_fail(
				err, RJ_E_PROTOCOL,
				"a lane sent pages outside guest memory: region %u offset 0x%" PRIx64
				" length 0x%x",
				e[i].region, e[i].offset_bytes, e[i].len_bytes);
		total += e[i].len_bytes;
	}
	if (total != f->value)
		return rji_fail(err, RJ_E_PROTOCOL,
				"a lane announced %" PRIu64 " bytes for extents of %" PRIu64,
				f->value, total);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* What a lane reads: a frame's head, and its table of extents or of changes. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "transport/frame.h"

static const struct rji_memory regions[4] = {
	{ .region = 0, .len_bytes = 1 << 20 },
	{ .region = 1 },
	{ .region = 2, .len_bytes = 4096 },
	{ .region = 3, .len_bytes = 1ull << 40 },
};

static void check_extent(const struct rji_extent *e)
{
	if (e->region >= 4 || !e->len_bytes)
		abort();
	if (e->offset_bytes >= regions[e->region].len_bytes ||
	    e->len_bytes > regions[e->region].len_bytes - e->offset_bytes)
		abort();
}

static void check(const struct rji_frame *f, const struct rji_extent *e)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < f->n_extents; i++) {
		check_extent(&e[i]);
		total += e[i].len_bytes;
	}
	if (total != f->value)
		abort();
}

/* What is let through can be done without a look at where pages end. */
static void check_coded(const struct rji_frame *f, const struct rji_coded *c)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < f->n_extents; i++) {
		uint64_t place = c[i].extent.offset_bytes | c[i].extent.len_bytes;

		check_extent(&c[i].extent);
		if (c[i].coding == RJI_CODING_ZEROS
			    ? c[i].len_bytes || place % 4096
			    : !c[i].len_bytes || c[i].extent.len_bytes > RJI_CODED_PAGES_BYTES)
			abort();
		total += c[i].len_bytes;
	}
	if (total != f->value || total > RJI_FRAME_MAX_CODES_BYTES)
		abort();
}

static void read_coded(const struct rji_frame *f, const uint8_t *data, size_t len_bytes)
{
	struct rji_coded c[RJI_FRAME_MAX_EXTENTS];
	uint8_t again[RJI_FRAME_MAX_BYTES];
	size_t table_bytes = (size_t)f->n_extents * RJI_FRAME_CODED_BYTES;

	if (len_bytes < table_bytes || rji_frame_decode_coded(data, f, regions, 4, c, NULL) < 0)
		return;
	check_coded(f, c);
	rji_frame_encode_coded(c, f->n_extents, again);
	if (memcmp(again, data, table_bytes))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint8_t again[RJI_FRAME_MAX_BYTES];
	struct rji_extent e[RJI_FRAME_MAX_EXTENTS];
	struct rji_frame f;
	size_t table_bytes;

	if (len_bytes < RJI_FRAME_HEAD_BYTES || rji_frame_decode(data, &f, NULL) < 0)
		return 0;
	rji_frame_encode(&f, again);
	if (memcmp(again, data, RJI_FRAME_HEAD_BYTES))
		abort();
	if (f.type == RJI_FRAME_CODED)
		read_coded(&f, data + RJI_FRAME_HEAD_BYTES, len_bytes - RJI_FRAME_HEAD_BYTES);
	table_bytes = (size_t)f.n_extents * RJI_FRAME_EXTENT_BYTES;
	if (f.type != RJI_FRAME_PAGES || len_bytes - RJI_FRAME_HEAD_BYTES < table_bytes)
		return 0;
	data += RJI_FRAME_HEAD_BYTES;
	if (rji_frame_decode_extents(data, &f, regions, 4, e, NULL) < 0)
		return 0;
	check(&f, e);
	rji_frame_encode_extents(e, f.n_extents, again);
	if (memcmp(again, data, table_bytes))
		abort();
	return 0;
}

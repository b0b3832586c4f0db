/* SPDX-License-Identifier: BSD-2-Clause */
/* What a lane reads: a frame's head, and its table of extents. */
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

static void check(const struct rji_frame *f, const struct rji_extent *e)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < f->n_extents; i++) {
		if (e[i].region >= 4 || !e[i].len_bytes)
			abort();
		if (e[i].offset_bytes >= regions[e[i].region].len_bytes ||
		    e[i].len_bytes > regions[e[i].region].len_bytes - e[i].offset_bytes)
			abort();
		total += e[i].len_bytes;
	}
	if (total != f->value)
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

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FRAME_H
#define RJI_TRANSPORT_FRAME_H

#include "transport/transport.h"

/*
 * Every byte on a socket lane after the greeting. A frame is a head, and for pages a table of
 * extents and then their bytes in the same order. Little-endian.
 *
 *   head    0  2  type      2  2  n_extents      4  4  zero      8  8  PAGES: payload bytes;
 *           fences: number
 *   extent  0  8  offset    8  4  length        12  4  region
 *   coded   an extent, then 16  2  coding       18  2  zero      20  4  bytes of its code
 */
enum rji_frame_type {
	RJI_FRAME_PAGES = 1,  /* source */
	RJI_FRAME_FENCE = 2,  /* source: answer when all before is placed */
	RJI_FRAME_FENCED = 3, /* destination: it is; the same number */
	RJI_FRAME_BYE = 4,    /* source: nothing follows, on purpose */
	RJI_FRAME_CODED = 5,  /* source: a table of changes, then their codes */
};

#define RJI_FRAME_HEAD_BYTES 16
#define RJI_FRAME_EXTENT_BYTES 16
#define RJI_FRAME_MAX_EXTENTS 256
#define RJI_FRAME_CODED_BYTES 24
#define RJI_FRAME_MAX_CODES_BYTES (1u << 20)
#define RJI_FRAME_MAX_BYTES (RJI_FRAME_HEAD_BYTES + RJI_FRAME_MAX_EXTENTS * RJI_FRAME_CODED_BYTES)

struct rji_frame {
	uint16_t type;
	uint16_t n_extents;
	uint64_t value; /* payload bytes, or the fence's number */
};

void rji_frame_encode(const struct rji_frame *f, uint8_t bytes[RJI_FRAME_HEAD_BYTES]);
/* Checks all that can be checked without the extents. RJ_E_PROTOCOL. */
int rji_frame_decode(const uint8_t bytes[RJI_FRAME_HEAD_BYTES], struct rji_frame *f_p,
		     struct rj_error *err);

void rji_frame_encode_extents(const struct rji_extent *e, uint32_t n, uint8_t *bytes);
/*
 * n_extents of them, each inside one of the regions, together exactly payload bytes. regions is
 * indexed by number; an entry with length 0 is no region. RJ_E_PROTOCOL.
 */
int rji_frame_decode_extents(const uint8_t *bytes, const struct rji_frame *f,
			     const struct rji_memory *regions, uint32_t n_regions,
			     struct rji_extent *e, struct rj_error *err);

void rji_frame_encode_coded(const struct rji_coded *c, uint32_t n, uint8_t *bytes);
/*
 * n_extents of them, each with pages inside one of the regions and no more code than it may have,
 * together exactly payload bytes. Where a code begins is the sum of those before; bytes stays NULL.
 * RJ_E_PROTOCOL.
 */
int rji_frame_decode_coded(const uint8_t *bytes, const struct rji_frame *f,
			   const struct rji_memory *regions, uint32_t n_regions,
			   struct rji_coded *c, struct rj_error *err);

#endif

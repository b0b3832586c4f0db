/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_SNAP_FORMAT_H
#define RJI_TRANSPORT_FILE_SNAP_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include <ramjet/session.h>

#include "base/fail.h"

/*
 * A snapshot file, byte by byte: docs/snapshot-format.md. Here are its header and region table, in
 * both directions, and where everything lies. The layout follows from the regions and the length of
 * the set-up blob alone; a file that lies otherwise is refused, so that areas never overlap and
 * nothing else has to be checked about them.
 *
 *   0      header
 *   4 KiB  region table │ set-up blob │ bitmaps │ page checksums      each 4 KiB-aligned
 *   1 MiB-aligned       pages of region 0 │ pages of region 1 │ …
 *   4 KiB-aligned       device state, to the end
 */
#define RJI_SNAP_MAJOR 1u
#define RJI_SNAP_MINOR 0u
#define RJI_SNAP_PAGE_BYTES 4096u
#define RJI_SNAP_HEADER_BYTES 4096u
#define RJI_SNAP_REGION_BYTES 192u
#define RJI_SNAP_PAGES_ALIGN (1ull << 20)
#define RJI_SNAP_MAX_BYTES (1ull << 62)

#define RJI_SNAP_RUN 1u /* the guest was running when it was paused for this */

/* Bytes of the file and the checksum over them. */
struct rji_snap_area {
	uint64_t offset, len_bytes, sum;
};

struct rji_snap_region {
	char name[RJ_NAME_BYTES];
	uint64_t len_bytes, gpa;
	uint32_t page_bytes; /* of the VMM; pages of the file have RJI_SNAP_PAGE_BYTES */
	uint64_t n_present;  /* pages in the file; the others are zero */
	uint64_t pages_offset;
	struct rji_snap_area bitmap, sums;
};

struct rji_snap {
	uint16_t minor;
	uint32_t flags;
	uint64_t file_bytes, guest_bytes, created_s; /* seconds since 1970 */
	uint8_t id[16];
	struct rji_snap_area table, setup, state;
	uint32_t n_regions;
	struct rji_snap_region region[RJ_MAX_REGIONS];
};

static inline uint64_t rji_snap_n_pages(const struct rji_snap_region *r)
{
	return r->len_bytes / RJI_SNAP_PAGE_BYTES;
}

/* Where a page lies in the file. */
static inline uint64_t rji_snap_page_at(const struct rji_snap_region *r, uint64_t offset_bytes)
{
	return r->pages_offset + offset_bytes;
}

/* From the regions' lengths and setup.len_bytes: every offset, state.len_bytes 0. -EFBIG. */
int rji_snap_lay_out(struct rji_snap *snap);
/* The length of the device state, which comes last, became known. */
void rji_snap_set_state_bytes(struct rji_snap *snap, uint64_t len_bytes);

/* Encode; table has n_regions * RJI_SNAP_REGION_BYTES and goes first: its sum is in the header. */
void rji_snap_encode_table(struct rji_snap *snap, uint8_t *table);
void rji_snap_encode_header(const struct rji_snap *snap, uint8_t header[RJI_SNAP_HEADER_BYTES]);

/*
 * Decode bytes of anywhere; file_bytes is how long the file really is. First the header, which says
 * how long the table is (checked), then the table. RJ_E_SNAPSHOT or RJ_E_VERSION.
 */
int rji_snap_decode_header(struct rji_snap *snap, const uint8_t header[RJI_SNAP_HEADER_BYTES],
			   uint64_t file_bytes, struct rj_error *err);
int rji_snap_decode_table(struct rji_snap *snap, const uint8_t *table, struct rj_error *err);

#endif

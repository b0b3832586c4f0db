/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A snapshot's header and region table: bytes of anywhere. The checksums are made to fit, so that what is
 * behind them is reached; what is accepted is encoded again and must be the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/fuzz/fuzz.h"
#include "transport/file/snap_format.h"

#define SUM_AT (RJI_SNAP_HEADER_BYTES - 8)
#define TABLE_SUM_AT 80

static uint8_t header[RJI_SNAP_HEADER_BYTES];
static uint8_t table[RJ_MAX_REGIONS * RJI_SNAP_REGION_BYTES];
static struct rji_snap snap;

static void seal(size_t table_bytes)
{
	uint64_t sum = rji_hash64(table, table_bytes);

	memcpy(header + TABLE_SUM_AT, &sum, sizeof(sum));
	sum = rji_hash64(header, SUM_AT);
	memcpy(header + SUM_AT, &sum, sizeof(sum));
}

static void check(uint64_t file_bytes)
{
	uint64_t end = RJI_SNAP_HEADER_BYTES;

	if (snap.file_bytes != file_bytes || snap.n_regions > RJ_MAX_REGIONS ||
	    snap.setup.len_bytes > RJ_MAX_BLOB_BYTES)
		abort();
	for (uint32_t i = 0; i < snap.n_regions; i++) {
		const struct rji_snap_region *r = &snap.region[i];

		/* What memory is asked for by is no more than the file has. */
		if (r->sums.offset > file_bytes || r->sums.len_bytes > file_bytes - r->sums.offset)
			abort();
		if (r->pages_offset < end || r->pages_offset > file_bytes ||
		    r->len_bytes > file_bytes - r->pages_offset)
			abort();
		end = r->pages_offset + r->len_bytes;
	}
	if (snap.state.offset < end || snap.state.len_bytes != file_bytes - snap.state.offset)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint64_t file_bytes;
	size_t n;

	memset(header, 0, sizeof(header));
	memset(table, 0, sizeof(table));
	/* As in a file, but with less of the header's zeros. */
	n = len_bytes < 256 ? len_bytes : 256;
	memcpy(header, data, n);
	memcpy(table, data + n, len_bytes - n < sizeof(table) ? len_bytes - n : sizeof(table));
	memcpy(&file_bytes, header + 16, sizeof(file_bytes));
	if (rji_snap_decode_header(&snap, header, file_bytes, NULL) == 0)
		abort(); /* unless XXH3 of it is 0 */
	n = header[60] + 256u * header[61];
	seal((n <= RJ_MAX_REGIONS ? n : 0) * RJI_SNAP_REGION_BYTES);
	if (rji_snap_decode_header(&snap, header, file_bytes, NULL) < 0 ||
	    rji_snap_decode_table(&snap, table, NULL) < 0)
		return 0;
	check(file_bytes);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "base/hash.h"
#include "transport/file/snap_format.h"

static struct rji_snap made, got;
static uint8_t header[RJI_SNAP_HEADER_BYTES], table[2 * RJI_SNAP_REGION_BYTES];
static struct rj_error err;

static void make(void)
{
	memset(&made, 0, sizeof(made));
	made.n_regions = 2;
	strcpy(made.region[0].name, "low");
	made.region[0].len_bytes = 3 << 20;
	made.region[0].page_bytes = 4096;
	made.region[0].n_present = 7;
	strcpy(made.region[1].name, "high");
	made.region[1].len_bytes = 65 * 4096;
	made.region[1].gpa = 1ull << 32;
	made.region[1].page_bytes = 4096;
	made.setup.len_bytes = 48;
	made.flags = RJI_SNAP_RUN;
	made.created_s = 1234567890;
	memset(made.id, 0xab, sizeof(made.id));
	cr_assert_eq(rji_snap_lay_out(&made), 0);
	rji_snap_set_state_bytes(&made, 80);
}

static void encode(void)
{
	rji_snap_encode_table(&made, table);
	rji_snap_encode_header(&made, header);
}

static int decode(uint64_t file_bytes)
{
	int ret;

	rji_error_init(&err);
	ret = rji_snap_decode_header(&got, header, file_bytes, &err);
	return ret ? ret : rji_snap_decode_table(&got, table, &err);
}

/* What is wrong must be refused although the checksums fit. */
static void refused(const char *what)
{
	int ret;

	encode();
	ret = decode(made.file_bytes);
	cr_assert_eq(ret, RJ_E_SNAPSHOT, "%s: %d", what, ret);
	cr_assert(err.text[0]);
	make();
}

Test(snap_format, what_was_encoded_comes_back, .init = make)
{
	encode();
	cr_assert_eq(decode(made.file_bytes), 0, "%s", err.text);
	cr_assert_eq(got.n_regions, 2);
	cr_assert_str_eq(got.region[1].name, "high");
	cr_assert_eq(got.region[1].gpa, 1ull << 32);
	cr_assert_eq(got.region[0].n_present, 7);
	cr_assert_eq(got.region[1].pages_offset, made.region[1].pages_offset);
	cr_assert_eq(got.flags, RJI_SNAP_RUN);
	cr_assert_eq(got.created_s, 1234567890);
	cr_assert_eq(got.guest_bytes, (3 << 20) + 65 * 4096);
	cr_assert_eq(got.state.len_bytes, 80);
}

/* Byte by byte, as docs/snapshot-format.md has it. */
Test(snap_format, everything_lies_where_the_document_says, .init = make)
{
	encode();
	cr_assert_eq(memcmp(header, "\x89RJSNAP\n\x01\x00\x00\x00\x00\x10\x00\x00", 16), 0);
	cr_assert_eq(made.table.offset, 4096);
	cr_assert_eq(made.setup.offset, 8192);
	cr_assert_eq(made.region[0].bitmap.offset, 12288);
	cr_assert_eq(made.region[0].bitmap.len_bytes, 768 / 8);
	cr_assert_eq(made.region[1].bitmap.offset, 16384);
	cr_assert_eq(made.region[1].bitmap.len_bytes, 16);
	cr_assert_eq(made.region[0].sums.offset, 20480);
	cr_assert_eq(made.region[0].sums.len_bytes, 768 * 8);
	cr_assert_eq(made.region[1].sums.offset, 28672);
	cr_assert_eq(made.region[0].pages_offset, 1 << 20);
	cr_assert_eq(made.region[1].pages_offset, 4 << 20);
	cr_assert_eq(made.state.offset, (4 << 20) + 65 * 4096);
	cr_assert_eq(made.file_bytes, made.state.offset + 80);
	cr_assert_eq(header[60], 2);
	cr_assert_eq(memcmp(table + 192, "high", 5), 0);
}

Test(snap_format, any_flipped_bit_is_refused, .init = make)
{
	encode();
	for (size_t bit = 0; bit < 8 * sizeof(header); bit++) {
		header[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_lt(decode(made.file_bytes), 0, "bit %zu of the header", bit);
		header[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * sizeof(table); bit++) {
		table[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(decode(made.file_bytes), RJ_E_SNAPSHOT, "bit %zu of the table", bit);
		table[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	cr_assert_eq(decode(made.file_bytes), 0);
}

Test(snap_format, a_file_cut_or_longer_is_refused, .init = make)
{
	encode();
	cr_assert_eq(decode(made.file_bytes - 1), RJ_E_SNAPSHOT);
	cr_assert_eq(decode(made.file_bytes + 1), RJ_E_SNAPSHOT);
}

Test(snap_format, another_major_version_is_named, .init = make)
{
	uint64_t sum;

	encode();
	header[8] = 2;
	sum = rji_hash64(header, sizeof(header) - 8);
	memcpy(header + sizeof(header) - 8, &sum, 8);
	cr_assert_eq(decode(made.file_bytes), RJ_E_VERSION);
	cr_assert(strstr(err.text, "version 2"), "%s", err.text);
}

Test(snap_format, what_lies_elsewhere_is_refused, .init = make)
{
	made.region[0].pages_offset += RJI_SNAP_PAGES_ALIGN;
	refused("pages elsewhere");
	made.region[1].pages_offset = made.region[0].pages_offset;
	refused("pages on pages");
	made.region[1].sums.offset = made.region[0].sums.offset;
	refused("checksums on checksums");
	made.region[0].bitmap.len_bytes += 8;
	refused("a longer bitmap");
	made.setup.offset = 1 << 20;
	refused("set-up elsewhere");
	made.state.offset -= 4096;
	refused("state elsewhere");
}

Test(snap_format, regions_that_no_vmm_has_are_refused, .init = make)
{
	strcpy(made.region[1].name, "low");
	refused("a name twice");
	made.region[0].name[0] = '\0';
	refused("no name");
	memset(made.region[0].name, 'x', sizeof(made.region[0].name));
	refused("a name without end");
	made.region[0].page_bytes = 3000;
	refused("page size");
	made.region[0].n_present = 769;
	refused("more pages than there are");
	made.region[0].len_bytes = 1ull << 62;
	refused("longer than a file");
	made.region[0].len_bytes = UINT64_MAX - 4095;
	refused("longer than anything");
	made.region[0].len_bytes = 0;
	refused("nothing in it");
}

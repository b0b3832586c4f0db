/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/snap_format.h"

#include <inttypes.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/cursor.h"
#include "base/hash.h"

static const uint8_t magic[8] = { 0x89, 'R', 'J', 'S', 'N', 'A', 'P', '\n' };

#define SUM_BYTES 8u
#define KNOWN_FLAGS RJI_SNAP_RUN

/* --- where things lie --- */

/* The next area begins at *at, rounded up. -EFBIG: past what a file can have. */
static int place(uint64_t *at, uint64_t align, uint64_t len_bytes, uint64_t *offset_p)
{
	uint64_t offset = (*at + align - 1) & ~(align - 1);

	if (offset > RJI_SNAP_MAX_BYTES || len_bytes > RJI_SNAP_MAX_BYTES - offset)
		return -EFBIG;
	*offset_p = offset;
	*at = offset + len_bytes;
	return 0;
}

static int place_area(uint64_t *at, struct rji_snap_area *area, uint64_t len_bytes)
{
	area->len_bytes = len_bytes;
	return place(at, RJI_SNAP_PAGE_BYTES, len_bytes, &area->offset);
}

int rji_snap_lay_out(struct rji_snap *snap)
{
	uint64_t at = RJI_SNAP_HEADER_BYTES;
	int ret = place_area(&at, &snap->table, (uint64_t)snap->n_regions * RJI_SNAP_REGION_BYTES);

	if (!ret)
		ret = place_area(&at, &snap->setup, snap->setup.len_bytes);
	for (uint32_t i = 0; !ret && i < snap->n_regions; i++)
		ret = place_area(&at, &snap->region[i].bitmap,
				 rji_bitmap_words(rji_snap_n_pages(&snap->region[i])) *
					 sizeof(uint64_t));
	for (uint32_t i = 0; !ret && i < snap->n_regions; i++)
		ret = place_area(&at, &snap->region[i].sums,
				 rji_snap_n_pages(&snap->region[i]) * sizeof(uint64_t));
	snap->guest_bytes = 0;
	for (uint32_t i = 0; !ret && i < snap->n_regions; i++) {
		struct rji_snap_region *r = &snap->region[i];

		ret = place(&at, RJI_SNAP_PAGES_ALIGN, r->len_bytes, &r->pages_offset);
		snap->guest_bytes += r->len_bytes;
	}
	if (!ret)
		ret = place_area(&at, &snap->state, 0);
	snap->file_bytes = at;
	return ret;
}

void rji_snap_set_state_bytes(struct rji_snap *snap, uint64_t len_bytes)
{
	snap->state.len_bytes = len_bytes;
	snap->file_bytes = snap->state.offset + len_bytes;
}

/* --- header --- */

static void put_area(struct rji_cursor *c, const struct rji_snap_area *area)
{
	rji_put_u64(c, area->offset);
	rji_put_u64(c, area->len_bytes);
	rji_put_u64(c, area->sum);
}

static void get_area(struct rji_cursor *c, struct rji_snap_area *area)
{
	area->offset = rji_get_u64(c);
	area->len_bytes = rji_get_u64(c);
	area->sum = rji_get_u64(c);
}

void rji_snap_encode_header(const struct rji_snap *snap, uint8_t header[RJI_SNAP_HEADER_BYTES])
{
	struct rji_cursor c;

	memset(header, 0, RJI_SNAP_HEADER_BYTES);
	rji_cursor_init(&c, header, RJI_SNAP_HEADER_BYTES);
	rji_put_bytes(&c, magic, sizeof(magic));
	rji_put_u16(&c, RJI_SNAP_MAJOR);
	rji_put_u16(&c, RJI_SNAP_MINOR);
	rji_put_u32(&c, RJI_SNAP_HEADER_BYTES);
	rji_put_u64(&c, snap->file_bytes);
	rji_put_u64(&c, snap->guest_bytes);
	rji_put_u64(&c, snap->created_s);
	rji_put_bytes(&c, snap->id, sizeof(snap->id));
	rji_put_u32(&c, snap->flags);
	rji_put_u32(&c, snap->n_regions);
	put_area(&c, &snap->table);
	put_area(&c, &snap->setup);
	put_area(&c, &snap->state);
	c.pos = RJI_SNAP_HEADER_BYTES - SUM_BYTES;
	rji_put_u64(&c, rji_hash64(header, RJI_SNAP_HEADER_BYTES - SUM_BYTES));
}

static int damaged(struct rj_error *err, const char *what)
{
	return rji_fail(err, RJ_E_SNAPSHOT, "the snapshot's %s is damaged", what);
}

/* Who wrote it, and is it whole? Before anything in it is believed. */
static int check_envelope(const uint8_t *header, struct rj_error *err)
{
	struct rji_cursor c, sum;
	uint16_t major;

	rji_cursor_init_const(&c, header, RJI_SNAP_HEADER_BYTES);
	if (memcmp(rji_get_view(&c, sizeof(magic)), magic, sizeof(magic)) != 0)
		return rji_fail(err, RJ_E_SNAPSHOT, "this is not a snapshot of ramjet's");
	major = rji_get_u16(&c);
	rji_cursor_init_const(&sum, header + RJI_SNAP_HEADER_BYTES - SUM_BYTES, SUM_BYTES);
	if (rji_get_u64(&sum) != rji_hash64(header, RJI_SNAP_HEADER_BYTES - SUM_BYTES))
		return damaged(err, "header (offset 0)");
	if (major != RJI_SNAP_MAJOR)
		return rji_fail(
			err, RJ_E_VERSION,
			"the snapshot has format version %u, this library reads %u: restore it with the version that saved it",
			major, RJI_SNAP_MAJOR);
	return 0;
}

int rji_snap_decode_header(struct rji_snap *snap, const uint8_t header[RJI_SNAP_HEADER_BYTES],
			   uint64_t file_bytes, struct rj_error *err)
{
	struct rji_cursor c;
	uint32_t header_bytes;
	int ret = check_envelope(header, err);

	if (ret < 0)
		return ret;
	memset(snap, 0, sizeof(*snap));
	rji_cursor_init_const(&c, header, RJI_SNAP_HEADER_BYTES);
	c.pos = sizeof(magic) + sizeof(uint16_t);
	snap->minor = rji_get_u16(&c);
	header_bytes = rji_get_u32(&c);
	snap->file_bytes = rji_get_u64(&c);
	snap->guest_bytes = rji_get_u64(&c);
	snap->created_s = rji_get_u64(&c);
	rji_get_bytes(&c, snap->id, sizeof(snap->id));
	snap->flags = rji_get_u32(&c);
	snap->n_regions = rji_get_u32(&c);
	get_area(&c, &snap->table);
	get_area(&c, &snap->setup);
	get_area(&c, &snap->state);
	if (header_bytes != RJI_SNAP_HEADER_BYTES || snap->flags & ~KNOWN_FLAGS)
		return damaged(err, "header (offset 0)");
	if (snap->file_bytes != file_bytes)
		return rji_fail(err, RJ_E_SNAPSHOT,
				"the snapshot should have %" PRIu64 " bytes but has %" PRIu64
				": it was cut or added to",
				snap->file_bytes, file_bytes);
	if (!snap->n_regions || snap->n_regions > RJ_MAX_REGIONS ||
	    snap->setup.len_bytes > RJ_MAX_BLOB_BYTES ||
	    snap->table.offset != RJI_SNAP_HEADER_BYTES ||
	    snap->table.len_bytes != (uint64_t)snap->n_regions * RJI_SNAP_REGION_BYTES ||
	    snap->table.len_bytes > file_bytes - RJI_SNAP_HEADER_BYTES)
		return damaged(err, "header (offset 0)");
	return 0;
}

/* --- region table --- */

static void put_region(struct rji_cursor *c, const struct rji_snap_region *r)
{
	size_t end = c->pos + RJI_SNAP_REGION_BYTES;

	rji_put_bytes(c, r->name, sizeof(r->name));
	rji_put_u64(c, r->len_bytes);
	rji_put_u64(c, r->gpa);
	rji_put_u32(c, r->page_bytes);
	rji_put_u32(c, 0);
	rji_put_u64(c, r->n_present);
	rji_put_u64(c, r->pages_offset);
	put_area(c, &r->bitmap);
	put_area(c, &r->sums);
	c->pos = end;
}

void rji_snap_encode_table(struct rji_snap *snap, uint8_t *table)
{
	struct rji_cursor c;

	memset(table, 0, snap->table.len_bytes);
	rji_cursor_init(&c, table, snap->table.len_bytes);
	for (uint32_t i = 0; i < snap->n_regions; i++)
		put_region(&c, &snap->region[i]);
	snap->table.sum = rji_hash64(table, snap->table.len_bytes);
}

static void get_region(struct rji_cursor *c, struct rji_snap_region *r)
{
	size_t end = c->pos + RJI_SNAP_REGION_BYTES;

	rji_get_bytes(c, r->name, sizeof(r->name));
	r->len_bytes = rji_get_u64(c);
	r->gpa = rji_get_u64(c);
	r->page_bytes = rji_get_u32(c);
	rji_get_u32(c);
	r->n_present = rji_get_u64(c);
	r->pages_offset = rji_get_u64(c);
	get_area(c, &r->bitmap);
	get_area(c, &r->sums);
	c->pos = end;
}

/* As rj_add_region() would have it. */
static bool is_sound(const struct rji_snap *snap, uint32_t number)
{
	const struct rji_snap_region *r = &snap->region[number];
	size_t len = strnlen(r->name, sizeof(r->name));
	uint64_t page = r->page_bytes;

	if (!len || len == sizeof(r->name) || page < RJI_SNAP_PAGE_BYTES || page > 1u << 30 ||
	    page & (page - 1))
		return false;
	if (!r->len_bytes || r->len_bytes % page || r->len_bytes > RJI_SNAP_MAX_BYTES)
		return false;
	for (uint32_t i = 0; i < number; i++) {
		if (!strcmp(snap->region[i].name, r->name))
			return false;
	}
	return r->n_present <= rji_snap_n_pages(r);
}

static bool same_place(const struct rji_snap_area *a, const struct rji_snap_area *b)
{
	return a->offset == b->offset && a->len_bytes == b->len_bytes;
}

/* Lies everything where the layout of such regions puts it? */
static bool lies_right(const struct rji_snap *snap)
{
	struct rji_snap should = *snap; /* tens of KiB */

	if (rji_snap_lay_out(&should) < 0 || should.guest_bytes != snap->guest_bytes ||
	    should.state.offset != snap->state.offset || !same_place(&should.setup, &snap->setup))
		return false;
	if (snap->state.len_bytes > RJI_SNAP_MAX_BYTES)
		return false;
	rji_snap_set_state_bytes(&should, snap->state.len_bytes);
	for (uint32_t i = 0; i < snap->n_regions; i++) {
		const struct rji_snap_region *a = &should.region[i], *b = &snap->region[i];

		if (a->pages_offset != b->pages_offset || !same_place(&a->bitmap, &b->bitmap) ||
		    !same_place(&a->sums, &b->sums))
			return false;
	}
	return should.file_bytes == snap->file_bytes;
}

int rji_snap_decode_table(struct rji_snap *snap, const uint8_t *table, struct rj_error *err)
{
	struct rji_cursor c;

	if (rji_hash64(table, snap->table.len_bytes) != snap->table.sum)
		return damaged(err, "region table (offset 4096)");
	rji_cursor_init_const(&c, table, snap->table.len_bytes);
	for (uint32_t i = 0; i < snap->n_regions; i++) {
		get_region(&c, &snap->region[i]);
		if (!is_sound(snap, i))
			return damaged(err, "region table (offset 4096)");
	}
	return lies_right(snap) ? 0 : damaged(err, "region table (offset 4096)");
}

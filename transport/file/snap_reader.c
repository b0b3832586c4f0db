/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/snap_reader.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/hash.h"
#include "transport/file/file_ring.h"

/* Does the file system read around its page cache? Some let it be opened and refuse the first read. */
static void open_direct(struct rji_snap_reader *r)
{
	static _Thread_local _Alignas(RJI_SNAP_PAGE_BYTES) uint8_t page[RJI_SNAP_PAGE_BYTES];
	int ret;

	r->fd = open(r->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ret = r->fd < 0 || pread(r->fd, page, sizeof(page), 0) < 0 ? -errno : 0;
	r->direct_io = !ret;
	if (!ret)
		return;
	snprintf(r->why_not_direct, sizeof(r->why_not_direct),
		 "no O_DIRECT on this file system (%s): pages come through the page cache, slower",
		 strerrordesc_np(-ret));
	if (r->fd >= 0)
		close(r->fd);
	r->fd = fcntl(r->meta_fd, F_DUPFD_CLOEXEC, 0);
}

static int open_file(struct rji_snap_reader *r, uint64_t *file_bytes_p, struct rj_error *err)
{
	struct stat st;

	r->meta_fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (r->meta_fd < 0 || fstat(r->meta_fd, &st) < 0)
		return rji_fail_sys(err, -errno, errno, "cannot open the snapshot %.300s", r->path);
	if (!S_ISREG(st.st_mode))
		return rji_fail(err, RJ_E_SNAPSHOT, "%.300s is not a regular file", r->path);
	if (st.st_size < RJI_SNAP_HEADER_BYTES)
		return rji_fail(err, RJ_E_SNAPSHOT, "%.300s is too short to be a snapshot",
				r->path);
	*file_bytes_p = (uint64_t)st.st_size;
	open_direct(r);
	return r->fd < 0 ? rji_fail_sys(err, -errno, errno, "cannot open a descriptor") : 0;
}

/* What the decoders found, with the file's name. */
static int name_file(const struct rji_snap_reader *r, const struct rj_error *found,
		     struct rj_error *err)
{
	return rji_fail(err, found->code, "%.200s: %s", r->path, found->text);
}

static int read_head(struct rji_snap_reader *r, uint64_t file_bytes, struct rj_error *err)
{
	struct rj_error found;
	uint8_t header[RJI_SNAP_HEADER_BYTES], *table;
	int ret = rji_file_transfer(r->meta_fd, header, sizeof(header), 0, false, r->path, err);

	rji_error_init(&found);
	if (!ret && rji_snap_decode_header(&r->snap, header, file_bytes, &found) < 0)
		ret = name_file(r, &found, err);
	if (ret < 0)
		return ret;
	table = malloc(r->snap.table.len_bytes);
	if (!table)
		return rji_fail(err, -ENOMEM, "no memory for the region table");
	ret = rji_file_transfer(r->meta_fd, table, r->snap.table.len_bytes, r->snap.table.offset,
				false, r->path, err);
	if (!ret && rji_snap_decode_table(&r->snap, table, &found) < 0)
		ret = name_file(r, &found, err);
	free(table);
	return ret;
}

int rji_snap_reader_open(struct rji_snap_reader **r_p, const char *path, struct rj_error *err)
{
	struct rji_snap_reader *r = calloc(1, sizeof(*r));
	uint64_t file_bytes = 0;
	int ret;

	if (!r)
		return rji_fail(err, -ENOMEM, "no memory for a snapshot");
	r->fd = r->meta_fd = -1;
	r->path = strdup(path);
	ret = r->path ? open_file(r, &file_bytes, err) : rji_fail(err, -ENOMEM, "no memory");
	if (!ret)
		ret = read_head(r, file_bytes, err);
	if (ret < 0) {
		rji_snap_reader_close(&r);
		return ret;
	}
	*r_p = r;
	return 0;
}

void rji_snap_reader_close(struct rji_snap_reader **r_p)
{
	struct rji_snap_reader *r = *r_p;

	if (!r)
		return;
	for (uint32_t i = 0; i < r->snap.n_regions && i < RJ_MAX_REGIONS; i++) {
		uint64_t n_pages = rji_snap_n_pages(&r->snap.region[i]);

		rji_bitmap_free(r->present[i], n_pages);
		rji_bitmap_free(r->sums[i], n_pages * 64);
	}
	if (r->fd >= 0)
		close(r->fd);
	if (r->meta_fd >= 0)
		close(r->meta_fd);
	free(r->path);
	free(r);
	*r_p = NULL;
}

/* Read an area to p and compare its checksum. */
static int get_area(const struct rji_snap_reader *r, const struct rji_snap_area *area,
		    const char *what, void *p, struct rj_error *err)
{
	int ret = rji_file_transfer(r->meta_fd, p, area->len_bytes, area->offset, false, r->path,
				    err);

	if (ret < 0 || !area->len_bytes || rji_hash64(p, area->len_bytes) == area->sum)
		return ret;
	return rji_fail(err, RJ_E_SNAPSHOT,
			"%.300s is damaged at offset %" PRIu64
			": the checksum of its %s does not match",
			r->path, area->offset, what);
}

/* The bits past the last page are 0, and there are as many as the table says. */
static bool is_sound(const struct rji_snap_region *region, const uint64_t *present)
{
	uint64_t n = rji_snap_n_pages(region), words = rji_bitmap_words(n);

	if (n % RJI_WORD_BITS && present[words - 1] >> (n % RJI_WORD_BITS))
		return false;
	return rji_bitmap_weight(present, words) == region->n_present;
}

int rji_snap_reader_load_maps(struct rji_snap_reader *r, uint32_t region, struct rj_error *err)
{
	const struct rji_snap_region *in = &r->snap.region[region];
	uint64_t n_pages = rji_snap_n_pages(in);
	int ret;

	if (r->sums[region])
		return 0;
	/* All at once, and not as a reader that might stop: a lazy restore waits for it. A hint. */
	posix_fadvise(r->meta_fd, (off_t)in->bitmap.offset, (off_t)in->bitmap.len_bytes,
		      POSIX_FADV_WILLNEED);
	posix_fadvise(r->meta_fd, (off_t)in->sums.offset, (off_t)in->sums.len_bytes,
		      POSIX_FADV_WILLNEED);
	r->present[region] = rji_bitmap_alloc(n_pages);
	r->sums[region] = rji_bitmap_alloc(n_pages * 64);
	if (!r->present[region] || !r->sums[region])
		return rji_fail(err, -ENOMEM, "no memory for the checksums of region '%s'",
				in->name);
	ret = get_area(r, &in->bitmap, "bitmap of present pages", r->present[region], err);
	if (!ret && !is_sound(in, r->present[region]))
		ret = rji_fail(err, RJ_E_SNAPSHOT,
			       "%.300s: the bitmap at offset %" PRIu64 " does not fit its region",
			       r->path, in->bitmap.offset);
	return ret ? ret : get_area(r, &in->sums, "page checksums", r->sums[region], err);
}

int rji_snap_reader_get(const struct rji_snap_reader *r, const struct rji_snap_area *area,
			const char *what, void **bytes_p, struct rj_error *err)
{
	void *bytes = malloc(area->len_bytes ? area->len_bytes : 1);
	int ret;

	if (!bytes)
		return rji_fail(err, -ENOMEM, "no memory for the %s", what);
	ret = get_area(r, area, what, bytes, err);
	if (ret < 0) {
		free(bytes);
		return ret;
	}
	*bytes_p = bytes;
	return 0;
}

int rji_snap_check_page(const struct rji_snap_reader *r, uint32_t region, uint64_t page,
			const void *p, struct rj_error *err)
{
	const struct rji_snap_region *in = &r->snap.region[region];
	uint64_t offset = page * RJI_SNAP_PAGE_BYTES;
	int ret;

	if (rji_hash64(p, RJI_SNAP_PAGE_BYTES) == r->sums[region][page])
		return 0;
	ret = rji_fail(err, RJ_E_SNAPSHOT,
		       "%.300s is damaged at offset %" PRIu64
		       ": the checksum of the page at offset 0x%" PRIx64
		       " of region '%s' does not match",
		       r->path, rji_snap_page_at(in, offset), offset, in->name);
	if (err) {
		err->region = region;
		err->offset_bytes = offset;
	}
	return ret;
}

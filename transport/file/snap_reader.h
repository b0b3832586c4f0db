/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_SNAP_READER_H
#define RJI_TRANSPORT_FILE_SNAP_READER_H

#include "base/host.h"
#include "transport/file/snap_format.h"

/*
 * A snapshot opened for reading. Nothing of it is believed before its checksum was compared: first the
 * header and the region table, when opened; bitmaps and page checksums when they are loaded; each page
 * when it is read (snap_loader.c).
 */
struct rji_snap_reader {
	char *path;
	int fd;	     /* for pages: O_DIRECT where that works */
	int meta_fd; /* through the page cache */
	bool direct_io;
	char why_not_direct[160];
	struct rji_snap snap;
	uint64_t *present[RJ_MAX_REGIONS]; /* NULL until loaded */
	uint64_t *sums[RJ_MAX_REGIONS];
};

/* 0; -errno of the file system; RJ_E_SNAPSHOT, RJ_E_VERSION. */
int rji_snap_reader_open(struct rji_snap_reader **r_p, const char *path, struct rj_error *err);
/* NULL is fine. */
void rji_snap_reader_close(struct rji_snap_reader **r_p);

/* Bitmaps and page checksums of a region; as much memory as the file has for them. */
int rji_snap_reader_load_maps(struct rji_snap_reader *r, uint32_t region, struct rj_error *err);

/* An area's bytes, checked; free() them. what: for the message. */
int rji_snap_reader_get(const struct rji_snap_reader *r, const struct rji_snap_area *area,
			const char *what, void **bytes_p, struct rj_error *err);

/* Is this what the page should be? RJ_E_SNAPSHOT names file and offset. */
int rji_snap_check_page(const struct rji_snap_reader *r, uint32_t region, uint64_t page,
			const void *p, struct rj_error *err);

#endif

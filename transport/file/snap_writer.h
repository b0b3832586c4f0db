/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_SNAP_WRITER_H
#define RJI_TRANSPORT_FILE_SNAP_WRITER_H

#include <ramjet/region.h>

#include "base/host.h"
#include "transport/file/file_ring.h"
#include "transport/file/snap_format.h"

/*
 * A snapshot being written, and the moment it becomes valid.
 *
 *   begin     a file without a name in the directory of PATH (O_TMPFILE; with a name of its own where the
 *             file system has no such thing), as long as the guest, all of it holes
 *   the lanes of rji_file_transport write pages, and note checksums and which pages are present
 *   commit    data synced; then checksums, bitmaps, table, set-up blob, device state and header
 *             written and synced; then the file is renamed to PATH in one step, and the directory
 *             synced
 *
 * Whatever ends the process before the rename leaves PATH as it was; whatever comes after finds the new
 * one whole. Nothing is ever written to a file that PATH names.
 */

/* A region's memory, and what is known of its pages in the file. */
struct rji_snap_memory {
	char *host;
	int hole_fd;	    /* tells what was never touched (rule: only MAP_SHARED shmem); -1 */
	uint64_t fd_offset; /* of host in hole_fd */
	uint64_t *present;  /* a bit a page; the words of a span are the lane's that has it */
	uint64_t *sums;	    /* of what was written last; little-endian as in the file */
};

struct rji_snap_writer {
	const struct rji_host *host;
	char *path, *dir, *tmp_path; /* tmp_path: NULL while it has no name */
	int fd;			     /* for pages: O_DIRECT where that works */
	int meta_fd;		     /* the same file through the page cache */
	bool direct_io;
	char why_not_direct[160];
	bool registers;			 /* buffers are used; set before lanes connect */
	struct rji_file_buffers buffers; /* the lanes' */
	struct rji_snap snap;
	struct rji_snap_memory memory[RJ_MAX_REGIONS];
};

/*
 * Before a session's first page: the regions and the set-up blob's length decide where everything lies.
 * 0; -errno of what the file system refused, RJ_E_REGION.
 */
int rji_snap_writer_begin(struct rji_snap_writer **w_p, const struct rji_host *host,
			  const char *path, const struct rj_region *const *regions,
			  uint32_t n_regions, size_t setup_bytes, struct rj_error *err);

/* What goes beside the pages. */
struct rji_snap_rest {
	const void *setup, *state;
	size_t setup_bytes, state_bytes;
	uint8_t id[16];
	bool run; /* the guest was running */
};

/* All lanes drained and idle. 0; -errno: PATH is as it was (but for what err says if the last sync failed). */
int rji_snap_writer_commit(struct rji_snap_writer *w, const struct rji_snap_rest *rest,
			   struct rj_error *err);

/* NULL is fine. Without a commit nothing is left of the file. */
void rji_snap_writer_end(struct rji_snap_writer **w_p);

uint64_t rji_snap_writer_metadata_bytes(const struct rji_snap_writer *w);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_SNAP_FILLER_H
#define RJI_TRANSPORT_FILE_SNAP_FILLER_H

#include <stdatomic.h>

#include "base/host.h"
#include "transport/file/snap_reader.h"

/* A snapshot into memory that is in use already: what is touched comes first, the rest behind it. */
struct rji_snap_filler;

struct rji_snap_filling {
	struct rji_snap_reader *reader; /* its maps are loaded */
	const struct rji_host *host;
	const struct rj_region *const *regions; /* as many as the file has, in its order */
	uint32_t n_lanes;
	int wake_fd;		      /* an eventfd, written when state() changes; -1: none */
	_Atomic uint64_t *done_bytes; /* of the file's pages, placed; may be NULL, as the others */
	_Atomic uint64_t *cpu_ns;
	_Atomic uint64_t *faults;	/* pages that somebody waited for */
	_Atomic uint64_t *fault_max_ns; /* from hearing of it until the page was there */
};

/*
 * Empty the regions, watch them, and start. From here on they may be used, by these addresses only. The
 * filling stays the caller's until stop.
 *
 * 0; -EPERM: userfaultfd is not allowed; -ENOTSUP: not in this kernel, or not for this memory; -errno.
 */
int rji_snap_filler_start(const struct rji_snap_filling *filling, struct rji_snap_filler **f_p,
			  struct rj_error *err);

/*
 * 1: all is in; 0: at it; negative with err: it never will be. A page that is bad, or could not be read, is taken
 * away by mprotect(): who touches it gets SIGSEGV, or EFAULT from the kernel. Other pages are served on.
 */
int rji_snap_filler_state(struct rji_snap_filler *f, struct rj_error *err);

/* NULL is fine. What was not in reads as zeros from now on: nobody may use it any more. */
void rji_snap_filler_stop(struct rji_snap_filler **f_p);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_SNAPSHOT_H
#define RAMJET_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/env.h>
#include <ramjet/error.h>
#include <ramjet/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A guest in a file. It is saved by a source session with the URI file:///PATH and restored by a
 * destination session with the same: the VMM answers the same requests as in a migration, but there is
 * no other side, and so neither RJ_RQ_RELEASE nor RJ_RQ_RECLAIM.
 *
 * A save is all or nothing: PATH names the old file, or nothing, until the new one is whole and on the
 * disk; then, in one step, the new one. Beside it, in the same directory, there has to be room for it. A
 * restore runs the guest only after all of it was read and compared with its checksums. The format is in
 * docs/snapshot-format.md.
 *
 * With RJ_FILE_LAZY a destination runs the guest at once. Before RJ_RQ_LOAD the regions are emptied and watched by
 * userfaultfd; from then on a page that is touched, by vCPUs, the VMM or the kernel for them, comes first, the rest
 * streams in behind, each page compared with its checksum before it is there. RJ_EV_DONE says that all is in. Until
 * then guest memory is used by the regions' addresses only (another mapping of the same memory would show zeros), and not given up by
 * balloons. When a page is bad or cannot be read the session asks for RJ_RQ_PAUSE, then RJ_RQ_DROP, and ends with
 * an error that names file and offset; the page is taken away by mprotect(), so that a vCPU which needs it comes back
 * from KVM_RUN with EFAULT and any other thread gets SIGSEGV. What the guest has done by then, to its disks too, is done. rj_close() before RJ_EV_DONE leaves
 * what is not in as zeros: pause the guest before, for good. Not for hugetlbfs, private mappings of files, or locked memory: -ENOTSUP.
 * -EPERM: userfaultfd is not allowed.
 *
 * Here is how to look at a file without a guest.
 */
struct rj_snapshot;

struct rj_snapshot_info {
	size_t size;
	uint16_t major, minor; /* of the format */
	uint32_t n_regions;
	uint64_t file_bytes; /* its length */
	uint64_t disk_bytes; /* what it occupies; less, where pages are zero */
	uint64_t guest_bytes;
	uint64_t present_bytes; /* of pages in the file */
	uint64_t setup_bytes, state_bytes;
	uint64_t created_s; /* seconds since 1970 */
	uint32_t run;	    /* 1: the guest was running */
	uint32_t reserved;
	uint8_t id[16];
};

struct rj_snapshot_region {
	size_t size;
	char name[RJ_NAME_BYTES];
	uint64_t len_bytes, gpa;
	uint32_t page_bytes;
	uint32_t reserved;
	uint64_t present_bytes;
};

/*
 * Open a file; checks its header and region table. e_p (may be NULL) says what is wrong.
 *
 * Return 0; RJ_E_SNAPSHOT: damaged, or not a snapshot; RJ_E_VERSION: of a later version; -ENOENT,
 * -EACCES and what else open() and read() say; -ENOMEM; -EINVAL.
 */
RJ_API int rj_snapshot_open(struct rj_env *env, const char *path, struct rj_snapshot **snap_p,
			    struct rj_error *e_p);
/* NULL is fine. */
RJ_API void rj_snapshot_close(struct rj_snapshot **snap_p);

/* -EINVAL: size is not set. */
RJ_API int rj_snapshot_info(const struct rj_snapshot *snap, struct rj_snapshot_info *info_p);
/* Region number i. -ENOENT: there are fewer; -EINVAL. */
RJ_API int rj_snapshot_region(const struct rj_snapshot *snap, uint32_t i,
			      struct rj_snapshot_region *r_p);

/*
 * How full a region is: cut it into n_cells pieces of equal length; each gets the share of its pages that
 * are in the file, 0 to 255, 0 only if none is. Reads the bitmap of that region.
 *
 * Return 0; RJ_E_SNAPSHOT; -ENOENT; -EINVAL; what read() says.
 */
RJ_API int rj_snapshot_cells(struct rj_snapshot *snap, uint32_t i, uint8_t *cells, uint32_t n_cells,
			     struct rj_error *e_p);

/*
 * Read all of it by n_threads threads (0: chosen), compare every checksum, and look that there is nothing
 * between. done_bytes_p (may be NULL) counts bytes of pages, and may be read meanwhile. Blocks.
 *
 * Return 0; RJ_E_SNAPSHOT: e_p names file and offset; what read() says; -ENOMEM.
 */
RJ_API int rj_snapshot_verify(struct rj_snapshot *snap, uint32_t n_threads, uint64_t *done_bytes_p,
			      struct rj_error *e_p);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_REGION_H
#define RAMJET_REGION_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RJ_NAME_BYTES 64 /* with the final NUL */
#define RJ_NO_GPA UINT64_MAX

enum rj_region_flags {
	RJ_REGION_ZEROED = 1 << 0, /* destination: known to read as zeros, and nothing wrote to it
				    * since it was made. Told to the source; not used yet */
	RJ_REGION_MARKED = 1 << 1, /* source: every writer calls rj_mark_dirty(); no tracker is
				    * needed */
};

/*
 * A piece of guest RAM (QEMU: RAMBlock). Pages are named by (region, offset) on both sides; regions
 * are matched by name, and must agree in length and page size.
 */
struct rj_region {
	size_t size;	     /* sizeof(struct rj_region) */
	const char *name;    /* unique in the session, 1 to 63 bytes; copied */
	void *host;	     /* start in this process, aligned to page_bytes; mapped for the
			      * session's life */
	uint64_t len_bytes;  /* a multiple of page_bytes */
	uint64_t gpa;	     /* guest-physical address, or RJ_NO_GPA */
	uint32_t page_bytes; /* granule in which writes are tracked: a power of two, 4096 to 1
			      * GiB */
	uint32_t flags;	     /* enum rj_region_flags */
	int fd;		     /* the file it maps, or -1; stays the caller's. Used for snapshots */
	uint64_t fd_offset_bytes;
};

/* Fill in defaults: no gpa, page_bytes 4096, no flags, fd -1. */
RJ_API void rj_region_init(struct rj_region *r);

#ifdef __cplusplus
}
#endif
#endif

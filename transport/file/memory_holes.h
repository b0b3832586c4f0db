/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_MEMORY_HOLES_H
#define RJI_TRANSPORT_FILE_MEMORY_HOLES_H

#include <ramjet/region.h>

/*
 * What of a region was never touched, and so reads as zeros: without reading it, which would make the
 * kernel allocate it.
 *
 * Holds only for MAP_SHARED shmem: a private mapping's written pages are still holes of its file, and
 * hugetlbfs calls all data. A query is a read: the trackers are re-armed before.
 */

/* A descriptor of its own (queries move a file's position) for a region that qualifies; else -1. */
int rji_memory_holes_open(const struct rj_region *r, uint64_t *fd_offset_p);

/*
 * What the kernel said last of a file: how far data goes without a hole. It walks page by page to find
 * that out, so each stretch is asked about once. Data may have become a hole since; it reads as zeros.
 */
struct rji_known_data {
	uint64_t begin, end;
};

/*
 * The next stretch of [*at, end) that may hold something, offsets in the region: *at moves to its
 * begin, its end is returned, which more data may follow. *at == end: there is none.
 *
 * Where data ends mincore(2) tells by the page tables, in a tenth of the time and no further than asked; the
 * file does for what was swapped out. host NULL: the file is mapped nowhere, and tells all.
 */
uint64_t rji_memory_holes_next(int fd, uint64_t fd_offset, const char *host,
			       struct rji_known_data *known, uint64_t *at, uint64_t end);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_EXTENT_H
#define RJI_PAGESENDER_EXTENT_H

#include "pagesender/harvest.h"
#include "transport/transport.h"

/* Longest extent: huge pages are cut to this. */
#define RJI_EXTENT_MAX_BYTES (1u << 30)

/*
 * Join the set pages of a span into runs, of max_bytes at most (one page at least). *next_page (in
 * the span, 0 at first) says where to go on; fills at most max extents, returns how many; 0: the
 * span is done.
 */
uint32_t rji_extents_of_span(const struct rji_span *span, uint32_t page_shift, uint32_t max_bytes,
			     uint64_t *next_page, struct rji_extent *e, uint32_t max);
/* Of n extents together. */
uint64_t rji_extents_bytes(const struct rji_extent *e, uint32_t n);

#endif

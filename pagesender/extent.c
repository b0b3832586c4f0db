/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/extent.h"

#include "base/bitmap.h"

uint32_t rji_extents_of_span(const struct rji_span *span, uint32_t page_shift, uint32_t max_bytes,
			     uint64_t *next_page, struct rji_extent *e, uint32_t max)
{
	uint64_t max_pages = max_bytes >> page_shift ? max_bytes >> page_shift : 1;
	uint32_t n = 0;

	while (n < max) {
		uint64_t run = rji_bitmap_next_run(span->bits, next_page, span->n_pages);

		if (!run)
			break;
		if (run > max_pages)
			run = max_pages;
		e[n++] = (struct rji_extent){
			.offset_bytes = (span->first_page + *next_page) << page_shift,
			.len_bytes = (uint32_t)(run << page_shift),
			.region = span->region,
		};
		*next_page += run;
	}
	return n;
}

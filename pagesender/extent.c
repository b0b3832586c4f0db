/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/extent.h"

#include "base/bitmap.h"

/* Where the extents go, and how long each may be. */
struct writer {
	struct rji_extent *e;
	uint32_t n, max;
	uint64_t max_pages;
	uint64_t first_page; /* of the span */
	uint32_t page_shift;
	uint32_t region;
};

/* A run of the span's pages, in as many extents as it takes. Returns where it ended for want of room. */
static inline uint64_t put(struct writer *w, uint64_t page, uint64_t run)
{
	while (run && w->n < w->max) {
		uint64_t part = run < w->max_pages ? run : w->max_pages;

		w->e[w->n++] = (struct rji_extent){
			.offset_bytes = (w->first_page + page) << w->page_shift,
			.len_bytes = (uint32_t)(part << w->page_shift),
			.region = w->region,
		};
		page += part;
		run -= part;
	}
	return page;
}

/* The pages of word number i that are still to go, none of those past the span. */
static inline uint64_t pages_of(const struct rji_span *span, uint64_t i, uint64_t from)
{
	uint64_t word = span->bits[i], at = i * RJI_WORD_BITS;

	if (from > at)
		word &= ~0ull << (from - at);
	if (span->n_pages - at < RJI_WORD_BITS)
		word &= (1ull << (span->n_pages - at)) - 1;
	return word;
}

/*
 * A word at a time. A run that reaches the end of its word is kept, since it may go on in the next:
 *
 *   word     1 1 0 0 0 1 | 1 1 1 0 0 0
 *   extents  |-|       |---------|
 */
uint32_t rji_extents_of_span(const struct rji_span *span, uint32_t page_shift, uint32_t max_bytes,
			     uint64_t *next_page, struct rji_extent *e, uint32_t max)
{
	struct writer w = { .e = e,
			    .max = max,
			    .max_pages = max_bytes >> page_shift ? max_bytes >> page_shift : 1,
			    .first_page = span->first_page,
			    .page_shift = page_shift,
			    .region = span->region };
	uint64_t from = *next_page, end = span->n_pages, kept = 0;

	for (uint64_t i = from / RJI_WORD_BITS; i < rji_bitmap_words(end) && w.n < max; i++) {
		uint64_t word = pages_of(span, i, from), at = i * RJI_WORD_BITS;

		if (kept && !(word & 1)) {
			from = put(&w, at - kept, kept);
			kept = 0;
		}
		while (word && w.n < max) {
			uint64_t first = (uint64_t)__builtin_ctzll(word);
			uint64_t carried =
				word + (word & -word); /* the bit behind the run, if any */
			uint64_t past = carried ? (uint64_t)__builtin_ctzll(carried)
						: RJI_WORD_BITS;

			word &= carried;
			if (past == RJI_WORD_BITS && at + RJI_WORD_BITS < end) {
				kept += past - first;
			} else {
				from = put(&w, at + first - kept, past - first + kept);
				kept = 0;
			}
		}
	}
	*next_page = w.n < max ? end : from;
	return w.n;
}

uint64_t rji_extents_bytes(const struct rji_extent *e, uint32_t n)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += e[i].len_bytes;
	return bytes;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_SHRINK_H
#define RJI_PAGESENDER_FILTER_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * When to compress, for one lane: only while it makes pages leave sooner.
 *
 *   off   what a page costs to send is measured all the time. Now and then one piece is compressed, to see
 *         what that costs and how small it becomes; on if the dearer of both would be faster, for the link
 *         carries what went before while the next is compressed.
 *   on    what a page costs with both is measured all the time. Now and then some spans go out as they are,
 *         for the link may have become faster; off if that is so.
 *
 * All times are nanoseconds a page of 4096 bytes.
 */
struct rji_shrink {
	bool on;
	uint32_t wait, backoff; /* spans until the next look; how long that was */
	uint32_t looking;	/* spans left of a look while on */
	uint64_t plain_ns, packed_ns, plain_before_ns;
};

enum rji_shrink_how {
	RJI_SHRINK_NO,
	RJI_SHRINK_PIECE, /* one, to see */
	RJI_SHRINK_ALL,
};

void rji_shrink_init(struct rji_shrink *s);
/* What to do with the next span. */
enum rji_shrink_how rji_shrink_next(struct rji_shrink *s);
/* So many pages were sent as they are in ns. */
void rji_shrink_saw_plain(struct rji_shrink *s, uint64_t pages, uint64_t ns);
/* So many pages were compressed, as far as they could be, and sent, all in ns. */
void rji_shrink_saw_packed(struct rji_shrink *s, uint64_t pages, uint64_t ns);
/* A piece of so many pages became len_bytes long in ns of CPU time: waiting for a CPU is no cost of it. */
void rji_shrink_saw_piece(struct rji_shrink *s, uint64_t pages, uint64_t len_bytes, uint64_t ns);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_SAME_H
#define RJI_PAGESENDER_FILTER_SAME_H

#include <stdatomic.h>

#include "base/hash.h"
#include "pagesender/pageset.h"

/*
 * What the destination has, by hash: a page that was written, but has the content it had when it was
 * sent last, need not be sent again ("false dirty" pages).
 *
 * The hash is of the very bytes that were sent: of a copy, from which the page goes out as well. With
 * the guest's memory A would be hashed, the guest write B, B be sent and A come back: the hash would
 * say "the same", and B stay at the destination for ever. A page's hash counts while its bit in
 * known is set; whatever is done to the page in another way takes the bit away.
 *
 * XXH3 with a secret of the session is no cryptographic hash. Who could make two pages collide is the
 * guest, and what it gains is one of its own pages being old at the destination.
 *
 * Areas are the harvest's windows. Each keeps how often a page was the same, of those that could be
 * told; hashes are there from the first page that is remembered, 16 bytes a page.
 */
struct rji_area {
	_Atomic(struct rji_hash128 *) hash; /* of each page; NULL: none yet */
	_Atomic uint32_t checked,
		same; /* pages compared, and found the same; halved now and then */
	_Atomic uint32_t tried,
		shrunk; /* pages for which an old one was there, and what that saved, in pages */
};

struct rji_same {
	struct rji_hash128_secret secret;
	uint32_t n_regions;
	uint32_t n_areas[RJ_MAX_REGIONS];
	struct rji_area *area[RJ_MAX_REGIONS]; /* by window */
	struct rji_area all;		       /* the counters of all areas together */
	_Atomic uint64_t hash_bytes;	       /* memory for hashes and areas */
};

/* -ENOMEM, -EIO. */
int rji_same_create(const struct rji_pageset *set, struct rji_same **s_p);
void rji_same_destroy(struct rji_same **s_p);

static inline struct rji_area *rji_area_of(const struct rji_same *s,
					   const struct rji_pageset_region *r, uint32_t region,
					   uint64_t page)
{
	return &s->area[region][page >> r->window_shift];
}

/* The hashes of an area, made if there are none; NULL: no memory. One is that of the window's first page. */
struct rji_hash128 *rji_area_hashes(struct rji_same *s, const struct rji_pageset_region *r,
				    struct rji_area *a);

void rji_area_saw_same(struct rji_same *s, struct rji_area *a, uint32_t checked, uint32_t same);
void rji_area_saw_delta(struct rji_same *s, struct rji_area *a, uint32_t tried, uint32_t shrunk);

/* The share that is to be expected, in 1/1024. */
uint32_t rji_area_same_share(const struct rji_same *s, const struct rji_area *a);
uint32_t rji_area_delta_share(const struct rji_same *s, const struct rji_area *a);

#endif

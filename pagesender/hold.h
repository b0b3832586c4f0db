/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_HOLD_H
#define RJI_PAGESENDER_HOLD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <ramjet/session.h>

/*
 * Ranges the VMM is taking pages away from (rj_discard_begin): lanes leave them alone, their pages
 * stay pending.
 *
 * Placing a hold raises the generation. A lane compares it with the one it last saw before each
 * span; when it changed, the lane finishes what it has in flight, acknowledges, and from then on
 * masks the held pages out. The holder waits for all lanes that are in a round. Lanes that are not
 * have nothing in flight.
 */
#define RJI_MAX_HOLDS 64

struct rji_held {
	uint32_t region;
	uint64_t first_page, n_pages;	  /* what lanes stay out of */
	uint64_t asked_offset, asked_len; /* what the VMM named, bytes */
};

struct rji_holds {
	pthread_mutex_t lock;
	pthread_cond_t acknowledged;
	atomic_uint n;		     /* holds; written under lock */
	_Atomic uint64_t generation; /* written under lock */
	struct rji_held held[RJI_MAX_HOLDS];
	struct {
		bool in_round;
		uint64_t seen; /* generation */
	} lane[RJ_MAX_LANES];
};

int rji_holds_init(struct rji_holds *h);
void rji_holds_fini(struct rji_holds *h);

/*
 * Place a hold and wait until no lane reads the range. -EBUSY: overlaps one that is there; -ENOSPC.
 * The first asked is the VMM's range in bytes, the second what lanes stay out of, in pages.
 */
int rji_holds_add(struct rji_holds *h, const struct rji_held *held);
/* Change what lanes stay out of; only to less, or to what they stay out of anyhow. */
void rji_holds_narrow(struct rji_holds *h, const struct rji_held *held);
/* Find and take away the hold of what the VMM named. -ENOENT. */
int rji_holds_find(struct rji_holds *h, uint32_t region, uint64_t asked_offset, uint64_t asked_len,
		   struct rji_held *held_p);
void rji_holds_remove(struct rji_holds *h, const struct rji_held *held);

/* Lanes: around a round. */
void rji_holds_enter(struct rji_holds *h, uint32_t lane);
void rji_holds_leave(struct rji_holds *h, uint32_t lane);

/* Lanes, before each span: true: drain what is in flight, then acknowledge. */
static inline bool rji_holds_changed(const struct rji_holds *h, uint32_t lane)
{
	return atomic_load_explicit(&h->generation, memory_order_acquire) != h->lane[lane].seen;
}

void rji_holds_acknowledge(struct rji_holds *h, uint32_t lane);

/* Clear held pages from bits; bit 0 is first_page. */
void rji_holds_mask(struct rji_holds *h, uint32_t region, uint64_t first_page, uint64_t n_pages,
		    uint64_t *bits);

#endif

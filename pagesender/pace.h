/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_PACE_H
#define RJI_PAGESENDER_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/stop.h"

/*
 * Keeps all lanes together under a rate. Each reserves time on the link for what it is about to
 * post and sleeps until its turn comes. Lock-free; the rate may change at any time.
 *
 * Smooth at 10 ms: who posts no more than rji_pace_quantum() at a time, half a millisecond of link,
 * and may catch up on a millisecond after it came late or was idle, never exceeds the rate by more
 * than 15 % in any 10 ms.
 */
#define RJI_PACE_SLACK_NS UINT64_C(1000000)
struct rji_pace {
	_Atomic uint64_t rate_bytes_per_s; /* 0: no limit */
	_Atomic uint64_t free_at_ns;	   /* when the link will have carried all that was
					    * reserved */
};

void rji_pace_init(struct rji_pace *p, uint64_t rate_bytes_per_s);
void rji_pace_set(struct rji_pace *p, uint64_t rate_bytes_per_s);

/* How much to post at a time, in whole pages of 4 KiB; UINT64_MAX: as much as you like. */
uint64_t rji_pace_quantum(const struct rji_pace *p);

/* Wait for the turn of so many bytes. 0 or -ECANCELED. */
int rji_pace_wait(struct rji_pace *p, uint64_t bytes, const struct rji_stop *stop);

/* The account behind it: reserve cost_ns of link; returns when the turn is. */
uint64_t rji_pace_reserve(struct rji_pace *p, uint64_t cost_ns, uint64_t now_ns);

#endif

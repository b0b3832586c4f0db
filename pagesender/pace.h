/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_PACE_H
#define RJI_PAGESENDER_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/stop.h"

/*
 * Keeps all lanes together under a rate. Each reserves time on the link for what it is about to
 * post and sleeps until its turn comes, so that the rate is smooth at the scale of a batch.
 * Lock-free; the rate may change at any time.
 */
struct rji_pace {
	_Atomic uint64_t rate_bytes_per_s; /* 0: no limit */
	_Atomic uint64_t free_at_ns;	   /* when the link will have carried all that was
					    * reserved */
};

void rji_pace_init(struct rji_pace *p, uint64_t rate_bytes_per_s);
void rji_pace_set(struct rji_pace *p, uint64_t rate_bytes_per_s);

/* Wait for the turn of so many bytes. 0 or -ECANCELED. */
int rji_pace_wait(struct rji_pace *p, uint64_t bytes, const struct rji_stop *stop);

#endif

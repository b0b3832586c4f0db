/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_ETA_H
#define RJI_MIGRATION_ETA_H

#include <stdint.h>

/*
 * When will the guest be stopped? While a round of so many bytes is sent, the guest dirties the next
 * one, smaller by as much as it is slower than the link; until one fits into the downtime.
 */
struct rji_eta {
	uint64_t remaining_bytes; /* of the round under way */
	uint64_t round_bytes;	  /* all of it */
	uint64_t rate_bytes_per_s, dirty_rate_bytes_per_s;
	uint64_t fits_bytes; /* what may be left when the guest is stopped */
};

/* 0: never at these rates, or not known. */
uint64_t rji_eta_ns(const struct rji_eta *e);

#endif

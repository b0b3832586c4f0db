/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_MEMORY_H
#define BENCH_GUEST_GUEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "bench/guest/guest.h"

/* Guest RAM in one piece, aligned to 2 MiB, reading as zeros. */
struct guest_memory {
	uint8_t *host;
	uint64_t len_bytes;
	int fd; /* the memfd, or -1: private */
};

/* Real memory of the kind asked for; a memfd lets holes be told and others map it. -ENOMEM with why
 * if this machine has not that much and the guest is to fill it. */
int guest_memory_alloc(struct guest_memory *m, const struct guest_opts *o, char *why,
		       size_t why_bytes);
/* Have all of it present, as a destination's memory is that was used before. */
int guest_memory_populate(struct guest_memory *m, char *why, size_t why_bytes);
/* Addresses, for a guest that touches none of it. */
int guest_memory_reserve(struct guest_memory *m, uint64_t len_bytes, char *why, size_t why_bytes);
void guest_memory_free(struct guest_memory *m);

#endif

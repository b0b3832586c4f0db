/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_HASH_H
#define RJI_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * XXH3, 64 bits, seed 0: a checksum against damage, not against somebody who wants to deceive. Its
 * values are in files (docs/snapshot-format.md) and do not change.
 */
uint64_t rji_hash64(const void *p, size_t len_bytes);

/*
 * XXH3, 128 bits, with a secret drawn anew for each session: to tell whether a page is as it was when it was sent. Two
 * contents of a page have the same value once in 2^128, but for somebody who knows the secret, or makes out enough
 * of it: XXH3 is not cryptographic, and does not claim to keep it. The only one who chooses pages is the guest, and
 * a guest that finds two can harm nobody but itself: one page of its own is the older of the two after the migration. Values
 * never leave the process.
 */
struct rji_hash128_secret {
	uint8_t bytes[192];
};

struct rji_hash128 {
	uint64_t lo, hi;
};

/* Draw a secret: 0 or -errno of getrandom(). */
int rji_hash128_secret_init(struct rji_hash128_secret *secret);

/* Of bytes that nobody writes to meanwhile: those which are sent, not the guest's. */
struct rji_hash128 rji_hash128(const struct rji_hash128_secret *secret, const void *p,
			       size_t len_bytes);

static inline bool rji_hash128_equal(struct rji_hash128 a, struct rji_hash128 b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

#endif

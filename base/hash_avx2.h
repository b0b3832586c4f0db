/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_HASH_AVX2_H
#define RJI_BASE_HASH_AVX2_H

#include <stdbool.h>

#include "base/hash.h"

/* For hash.c: its functions for a CPU with AVX2, with the same values. Built only if the compiler makes such code. */
extern const bool rji_hash_avx2_built;

uint64_t rji_hash64_avx2(const void *p, size_t len_bytes);
struct rji_hash128 rji_hash128_avx2(const struct rji_hash128_secret *secret, const void *p,
				    size_t len_bytes);

#endif

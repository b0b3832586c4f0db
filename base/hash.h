/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_HASH_H
#define RJI_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/*
 * XXH3, 64 bits, seed 0: a checksum against damage, not against somebody who wants to deceive. Its
 * values are in files (docs/snapshot-format.md) and do not change.
 */
uint64_t rji_hash64(const void *p, size_t len_bytes);

#endif

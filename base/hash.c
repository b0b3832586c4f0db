/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/hash.h"

#include <xxhash.h>

uint64_t rji_hash64(const void *p, size_t len_bytes)
{
	return XXH3_64bits(p, len_bytes);
}

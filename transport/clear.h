/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_CLEAR_H
#define RJI_TRANSPORT_CLEAR_H

#include <string.h>

#include "base/zero.h"

#define RJI_CLEAR_AT_ONCE 4096u

/*
 * Make guest memory zero, a multiple of 4096 bytes. What is zero already is not written, so that memory
 * which was never touched, or is shared with the kernel's page of zeros, stays so.
 */
static inline void rji_clear_memory(void *p, uint64_t len_bytes)
{
	for (char *at = p, *end = at + len_bytes; at < end; at += RJI_CLEAR_AT_ONCE) {
		if (!rji_is_zero(at, RJI_CLEAR_AT_ONCE))
			memset(at, 0, RJI_CLEAR_AT_ONCE);
	}
}

#endif

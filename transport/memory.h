/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_MEMORY_H
#define RJI_TRANSPORT_MEMORY_H

#include <ramjet/session.h>

#include "transport/transport.h"

/* The regions a transport was told of, by number; length 0 where there is none. */
struct rji_memory_table {
	uint32_t n; /* highest number + 1 */
	struct rji_memory region[RJ_MAX_REGIONS];
};

static inline int rji_memory_add(struct rji_memory_table *t, const struct rji_memory *m)
{
	if (m->region >= RJ_MAX_REGIONS)
		return -ENOSPC;
	t->region[m->region] = *m;
	if (t->n <= m->region)
		t->n = m->region + 1;
	return 0;
}

static inline char *rji_memory_at(const struct rji_memory_table *t, const struct rji_extent *e)
{
	return (char *)t->region[e->region].host + e->offset_bytes;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_COMMON_ROUTE_H
#define BENCH_COMMON_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ramjet/ramjet.h>

/* Which URI and transport, and why. */

#define ROUTE_URI 256

struct bench_route {
	char uri[ROUTE_URI]; /* one command: what the child listens at, port 0 */
	char transport[16];
	char why[RJ_PLAN_TEXT_BYTES];
	uint32_t n_lanes; /* if nobody asks for another number */
	bool software;
};

/* Both ends here: pick an address for the transport asked for. 0 or negative with why. */
int route_local(struct rj_env *env, const char *transport, struct bench_route *r, char *why,
		size_t why_bytes);
/* --listen or --to: as the URI says, auto:// decided. */
int route_uri(struct rj_env *env, const char *uri, const char *transport, struct bench_route *r,
	      char *why, size_t why_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_MIGRATE_REGISTERING_H
#define BENCH_MIGRATE_REGISTERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ramjet/stats.h>

/*
 * When is it news that memory is being registered? When set-up or a round waits for it, and it has gone on for a second. Then there
 * is a line at once, the next a second later, and then at twice the distance each, up to eight seconds.
 */

/* One side's memory. */
struct registering_side {
	uint64_t bytes;
	uint64_t since_ns; /* it has become more from here */
	uint64_t more_ns;  /* to here, without a long pause */
	uint64_t next_ns;  /* no line before */
	uint64_t pace_ns;
	bool comes_and_goes; /* windows are given back: how much there is at a time is not how far it is */
};

struct registering {
	struct registering_side here, there;
	uint64_t wait_ns;
};

/* Look at the figures, every quarter of a second or so. True: there is a line. */
bool registering_line(struct registering *r, const struct rj_stats *st, bool is_source,
		      uint64_t now_ns, char *line, size_t line_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_TRACK_TRACK_H
#define BENCH_TRACK_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "bench/guest/guest.h"
#include "pagesender/harvest.h"

/*
 * ramjet-track: what finding out what a guest dirtied costs, without sending anything. One file a
 * part.
 *
 *   ramjet-track.c  options, exit status, what is printed
 *   track_bed.c     a KVM guest, its tracker, a harvest and one lane that takes every page
 *   track_walk.c    how long one collect and one re-arm take, for guests of any size
 *   track_cost.c    what being tracked costs the guest, by how much it dirties
 *
 * It links the library's insides: what it measures is what a migration's threads do.
 */

#define TRACK_MAX_LIST 16
#define TRACK_TEXT 512

enum track_tracker { TRACK_NONE, TRACK_LOG, TRACK_RING, TRACK_TRACKERS };

extern const char *const track_names[TRACK_TRACKERS];

struct track_opts {
	const char *measure, *tracker_text, *dirty_text, *rates_text;
	uint64_t size_bytes, touched_bytes;
	uint32_t duration_ms, interval_ms, repeat;
	bool json;
	/* understood */
	bool with[TRACK_TRACKERS];
	uint32_t n_dirty, n_rates;
	uint32_t dirty_percent[TRACK_MAX_LIST], rates[TRACK_MAX_LIST]; /* pages a second */
};

/* A result: printed as a JSON line or a row of a table; takes the object. */
void track_print(const struct track_opts *o, json_t *result);

struct track_bed {
	struct guest *guest;
	const struct rj_tracker_ops *ops; /* NULL: not tracked */
	void *t;
	struct rji_pageset set;
	struct rji_holds holds;
	struct rji_harvest harvest;
	bool harvesting; /* there is a harvest */
	uint64_t start_ns, stop_ns;
};

/* A guest that does not run yet, its tracker started, all pages pending. 0 or -errno with why. */
int track_bed_open(struct track_bed *b, const struct guest_opts *go, enum track_tracker tracker,
		   char *why, size_t why_bytes);
void track_bed_stop(struct track_bed *b);
void track_bed_close(struct track_bed *b);

int track_bed_collect(struct track_bed *b, struct rji_dirt *dirt_p, char *why, size_t why_bytes);
/* Re-arm and take all that is pending. The number of pages, or negative with why. */
int64_t track_bed_round(struct track_bed *b, char *why, size_t why_bytes);

/* 0 or -errno with why. */
int track_walk(const struct track_opts *o, enum track_tracker tracker, bool sweep, uint32_t percent,
	       char *why, size_t why_bytes);
int track_cost(const struct track_opts *o, enum track_tracker tracker, uint32_t rate, char *why,
	       size_t why_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the lanes run, before and after, and what they sent of which node's memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/migrate/migrate.h"

static bool is_same_place(const struct rj_lane_plan *a, const struct rj_lane_plan *b)
{
	return a->node == b->node && !strcmp(a->cpus, b->cpus) && !strcmp(a->port, b->port) &&
	       !strcmp(a->why, b->why);
}

/* Lanes first to last, which are placed alike. */
static void say_lanes(uint32_t first, uint32_t last, const struct rj_lane_plan *lp)
{
	char number[32], node[32] = "";

	if (first == last)
		snprintf(number, sizeof(number), "lane %u", first);
	else
		snprintf(number, sizeof(number), "lanes %u-%u", first, last);
	if (lp->node >= 0)
		snprintf(node, sizeof(node), ", node %d", lp->node);
	progress_say("  %-10s CPUs %s%s%s%s: %s", number, lp->cpus, node,
		     lp->port[0] ? ", port " : "", lp->port, lp->why);
}

void lanes_say_plan(struct rj_session *s)
{
	struct rj_lane_plan lp = { .size = sizeof(lp) }, alike;
	uint32_t n = 0, first = 0;

	while (rj_get_lane_plan(s, n, &lp) == 0) {
		if (n && !is_same_place(&lp, &alike)) {
			say_lanes(first, n - 1, &alike);
			first = n;
		}
		alike = lp;
		n++;
	}
	if (n)
		say_lanes(first, n - 1, &alike);
}

/* Room for one more, by doubling. */
static struct rj_lane_bytes *grow(struct lane_report *r)
{
	if (r->n_bytes == r->max_bytes) {
		uint32_t max = r->max_bytes ? 2 * r->max_bytes : 64;
		struct rj_lane_bytes *bytes = realloc(r->bytes, max * sizeof(*bytes));

		if (!bytes)
			return NULL;
		r->bytes = bytes;
		r->max_bytes = max;
	}
	return &r->bytes[r->n_bytes];
}

static void take_bytes(struct rj_session *s, uint32_t lane, struct lane_report *r)
{
	struct rj_lane_bytes *lb = grow(r);

	for (uint32_t i = 0; lb; i++) {
		lb->size = sizeof(*lb);
		if (rj_get_lane_bytes(s, lane, i, lb) <= 0)
			return;
		if (!lb->sent_bytes && !lb->planned_bytes)
			continue; /* nothing to tell of this node */
		r->n_bytes++;
		lb = grow(r);
	}
}

void lanes_take(struct rj_session *s, struct lane_report *r)
{
	for (r->n_lanes = 0; r->n_lanes < RJ_MAX_LANES; r->n_lanes++) {
		struct rj_lane_plan *lp = &r->plan[r->n_lanes];

		lp->size = sizeof(*lp);
		if (rj_get_lane_plan(s, r->n_lanes, lp) < 0)
			return;
		take_bytes(s, r->n_lanes, r);
	}
}

void lanes_free(struct lane_report *r)
{
	free(r->bytes);
	r->bytes = NULL;
}

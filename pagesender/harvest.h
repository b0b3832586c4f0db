/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_HARVEST_H
#define RJI_PAGESENDER_HARVEST_H

#include <stdatomic.h>

#include "base/fail.h"
#include "numa/residency.h"
#include "pagesender/free_hint.h"
#include "pagesender/hold.h"
#include "pagesender/pageset.h"

/*
 * From dirty bits to spans that a lane may read.
 *
 * Between rounds the control thread collects: trackers OR what is dirty into the pending set,
 * nothing is forgotten. In a round the lanes take windows; the first thing done to a window is to
 * re-arm exactly its pending bits in every tracker, and only then may its pages be read, for any
 * purpose:
 *
 *        guest writes:   a              b                 c
 *   ────────────────────┼──────────────┼─────────────────┼──────►
 *                  collect          re-arm            read page
 *
 *   a was collected, or is found by the next collect if its bit was not set yet. b hits a page that
 *   is pending: its bit is cleared, but the read comes later and sees b. c comes after the re-arm:
 *   its bit is set and found by the next collect. Were the page read before the re-arm, b could
 *   fall between both and be lost; were a bit cleared that is not pending, so could a.
 *
 * A window is then shared span by span: the lane that opened it works through it, and lanes which
 * find no window left help. A span has one lane per round, so a page is never in flight twice.
 *
 * On a machine of several nodes lanes and spans belong to groups, by the node they are near to. Each
 * group has a queue of the windows in which it has spans; one more has those with spans of no known
 * node, which are everybody's. A lane takes its own group's spans, then the other groups' windows,
 * then helps. With one group all this is a single queue of all windows.
 */

#define RJI_ANY_GROUP RJI_MAX_NODES /* the queue of spans that are everybody's */
#define RJI_MAX_WINDOW_SPANS 32u

struct rji_window {
	uint32_t region;
	uint32_t n_spans;
	uint64_t first_page;
	uint64_t n_pages;
	_Atomic uint32_t left; /* bit a span: to be taken; meaningful once opened */
	atomic_bool claimed;   /* a lane is re-arming it, or has */
	atomic_bool opened;    /* re-armed: its spans may be taken */
};

struct rji_window_queue {
	atomic_uint next;
	uint32_t n;
	uint32_t *number; /* of windows; NULL: all in order, where there is one group */
};

/* What a lane may read and send now. */
struct rji_span {
	uint32_t region;
	uint64_t first_page; /* a multiple of 64 */
	uint64_t n_pages;
	uint8_t node;	/* its place in the topology, or RJI_NODE_UNKNOWN */
	uint64_t *bits; /* the pages to send, bit 0 is first_page; the lane's until its next
			 * span */
};

struct rji_harvest {
	struct rji_pageset *set;
	struct rji_holds *holds;
	struct rji_free_hints *hints; /* NULL: none come */
	struct rji_window *windows;   /* of this round, those with something pending */
	uint32_t n_windows;
	uint32_t max_windows;
	uint32_t n_groups;
	uint8_t group_of[RJI_NODE_UNKNOWN + 1]; /* by node */
	struct rji_window_queue queue[RJI_ANY_GROUP + 1];
	atomic_uint n_unopened; /* windows whose re-arming is not over */
	atomic_bool abort;	/* a lane failed: the others stop at the next span */
	atomic_bool helped;	/* a lane had no work of its own group left */
	_Atomic uint64_t collect_max_ns;
	_Atomic uint64_t rearm_max_ns;
};

/* What a collect found. */
struct rji_dirt {
	uint64_t new_pages; /* that were not pending before */
	uint64_t new_bytes;
	uint64_t pending_pages; /* all that is pending now */
	uint64_t pending_bytes;
};

int rji_harvest_init(struct rji_harvest *h, struct rji_pageset *set, struct rji_holds *holds);
void rji_harvest_fini(struct rji_harvest *h);

/*
 * Control thread, before the first round: spans on a node belong to a group of lanes, 0 to n_groups
 * - 1. Without this call, and without nodes in the page set, there is one group. -ENOMEM.
 */
int rji_harvest_set_groups(struct rji_harvest *h, uint32_t n_groups,
			   const uint8_t group_of_node[RJI_MAX_NODES]);

/* Control thread, between rounds: ask all trackers; forgets nothing. RJ_E_TRACKER. */
int rji_harvest_collect(struct rji_harvest *h, struct rji_dirt *dirt_p, struct rj_error *err);

/*
 * Control thread, between rounds: line up what is pending for the lanes. Returns the number of
 * windows.
 */
uint32_t rji_harvest_begin_round(struct rji_harvest *h);

/*
 * Control thread, after every lane's fence was answered: what this round sent is clean. After a
 * failure use rji_pageset_unfenced_to_pending() instead.
 */
void rji_harvest_fenced(struct rji_harvest *h);

#define RJI_SPAN_MAX_WORDS 8 /* RJI_SPAN_BYTES of 4 KiB pages; larger pages have fewer */

/* Where a lane stands in a round. */
struct rji_harvest_cursor {
	uint32_t group;
	struct rji_window *mine; /* the window it works through, NULL: none */
	uint32_t wanted;	 /* its spans that are this lane's to take */
	bool helping;
	uint32_t helped; /* windows before this one have nothing left */
	uint64_t bits[RJI_SPAN_MAX_WORDS];
};

/* group: whose spans come first. */
void rji_harvest_cursor_init(struct rji_harvest_cursor *c, uint32_t group);

/*
 * Lane: the next span of this round. 1; 0: the round has no more; RJ_E_TRACKER; -ECANCELED:
 * aborted.
 */
int rji_harvest_next(struct rji_harvest *h, struct rji_harvest_cursor *c, struct rji_span *span_p,
		     struct rj_error *err);

#endif

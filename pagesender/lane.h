/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_LANE_H
#define RJI_PAGESENDER_LANE_H

#include "pagesender/extent.h"
#include "pagesender/filter/filter.h"
#include "pagesender/pace.h"

#define RJI_BATCH_EXTENTS 256
#define RJI_BATCH_BYTES (1u << 20)
/*
 * Zeros that may be on their way: as a message they are nothing, but the destination has to make them, which may be a
 * second for a GiB, and it answers a fence after that.
 */
#define RJI_CLEARS_BYTES (256u << 20)

/* What one lane did in one round. */
struct rji_lane_round {
	uint64_t pages;	       /* dealt with */
	uint64_t guest_bytes;  /* of these */
	uint64_t bytes;	       /* sent for them */
	uint64_t sent_at_ns;   /* its last post returned; CLOCK_MONOTONIC */
	uint64_t fenced_at_ns; /* its fence was answered */
};

/* What all lanes of a session have done since it began; any thread may read. */
struct rji_lane_totals {
	_Atomic uint64_t sent_bytes;  /* payload and headers */
	_Atomic uint64_t pages;	      /* dealt with */
	_Atomic uint64_t guest_bytes; /* of these */
	_Atomic uint64_t cpu_ns;
	/* as in struct rji_lane_stats, told at the end of each job */
	_Atomic uint64_t requests, posts, polls, signalled;
};

/* Bytes that a lane has sent of one node's memory; written by the lane, read by anybody. */
struct rji_node_bytes {
	_Atomic uint64_t all;
	_Atomic uint64_t busy; /* while no lane was out of work of its own nodes' */
};

/*
 * The source's half of a lane: takes spans, lets its filter sort their pages, joins what is left into
 * extents, posts them in batches, fences. One thread.
 */
struct rji_lane_sender {
	uint32_t number;
	uint32_t group; /* whose spans it takes first */
	const struct rji_transport_ops *ops;
	struct rji_lane *link; /* the transport's; NULL until connected */
	struct rji_harvest *harvest;
	struct rji_holds *holds;
	struct rji_pace *pace;
	const struct rji_stop *stop;
	uint32_t extent_max_bytes;
	struct rj_error err; /* why it failed */
	uint32_t n_extents;  /* the batch being gathered */
	uint64_t batch_bytes;
	struct rji_extent extents[RJI_BATCH_EXTENTS];
	uint32_t n_clears; /* the same, of pages to make zero there */
	struct rji_coded clears[RJI_BATCH_EXTENTS];
	uint64_t clear_bytes; /* of all pages to be cleared since the last fence */
	bool filters;	      /* filter is in use */
	struct rji_lane_filter filter;
	enum rji_shrink_how packing; /* of what is in the filter's stage */
	struct rji_harvest_cursor cursor;
	struct rji_lane_round round;
	struct rji_node_bytes *node_bytes; /* by node, n_nodes is of those not known; or NULL */
	uint32_t n_nodes;
	struct rji_lane_totals *totals; /* of all lanes together */
	uint64_t pages, guest_bytes;	/* since it began */
	uint64_t told_bytes;		/* what of its link's sent_bytes is in totals */
	uint64_t told_pages, told_guest_bytes;
	uint64_t told_cpu_ns;
	_Atomic uint64_t calling_since_ns; /* inside a call of the transport; 0: not */
	struct rji_lane_stats told;
};

/*
 * Add what this lane has sent since the last call to the totals, batch by batch. What it did besides, as its CPU time,
 * which costs a system call, waits for the round's end:
 */
void rji_lane_tell_sent(struct rji_lane_sender *lane);
/* Add what this lane did since the last call to the totals. */
void rji_lane_tell_totals(struct rji_lane_sender *lane);

/*
 * Send this round's spans until there are none, then fence. 0 or negative with lane->err. When
 * another lane has failed it stops early, and fences what it has sent: 0 as well, for this lane is
 * sound.
 */
int rji_lane_send_round(struct rji_lane_sender *lane);

#endif

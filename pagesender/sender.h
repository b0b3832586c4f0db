/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_SENDER_H
#define RJI_PAGESENDER_SENDER_H

#include <pthread.h>

#include "base/host.h"
#include "numa/placement.h"
#include "pagesender/lane.h"

/*
 * All lanes of a source and their threads. The control thread gives them one job at a time; they do
 * it in parallel, and done_fd becomes readable when the last one has finished (or when an idle lane
 * finds its peer gone). Idle lanes fence every second: a dead path is noticed while nothing is
 * sent.
 *
 * A lane that fails does nothing any more; the others end their round early, with a fence. What the
 * round had sent is then of unknown fate until the destination says that its end of the failed
 * lanes is gone. drop closes these here, connect makes new ones.
 */
enum rji_sender_job { RJI_JOB_NONE, RJI_JOB_CONNECT, RJI_JOB_ROUND, RJI_JOB_DROP, RJI_JOB_QUIT };

struct rji_sender_opts {
	const struct rji_host *host;
	const struct rji_transport_ops *ops;
	struct rji_transport *tp;
	struct rji_stop *stop;
	struct rji_harvest *harvest;
	struct rji_holds *holds;
	struct rji_pace *pace;
	struct rji_filters *filters; /* NULL: none */
	struct rji_lane_totals *totals;
	uint32_t n_lanes;
	const struct rji_placement *placement; /* NULL: lanes run anywhere */
	struct rji_node_bytes *node_bytes;     /* n_nodes + 1 for each lane; NULL: not counted */
	uint32_t n_nodes;
	int done_fd; /* an eventfd, the caller's */
};

/* A round that is over. */
struct rji_sent {
	uint64_t pages;	      /* dealt with */
	uint64_t guest_bytes; /* of these */
	uint64_t bytes;	      /* sent for them */
	uint64_t send_ns;     /* begin until the last lane had posted all */
	uint64_t fence_ns;    /* from there until the last fence was answered */
};

struct rji_sender;

/* Start the threads; nothing is connected yet. */
int rji_sender_create(const struct rji_sender_opts *o, struct rji_sender **s_p,
		      struct rj_error *err);
/*
 * End the threads, whatever they do (stop is set if they are not idle), and close the lanes. NULL
 * is fine.
 */
void rji_sender_destroy(struct rji_sender **s_p);

/*
 * Begin a job; the one before is over. addrs and adm are copied. connect is for the lanes that are
 * not connected; drop for these (by bit) of those that failed, and forgets why.
 */
void rji_sender_connect(struct rji_sender *s, const struct rji_addrs *addrs,
			const struct rji_admission *adm, uint64_t deadline_ns);
void rji_sender_round(struct rji_sender *s);
void rji_sender_drop(struct rji_sender *s, uint64_t lanes);

/* The lanes that failed, by bit; with no job under way more may come. */
uint64_t rji_sender_broken(const struct rji_sender *s);
/*
 * Cut the lanes that have been in one call of the transport for so long without sending a byte:
 * they fail. From the control thread, now and then. Returns how many; none where lanes cannot be
 * cut.
 */
uint32_t rji_sender_cut_stalled(struct rji_sender *s, uint64_t stalled_ns);

/* Between jobs: make extents no longer than this; at first RJI_EXTENT_MAX_BYTES. */
void rji_sender_set_extent_max(struct rji_sender *s, uint32_t max_bytes);

/* Is a job under way? */
bool rji_sender_busy(const struct rji_sender *s);
/* A lane failed; true also while the others still work. */
bool rji_sender_failed(const struct rji_sender *s);

/* After the job: 0, or the first failure with its error. sent_p may be NULL. */
int rji_sender_result(struct rji_sender *s, struct rji_sent *sent_p, struct rj_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_EVENT_H
#define RAMJET_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/error.h>
#include <ramjet/region.h>
#include <ramjet/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rj_state {
	RJ_STATE_NEW = 0,    /* rj_start() was not called yet */
	RJ_STATE_CONNECTING, /* source: reaching the peer; destination: waiting for it */
	RJ_STATE_SETUP,	     /* hello, set-up blob, regions, registration, lanes */
	RJ_STATE_BULK,	     /* round 1 */
	RJ_STATE_DIRTY,	     /* rounds 2, 3, … */
	RJ_STATE_STOPPING,   /* source: the guest is being or is paused; destination: last pages
			      * and device state come in */
	RJ_STATE_PREPARED,   /* the destination holds everything; neither side runs the guest */
	RJ_STATE_COMMITTED,  /* COMMIT was sent or received: the source does not resume on its own
			      * any more */
	RJ_STATE_COMPLETED,  /* the guest runs at the destination (or arrived paused there) */
	RJ_STATE_FAILED,     /* the guest is the source's, as before */
	RJ_STATE_CANCELLED,  /* the same, by rj_cancel() */
	RJ_STATE_UNKNOWN,    /* COMMIT was sent and no answer came: see rj_resolve() */
};

/* The word for a state, "bulk"; never NULL. */
RJ_API const char *rj_state_name(enum rj_state state);

/* Which side may run the guest when a session is over. */
enum rj_outcome {
	RJ_RUNS_AT_SOURCE = 0,
	RJ_RUNS_AT_DESTINATION = 1,
	RJ_RUNS_UNKNOWN = 2, /* do not run it on either side before somebody has looked; then
			      * rj_resolve() */
};

/*
 * Events tell (RJ_EV_…) or ask (RJ_RQ_…). Each request is answered once by rj_answer(), from any
 * thread and whenever it is done; the session goes on keeping its connection alive meanwhile. A
 * request that is not answered by its deadline fails the session with RJ_E_TIMEOUT (after COMMIT
 * there is no such deadline for resume).
 */
enum rj_event_type {
	RJ_EV_NONE = 0,
	RJ_EV_STATE, /* the state changed */
	RJ_EV_ROUND, /* a round is over */
	RJ_EV_WARN,  /* something the operator should know */
	RJ_EV_DONE,  /* the end: what happened and which side may run the guest. The last event of
		      * a session, but for the state that rj_resolve() sets */
	RJ_EV_READY, /* source: the guest could be stopped now, and is not for
		      * RJ_PARAM_HOLD_SWITCHOVER; once, until that was 0 and found so */

	RJ_RQ_SETUP = 32, /* destination: is this machine acceptable? u.setup. May call
			   * rj_set_setup_reply() first */
	RJ_RQ_REGION,	  /* destination: call rj_add_region() with memory for u.region, then
			   * answer */
	RJ_RQ_PAUSE,	  /* source: stop the vCPUs and everything else that writes guest RAM.
			   * Answer RJ_WAS_RUNNING or RJ_WAS_PAUSED. Destination, with
			   * RJ_FILE_LAZY after RJ_RQ_RESUME: the same, for good: a page is bad */
	RJ_RQ_SAVE,	  /* source: write device state by rj_state_write(). What it dirties in
			   * guest RAM must be marked */
	RJ_RQ_LOAD,	  /* destination: all memory is in; read device state by rj_state_read() and
			   * load it. Do not run */
	RJ_RQ_RELEASE,	  /* source: let go of what only one host may hold (disk locks) */
	RJ_RQ_RECLAIM,	  /* source: take that back, also if release was never answered; resume
			   * follows */
	RJ_RQ_ACQUIRE,	  /* destination: take what the source released */
	RJ_RQ_RESUME,	  /* either: run the guest if u.resume.run, else leave it paused; it is this
			   * side's now */
	RJ_RQ_RESET,	  /* destination: the guest went on at the source after RJ_RQ_LOAD was
			   * answered: forget what was loaded; it comes anew later. What loading
			   * changed in guest RAM must be told by rj_mark_dirty() before the
			   * answer, and is sent again. Negative: that cannot be told; the session
			   * then ends, with the guest at the source */
	RJ_RQ_DROP,	  /* destination: the guest will never run here; forget what was loaded and
			   * let go of what was acquired. Not sent before a region was given, nor
			   * in rj_close() */
	RJ_RQ_THROTTLE,	  /* source, with throttle_max_percent: take u.throttle.percent of its time
			   * away from the guest, from now on; 0: none any more, the last one of a
			   * session that asked for any; not sent in rj_close(). Negative: not
			   * possible; it goes on as it is */
};

/* Answers to RJ_RQ_PAUSE; the guest arrives at the destination in the same run state. */
enum { RJ_WAS_PAUSED = 0, RJ_WAS_RUNNING = 1 };

/* The word for an event type, "pause"; never NULL. */
RJ_API const char *rj_event_name(enum rj_event_type type);

struct rj_event {
	size_t size;
	enum rj_event_type type;
	uint64_t request;     /* to answer with; 0 for events that only tell */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	union {
		struct {
			enum rj_state state;
		} state;
		struct rj_round round;
		struct {
			char text[256];
		} warn;
		struct {
			int status; /* 0, RJ_E_CANCELLED, or why it failed */
			enum rj_outcome runs;
		} done;
		struct {
			const void *blob; /* the source VMM's; valid until rj_close() */
			size_t len_bytes;
		} setup;
		struct {
			char name[RJ_NAME_BYTES];
			uint64_t len_bytes;
			uint64_t gpa;
			uint32_t page_bytes;
			uint32_t flags;
		} region;
		struct {
			uint64_t len_bytes;
		} load; /* of the device state */
		struct {
			int run;
		} resume;
		struct {
			uint32_t percent;
		} throttle;
		uint64_t reserved[48];
	} u;
};

#ifdef __cplusplus
}
#endif
#endif

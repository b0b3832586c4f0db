/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_SESSION_IMPL_H
#define RJI_MIGRATION_SESSION_IMPL_H

#include <ramjet/session.h>

#include "base/stop.h"
#include "migration/control.h"
#include "migration/downtime.h"
#include "migration/env_impl.h"
#include "migration/placing.h"
#include "migration/state_stream.h"
#include "migration/vmm.h"
#include "pagesender/harvest.h"
#include "pagesender/receiver.h"
#include "pagesender/sender.h"
#include "transport/uri.h"

/*
 * One side of one migration.
 *
 * Threads. The control thread ("rj-control") runs the whole of it, straight down: source.c or
 * destination.c. Whenever it waits, for the peer, the VMM or the lanes, it waits in
 * rji_session_wait(), which keeps the control connection alive. Lane threads work on the page set
 * between begin and end of a round. The VMM's threads come in by the public functions and touch
 * only: vmm, state, stop flags, the marked bitmaps, holds, atomics, and err under its lock.
 *
 * Two ways to stop. cancel asks: the next wait before COMMIT ends with RJ_E_CANCELLED. stop ends
 * the data path at once: lanes return from whatever they wait for.
 */
#define RJI_MAX_TRACKERS 16
#define RJI_MAX_LOADED 1024

/* Destination: told by the VMM; under reply_lock. */
struct rji_loaded {
	bool open; /* may be told now */
	uint32_t n;
	struct rji_msg_range range[RJI_MAX_LOADED];
};

/* A region the VMM gave, before the page set or the peer know of it. */
struct rji_given_region {
	struct rj_region r; /* name points to name below */
	char name[RJ_NAME_BYTES];
	uint32_t
		told; /* the number the VMM was given; a destination's may have another place now */
};

/* Figures that other threads read; written by the control thread. */
struct rji_figures {
	_Atomic uint64_t started_ns, bulk_began_ns, ended_ns; /* CLOCK_MONOTONIC */
	_Atomic uint32_t rounds, rollbacks;
	_Atomic uint32_t throttle_percent, throttle_peak_percent;
	_Atomic uint64_t throttle_since_ns, throttled_ns, throttle_cost_ns;
	_Atomic uint64_t lanes_replaced;
	/* sums over the bulk and dirty rounds */
	_Atomic uint64_t round_bytes, round_ns;
	_Atomic uint64_t dirty_rate_bytes_per_s;
	_Atomic uint64_t pending_bytes;
	_Atomic uint64_t downtime_ns, predicted_ns;
	_Atomic uint64_t downtime[RJI_N_TERMS], predicted[RJI_N_TERMS], predicted_p99[RJI_N_TERMS];
	_Atomic uint64_t predicted_p99_ns;
	_Atomic uint64_t tracker_start_ns, tracker_stop_ns;
	_Atomic uint64_t registered_bytes, register_ns;
	_Atomic uint64_t state_bytes;
	_Atomic uint64_t resumed_at_ns;
	_Atomic uint64_t file_metadata_bytes;
	_Atomic uint64_t faults, fault_max_ns;
	_Atomic uint32_t direct_io;
	_Atomic uint32_t registered_buffers;
	_Atomic uint64_t cpu_ns; /* of the control thread; totals has the others' */
	_Atomic uint32_t n_lanes;
	_Atomic uint64_t guest_bytes;
	_Atomic uint64_t
		round_bytes_before; /* of the guest, dealt with when the round under way began */
};

struct rji_snapshot; /* snapshot.c */

struct rj_session {
	struct rj_env *env;
	const struct rji_host *host; /* own_host: the environment's, on the session's CPUs */
	struct rji_host own_host;
	bool is_destination;
	struct rj_opts o; /* strings are ours */
	char *uri_text, *data_addrs, *cpu_list;
	int lane_fds[RJ_MAX_LANES];
	struct rji_uri uri;
	const struct rji_transport_ops *ops;
	void *transport_arg; /* for transports made by tests */
	struct rji_transport *tp;
	bool registered;	 /* all regions with tp */
	struct rji_pins pins;	 /* kept by tp */
	pthread_mutex_t tp_lock; /* tp, and its registrations; see discard.c */

	int wake_fd; /* eventfd: something the control thread waits for may have
		      * happened */
	struct rji_stop stop;
	atomic_bool cancel, closing;
	_Atomic uint32_t state; /* enum rj_state */
	pthread_t control_thread;
	bool started;
	pthread_mutex_t err_lock;
	struct rj_error err; /* what the session ends with; under err_lock */
	struct rji_figures fig;
	struct rji_cpus cpus;		    /* where lanes may run */
	pthread_mutex_t place_lock;	    /* for the VMM's threads: the four below */
	struct rji_placement *placement;    /* NULL: not planned yet */
	struct rji_node_bytes *node_sent;   /* by lane and node; source */
	uint64_t node_bytes[RJI_MAX_NODES]; /* of the guest, where known */
	char rail_name[RJI_MAX_RAILS][64];
	struct rji_lane_totals totals; /* of all lanes, and the CPU time of helper threads */
	_Atomic uint32_t max_downtime_ms;
	atomic_bool hold_switchover;

	struct rji_vmm vmm;
	struct rji_state_stream device_state;
	struct rji_control ctl;
	uint64_t give_up_at_ns; /* timeout_ms; 0: never */

	uint32_t n_given;
	struct rji_given_region given[RJ_MAX_REGIONS];
	uint32_t n_trackers;
	struct rj_tracker *trackers[RJI_MAX_TRACKERS];
	uint32_t n_tracking; /* started */
	char *blocker;
	void *blob; /* set-up: to send, or the message with the one to judge */
	size_t blob_bytes;
	pthread_mutex_t reply_lock;
	void *reply; /* to it */
	size_t reply_bytes;
	bool reply_known; /* source: it came */

	uint8_t session_id[RJI_SESSION_ID_BYTES];
	uint8_t secret[RJI_SECRET_BYTES];
	uint64_t features; /* RJI_FEATURE_…, agreed on */

	/* source */
	struct rji_pageset set;
	_Atomic(struct rji_pageset *) marking; /* &set while rj_mark_dirty() is to be heard */
	struct rji_holds holds;
	struct rji_free_hints hints;
	struct rji_filters filters; /* zeroed until there are lanes */
	bool copy_always;	    /* set by tests: whether or not it pays */
	struct rji_harvest harvest;
	struct rji_pace pace;
	struct rji_sender *sender;
	struct rj_page_counts kinds_told; /* with the last round */
	struct rji_downtime_model model;
	uint64_t lane_failed_ns;       /* when the control thread first saw it; 0: not */
	struct rji_addrs lane_addrs;   /* where lanes connect */
	uint64_t stop_at_ns;	       /* timeout_ms with RJ_ON_TIMEOUT_STOP_ANYWAY; 0: never */
	bool strict;		       /* the limit holds */
	uint32_t throttle_rounds;      /* in a row that did not shrink */
	uint64_t throttle_next_ns;     /* no other step before */
	bool throttle_refused;	       /* by the VMM */
	bool told_ready;	       /* RJ_EV_READY, since it is held */
	uint64_t retry_at_ns;	       /* after a rollback: no other attempt before */
	uint32_t lanes_replaced;       /* times in a row, without a round in between */
	uint32_t peer_keep_ms;	       /* how long the destination keeps the outcome */
	struct rji_snapshot *snapshot; /* file: being saved; NULL otherwise */

	/* destination */
	int listen_fd; /* -1: none */
	struct rji_receiver *receiver;
	struct rji_loaded *loaded; /* what loading changed in guest RAM */
	atomic_bool asked;	   /* the RJ_RQ_REGION request below is open */
	struct rji_msg_region asked_region;
	_Atomic uint64_t linger_until_ns; /* answer a lost source until then; 0: no need */
};

/* A file is no peer: nothing is said to it, and nothing awaited. */
static inline bool rji_session_has_peer(const struct rj_session *s)
{
	return !rji_uri_is_file(&s->uri);
}

/* --- waiting: wait.c --- */

enum rji_wait_flags {
	RJI_WAIT_PEER = 1,   /* a lost or failed peer ends the wait */
	RJI_WAIT_CANCEL = 2, /* rj_cancel(), timeout_ms and rj_close() end the wait */
	RJI_WAIT_LANES = 4,  /* a failed lane ends the wait */
	RJI_WAIT_MIGRATING = RJI_WAIT_PEER | RJI_WAIT_CANCEL | RJI_WAIT_LANES,
};

typedef bool (*rji_ready_fn)(struct rj_session *s, void *arg);

/*
 * Wait until ready(s, arg), keeping the control connection alive. 0; RJ_E_TIMEOUT at the deadline
 * (0: none); else why it ended, with err (which may be NULL).
 */
int rji_session_wait(struct rj_session *s, unsigned int flags, rji_ready_fn ready, void *arg,
		     uint64_t deadline_ns, struct rj_error *err);

/* The peer's next message, whatever it is; freed by the caller. */
int rji_session_next(struct rj_session *s, unsigned int flags, uint64_t deadline_ns,
		     struct rji_msg **msg_p, struct rj_error *err);
/* The peer's next message, which must be of type a or b; freed by the caller. */
int rji_session_expect(struct rj_session *s, unsigned int flags, uint16_t a, uint16_t b,
		       uint64_t deadline_ns, struct rji_msg **msg_p, struct rj_error *err);

/* Send to the peer; a failure is told by err. */
int rji_session_send(struct rj_session *s, uint16_t type, const void *payload, size_t len_bytes,
		     struct rj_error *err);

/*
 * Ask the VMM and wait for the answer: its status if >= 0; RJ_E_VMM, RJ_E_TIMEOUT, or why the wait
 * ended.
 */
int rji_session_ask(struct rj_session *s, unsigned int flags, struct rj_event *ev,
		    struct rj_error *err);
/* In two halves, for what goes on meanwhile. */
int rji_session_begin_ask(struct rj_session *s, struct rj_event *ev, uint64_t *id_p,
			  struct rj_error *err);
int rji_session_judge_answer(enum rj_event_type type, int status, struct rj_error *err);
/* It was answered, asked since then: warn, if that took longer than the VMM wants to know of. */
void rji_session_note_slowness(struct rj_session *s, enum rj_event_type type, uint64_t since_ns);

/*
 * Run fn(s, arg, err) in a thread of its own, for what blocks, and wait for it. stop is set if the
 * wait ends before.
 */
int rji_session_aside(struct rj_session *s, const char *role, unsigned int flags,
		      int (*fn)(struct rj_session *s, void *arg, struct rj_error *err), void *arg,
		      struct rj_error *err);

uint64_t rji_session_deadline(uint32_t ms);

/* For waits that only last: never ready. */
bool rji_never(struct rj_session *s, void *arg);

/* A message of the peer makes no sense. RJ_E_PROTOCOL. */
int rji_session_malformed(const struct rj_session *s, uint16_t type, struct rj_error *err);

/* --- common steps: session.c --- */

void rji_session_set_state(struct rj_session *s, enum rj_state state);
void rji_session_tell_warning(struct rj_session *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The end: keep err, tell DONE. */
void rji_session_end(struct rj_session *s, enum rj_state state, enum rj_outcome runs,
		     const struct rj_error *err);
int rji_session_create_transport(struct rj_session *s, struct rj_error *err);
void rji_session_destroy_transport(struct rj_session *s);
/* The most lanes that pin_cap_bytes has room for; RJ_MAX_LANES where it does not matter. */
uint32_t rji_session_lanes_for_cap(const struct rj_session *s);
/* Register all given regions, in a thread aside. */
int rji_session_register(struct rj_session *s, struct rj_error *err);
void rji_session_publish_terms(_Atomic uint64_t *to, const struct rji_terms *t);
void rji_session_count_cpu(struct rj_session *s);
/* What this side can do of RJI_FEATURE_…. */
uint64_t rji_session_features(const struct rj_session *s);

/* --- the two roles --- */

void *rji_source_thread(void *s);
int rji_preflight(struct rj_session *s, struct rj_error *err); /* preflight.c */
void *rji_destination_thread(void *s);
int rji_destination_listen(struct rj_session *s, struct rj_error *err);
/* Wait for a source and come as far as open lanes: destination_setup.c. */
int rji_destination_set_up(struct rj_session *s, struct rj_error *err);

/* Destination: end these lanes, say so, and wait for those that replace them: destination_setup.c. */
int rji_destination_replace_lanes(struct rj_session *s, uint64_t lanes, struct rj_error *err);

/*
 * Source, replace.c: wait until no lane is at work. A lane that stands still for stalled_ms is cut, and fails. 0, also when
 * lanes have failed; RJ_E_TIMEOUT: the deadline (0: none) came first.
 */
int rji_settle_lanes(struct rj_session *s, uint32_t stalled_ms, uint64_t deadline_ns,
		     struct rj_error *err);
/* ret ended a round: can the lanes that failed be replaced? */
bool rji_may_replace_lanes(const struct rj_session *s, int ret);
/* Do so: all pages of the round are pending again. *err is forgotten on success. */
int rji_replace_lanes(struct rj_session *s, struct rj_error *err);

/* Source, after rji_harvest_begin_round(): the transport may prepare for it. */
void rji_expect_round(struct rj_session *s);

/*
 * Source: wait for the round under way; its pages are then clean. RJ_E_TIMEOUT: the deadline (0: none) came first, the
 * lanes are still at it.
 */
int rji_finish_round(struct rj_session *s, uint64_t deadline_ns, struct rji_sent *sent_p,
		     struct rj_error *err);

/*
 * Source, throttle.c: a round is over, and its pages do not fit into the downtime yet: does the guest have to be slowed down?
 * Then the VMM is asked. release: not any more, the session ends.
 */
int rji_throttle_after_round(struct rj_session *s, uint64_t sent_bytes, uint64_t dirtied_bytes,
			     struct rj_error *err);
void rji_throttle_release(struct rj_session *s);

/*
 * Source, hold_switchover.c: the guest could be stopped, if nobody holds the switchover. *go_p becomes false where somebody
 * does, or did; then this took its time, and another round is due.
 */
int rji_heed_hold(struct rj_session *s, bool *go_p, struct rj_error *err);

/* Source: could the destination take the guest now? Measures the round trip. */
int rji_ask_peer_ready(struct rj_session *s, struct rj_error *err);

/*
 * Source, switchover.c: pause, send the rest, hand over. 0: the guest runs at the destination.
 * -EAGAIN: rolled back, the guest runs here and the session may go on. Anything else: over, and
 * what may run the guest is in outcome_p.
 */
int rji_switchover(struct rj_session *s, enum rj_outcome *outcome_p, struct rj_error *err);

/* Destination, loaded.c: note what loading changed; begin and end that; ROLLBACK_OK with all of it. */
int rji_loaded_mark(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes);
int rji_loaded_open(struct rj_session *s, bool open);
int rji_loaded_tell(struct rj_session *s, struct rj_error *err);

/*
 * Source, rollback.c: what the guest waits for is done; now put everything else in order. loaded: the destination was told to
 * load. 0 or negative.
 */
int rji_roll_back_peer(struct rj_session *s, bool loaded, struct rj_error *err);

/*
 * Source, handover.c: from PREPARED on. was_running: as the guest was paused. paused_at_ns: when.
 * prepared_by_ns: later than that, and the limit would be broken; 0: never mind. Same results.
 */
struct rji_handover {
	bool was_running;
	uint64_t paused_at_ns, prepared_by_ns;
	struct rji_terms *terms;
};
int rji_handover(struct rj_session *s, const struct rji_handover *ho, enum rj_outcome *outcome_p,
		 struct rj_error *err);
/* Give the guest back to the VMM after a failure: RECLAIM if it was released, RESUME. False: it stays paused. */
bool rji_give_back(struct rj_session *s, bool released, bool was_running);

/* Destination: memory for region number of the source, as the VMM has it or gives it now. */
int rji_session_take_region(struct rj_session *s, uint32_t number, const struct rji_msg_region *m,
			    struct rj_error *err);

/* Tests put their own transport in place of what the uri names, before rj_start(). */
void rji_session_use_transport(struct rj_session *s, const struct rji_transport_ops *ops,
			       void *arg);

#endif

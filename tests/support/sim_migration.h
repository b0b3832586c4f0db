/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_MIGRATION_H
#define RJ_TESTS_SIM_MIGRATION_H

#include <pthread.h>
#include <stdatomic.h>

#include <ramjet/ramjet.h>

#include "tests/support/fault_transport.h"
#include "tests/support/sim_guest.h"
#include "tests/support/sim_proxy.h"
#include "tests/support/sim_world.h"

/*
 * A whole migration in one process: source and destination sessions, each with a thread that plays
 * its VMM, over the sim transport, control over a loopback connection through a proxy; and a judge
 * who watches both. At each resume, and at the end:
 *
 *   - the guest runs on one side only, which holds what only one may hold (the disk lock);
 *   - where it runs at the destination: on COMMIT only, its memory there equals the source's, the
 *     source has no access any more, and it arrives running or paused as it was;
 *   - where the migration failed the guest is the source's, as it was before;
 *   - both sides tell the same story.
 */

enum sim_side { SIM_SOURCE, SIM_DESTINATION };

/* What goes wrong at one side's VMM, when it sees one event. */
enum sim_act {
	SIM_NOTHING,
	SIM_CANCEL_HERE,
	SIM_CANCEL_THERE, /* rj_cancel() of this session or of the peer's */
	SIM_DIE,	  /* this host is gone: no answers, no connections */
	SIM_FAIL,	  /* the request is answered by -EIO */
	SIM_LIE,	  /* the request is not done, but answered by 0 */
	SIM_NEVER_ANSWER, /* the request is not answered */
	SIM_ANSWER_LATE, /* it is done, and answered when it is too late (or with the next event) */
	SIM_CUT_LANE,
	SIM_CUT_LANES, /* one lane breaks; all do */
};

struct sim_mischief {
	enum sim_act act;
	enum rj_event_type at; /* RJ_RQ_…, or RJ_EV_STATE with state, or RJ_EV_ROUND */
	enum rj_state state;
};

struct sim_migration;

#define SIM_MAX_SCRIBBLED 32

struct sim_plan {
	uint64_t seed;
	uint32_t n_lanes;
	uint32_t rounds;       /* at least, before the switchover */
	int64_t writes;	       /* that the guest makes meanwhile */
	uint32_t save_dirties; /* writes by the saving of device state */
	size_t state_bytes;
	bool strict;		  /* strict_downtime with this limit */
	uint32_t max_downtime_ms; /* 0: plenty */
	uint32_t peer_timeout_ms, request_timeout_ms, outcome_keep_ms,
		timeout_ms;    /* 0: long enough not to matter */
	uint32_t load_dirties; /* by the first load; up to twice SIM_MAX_SCRIBBLED */
	bool stop_anyway;      /* on_timeout */
	bool no_reset;	       /* the destination's VMM cannot undo a load */
	bool regions_before;   /* the destination gives memory before the start, in another order */
	struct sim_mischief mischief[2];
	struct sim_rule rule;
	struct sim_fault fault; /* of the transport, at fault_side */
	enum sim_side fault_side;
	uint64_t cut_after;    /* placed pieces; then a lane breaks */
	uint32_t queue_pieces; /* room on a lane; 0: by the seed */
	uint32_t guest_units;  /* nonzero: one region of so many pages, more than it writes to */
	bool lazy;	       /* the wire: see sim_world.h */
	uint32_t filters;      /* enum rj_filter */
	bool copy_always;      /* for them: whether or not it pays */
	bool zeroed; /* the destination's memory is known to be zero; else it is not zero */
	uint32_t return_percent, free_percent; /* of the guest, see sim_guest.h */
	bool balloon;
	/* More hooks for single tests; any may be NULL. */
	void *arg;
	void (*listening)(void *arg,
			  uint16_t port); /* the destination is, there is no source yet */
	void (*opened)(void *arg, struct rj_session *s, enum sim_side side);
	void (*before_event)(void *arg, struct sim_migration *m, enum sim_side side,
			     const struct rj_event *ev);
};

struct sim_report {
	int start_status; /* of opening and starting both; negative: nothing else happened */
	int status[2];
	enum rj_outcome runs[2];
	bool dead[2];
	bool fired; /* the rule, mischief or fault happened */
	uint32_t n_asked;
	struct rj_error error[2];
	struct rj_stats stats[2];
	char complaint[512]; /* what the judge found first; "" for nothing */
};

struct sim_migration {
	const struct sim_plan *plan;
	struct sim_report *report;
	struct sim_world *world;
	struct sim_proxy *proxy;
	struct rj_env *env;
	struct sim_host {
		struct sim_migration *m;
		enum sim_side side;
		struct rj_session *s;
		struct sim_guest *guest;
		pthread_t thread;
		bool done, died, mischief_done;
		uint64_t late_request, late_at_ns;
		struct sim_end end;
		struct sim_faulty faulty;
		struct sim_random random;
		uint32_t n_loads, n_scribbled;
		struct sim_scribbled {
			struct sim_region *region;
			uint64_t unit;
		} scribbled[SIM_MAX_SCRIBBLED]; /* to be told at the reset */
	} host[2];
	struct rj_tracker *tracker[2];
	pthread_mutex_t lock; /* everything below, and complaints */
	bool was_running;
	bool runs[2];	       /* the guest, there; it may be paused as it was */
	bool knows_running[2]; /* resume was asked and done there */
	bool holds_lock[2];    /* the disk's */
	bool committed;	       /* the source went to RJ_STATE_COMMITTED */
	bool mischief_fired;
	uint8_t *state; /* device state as saved */
};

/* Run one. *destination_p becomes the destination's guest if the guest runs there, else NULL. */
void sim_migrate(struct sim_guest *source, const struct sim_plan *plan, struct sim_report *r,
		 struct sim_guest **destination_p);

/* Default: two lanes, two rounds, some writes, all from the seed. */
void sim_plan_init(struct sim_plan *plan, uint64_t seed);

void sim_complain(struct sim_migration *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Outcomes at the source, as a mask. */
enum {
	SIM_STAYS = 1 << RJ_RUNS_AT_SOURCE,
	SIM_MOVES = 1 << RJ_RUNS_AT_DESTINATION,
	SIM_UNKNOWN = 1 << RJ_RUNS_UNKNOWN
};

/*
 * A guest of this seed migrates by plan; if that leaves it at the source it writes on, and migrates
 * again with nothing in its way, which must work. may_end: the outcomes that the first may have.
 * NULL or a complaint, the caller's to free.
 */
char *sim_try(const struct sim_plan *plan, unsigned int may_end, bool paused,
	      struct sim_report *first_p);

#endif

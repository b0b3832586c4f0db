/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_DOWNTIME_H
#define RJI_MIGRATION_DOWNTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <ramjet/stats.h>

/*
 * How long the guest would stand still if it were paused now: a sum of terms, each measured in this
 * migration where that is possible, else guessed until an attempt has measured it. Each term comes
 * twice: as it is expected, and as it is hardly ever exceeded (p99), from the spread of what was
 * measured. The first is told; on the second the guest is stopped.
 */
enum rji_term {
	RJI_TERM_PAUSE,
	RJI_TERM_HARVEST,
	RJI_TERM_SEND,
	RJI_TERM_FENCE,
	RJI_TERM_SAVE,
	RJI_TERM_LOAD,
	RJI_TERM_REVOKE,
	RJI_TERM_HANDOVER,
	RJI_TERM_RESUME,
	RJI_N_TERMS,
};

/* In the order of struct rj_downtime_terms. */
struct rji_terms {
	uint64_t ns[RJI_N_TERMS];
};

/* Mean and mean deviation, the newer counting more (as TCP does with its round trip: RFC 6298). */
struct rji_estimate {
	uint64_t mean, deviation, n;
};

void rji_estimate_saw(struct rji_estimate *e, uint64_t value);
uint64_t rji_estimate_p99(const struct rji_estimate *e);

struct rji_downtime_model {
	struct rji_estimate round_trip_ns; /* of a control message */
	struct rji_estimate harvest_ns;	   /* of a collect */
	struct rji_estimate rate_bytes_per_s;
	bool bulk_only;	      /* rate is the bulk round's: first touch, by both sides */
	uint64_t state_bytes; /* device state, as announced by the VMM or seen at an earlier try */
	uint64_t seen_ns[RJI_N_TERMS]; /* by attempts that were given up; 0: not */
	uint64_t surprise_ns;	       /* by how much earlier predictions were too low */
};

void rji_downtime_init(struct rji_downtime_model *m, uint64_t state_bytes);

/* A round told: so many bytes in so much time. bulk: it was the first. */
void rji_downtime_saw_round(struct rji_downtime_model *m, uint64_t bytes, uint64_t send_ns,
			    uint64_t fence_ns, bool bulk);
/* A switchover was given up: what its steps took, and all of it. */
void rji_downtime_saw_attempt(struct rji_downtime_model *m, const struct rji_terms *took,
			      uint64_t predicted_ns, uint64_t actual_ns);

struct rji_prediction {
	struct rji_terms expected, p99;
};

/* With so many bytes pending. Returns the sum that is expected. */
uint64_t rji_downtime_predict(const struct rji_downtime_model *m, uint64_t pending_bytes,
			      struct rji_prediction *p);

uint64_t rji_terms_sum(const struct rji_terms *t);
void rji_terms_publish(const struct rji_terms *t, struct rj_downtime_terms *p);

#endif

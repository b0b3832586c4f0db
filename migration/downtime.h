/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_DOWNTIME_H
#define RJI_MIGRATION_DOWNTIME_H

#include <stdatomic.h>
#include <stdint.h>

#include <ramjet/stats.h>

/*
 * How long the guest would stand still if it were paused now: a sum of terms, each measured in this
 * migration where that is possible, else a cautious guess until it was.
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

struct rji_downtime_model {
	uint64_t round_trip_ns;	   /* of a control message */
	uint64_t harvest_ns;	   /* of a collect */
	uint64_t fence_ns;	   /* of a round's fence */
	uint64_t rate_bytes_per_s; /* of the last round that carried enough to tell */
	uint64_t state_bytes;	   /* device state, as announced by the VMM or seen at an earlier
				    * try */
	uint64_t surprise_ns;	   /* by how much earlier predictions were too low */
};

void rji_downtime_init(struct rji_downtime_model *m, uint64_t state_bytes);

/* A round told: so many bytes in so much time. */
void rji_downtime_saw_round(struct rji_downtime_model *m, uint64_t bytes, uint64_t send_ns,
			    uint64_t fence_ns);
/* A switchover was given up because it took longer than predicted. */
void rji_downtime_saw_overrun(struct rji_downtime_model *m, uint64_t predicted_ns,
			      uint64_t actual_ns);

/* With so many bytes pending. Returns the sum. */
uint64_t rji_downtime_predict(const struct rji_downtime_model *m, uint64_t pending_bytes,
			      struct rji_terms *terms_p);

uint64_t rji_terms_sum(const struct rji_terms *t);
void rji_terms_publish(const struct rji_terms *t, struct rj_downtime_terms *p);

#endif

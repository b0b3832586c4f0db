/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_VMM_H
#define RJI_MIGRATION_VMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <ramjet/event.h>

#include "base/fail.h"

/*
 * The talk with the VMM: events queued for it, requests it has not answered yet. The control thread
 * tells and asks, the VMM's threads fetch and answer; a lock covers both, never held while calling
 * anything.
 */
#define RJI_MAX_REQUESTS 4

struct rji_vmm {
	pthread_mutex_t lock;
	int event_fd; /* readable while events wait */
	int wake_fd;  /* the control thread's; written when an answer comes. Borrowed */
	struct rji_queued *first, *last;
	struct rji_queued *kept_for_done; /* the end is told without memory as well */
	uint64_t last_request;
	struct rji_request {
		uint64_t id; /* 0: unused */
		enum rj_event_type type;
		uint64_t asked_ns;
		bool answered;
		int status;
	} requests[RJI_MAX_REQUESTS];
	_Atomic uint64_t slowest_ns;
	_Atomic uint32_t slowest_type;
};

int rji_vmm_init(struct rji_vmm *vmm, int wake_fd);
void rji_vmm_fini(struct rji_vmm *vmm);

/*
 * Queue an event that only tells. Lost when there is no memory for it, but DONE, for which some is
 * kept.
 */
void rji_vmm_tell(struct rji_vmm *vmm, const struct rj_event *ev);

/* Queue a request. Returns its id, 0 without memory. ev->request is set here. */
uint64_t rji_vmm_ask(struct rji_vmm *vmm, const struct rj_event *ev);
/* Is it answered? Then it is over and *status_p says what the VMM said. */
bool rji_vmm_answered(struct rji_vmm *vmm, uint64_t id, int *status_p);
/* Take back a request nobody waits for any more: an answer to it finds nothing. */
void rji_vmm_withdraw(struct rji_vmm *vmm, uint64_t id);
/* Is a request of this type waiting to be answered? */
bool rji_vmm_is_asking(struct rji_vmm *vmm, enum rj_event_type type);

/* rj_next_event() and rj_answer(). */
int rji_vmm_next(struct rji_vmm *vmm, struct rj_event *ev_p);
int rji_vmm_answer(struct rji_vmm *vmm, uint64_t id, int status);

#endif

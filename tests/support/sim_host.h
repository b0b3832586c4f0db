/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_HOST_H
#define RJ_TESTS_SIM_HOST_H

#include "tests/support/sim_migration.h"

/*
 * One side's VMM: a thread that opens its session, fetches events, does what they ask, and
 * misbehaves by plan.
 */

/*
 * Open and start the session; the guest is the host's. The destination first; the port is where it
 * listens, then where the source connects.
 */
int sim_host_open(struct sim_host *h, uint16_t *port);
void *sim_host_thread(void *h);
/*
 * Close the session; the guest does not hear of it any more. Also called by the thread, at its end.
 */
void sim_host_close(struct sim_host *h);

/* --- judge.c's part: what a request may find, and does to the books --- */
int sim_judge_release(struct sim_migration *m, enum sim_side side);
int sim_judge_take(struct sim_migration *m, enum sim_side side); /* reclaim, acquire */
int sim_judge_load(struct sim_migration *m);
int sim_judge_resume(struct sim_migration *m, enum sim_side side, bool run);
int sim_judge_drop(struct sim_migration *m);
void sim_judge_end(struct sim_migration *m);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_HINTS_H
#define BENCH_GUEST_GUEST_HINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/guest/guest_free.h"
#include "bench/guest/guest_words.h"
#include "bench/guest/ticker.h"

struct guest;
struct guest_state;

/*
 * How the guest tells its VMM which pages are free. All of it is in guest RAM, in words of 64 bits, and
 * so moves with the guest:
 *
 *   GUEST_CONTROL      by the guest: how many pages were taken and freed, how many hints are in the ring,
 *                      up to which block it has told of the pages that stay free, and for which round.
 *                      Constants of the area stand there as well, by the VMM, before the guest runs.
 *   GUEST_HINT_VMM     by the VMM: how many hints it has taken; the round, with each of which all free
 *                      pages are to be told; whether a page must wait for its hint to be taken
 *   GUEST_HINT_RING    hints: page (32 bits), number of pages (32 bits), round
 *   GUEST_HINT_NUMBERS by the guest, for each turning page: the number of the newest hint for it
 *
 * A hint is written before the count of hints, and read after it. A guest that finds the ring full
 * frees no more for now. Whatever the guest writes is checked by the VMM.
 *
 * Two kinds, as VMMs have them:
 *   reporting   the guest takes a page only once the VMM has taken its hint, which it does when
 *               rj_mark_free() has returned
 *   balloon     the VMM begins a round when rj_free_begin() has returned, and drops the hints of others;
 *               the guest takes a page whenever it likes, also while the VMM handles its hint
 *
 * The VMM's side is a thread. It writes guest RAM, and so stands still when the guest does.
 */
/* What the guest and its VMM have counted so far, as it travels. */
#define HINT_COUNTS 7u

struct guest_hints {
	struct guest_free area; /* n 0: there is none, and no thread */
	struct ticker vmm;
	bool has_thread;
	uint64_t fraction; /* of a page to be taken, in 1/1000 */
	atomic_bool asked; /* for a round */
	uint64_t round;	   /* begun with this session, 0: none; of generation */
	uint64_t generation;
	uint64_t counts[HINT_COUNTS]; /* loaded */
	bool loaded;		      /* and nothing ran since */
	_Atomic uint64_t n_hints, hinted_pages, taken_pages, refused_hints;
};

/* The constants, and the start of a guest that is not made empty. */
void guest_hints_init(struct guest *g, bool empty);
int guest_hints_start(struct guest *g, char *why, size_t why_bytes); /* the VMM's thread */
void guest_hints_fini(struct guest *g);

/* Another session, or none: its rounds are its own. With marking held exclusively. */
void guest_hints_forget(struct guest *g);

int guest_hints_run(struct guest *g);
void guest_hints_pause(struct guest *g);

/* Pages to be taken in a tick of 1 ms. */
uint32_t guest_hints_of_tick(struct guest *g);
/* The guest's side in C, as payload.S has it; with marking held. */
void guest_hints_tick(struct guest *g, uint32_t n_take);

void guest_hints_save(const struct guest *g, struct guest_state *st);
int guest_hints_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes);
/* Counts as they were saved; the contents of the free area. */
int guest_hints_check(const struct guest *g, char *why, size_t why_bytes);

#endif

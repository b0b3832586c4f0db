/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_WORDS_H
#define BENCH_GUEST_GUEST_WORDS_H

/* Where the guest and its VMM talk in guest RAM: guest_hints.h. For payload.S as well. */
#define GUEST_CONTROL 0x1000
#define GUEST_HINT_VMM 0x90000
#define GUEST_HINT_RING 0x91000
#define GUEST_HINT_NUMBERS 0x92000
#define GUEST_HINTS_N 256
#define GUEST_HINTS_PER_TICK 64 /* of pages that stay free */

/* Words of GUEST_CONTROL. */
#define HINT_WRITES 0
#define HINT_BEATS 1
#define HINT_TAKEN 2
#define HINT_FREED 3
#define HINT_HINTS 4
#define HINT_TOLD 5 /* blocks */
#define HINT_ROUND 6
#define HINT_MODE 7 /* of the workload: payload.S */
#define HINT_N_BLOCKS 8
#define HINT_BLOCK 9
#define HINT_N_PAGES 10
#define HINT_FIRST 11
#define HINT_N_TURNING 12
#define HINT_KEY 13

/* Words of GUEST_HINT_VMM. */
#define HINT_ACKED 0
#define HINT_VMM_ROUND 1
#define HINT_WAIT 2

#endif

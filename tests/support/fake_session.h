/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_SUPPORT_FAKE_SESSION_H
#define TESTS_SUPPORT_FAKE_SESSION_H

#include <ramjet/ramjet.h>

/*
 * What a guest calls of a session, for tests that move guests without one: list fake_session.c
 * among a program's sources. Being defined in the program, its functions come before the library's.
 */
#define FAKE_PAGES (1u << 17)

struct fake_session {
	uint8_t state[1 << 20]; /* device state */
	size_t len_bytes, pos;
	uint64_t marks[FAKE_PAGES / 64]; /* pages of region 0 */
	uint64_t n_marks;		 /* of all regions */
	struct rj_tracker *tracker;
	uint32_t n_regions;
	/* rj_mark_free(), by the guest's thread; NULL: 0 */
	int (*mark_free)(uint32_t region, uint64_t offset, uint64_t len_bytes, uint64_t generation);
	uint64_t generation; /* the newest of rj_free_begin() */
};

extern struct fake_session fake;

struct rj_session *fake_session(void);
/* Forget everything. */
void fake_session_reset(void);
/* The marked pages are OR'ed into bits and forgotten. */
void fake_session_take_marks(uint64_t *bits, uint64_t n_pages);

#endif

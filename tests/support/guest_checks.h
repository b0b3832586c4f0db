/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_GUEST_CHECKS_H
#define RJ_TESTS_GUEST_CHECKS_H

#include <stdio.h>
#include <stdlib.h>

/* What a call of bench/guest/guest.h gave as the reason that it failed: told by the check of its result. */
static char why[512];

/* For programs whose threads leave nothing to go on with: the first that is not true ends all of it. */
#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s failed; why: %s\n", __FILE__, __LINE__, #x,     \
				why);                                                              \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_RANDOM_H
#define RJI_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>

/* Fill p with bytes nobody can guess (session ids, secrets, tokens). 0 or -errno. */
int rji_random_bytes(void *p, size_t len_bytes);

/* Compare secrets in a time that does not depend on where they differ. */
bool rji_secret_equal(const void *a, const void *b, size_t len_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

int rji_random_bytes(void *p, size_t len_bytes)
{
	uint8_t *at = p;

	while (len_bytes) {
		ssize_t n = getrandom(at, len_bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

bool rji_secret_equal(const void *a, const void *b, size_t len_bytes)
{
	const volatile uint8_t *x = a, *y = b;
	uint8_t differ = 0;

	for (size_t i = 0; i < len_bytes; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/common/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[] = "KMGT";

int units_parse(const char *text, uint64_t *bytes_p)
{
	const char *letter;
	unsigned int shift = 0;
	uint64_t value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	letter = *end ? strchr(letters, *end) : NULL;
	if (letter) {
		shift = 10 * (unsigned int)(letter - letters + 1);
		end++;
	}
	if (*end || value > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes_p = value << shift;
	return 0;
}

const char *units_bytes(char *buf, size_t buf_bytes, uint64_t bytes)
{
	double value = (double)bytes;
	int step = 0;

	while (value >= 1024 && step < 4) {
		value /= 1024;
		step++;
	}
	if (step)
		snprintf(buf, buf_bytes, "%.*f %ciB",
			 value < 10    ? 2
			 : value < 100 ? 1
				       : 0,
			 value, letters[step - 1]);
	else
		snprintf(buf, buf_bytes, "%llu B", (unsigned long long)bytes);
	return buf;
}

const char *units_rate(char *buf, size_t buf_bytes, uint64_t bytes_per_s)
{
	char size[32];

	snprintf(buf, buf_bytes, "%s/s", units_bytes(size, sizeof(size), bytes_per_s));
	return buf;
}

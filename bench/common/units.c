/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/common/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char letters[] = "KMGT";

int units_take(const char **text, uint64_t *bytes_p)
{
	const char *p = *text, *letter;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (unsigned int)(*p - '0'), &v))
			return -EINVAL;
	}
	letter = *p ? strchr(letters, *p) : NULL;
	if (letter) {
		unsigned int shift = 10 * (unsigned int)(letter - letters + 1);

		if (v > UINT64_MAX >> shift)
			return -EINVAL;
		v <<= shift;
		p++;
	}
	if (*p && *p != ':')
		return -EINVAL;
	*text = p;
	*bytes_p = v;
	return 0;
}

int units_parse(const char *text, uint64_t *bytes_p)
{
	uint64_t v;

	if (units_take(&text, &v) < 0 || *text)
		return -EINVAL;
	*bytes_p = v;
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

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/migrate/migrate.h"

static const char *const names[RJ_N_FILTERS] = { "hole", "free", "zero", "same", "delta", "zstd" };

const char *filter_name(uint32_t i)
{
	return names[i];
}

static uint32_t bit_of(const char *text, size_t len)
{
	for (uint32_t i = 0; i < RJ_N_FILTERS; i++)
		if (strlen(names[i]) == len && !strncmp(names[i], text, len))
			return 1u << i;
	return 0;
}

int filters_parse(const char *text, uint32_t *filters_p, char *why, size_t why_bytes)
{
	const char *p = text;
	uint32_t filters = 0;

	if (!strcmp(text, "none")) {
		*filters_p = 0;
		return 0;
	}
	for (;;) {
		size_t len = strcspn(p, ",");
		uint32_t bit = bit_of(p, len);

		filters |= bit;
		if (!bit)
			break;
		if (!p[len]) {
			*filters_p = filters;
			return 0;
		}
		p += len + 1;
	}
	snprintf(
		why, why_bytes,
		"--filters: none, or of hole,free,zero,same,delta,zstd those that are wanted, not '%s'",
		text);
	return -EINVAL;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/units.h"
#include "bench/perf/perf.h"

#define MIN_SIZE PERF_PAGE_BYTES
#define MAX_SIZE (1u << 20)
#define MIN_MEMORY (16ull << 20)

const char *const perf_pattern_names[PERF_PATTERNS] = { "contiguous", "scattered", "random" };

void perf_say(const struct perf_opts *o, const char *fmt, ...)
{
	va_list ap;

	if (!o->progress)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static bool is_size(uint64_t v)
{
	return v >= MIN_SIZE && v <= MAX_SIZE && !(v & (v - 1));
}

static bool is_lanes(uint64_t v)
{
	return v >= 1 && v <= RJ_MAX_LANES;
}

/* "a,b,c", each of which is_one likes. -EINVAL. */
static int take_list(const char *text, bool (*is_one)(uint64_t), uint32_t *list, uint32_t *n_p)
{
	uint32_t n = 0;
	char one[32];

	for (;; text++) {
		size_t len = strcspn(text, ",");
		uint64_t v;

		if (len >= sizeof(one) || n == PERF_MAX_LIST)
			return -EINVAL;
		memcpy(one, text, len);
		one[len] = '\0';
		if (units_parse(one, &v) < 0 || !is_one(v))
			return -EINVAL;
		list[n++] = (uint32_t)v;
		text += len;
		if (!*text)
			break;
	}
	*n_p = n;
	return 0;
}

static void take_patterns(struct perf_opts *o)
{
	bool both = !strcmp(o->pattern_text, "both");

	for (int i = 0; i < PERF_PATTERNS; i++) {
		if (both ? i != PERF_RANDOM : !strcmp(o->pattern_text, perf_pattern_names[i]))
			o->patterns[o->n_patterns++] = (enum perf_pattern)i;
	}
}

int perf_understand(struct perf_opts *o, char *why, size_t why_bytes)
{
	struct rji_cpus list;

	if (o->listen && o->to) {
		snprintf(why, why_bytes, "--listen and --to exclude each other: one machine each");
		return -EINVAL;
	}
	if (take_list(o->sizes_text, is_size, o->sizes, &o->n_sizes) < 0) {
		snprintf(why, why_bytes,
			 "--sizes %s: write powers of two from 4K to 1M, separated by commas",
			 o->sizes_text);
		return -EINVAL;
	}
	if (o->lanes_text && take_list(o->lanes_text, is_lanes, o->lanes, &o->n_lanes) < 0) {
		snprintf(why, why_bytes,
			 "--lanes %s: write numbers from 1 to %d, separated by commas",
			 o->lanes_text, RJ_MAX_LANES);
		return -EINVAL;
	}
	if (o->memory_bytes && (o->memory_bytes < MIN_MEMORY || o->memory_bytes % MAX_SIZE)) {
		snprintf(why, why_bytes, "--memory: at least 16M, in multiples of 1M");
		return -EINVAL;
	}
	if (o->nodes && rji_cpus_parse(o->nodes, &list) < 0) {
		snprintf(why, why_bytes, "--nodes %s: write nodes as in 0,1 or 0-3", o->nodes);
		return -EINVAL;
	}
	if (o->cpus && rji_cpus_parse(o->cpus, &list) < 0) {
		snprintf(why, why_bytes, "--cpus %s: write CPUs as in 0-3,8", o->cpus);
		return -EINVAL;
	}
	take_patterns(o);
	o->progress = !strcmp(o->progress_text, "auto");
	return 0;
}

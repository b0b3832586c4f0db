/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/cpus.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"

#define N_WORDS (RJI_MAX_CPUS / RJI_WORD_BITS)

/* A number at *p, which moves behind it. strtoul() alone would take signs and spaces. */
static int take_number(const char **p, uint32_t *n_p)
{
	char *end;
	unsigned long n;

	if (**p < '0' || **p > '9')
		return -EINVAL;
	n = strtoul(*p, &end, 10);
	*p = end;
	if (n >= RJI_MAX_CPUS)
		return -ERANGE;
	*n_p = (uint32_t)n;
	return 0;
}

/* "8" or "0-3". */
static int take_range(const char **p, struct rji_cpus *cpus)
{
	uint32_t first, last;
	int ret = take_number(p, &first);

	if (ret < 0)
		return ret;
	last = first;
	if (**p == '-') {
		++*p;
		ret = take_number(p, &last);
	}
	if (ret < 0)
		return ret;
	if (last < first)
		return -EINVAL;
	rji_bitmap_set_range(cpus->word, first, last - first + 1);
	return 0;
}

int rji_cpus_parse(const char *list, struct rji_cpus *cpus_p)
{
	struct rji_cpus cpus = { 0 };

	for (;;) {
		int ret = take_range(&list, &cpus);

		if (ret < 0)
			return ret;
		if (!*list)
			break;
		if (*list++ != ',')
			return -EINVAL;
	}
	*cpus_p = cpus;
	return 0;
}

size_t rji_cpus_format(const struct rji_cpus *cpus, char *buf, size_t buf_bytes)
{
	static const char more[] = "...";
	uint64_t first = 0, n;
	size_t len = 0;

	if (!buf_bytes)
		return 0;
	buf[0] = '\0';
	while ((n = rji_bitmap_next_run(cpus->word, &first, RJI_MAX_CPUS))) {
		char range[32];
		int range_len = n == 1 ? snprintf(range, sizeof(range), "%s%u", len ? "," : "",
						  (uint32_t)first)
				       : snprintf(range, sizeof(range), "%s%u-%u", len ? "," : "",
						  (uint32_t)first, (uint32_t)(first + n - 1));

		if (len + (size_t)range_len + sizeof(more) > buf_bytes) {
			if (len + sizeof(more) <= buf_bytes) {
				memcpy(buf + len, more, sizeof(more));
				len += sizeof(more) - 1;
			}
			break;
		}
		memcpy(buf + len, range, (size_t)range_len + 1);
		len += (size_t)range_len;
		first += n;
	}
	return len;
}

void rji_cpus_add(struct rji_cpus *cpus, uint32_t cpu)
{
	if (cpu < RJI_MAX_CPUS)
		rji_bitmap_set(cpus->word, cpu);
}

bool rji_cpus_has(const struct rji_cpus *cpus, uint32_t cpu)
{
	return cpu < RJI_MAX_CPUS && rji_bitmap_test(cpus->word, cpu);
}

uint32_t rji_cpus_weight(const struct rji_cpus *cpus)
{
	return (uint32_t)rji_bitmap_weight(cpus->word, N_WORDS);
}

bool rji_cpus_is_empty(const struct rji_cpus *cpus)
{
	return rji_cpus_next(cpus, 0) == RJI_MAX_CPUS;
}

bool rji_cpus_equal(const struct rji_cpus *a, const struct rji_cpus *b)
{
	return !memcmp(a, b, sizeof(*a));
}

struct rji_cpus rji_cpus_and(const struct rji_cpus *a, const struct rji_cpus *b)
{
	struct rji_cpus both;

	for (size_t i = 0; i < N_WORDS; i++)
		both.word[i] = a->word[i] & b->word[i];
	return both;
}

struct rji_cpus rji_cpus_without(const struct rji_cpus *a, const struct rji_cpus *b)
{
	struct rji_cpus rest;

	for (size_t i = 0; i < N_WORDS; i++)
		rest.word[i] = a->word[i] & ~b->word[i];
	return rest;
}

uint32_t rji_cpus_next(const struct rji_cpus *cpus, uint32_t cpu)
{
	uint64_t first = cpu;

	return rji_bitmap_next_run(cpus->word, &first, RJI_MAX_CPUS) ? (uint32_t)first
								     : RJI_MAX_CPUS;
}

int rji_cpus_of_thread(struct rji_cpus *cpus_p)
{
	struct rji_cpus cpus = { 0 };

	if (sched_getaffinity(0, sizeof(cpus), (cpu_set_t *)(void *)&cpus))
		return -errno;
	*cpus_p = cpus;
	return 0;
}

int rji_cpus_bind(const struct rji_cpus *cpus)
{
	return sched_setaffinity(0, sizeof(*cpus), (const cpu_set_t *)(const void *)cpus) ? -errno
											  : 0;
}

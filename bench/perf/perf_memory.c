/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>

#include "bench/perf/perf.h"

int perf_memory_init(struct perf_memory *m, uint64_t len_bytes, bool backed, const char *nodes,
		     struct rj_error *err)
{
	void *at = mmap(NULL, len_bytes, backed ? PROT_READ | PROT_WRITE : PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int ret;

	if (at == MAP_FAILED)
		return rji_fail_sys(err, 0, errno, "no memory: try a smaller --memory");
	*m = (struct perf_memory){ .at = at, .len_bytes = len_bytes, .backed = backed };
	if (!backed)
		return 0;
	ret = nodes ? perf_memory_spread(m, nodes, err) : 0;
	if (ret < 0) {
		perf_memory_fini(m);
		return ret;
	}
	for (uint64_t i = 0; i < len_bytes; i += PERF_PAGE_BYTES)
		m->at[i] = 0; /* there before it is measured */
	return 0;
}

void perf_memory_fini(struct perf_memory *m)
{
	if (m->at)
		munmap(m->at, m->len_bytes);
	m->at = NULL;
}

/* Bijective (splitmix64): no two pages alike, none of them zero but by chance. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

void perf_memory_fill(struct perf_memory *m)
{
	uint64_t *words = (uint64_t *)(void *)m->at;

	if (!m->backed)
		return;
	for (uint64_t i = 0; i < m->len_bytes / sizeof(*words); i++)
		words[i] = mix(i);
}

/* By the first and the last word: enough to tell a page that came from one that did not. */
uint64_t perf_memory_arrived(const struct perf_memory *m)
{
	const uint64_t per_page = PERF_PAGE_BYTES / sizeof(uint64_t);
	const uint64_t *words = (const uint64_t *)(const void *)m->at;
	uint64_t n = 0;

	for (uint64_t i = 0; m->backed && i < m->len_bytes / sizeof(*words); i += per_page)
		n += words[i] == mix(i) && words[i + per_page - 1] == mix(i + per_page - 1);
	return n;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ramjet/error.h>

#include "base/clock.h"
#include "bench/scan/scan.h"

/*
 * A share of the pages for each thread, which goes over it again and again, all threads at the same
 * time. Passes that take long are not repeated for the sake of it.
 */

#define LONG_NS (2 * RJI_NS_PER_S)

struct crew {
	pthread_barrier_t together;
	uint32_t repeat;
};

struct member {
	pthread_t thread;
	struct crew *crew;
	struct scan_worker w;
	uint32_t number;
	/* of the fastest pass */
	uint64_t ns, n_pages, bytes_out;
	int ret;
};

/* The n-th CPU that we may have, so that a thread is a core. */
static void bind_to_one(uint32_t number)
{
	cpu_set_t may, one;

	if (sched_getaffinity(0, sizeof(may), &may) < 0)
		return;
	number %= (uint32_t)CPU_COUNT(&may);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &may) || number--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

static void one_pass(struct member *m, uint64_t *ns_p)
{
	int64_t (*page)(struct scan_worker *, uint64_t) = m->w.stage->page;
	uint64_t began = rji_now_ns(), n_pages = 0, bytes_out = 0, ns;

	for (uint64_t i = 0; i < m->w.n_pages; i++) {
		int64_t n = page(&m->w, i);

		if (n >= 0) {
			bytes_out += (uint64_t)n;
			n_pages++;
		} else if (n != SCAN_SKIPPED) {
			m->ret = (int)n;
		}
	}
	ns = rji_now_ns() - began;
	*ns_p += ns;
	if (m->ns && m->ns <= ns)
		return;
	m->ns = ns;
	m->n_pages = n_pages;
	m->bytes_out = bytes_out;
}

static void *member_thread(void *arg)
{
	struct member *m = arg;
	const struct scan_stage *s = m->w.stage;
	uint64_t spent_ns = 0;

	bind_to_one(m->number);
	m->w.staging = aligned_alloc(SCAN_PAGE_BYTES, SCAN_STAGING_PAGES * SCAN_PAGE_BYTES);
	if (m->w.staging)
		memset(m->w.staging, 0, SCAN_STAGING_PAGES * SCAN_PAGE_BYTES);
	m->ret = !m->w.staging ? -ENOMEM : s->begin ? s->begin(&m->w) : 0;
	pthread_barrier_wait(&m->crew->together);
	for (uint32_t i = 0; i < m->crew->repeat && !m->ret && spent_ns < LONG_NS; i++)
		one_pass(m, &spent_ns);
	if (!m->ret && s->check && !s->check(&m->w))
		m->ret = -EBADMSG;
	if (s->end)
		s->end(&m->w);
	free(m->w.staging);
	return NULL;
}

static void share_out(struct member *m, const struct scan_data *d, const struct scan_stage *s,
		      int level, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t first = d->n_pages * i / n, end = d->n_pages * (i + 1) / n;

		m[i].number = i;
		m[i].w = (struct scan_worker){
			.stage = s,
			.level = level,
			.now = d->now + first * SCAN_PAGE_BYTES,
			.old = d->old + first * SCAN_PAGE_BYTES,
			.scratch = d->scratch + first * SCAN_PAGE_BYTES,
			.code = d->code + first * SCAN_PAGE_BYTES,
			.code_bytes = d->code_bytes + first,
			.n_pages = end - first,
		};
	}
}

static void add_up(const struct member *m, uint32_t n, struct scan_result *r)
{
	double seconds = 0, slowest = 0, bytes, out = 0;

	memset(r, 0, sizeof(*r));
	for (uint32_t i = 0; i < n; i++) {
		double s = (double)m[i].ns / 1e9;

		seconds += s;
		slowest = s > slowest ? s : slowest;
		r->n_pages += m[i].n_pages;
		out += (double)m[i].bytes_out;
	}
	if (!r->n_pages)
		return;
	bytes = (double)r->n_pages * SCAN_PAGE_BYTES;
	r->gb_per_s = bytes / 1e9 / seconds;
	r->all_gb_per_s = bytes / 1e9 / slowest;
	r->ns_per_page = seconds * 1e9 / (double)r->n_pages;
	r->ratio = out / bytes;
}

int scan_measure(const struct scan_opts *o, const struct scan_data *d, const struct scan_stage *s,
		 int level, struct scan_result *r, char *why, size_t why_bytes)
{
	uint32_t n = o->threads < d->n_pages ? o->threads : (uint32_t)d->n_pages, started = 0;
	struct crew crew = { .repeat = o->repeat };
	struct member *m = calloc(n, sizeof(*m));
	int ret = 0;

	if (!m)
		return -ENOMEM;
	pthread_barrier_init(&crew.together, NULL, n);
	share_out(m, d, s, level, n);
	for (; started < n; started++) {
		m[started].crew = &crew;
		ret = -pthread_create(&m[started].thread, NULL, member_thread, &m[started]);
		if (ret)
			break;
	}
	if (ret) { /* those that started wait for one another for ever */
		fprintf(stderr, "ramjet-scan: no thread: %s\n", rj_strerror(ret));
		exit(1);
	}
	for (uint32_t i = 0; i < n; i++) {
		pthread_join(m[i].thread, NULL);
		if (m[i].ret && !ret)
			ret = m[i].ret;
	}
	if (!ret)
		add_up(m, n, r);
	else
		snprintf(why, why_bytes, "%s, %s: %s", s->stage, s->variant, rj_strerror(ret));
	pthread_barrier_destroy(&crew.together);
	free(m);
	return ret;
}

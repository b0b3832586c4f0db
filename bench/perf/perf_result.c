/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/units.h"
#include "bench/perf/perf.h"

static int by_value(const void *a_, const void *b_)
{
	double a = *(const double *)a_, b = *(const double *)b_;

	return a < b ? -1 : a > b;
}

/* Median, least and most of the repetitions. */
struct spread {
	double median, min, max;
};

static struct spread spread_of(const struct perf_case *c)
{
	uint32_t n = c->n_repetitions;
	struct spread s;
	double *sorted = malloc(n * sizeof(*sorted));

	if (!sorted)
		return (struct spread){ c->repetition[0], c->repetition[0], c->repetition[0] };
	memcpy(sorted, c->repetition, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_value);
	s = (struct spread){ n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2,
			     sorted[0], sorted[n - 1] };
	free(sorted);
	return s;
}

static double ns_per_page(double bytes_per_s)
{
	return PERF_PAGE_BYTES / bytes_per_s * 1e9;
}

static double per_page(const struct perf_case *c, uint64_t n)
{
	return (double)n / (double)c->sum.pages;
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static json_t *whole(double v)
{
	return json_integer((json_int_t)(v + 0.5));
}

/* Every key, in the order they are printed; a case and a failure have the same. */
static const char *const keys[] = {
	"transport",
	"pattern",
	"message_bytes",
	"lanes",
	"bytes_per_s",
	"ns_per_page",
	"port_rate_bytes_per_s",
	"percent_of_port",
	"bytes_per_s_min",
	"bytes_per_s_max",
	"repetitions",
	"rounds",
	"seconds",
	"pages",
	"page_bytes",
	"memory_bytes",
	"round_ms_p50",
	"round_ms_p99",
	"collect_ns_per_page",
	"send_ns_per_page",
	"fence_ns_per_page",
	"finish_ns_per_page",
	"requests_per_page",
	"posts_per_page",
	"polls_per_page",
	"signalled_share",
	"source_cpu_s",
	"destination_cpu_s",
	"source_cpu_ns_per_page",
	"bytes_per_s_per_core",
	"nodes",
	"lane_cpus",
	"error",
};

json_t *perf_failure_json(const char *why)
{
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		json_object_set_new(o, keys[i], json_null());
	json_object_set_new(o, "error", json_string(why));
	return o;
}

static void set(json_t *o, const char *key, json_t *v)
{
	json_object_set_new(o, key, v);
}

static void set_stages(json_t *o, const struct perf_case *c)
{
	set(o, "collect_ns_per_page", json_real(per_page(c, c->sum.collect_ns)));
	set(o, "send_ns_per_page", json_real(per_page(c, c->sum.send_ns)));
	set(o, "fence_ns_per_page", json_real(per_page(c, c->sum.fence_ns)));
	set(o, "finish_ns_per_page", json_real(per_page(c, c->sum.finish_ns)));
	set(o, "requests_per_page", json_real(per_page(c, c->sum.requests)));
	set(o, "posts_per_page", json_real(per_page(c, c->sum.posts)));
	set(o, "polls_per_page", json_real(per_page(c, c->sum.polls)));
	set(o, "signalled_share", json_real(share(c->sum.signalled, c->sum.requests)));
	set(o, "source_cpu_s", json_real((double)c->sum.cpu_ns / 1e9));
	set(o, "destination_cpu_s", json_real((double)c->destination_cpu_ns / 1e9));
	set(o, "source_cpu_ns_per_page", json_real(per_page(c, c->sum.cpu_ns)));
	if (c->sum.cpu_ns)
		set(o, "bytes_per_s_per_core",
		    whole((double)c->sum.bytes / (double)c->sum.cpu_ns * 1e9));
}

/* Which CPUs each lane may use. */
static json_t *lane_cpus(const struct rji_placement *p)
{
	json_t *list = json_array();
	char text[256];

	for (uint32_t i = 0; i < p->n_lanes; i++) {
		rji_cpus_format(&p->lane[i].cpus, text, sizeof(text));
		json_array_append_new(list, json_string(text));
	}
	return list;
}

json_t *perf_case_json(const struct perf_case *c)
{
	json_t *o = perf_failure_json(""), *all = json_array();
	struct spread s = spread_of(c);

	set(o, "error", json_null());
	set(o, "transport", json_string(c->transport));
	set(o, "pattern", json_string(perf_pattern_names[c->pattern]));
	set(o, "message_bytes", json_integer(c->message_bytes));
	set(o, "lanes", json_integer(c->lanes));
	set(o, "bytes_per_s", whole(s.median));
	set(o, "ns_per_page", json_real(ns_per_page(s.median)));
	if (c->port_rate_bytes_per_s) {
		set(o, "port_rate_bytes_per_s", json_integer((json_int_t)c->port_rate_bytes_per_s));
		set(o, "percent_of_port",
		    json_real(100 * s.median / (double)c->port_rate_bytes_per_s));
	}
	set(o, "bytes_per_s_min", whole(s.min));
	set(o, "bytes_per_s_max", whole(s.max));
	for (uint32_t i = 0; i < c->n_repetitions; i++)
		json_array_append_new(all, whole(c->repetition[i]));
	set(o, "repetitions", all);
	set(o, "rounds", json_integer((json_int_t)c->sum.rounds));
	set(o, "seconds", json_real((double)c->sum.ns / 1e9));
	set(o, "pages", json_integer((json_int_t)c->sum.pages));
	set(o, "page_bytes", json_integer(PERF_PAGE_BYTES));
	set(o, "memory_bytes", json_integer((json_int_t)c->memory_bytes));
	set(o, "round_ms_p50", json_real((double)c->round_p50_ns / 1e6));
	set(o, "round_ms_p99", json_real((double)c->round_p99_ns / 1e6));
	set_stages(o, c);
	if (c->nodes)
		set(o, "nodes", json_string(c->nodes));
	set(o, "lane_cpus", lane_cpus(c->placement));
	return o;
}

void perf_print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	fflush(stdout);
	json_decref(o);
}

/* --- for people --- */

void perf_print_head(void)
{
	printf("%-10s %-10s %9s %5s %12s %16s %8s %9s %9s %9s %8s %9s\n", "transport", "pattern",
	       "message", "lanes", "median", "min..max", "of port", "ns/page", "posts/pg",
	       "polls/pg", "signal", "CPU s/d");
}

void perf_print_case(const struct perf_case *c)
{
	struct spread s = spread_of(c);
	char of_port[16] = "-", range[40];

	if (c->port_rate_bytes_per_s)
		snprintf(of_port, sizeof(of_port), "%.1f %%",
			 100 * s.median / (double)c->port_rate_bytes_per_s);
	snprintf(range, sizeof(range), "%+.1f..%+.1f %%", 100 * (s.min / s.median - 1),
		 100 * (s.max / s.median - 1));
	printf("%-10s %-10s %9s %5u %12s %16s %8s %9.2f %9.4f %9.4f %6.1f %% %4.0f/%.0f %%\n",
	       c->transport, perf_pattern_names[c->pattern], UNITS_BYTES(c->message_bytes),
	       c->lanes, UNITS_RATE((uint64_t)s.median), range, of_port, ns_per_page(s.median),
	       per_page(c, c->sum.posts), per_page(c, c->sum.polls),
	       100 * share(c->sum.signalled, c->sum.requests),
	       100 * share(c->sum.cpu_ns, c->sum.ns),
	       100 * share(c->destination_cpu_ns, c->sum.ns));
	fflush(stdout);
}

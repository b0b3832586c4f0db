/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <ramjet/version.h>

#include "bench/perf/perf.h"

static json_t *texts(int n, char **text)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_string(text[i]));
	return list;
}

static json_t *numbers(uint32_t n, const uint32_t *v)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(v[i]));
	return list;
}

static json_t *describe_settings(const struct perf_opts *o)
{
	return json_pack("{s:s,s:s,s:o,s:o,s:I,s:I,s:i,s:i,s:i,s:s?,s:s?}", "transport",
			 o->transport, "pattern", o->pattern_text, "sizes",
			 numbers(o->n_sizes, o->sizes), "lanes", numbers(o->n_lanes, o->lanes),
			 "memory_bytes", (json_int_t)o->memory_bytes, "bandwidth_bytes_per_s",
			 (json_int_t)o->bandwidth_bytes_per_s, "duration_ms", (int)o->duration_ms,
			 "repeat", (int)o->repeat, "warmup", (int)o->warmup, "nodes", o->nodes,
			 "cpus", o->cpus);
}

int perf_write_report(const char *path, const struct perf_opts *o, int argc, char **argv,
		      const struct bench_route *route, json_t *peer, json_t *results,
		      const char *error)
{
	char when[32], version[32];
	time_t now = time(NULL);
	struct tm tm;
	json_t *report;
	int ret;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(version, sizeof(version), "%d.%d.%d", RJ_VERSION_MAJOR, RJ_VERSION_MINOR,
		 RJ_VERSION_PATCH);
	report = json_pack("{s:s,s:s,s:s,s:o,s:o,s:o,s:s,s:o,s:O?,s:O,s:s?}", "program",
			   "ramjet-perf", "version", version, "date", when, "command_line",
			   texts(argc, argv), "settings", describe_settings(o), "route",
			   json_pack("{s:s,s:s,s:s,s:i,s:b}", "uri", route->uri, "transport",
				     route->transport, "why", route->why, "default_lanes",
				     (int)route->n_lanes, "software", route->software),
			   "compiler", __VERSION__, "source", perf_describe_host(), "destination",
			   peer, "results", results, "error", error);
	if (!report)
		return -ENOMEM;
	ret = json_dump_file(report, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) ? -errno : 0;
	json_decref(report);
	return ret;
}

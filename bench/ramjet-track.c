/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-track: what finding out what a KVM guest dirties costs, it and the one who asks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/options.h"
#include "bench/track/track.h"

static struct track_opts o = {
	.measure = "walk",
	.tracker_text = "both",
	.dirty_text = "1,50",
	.rates_text = "0,1000,10000,100000,1000000",
	.touched_bytes = 1ull << 30,
	.duration_ms = 2000,
	.interval_ms = 100,
	.repeat = 3,
};

static const struct bench_option options[] = {
	BENCH_CHOICE(
		"measure", &o.measure, "walk|cost",
		"walk: how long collecting and re-arming take; cost: what it costs the guest (walk)"),
	BENCH_CHOICE("tracker", &o.tracker_text, "both|log|ring",
		     "KVM's dirty log, its dirty ring, or one after the other (both)"),
	BENCH_BYTES("size", &o.size_bytes, "BYTES",
		    "guest memory; walk needs only what is touched (400G, for cost 1G)"),
	BENCH_BYTES("touched", &o.touched_bytes, "BYTES", "walk: memory the guest writes (1G)"),
	BENCH_TEXT("dirty", &o.dirty_text, "LIST", "walk: percent of that to be dirty (1,50)"),
	BENCH_TEXT("rates", &o.rates_text, "LIST",
		   "cost: pages a second that the guest writes (0,1000,10000,100000,1000000)"),
	BENCH_NUMBER("duration", &o.duration_ms, "MS", 1, 3600000,
		     "cost: of one measurement (2000)"),
	BENCH_NUMBER("interval", &o.interval_ms, "MS", 1, 60000, "cost: from round to round (100)"),
	BENCH_NUMBER("repeat", &o.repeat, "N", 1, 1000,
		     "walk: rounds, the slowest counts; cost: measurements, all are shown (3)"),
	BENCH_FLAG("json", &o.json, "a JSON object a line instead of a table"),
};

static const struct bench_program program = {
	.name = "ramjet-track",
	.summary = "Track what a KVM guest dirties, send nothing, and print what that costs.",
	.example = "\nExamples:\n"
		   "  ramjet-track --size 400G --dirty 1,50\n"
		   "  ramjet-track --measure cost --rates 0,100000 --repeat 5\n"
		   "\nExit status: 0 measured, 1 failed, 2 usage.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
};

/* "1,50" */
static int parse_list(const char *name, const char *text, uint32_t max, uint32_t *list,
		      uint32_t *n_p, char *why, size_t why_bytes)
{
	const char *p = text;

	*n_p = 0;
	for (;;) {
		char *end;
		unsigned long v = strtoul(p, &end, 10);

		if (*p < '0' || *p > '9' || (*end && *end != ',') || v > max ||
		    *n_p == TRACK_MAX_LIST) {
			snprintf(why, why_bytes,
				 "--%s %s: write up to %d numbers up to %u, with commas between",
				 name, text, TRACK_MAX_LIST, max);
			return -EINVAL;
		}
		list[(*n_p)++] = (uint32_t)v;
		if (!*end)
			return 0;
		p = end + 1;
	}
}

static bool is_walk(void)
{
	return !strcmp(o.measure, "walk");
}

static int understand(char *why, size_t why_bytes)
{
	if (!o.size_bytes)
		o.size_bytes = is_walk() ? 400ull << 30 : 1ull << 30;
	if (is_walk() && o.touched_bytes > o.size_bytes / 2) {
		snprintf(why, why_bytes, "--touched: half of --size at the most");
		return -EINVAL;
	}
	o.with[TRACK_NONE] = !is_walk();
	o.with[TRACK_LOG] = strcmp(o.tracker_text, "ring") != 0;
	o.with[TRACK_RING] = strcmp(o.tracker_text, "log") != 0;
	if (parse_list("dirty", o.dirty_text, 50, o.dirty_percent, &o.n_dirty, why, why_bytes) < 0)
		return -EINVAL;
	return parse_list("rates", o.rates_text, 100000000, o.rates, &o.n_rates, why, why_bytes);
}

static void print_cell(const json_t *v, int width)
{
	if (json_is_string(v))
		printf("%-*s", width, json_string_value(v));
	else if (json_is_real(v))
		printf("%*.1f", width, json_real_value(v));
	else
		printf("%*lld", width, (long long)json_integer_value(v));
}

void track_print(const struct track_opts *to, json_t *result)
{
	static bool headed;
	const char *key;
	json_t *v;

	if (to->json) {
		json_dumpf(result, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	} else {
		json_object_foreach(result, key, v) if (!headed)
			printf(json_is_string(v) ? "%-11s" : " %s", key);
		if (!headed)
			putchar('\n');
		headed = true;
		json_object_foreach(result, key, v)
			print_cell(v, json_is_string(v) ? 11 : (int)strlen(key) + 1);
	}
	putchar('\n');
	fflush(stdout);
	json_decref(result);
}

static int walk_all(enum track_tracker t, char *why, size_t why_bytes)
{
	int ret = 0;

	for (int sweep = 0; sweep < 2 && !ret; sweep++)
		for (uint32_t i = 0; i < o.n_dirty && !ret; i++)
			ret = track_walk(&o, t, sweep, o.dirty_percent[i], why, why_bytes);
	return ret;
}

/* One tracker after the other, so that what changes on the machine meanwhile hits all alike. */
static int cost_all(char *why, size_t why_bytes)
{
	int ret = 0;

	for (uint32_t i = 0; i < o.n_rates; i++)
		for (uint32_t n = 0; n < o.repeat; n++)
			for (int t = 0; t < TRACK_TRACKERS && !ret; t++)
				if (o.with[t])
					ret = track_cost(&o, (enum track_tracker)t, o.rates[i], why,
							 why_bytes);
	return ret;
}

int main(int argc, char **argv)
{
	char why[TRACK_TEXT] = "";
	int ret = options_parse(&program, argc, argv, why, sizeof(why));

	if (ret > 0)
		return 0;
	if (ret < 0 || understand(why, sizeof(why)) < 0) {
		fprintf(stderr, "%s: %s\n", program.name, why);
		return BENCH_EXIT_USAGE;
	}
	if (!is_walk())
		ret = cost_all(why, sizeof(why));
	for (int t = TRACK_LOG; t < TRACK_TRACKERS && !ret && is_walk(); t++)
		ret = o.with[t] ? walk_all((enum track_tracker)t, why, sizeof(why)) : 0;
	if (ret < 0)
		fprintf(stderr, "%s: %s\n", program.name, why[0] ? why : rj_strerror(ret));
	return ret < 0 ? 1 : 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-scan: what it costs to look at a page, so as not to send it or to send less of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ramjet/ramjet.h>

#include "bench/common/options.h"
#include "bench/common/units.h"
#include "bench/scan/scan.h"

static struct scan_opts o = {
	.memory = "huge",
	.levels_text = "-5,-1,1,3",
	.size_bytes = 256ull << 20,
	.threads = 1,
	.repeat = 3,
	.interval_ms = 1000,
};

static const struct bench_option options[] = {
	BENCH_TEXT("data", &o.data_text, "LIST",
		   "of zero, random and text (all; with --pid none of them)"),
	BENCH_NUMBER("pid", &o.pid, "PID", 1, UINT32_MAX,
		     "also pages of this process, read twice while it runs"),
	BENCH_NUMBER("interval", &o.interval_ms, "MS", 1, 3600000,
		     "from its first reading to the second (1000)"),
	BENCH_BYTES("size", &o.size_bytes, "BYTES",
		    "of each kind, four times in memory; more than the caches hold (256M)"),
	BENCH_CHOICE("memory", &o.memory, "huge|small",
		     "pages of 2 MiB where the kernel has them, or of 4 KiB (huge)"),
	BENCH_TEXT("levels", &o.levels_text, "LIST", "of zstd (-5,-1,1,3)"),
	BENCH_NUMBER("threads", &o.threads, "N", 1, 256, "cores at work at the same time (1)"),
	BENCH_NUMBER("repeat", &o.repeat, "N", 1, 1000,
		     "passes, of which the fastest counts; in 2 s at most (3)"),
	BENCH_FLAG("json", &o.json, "a JSON object a line instead of a table"),
};

static const struct bench_program program = {
	.name = "ramjet-scan",
	.summary = "Read, test, hash and code pages, send nothing, and print what that costs.",
	.example = "\nExamples:\n"
		   "  ramjet-scan\n"
		   "  ramjet-scan --data zero --memory small --threads 2\n"
		   "  ramjet-scan --pid 4711 --interval 5000 --json\n"
		   "\nExit status: 0 measured, 1 failed, 2 usage.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
};

/* --- options --- */

static int parse_data(char *why, size_t why_bytes)
{
	const char *p = o.data_text;

	while (*p) {
		size_t n = strcspn(p, ",");
		int kind = 0;

		while (kind < SCAN_PROCESS && (strlen(scan_kind_names[kind]) != n ||
					       memcmp(scan_kind_names[kind], p, n) != 0))
			kind++;
		if (kind == SCAN_PROCESS || (p[n] && !p[n + 1]))
			break;
		o.with[kind] = true;
		p += n + (p[n] == ',');
	}
	if (!*p && p != o.data_text)
		return 0;
	snprintf(why, why_bytes, "--data %s: write some of zero,random,text", o.data_text);
	return -EINVAL;
}

static int parse_levels(char *why, size_t why_bytes)
{
	const char *p = o.levels_text;

	for (;;) {
		char *end;
		long v = strtol(p, &end, 10);

		if (end == p || *p == ' ' || (*end && *end != ',') || v < -1000 || v > 22 ||
		    o.n_levels == SCAN_MAX_LEVELS) {
			snprintf(why, why_bytes,
				 "--levels %s: write up to %d numbers from -1000 to 22, with "
				 "commas between",
				 o.levels_text, SCAN_MAX_LEVELS);
			return -EINVAL;
		}
		o.levels[o.n_levels++] = (int)v;
		if (!*end)
			return 0;
		p = end + 1;
	}
}

static int understand(char *why, size_t why_bytes)
{
	if (o.size_bytes < 1u << 20 || o.size_bytes > 1ull << 40) {
		snprintf(why, why_bytes, "--size: from 1M to 1T");
		return -EINVAL;
	}
	o.size_bytes -= o.size_bytes % SCAN_PAGE_BYTES;
	o.with[SCAN_PROCESS] = o.pid;
	if (!o.data_text && !o.pid)
		o.data_text = "zero,random,text";
	if (o.data_text && parse_data(why, why_bytes) < 0)
		return -EINVAL;
	return parse_levels(why, why_bytes);
}

/* --- what is printed --- */

static void progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void progress(const char *fmt, ...)
{
	va_list ap;

	if (o.json)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void print_json(json_t *line)
{
	json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	fflush(stdout);
	json_decref(line);
}

static const char *cpu_model(char *line, size_t bytes)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	const char *found = "unknown";

	while (f && fgets(line, (int)bytes, f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = colon + 2;
		break;
	}
	if (f)
		fclose(f);
	return found;
}

static void print_settings(void)
{
	char version[32], line[256];
	const char *cpu = cpu_model(line, sizeof(line));

	snprintf(version, sizeof(version), "%d.%d.%d", RJ_VERSION_MAJOR, RJ_VERSION_MINOR,
		 RJ_VERSION_PATCH);
	if (o.json) {
		print_json(json_pack("{s:s,s:s,s:s,s:I,s:s,s:i,s:i}", "program", program.name,
				     "version", version, "cpu", cpu, "size_bytes",
				     (json_int_t)o.size_bytes, "memory", o.memory, "threads",
				     (int)o.threads, "repeat", (int)o.repeat));
		return;
	}
	printf("%s, %u thread%s, %s of each kind, %s pages of memory\n", cpu, o.threads,
	       o.threads == 1 ? "" : "s", UNITS_BYTES(o.size_bytes), o.memory);
	printf("%-7s %-18s %-8s %-8s %8s %9s %6s %8s\n", "stage", "variant", "data", "change",
	       "GB/s", "ns/page", "ratio", "of read");
}

struct place {
	enum scan_kind kind;
	const char *change; /* NULL: there is no old page */
	double read_gb_per_s;
};

static void print_result(const struct place *at, const struct scan_stage *s, int level,
			 const struct scan_result *r)
{
	double share = r->gb_per_s / at->read_gb_per_s;
	char variant[32], ratio[16] = "";
	json_t *line;

	if (o.json) {
		line = json_pack("{s:s,s:s,s:o,s:s,s:s?,s:i,s:I,s:f,s:f,s:f,s:o,s:f}", "stage",
				 s->stage, "variant", s->variant, "level",
				 s->has_level ? json_integer(level) : json_null(), "data",
				 scan_kind_names[at->kind], "change", at->change, "threads",
				 (int)o.threads, "pages", (json_int_t)r->n_pages, "gb_per_s",
				 r->gb_per_s, "all_gb_per_s", r->all_gb_per_s, "ns_per_page",
				 r->ns_per_page, "ratio",
				 s->is_codec ? json_real(r->ratio) : json_null(),
				 "share_of_read_rate", share);
		print_json(line);
		return;
	}
	if (s->has_level)
		snprintf(variant, sizeof(variant), "%s %d", s->variant, level);
	else
		snprintf(variant, sizeof(variant), "%s", s->variant);
	if (s->is_codec)
		snprintf(ratio, sizeof(ratio), "%.3f", r->ratio);
	printf("%-7s %-18s %-8s %-8s %8.2f %9.1f %6s %8.2f\n", s->stage, variant,
	       scan_kind_names[at->kind], at->change ? at->change : "", r->gb_per_s, r->ns_per_page,
	       ratio, share);
	fflush(stdout);
}

/* --- which stage runs on what --- */

static int run_stage(const struct scan_data *d, const struct scan_stage *s, int level,
		     struct place *at, char *why, size_t why_bytes)
{
	struct scan_result r;
	int ret = scan_measure(&o, d, s, level, &r, why, why_bytes);

	if (ret < 0 || !r.n_pages) /* nothing to decode where nothing was coded */
		return ret;
	if (s->is_read && r.gb_per_s > at->read_gb_per_s)
		at->read_gb_per_s = r.gb_per_s;
	print_result(at, s, level, &r);
	return 0;
}

static int run_stages(const struct scan_data *d, const struct scan_stage *s, size_t n, bool old,
		      struct place *at, char *why, size_t why_bytes)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		uint32_t n_levels = s[i].has_level ? o.n_levels : 1;

		if ((s[i].usable && !s[i].usable()) || s[i].needs_old != old)
			continue;
		for (uint32_t k = 0; k < n_levels && !ret; k++)
			ret = run_stage(d, &s[i], o.levels[k], at, why, why_bytes);
	}
	return ret;
}

static int run_codecs(const struct scan_data *d, bool old, struct place *at, char *why,
		      size_t why_bytes)
{
	int ret = run_stages(d, scan_codec_stages, scan_n_codec_stages, old, at, why, why_bytes);

	if (!ret)
		ret = run_stages(d, scan_prefix_stages, scan_n_prefix_stages, old, at, why,
				 why_bytes);
	return ret;
}

/* Stages that need no old page. */
static int run_plain(const struct scan_data *d, struct place *at, char *why, size_t why_bytes)
{
	int ret = run_stages(d, scan_look_stages, scan_n_look_stages, false, at, why, why_bytes);

	if (!ret)
		ret = run_stages(d, scan_hash_stages, scan_n_hash_stages, false, at, why,
				 why_bytes);
	return ret ? ret : run_codecs(d, false, at, why, why_bytes);
}

static int run_process(struct scan_data *d, struct place *at, char *why, size_t why_bytes)
{
	uint64_t n_pages;
	int ret;

	progress("process %u: reading up to %s twice", o.pid, UNITS_BYTES(o.size_bytes));
	ret = scan_process_read(d, &o, why, why_bytes);
	if (!ret)
		ret = run_plain(d, at, why, why_bytes);
	if (ret)
		return ret;
	n_pages = d->n_pages;
	scan_data_only_changed(d);
	progress("process %u: %" PRIu64 " of %" PRIu64 " pages changed", o.pid, d->n_pages,
		 n_pages);
	if (!d->n_pages)
		return 0;
	at->change = "sampled";
	ret = run_codecs(d, true, at, why, why_bytes);
	return ret ? ret : run_codecs(d, false, at, why, why_bytes);
}

static int run_made(struct scan_data *d, struct place *at, char *why, size_t why_bytes)
{
	int ret;

	progress("%s: making %s of it", scan_kind_names[at->kind], UNITS_BYTES(o.size_bytes));
	scan_data_fill(d, at->kind);
	ret = run_plain(d, at, why, why_bytes);
	for (int change = 0; change < SCAN_CHANGES && !ret; change++) {
		scan_data_change(d, at->kind, (enum scan_change)change);
		at->change = scan_change_names[change];
		ret = run_codecs(d, true, at, why, why_bytes);
	}
	return ret;
}

static int run_all(char *why, size_t why_bytes)
{
	struct scan_data d;
	int ret = scan_data_create(&d, &o, why, why_bytes);

	if (ret < 0)
		return ret;
	print_settings();
	for (int kind = 0; kind < SCAN_KINDS && !ret; kind++) {
		struct place at = { .kind = (enum scan_kind)kind };

		if (o.with[kind])
			ret = kind == SCAN_PROCESS ? run_process(&d, &at, why, why_bytes)
						   : run_made(&d, &at, why, why_bytes);
	}
	scan_data_destroy(&d);
	return ret;
}

int main(int argc, char **argv)
{
	char why[SCAN_TEXT] = "";
	int ret = options_parse(&program, argc, argv, why, sizeof(why));

	if (ret > 0)
		return 0;
	if (ret < 0 || understand(why, sizeof(why)) < 0) {
		fprintf(stderr, "%s: %s\n", program.name, why);
		return BENCH_EXIT_USAGE;
	}
	ret = run_all(why, sizeof(why));
	if (ret < 0)
		fprintf(stderr, "%s: %s\n", program.name, why[0] ? why : rj_strerror(ret));
	return ret < 0 ? 1 : 0;
}

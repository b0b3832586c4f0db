/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-probe: what a migration from or to this machine would use, what not and why, and what mends it. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bench/common/options.h"
#include "bench/probe/probe_print.h"

enum probe_exit {
	PROBE_WOULD_GO = 0,
	PROBE_WOULD_NOT = 1,
};

static struct {
	const char *uri;
	const char *devices;
	uint64_t size_bytes;
	bool json;
} o = { .size_bytes = 1ull << 30 };

static const struct bench_option options[] = {
	BENCH_BYTES("size", &o.size_bytes, "BYTES",
		    "guest memory, which the locked-memory limit is judged by (1G)"),
	BENCH_TEXT("devices", &o.devices, "LIST",
		   "use only these RDMA devices, mlx5_0,mlx5_1 (all)"),
	BENCH_FLAG("json", &o.json, "one JSON object on stdout instead of text"),
};

static const struct bench_program program = {
	.name = "ramjet-probe",
	.summary =
		"Say what a migration from or to this machine would use, what not and why, and what mends it.\n"
		"With a URI: which way a migration by it would take. Connects to nothing, changes nothing.",
	.example = "\nExamples:\n"
		   "  ramjet-probe\n"
		   "  ramjet-probe auto://192.0.2.7:7471 --size 64G\n"
		   "\nExit status: 0 a migration would go, 1 it would not, 2 usage.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
	.operand = "[URI]",
	.operand_value = &o.uri,
};

static int fail(int status, bool json, const char *why)
{
	fprintf(stderr, "%s: %s\n", program.name, why);
	if (json)
		probe_print_json(NULL, why);
	return status;
}

static void log_line(void *arg, enum rj_log_level level, const char *line)
{
	fprintf(stderr, "%s: %s\n", program.name, line);
}

static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			return true;
	}
	return false;
}

/* The URI's own words for what is wrong with it. */
static int bad_uri(struct rj_env *env)
{
	struct rj_plan plan = { .size = sizeof(plan) };

	rj_plan(env, o.uri, &plan);
	return fail(BENCH_EXIT_USAGE, o.json, plan.why);
}

static int run(struct rj_env *env)
{
	struct rj_probe *probe;
	int ret = rj_probe_create(env, o.uri, o.size_bytes, &probe);

	if (ret == RJ_E_URI)
		return bad_uri(env);
	if (ret)
		return fail(PROBE_WOULD_NOT, o.json, rj_strerror(ret));
	if (o.json)
		probe_print_json(probe, "");
	else
		probe_print_text(probe, o.size_bytes);
	ret = probe->would_go ? PROBE_WOULD_GO : PROBE_WOULD_NOT;
	rj_probe_destroy(&probe);
	return ret;
}

int main(int argc, char **argv)
{
	struct rj_env_opts eo;
	struct rj_env *env = NULL;
	char why[512] = "";
	int ret = options_parse(&program, argc, argv, why, sizeof(why));

	if (ret > 0)
		return 0;
	if (ret < 0)
		return fail(BENCH_EXIT_USAGE, wants_json(argc, argv), why);
	rj_env_opts_init(&eo);
	eo.log = log_line;
	eo.log_level = RJ_LOG_ERROR;
	eo.devices = o.devices;
	ret = rj_env_open(&eo, &env);
	if (ret)
		return fail(BENCH_EXIT_USAGE, o.json,
			    o.devices ? "--devices: not all of these are there" : rj_strerror(ret));
	ret = run(env);
	rj_env_close(&env);
	return ret;
}

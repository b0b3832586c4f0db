/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-perf: what the lanes of a migration carry, between two machines or on one, and what it costs. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/options.h"
#include "bench/common/units.h"
#include "bench/perf/perf.h"
#include "rdma/rdma.h"

static struct perf_opts o = {
	.transport = "auto",
	.sizes_text = "4K,16K,64K,256K,1M",
	.pattern_text = "both",
	.progress_text = "auto",
	.duration_ms = 1000,
	.repeat = 5,
	.warmup = 1,
	.tell_fd = UINT32_MAX,
};

static const struct bench_option options[] = {
	BENCH_CHOICE(
		"transport", &o.transport, "auto|rdma|tcp|unix|null",
		"how pages travel; auto: rdma where a device reaches, else tcp; null: they do not"),
	BENCH_TEXT("sizes", &o.sizes_text, "LIST",
		   "message sizes, powers of two from 4K to 1M (4K,16K,64K,256K,1M)"),
	BENCH_CHOICE(
		"pattern", &o.pattern_text, "contiguous|scattered|random|both",
		"what is dirty: all; every second message; each by a coin; the first two (both)"),
	BENCH_TEXT(
		"lanes", &o.lanes_text, "LIST",
		"numbers of lanes, each with its thread and connection (chosen for this machine)"),
	BENCH_BYTES("memory", &o.memory_bytes, "BYTES",
		    "memory at each end (1G; for null 64G of address space)"),
	BENCH_TEXT(
		"nodes", &o.nodes, "LIST",
		"the nodes that the memory of this end lies on, in equal parts (the kernel's choice)"),
	BENCH_TEXT("cpus", &o.cpus, "LIST",
		   "CPUs that the sending lanes stay in (those of this process)"),
	BENCH_NUMBER("duration", &o.duration_ms, "MS", 1, 3600000,
		     "of one repetition: at least one pass over the memory (1000)"),
	BENCH_NUMBER("repeat", &o.repeat, "N", 1, 1000, "repetitions; the median is shown (5)"),
	BENCH_NUMBER("warmup", &o.warmup, "N", 0, 1000, "repetitions before, not counted (1)"),
	BENCH_BYTES("bandwidth", &o.bandwidth_bytes_per_s, "BYTES_PER_S",
		    "cap on all lanes together (none)"),
	BENCH_FLAG("json", &o.json, "a JSON object a line for each case instead of a table"),
	BENCH_TEXT("report", &o.report_path, "FILE",
		   "write all that is needed to judge this run from afar, as JSON"),
	BENCH_CHOICE("progress", &o.progress_text, "auto|never",
		     "what is done now, on stderr (auto)"),
	BENCH_TEXT("listen", &o.listen, "URI",
		   "be the end that is written to, for one source on another machine"),
	BENCH_TEXT("to", &o.to, "URI", "be the source; URI as the other end printed it"),
	BENCH_FLAG("verbose", &o.verbose, "the library's log on stderr"),
	BENCH_NUMBER("tell-fd", &o.tell_fd, "FD", 3, 65535, NULL),
};

static const struct bench_program program = {
	.name = "ramjet-perf",
	.summary =
		"Drive the lanes of a migration without a guest and print what they carry and what it costs:\n"
		"between two processes of this machine, or with --listen on one machine and --to on another.",
	.example = "\nExamples:\n"
		   "  ramjet-perf --transport null --lanes 1\n"
		   "  ramjet-perf --listen rdma://0.0.0.0:7472\n"
		   "  ramjet-perf --to rdma://192.0.2.7:7472 --lanes 1,2,4 --report perf.json\n"
		   "\nExit status: 0 measured, 1 failed, 2 usage.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
};

static int fail(int status, const char *why)
{
	fprintf(stderr, "%s: %s\n", program.name, why);
	if (o.json)
		perf_print_json(perf_failure_json(why));
	return status;
}

static void log_line(void *arg, enum rj_log_level level, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static struct perf_setting setting_of(const struct rji_host *host, const struct bench_route *r)
{
	struct perf_setting s = { .o = &o,
				  .host = host,
				  .transport = r->transport,
				  .ops = &rji_tcp_transport,
				  .memory_bytes = o.memory_bytes ? o.memory_bytes : 1ull << 30 };

	if (!strcmp(r->transport, "rdma"))
		s.ops = &rji_rdma_transport;
	if (!strcmp(r->transport, "null")) {
		s.ops = &rji_null_transport;
		if (!o.memory_bytes)
			s.memory_bytes = 64ull << 30;
	}
	return s;
}

/* --- both ends by one command: the destination is this program again, as a child with --listen --- */

extern char **environ;

#define TELL_FD 3 /* in the child */

static void tell_parent(void *arg, const char *uri)
{
	dprintf((int)o.tell_fd, "%s", uri);
	close((int)o.tell_fd);
}

static int start_child(const char *uri, pid_t *child_p, int *fd_p)
{
	char tell_fd[12];
	const char *argv[10] = { program.name, "--listen", uri, "--tell-fd", tell_fd };
	int n = 5;
	posix_spawn_file_actions_t actions;
	int fd[2], ret;

	snprintf(tell_fd, sizeof(tell_fd), "%d", TELL_FD);
	if (o.verbose)
		argv[n++] = "--verbose";
	if (o.nodes) {
		argv[n++] = "--nodes";
		argv[n++] = o.nodes;
	}
	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[1], TELL_FD);
	ret = posix_spawn(child_p, "/proc/self/exe", &actions, NULL, (char **)(uintptr_t)argv,
			  environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[1]);
	if (ret)
		close(fd[0]);
	else
		*fd_p = fd[0];
	return -ret;
}

/* Where the child listens. */
static int read_uri(int fd, char *uri)
{
	size_t got = 0;
	ssize_t n;

	while (got < ROUTE_URI - 1 && (n = read(fd, uri + got, ROUTE_URI - 1 - got)) > 0)
		got += (size_t)n;
	uri[got] = '\0';
	return got ? 0 : -EPIPE;
}

static int run_pair(const struct perf_setting *s, const struct bench_route *r, json_t *results,
		    json_t **peer_p, struct rj_error *err)
{
	char uri[ROUTE_URI];
	pid_t child;
	int fd = -1, ret = start_child(r->uri, &child, &fd);

	if (ret < 0)
		return rji_fail_sys(err, ret, -ret, "cannot start the destination");
	ret = read_uri(fd, uri);
	close(fd);
	if (ret < 0)
		rji_fail(err, ret, "the destination did not start");
	else
		ret = perf_source_run(s, uri, r->n_lanes, results, peer_p, err);
	if (ret < 0)
		kill(child, SIGTERM);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return ret;
}

/* --- roles --- */

static void say_listening(void *arg, const char *uri)
{
	fprintf(stderr, "listening at %s; on the other machine: ramjet-perf --to %s\n", uri, uri);
}

static int report(int argc, char **argv, const struct bench_route *r, json_t *peer, json_t *results,
		  struct rj_error *err)
{
	int ret;

	if (!o.report_path)
		return 0;
	ret = perf_write_report(o.report_path, &o, argc, argv, r, peer, results,
				err->code ? err->text : NULL);
	return ret < 0 ? rji_fail_sys(err, ret, -ret, "cannot write %s", o.report_path) : 0;
}

static int run(const struct rji_host *host, const struct bench_route *r, int argc, char **argv,
	       struct rj_error *err)
{
	struct perf_setting s = setting_of(host, r);
	json_t *results, *peer = NULL;
	int ret;

	if (o.tell_fd != UINT32_MAX)
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody else will ever come */
	if (o.listen)
		return perf_destination_run(&s, r->uri,
					    o.tell_fd == UINT32_MAX ? say_listening : tell_parent,
					    NULL, err);
	perf_say(&o, "plan       %s: %s; %s at each end", r->transport, r->why,
		 UNITS_BYTES(s.memory_bytes));
	results = json_array();
	ret = o.to ? perf_source_run(&s, r->uri, r->n_lanes, results, &peer, err)
		   : run_pair(&s, r, results, &peer, err);
	if (report(argc, argv, r, peer, results, err) < 0)
		ret = err->code;
	json_decref(results);
	json_decref(peer);
	return ret;
}

static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			return true;
	}
	return false;
}

static int choose_route(struct bench_route *r, char *why, size_t why_bytes)
{
	const char *uri = o.listen ? o.listen : o.to;
	struct rj_env *env;
	int ret = rj_env_open(NULL, &env);

	if (ret < 0) {
		snprintf(why, why_bytes, "cannot start: %s", rj_strerror(ret));
		return ret;
	}
	ret = uri ? route_uri(env, uri, o.transport, r, why, why_bytes)
		  : route_local(env, o.transport, r, why, why_bytes);
	rj_env_close(&env);
	return ret;
}

int main(int argc, char **argv)
{
	struct rji_host host = { .log = log_line, .log_level = RJ_LOG_WARN };
	struct bench_route route;
	struct rj_error err;
	char why[PERF_TEXT] = "";
	int ret = options_parse(&program, argc, argv, why, sizeof(why));

	if (ret > 0)
		return 0;
	if (ret < 0 || perf_understand(&o, why, sizeof(why)) < 0) {
		o.json = wants_json(argc, argv);
		return fail(BENCH_EXIT_USAGE, why);
	}
	if (o.verbose)
		host.log_level = RJ_LOG_DEBUG;
	ret = choose_route(&route, why, sizeof(why));
	if (ret < 0)
		return fail(ret == RJ_E_URI ? BENCH_EXIT_USAGE : 1, why);
	rji_error_init(&err);
	ret = run(&host, &route, argc, argv, &err);
	return ret < 0 ? fail(1, err.text[0] ? err.text : rj_strerror(ret)) : 0;
}

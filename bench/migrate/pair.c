/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both ends by one command. The destination is this program again, as a child with --listen, which tells over a pipe
 * first where it listens and at the end its figures: a line "listening URI", then one JSON object.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "bench/migrate/migrate.h"

extern char **environ;

#define LISTENING "listening "
#define REPORT_FD 3 /* in the child */
#define START_MS 30000
/* The child's last checks, and the time it keeps an outcome for. */
#define FINISH_MS 75000

struct child {
	pid_t pid;
	int fd; /* its reports */
	size_t got;
	char text[16384];
};

/* --- in the child --- */

void pair_tell_listening(void *fd, const char *uri)
{
	dprintf(*(int *)fd, LISTENING "%s\n", uri);
}

void pair_tell_result(int fd, const struct migrate_result *res)
{
	json_t *o = json_pack("{s:s,s:s,s:s,s:I,s:I,s:i,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
			      "status", res->status, "error", res->error, "runs_at", res->runs_at,
			      "cpu_ns", (json_int_t)res->st.cpu_ns, "verify_ns",
			      (json_int_t)res->verify_ns, "verified", res->verified, "verify_text",
			      res->verify_text, "counter_before", (json_int_t)res->counter_before,
			      "counter_after", (json_int_t)res->counter_after, "gap_max_ns",
			      (json_int_t)res->beats.gap_max_ns, "gap_p99_ns",
			      (json_int_t)res->beats.gap_p99_ns, "resumed_at_ns",
			      (json_int_t)res->st.resumed_at_ns, "pinned_peak_bytes",
			      (json_int_t)res->st.pinned_peak_bytes, "register_ns",
			      (json_int_t)res->st.register_ns, "evictions",
			      (json_int_t)res->st.evictions);

	json_dumpfd(o, fd, JSON_COMPACT);
	json_decref(o);
	if (write(fd, "\n", 1) < 0)
		progress_say("the parent is gone");
}

/* --- in the parent --- */

static int start_child(const struct migrate_opts *o, const struct bench_route *route,
		       struct child *c)
{
	char fd_text[16], lanes[16], lane_nice[12], cap[24];
	const char *argv[32];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	int pipe_fd[2], n = 0, ret;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	snprintf(fd_text, sizeof(fd_text), "%d", REPORT_FD);
	snprintf(lanes, sizeof(lanes), "%u", o->n_lanes);
	snprintf(lane_nice, sizeof(lane_nice), "%u", o->lane_nice);
	argv[n++] = "ramjet-migrate";
	argv[n++] = "--listen";
	argv[n++] = route->uri;
	argv[n++] = "--report-fd";
	argv[n++] = fd_text;
	argv[n++] = "--progress";
	argv[n++] = "never";
	argv[n++] = "--backing";
	argv[n++] = o->backing_text;
	if (o->nodes_text) {
		argv[n++] = "--memory-nodes";
		argv[n++] = o->nodes_text;
	}
	if (o->data_addrs) {
		argv[n++] = "--data-addrs";
		argv[n++] = o->data_addrs;
	}
	argv[n++] = "--lane-nice";
	argv[n++] = lane_nice;
	if (o->cpus) {
		argv[n++] = "--cpus";
		argv[n++] = o->cpus;
	}
	if (o->prefault)
		argv[n++] = "--prefault";
	argv[n++] = "--register";
	argv[n++] = o->register_text;
	if (o->pin_cap_bytes) {
		snprintf(cap, sizeof(cap), "%" PRIu64, o->pin_cap_bytes);
		argv[n++] = "--pin-cap";
		argv[n++] = cap;
	}
	if (o->verify)
		argv[n++] = "--verify";
	if (o->verbose)
		argv[n++] = "--verbose";
	if (o->n_lanes) {
		argv[n++] = "--lanes";
		argv[n++] = lanes;
	}
	argv[n] = NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], REPORT_FD);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	/* A group of its own: Ctrl-C cancels at the source, which tells the destination. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	ret = posix_spawn(&c->pid, "/proc/self/exe", &actions, &attr, (char **)(uintptr_t)argv,
			  environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_fd[1]);
	c->fd = pipe_fd[0];
	return -ret;
}

/* The next line of the child's reports, without its newline; NULL: it ended or took too long. */
static const char *next_line(struct child *c, size_t *at, int timeout_ms)
{
	for (;;) {
		struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
		char *line = c->text + *at, *end = memchr(line, '\n', c->got - *at);
		ssize_t n;

		if (end) {
			*end = '\0';
			*at += (size_t)(end - line) + 1;
			return line;
		}
		if (c->got == sizeof(c->text) || poll(&pfd, 1, timeout_ms) <= 0)
			return NULL;
		n = read(c->fd, c->text + c->got, sizeof(c->text) - c->got);
		if (n <= 0)
			return NULL;
		c->got += (size_t)n;
	}
}

static uint64_t get_u64(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void copy_text(char *to, size_t size, const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	if (text && *text)
		snprintf(to, size, "%s", text);
}

/* One clock on one machine: the downtime ends when the destination's VMM had resumed, less the time it verified. */
static void settle_downtime(struct migrate_result *res, const json_t *o)
{
	uint64_t resumed_at = get_u64(o, "resumed_at_ns"), paused_at = res->st.resumed_at_ns;
	struct rj_downtime_terms *t = &res->st.downtime;
	uint64_t whole;

	res->verify_ns = get_u64(o, "verify_ns");
	if (!res->st.downtime_ns || resumed_at < paused_at)
		return;
	whole = resumed_at - paused_at;
	if (res->st.downtime_ns > whole && t->handover_ns >= res->st.downtime_ns - whole)
		t->handover_ns -= res->st.downtime_ns - whole; /* RUNNING's way back */
	res->st.downtime_ns = whole - res->verify_ns;
	t->resume_ns -= t->resume_ns < res->verify_ns ? t->resume_ns : res->verify_ns;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void merge(struct migrate_result *res, const char *line)
{
	json_t *o = json_loads(line, 0, NULL);
	const char *status = json_string_value(json_object_get(o, "status"));
	int verified;

	if (!status) {
		json_decref(o);
		return;
	}
	res->peer_cpu_ns = get_u64(o, "cpu_ns");
	res->peer_cpu_known = true;
	res->peer_pins = (struct migrate_pins){ .peak_bytes = get_u64(o, "pinned_peak_bytes"),
						.register_ns = get_u64(o, "register_ns"),
						.evictions = get_u64(o, "evictions") };
	res->beats.gap_max_ns = max_u64(res->beats.gap_max_ns, get_u64(o, "gap_max_ns"));
	res->beats.gap_p99_ns = max_u64(res->beats.gap_p99_ns, get_u64(o, "gap_p99_ns"));
	verified = (int)json_integer_value(json_object_get(o, "verified"));
	if (!strcmp(res->status, "completed")) {
		settle_downtime(res, o);
		res->counter_before = get_u64(o, "counter_before");
		res->counter_after = get_u64(o, "counter_after");
		if (verified == 0) { /* its own checks count as well */
			res->verified = 0;
			copy_text(res->verify_text, sizeof(res->verify_text), o, "verify_text");
		}
		if (strcmp(status, "completed")) {
			copy_text(res->error, sizeof(res->error), o, "error");
			res->status = "failed";
		}
	}
	json_decref(o);
}

static void reap(struct child *c)
{
	close(c->fd);
	kill(c->pid, SIGTERM);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void pair_run(struct rj_env *env, const struct migrate_opts *o, const struct bench_route *route,
	      struct migrate_result *res)
{
	struct child *c = calloc(1, sizeof(*c));
	const char *line;
	size_t at = 0;
	int ret = c ? start_child(o, route, c) : -ENOMEM;

	if (ret < 0) {
		result_fail(res, "cannot start the destination as a second process: %s",
			    rj_strerror(ret));
		free(c);
		return;
	}
	line = next_line(c, &at, START_MS);
	if (line && !strncmp(line, LISTENING, strlen(LISTENING))) {
		progress_say("listening  %s (process %d)", line + strlen(LISTENING), (int)c->pid);
		source_run(env, o, line + strlen(LISTENING), res);
		if (!res->st.setup_ns) /* it may still wait for its source to come */
			kill(c->pid, SIGTERM);
		line = strcmp(res->status, "failed") || res->st.total_ns
			       ? next_line(c, &at, FINISH_MS)
			       : NULL;
		if (line)
			merge(res, line);
	} else if (line) {
		json_t *why = json_loads(line, 0, NULL);

		copy_text(res->error, sizeof(res->error), why, "error");
		json_decref(why);
		result_fail(res, "the destination did not start");
	} else {
		result_fail(res, "the destination process ended or did not say where it listens");
	}
	reap(c);
	free(c);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-migrate: live-migrate a guest made for it, between two processes or two machines, and print what it cost. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/common/options.h"
#include "bench/migrate/migrate.h"

#define REUSE (4u << 20) /* bytes a second, of free memory */

static struct migrate_opts o = {
	.transport = "auto",
	.guest = "auto",
	.workload_text = "uniform:50M",
	.progress_text = "auto",
	.strict_text = "on",
	.on_timeout_text = "cancel",
	.backing_text = "memfd",
	.filters = RJ_FILTER_ALL,
	.reuse_bytes_per_s = UINT64_MAX,
	.register_text = "all",
	.throttle_text = "off",
	.size_bytes = 1ull << 30,
	.max_downtime_ms = 300,
	.timeout_s = 600,
	.report_fd = UINT32_MAX,
	.seed = 1,
};

static const struct bench_option options[] = {
	BENCH_CHOICE("transport", &o.transport, "auto|rdma|tcp|unix|null",
		     "how pages travel; auto: rdma where a device reaches, else tcp"),
	BENCH_CHOICE("guest", &o.guest, "auto|kvm|synthetic|marked",
		     "what is migrated; auto: kvm where /dev/kvm works, else synthetic"),
	BENCH_BYTES("size", &o.size_bytes, "BYTES", "guest memory (1G)"),
	BENCH_CHOICE(
		"backing", &o.backing_text, "memfd|anon|thp|hugetlb",
		"what it is made of at this end: a memfd, anonymous memory, that with transparent "
		"huge pages, or a memfd of reserved huge pages (memfd)"),
	BENCH_CHOICE("memory", &o.memory_text, "shared|private|huge", NULL),
	BENCH_TEXT("memory-nodes", &o.nodes_text, "LIST",
		   "spread it over these NUMA nodes in equal parts, as 0,1 (the kernel's choice)"),
	BENCH_CHOICE(
		"fill", &o.fill_text, "mixed|random|text|none",
		"what is in it at first: random numbers, but for a sixteenth; random numbers; "
		"words as in text; or with --transport null nothing, for a kvm guest larger than "
		"this machine (mixed, or random with the next three)"),
	BENCH_BYTES(
		"used", &o.used_bytes, "BYTES",
		"of it the guest uses and writes this; the rest is free, zero, or was never touched "
		"(all that --free and --zero leave)"),
	BENCH_TEXT("free", &o.free_text, "PCT",
		   "percent of it that are free, with what was in there when they were used (0)"),
	BENCH_TEXT("zero", &o.zero_text, "PCT",
		   "percent of it that hold zeros which the guest wrote (0)"),
	BENCH_CHOICE("hints", &o.hints_text, "reporting|balloon|none",
		     "how the guest tells which memory is free (reporting)"),
	BENCH_BYTES("reuse", &o.reuse_bytes_per_s, "BYTES_PER_S",
		    "free memory that it takes into use, and later frees again (4M)"),
	BENCH_FLAG("prefault", &o.prefault,
		   "have the destination's memory present before the migration begins"),
	BENCH_FLAG("paused", &o.paused,
		   "the guest stands still from the start, and so it does when it has arrived"),
	BENCH_TEXT("workload", &o.workload_text, "W",
		   "idle, uniform:RATE, hot:BYTES:RATE, sweep:RATE, same:RATE, aba:RATE or "
		   "sparse:BYTES:RATE, RATE in bytes of pages dirtied a second (uniform:50M)"),
	BENCH_TEXT("filters", &o.filters_text, "LIST",
		   "which to use of hole,free,zero,same,delta,zstd; or none (all)"),
	BENCH_CHOICE("tracker", &o.tracker_text, "log|ring",
		     "how KVM tells what a kvm guest dirties (log)"),
	BENCH_NUMBER("lanes", &o.n_lanes, "N", 1, RJ_MAX_LANES,
		     "sender threads, each with its connection (chosen for this machine)"),
	BENCH_TEXT("cpus", &o.cpus, "LIST",
		   "CPUs that the library's threads stay on at this end, as 0-3,8 (all)"),
	BENCH_NUMBER("lane-nice", &o.lane_nice, "N", 0, 19,
		     "how far threads that move pages give way to vCPUs on the same CPUs (0)"),
	BENCH_NUMBER("max-downtime", &o.max_downtime_ms, "MS", 1, 2000000,
		     "how long the guest may stand still (300)"),
	BENCH_CHOICE("strict-downtime", &o.strict_text, "on|off",
		     "rather go on at the source and try again than break it (on)"),
	BENCH_TEXT(
		"throttle", &o.throttle_text, "on|off|MAX",
		"slow down a guest that is faster than the link, in steps, up to 99 or MAX percent (off)"),
	BENCH_BYTES("bandwidth", &o.bandwidth_bytes_per_s, "BYTES_PER_S",
		    "cap on all lanes together (none)"),
	BENCH_CHOICE("register", &o.register_text, "all|lazy",
		     "what rdma registers, and pins: all memory, or what the lanes come to (all)"),
	BENCH_BYTES("pin-cap", &o.pin_cap_bytes, "BYTES",
		    "memory pinned at once at most, at each end (none)"),
	BENCH_NUMBER(
		"timeout", &o.timeout_s, "S", 1, 1000000,
		"what to do when it does not get to the switchover by then: --on-timeout (600)"),
	BENCH_CHOICE("on-timeout", &o.on_timeout_text, "cancel|stop-anyway",
		     "stop-anyway: stop the guest for as long as it takes (cancel)"),
	BENCH_NUMBER(
		"warm-up", &o.warm_up_ms, "MS", 0, 3600000,
		"let the guest run so long before it migrates, and tell its heartbeat gaps apart (0)"),
	BENCH_FLAG(
		"pause-before-switchover", &o.pause_before_switchover,
		"when the guest could be stopped let it run on, until 'switchover' comes on stdin"),
	BENCH_FLAG(
		"control", &o.control,
		"take lines from stdin meanwhile: bandwidth BYTES_PER_S|none, max-downtime MS, hold, "
		"switchover, load BYTES_PER_S|none (what the guest dirties), cancel"),
	BENCH_FLAG("verify", &o.verify, "compare the memory of both sides page by page"),
	BENCH_FLAG("json", &o.json, "one JSON object on stdout instead of a summary"),
	BENCH_CHOICE("progress", &o.progress_text, "auto|never",
		     "a line per round on stderr (auto)"),
	BENCH_TEXT("timeline", &o.timeline_path, "FILE",
		   "write what happens meanwhile there, as JSON lines for bench/plot"),
	BENCH_TEXT("listen", &o.listen, "URI",
		   "be the destination, for a source on another machine"),
	BENCH_TEXT(
		"data-addrs", &o.data_addrs, "HOST,...",
		"the destination's addresses for lanes, which are spread over them (where control "
		"comes in)"),
	BENCH_TEXT("to", &o.to, "URI", "be the source; URI as the destination printed it"),
	BENCH_NUMBER("seed", &o.seed, "N", 0, UINT32_MAX - 1,
		     "of the workload's random numbers (1)"),
	BENCH_FLAG("verbose", &o.verbose, "the library's log on stderr"),
	BENCH_NUMBER("report-fd", &o.report_fd, "FD", 3, 65535, NULL),
	BENCH_CHOICE("break", &o.break_text, "device-tracking", NULL),
};

static const struct bench_program program = {
	.name = "ramjet-migrate",
	.summary =
		"Migrate a running guest live and print what it cost: between two processes of this machine,\n"
		"or with --listen on one machine and --to on another.",
	.example =
		"\nExamples:\n"
		"  ramjet-migrate --verify\n"
		"  ramjet-migrate --listen tcp://0.0.0.0:7471\n"
		"  ramjet-migrate --to tcp://192.0.2.7:7471 --size 4G --workload hot:64M:400M\n"
		"\nExit status: 0 runs at the destination, 1 failed and runs at the source, 2 usage,\n"
		"3 unknown where it runs, 4 cancelled.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
};

/* A usage error: nothing has been started. */
static int usage(struct migrate_result *res, bool json, const char *why)
{
	fprintf(stderr, "%s: %s\n", program.name, why);
	if (json) {
		result_fail(res, "%s", why);
		res->runs_at = "source";
		res->verified = -1;
		result_print_json(res);
	}
	return MIGRATE_USAGE;
}

static bool has_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

static int understand_throttle(char *why, size_t why_bytes)
{
	char *end;
	long max = strtol(o.throttle_text, &end, 10);

	if (!strcmp(o.throttle_text, "off") || !strcmp(o.throttle_text, "on")) {
		o.throttle_percent = o.throttle_text[1] == 'n' ? 99 : 0;
		return 0;
	}
	if (*end || max < 1 || max > 99) {
		snprintf(why, why_bytes, "--throttle: on, off, or percent from 1 to 99, not '%s'",
			 o.throttle_text);
		return -EINVAL;
	}
	o.throttle_percent = (uint32_t)max;
	return 0;
}

static void understand_backing(void)
{
	static const char *const names[] = { [GUEST_MEMORY_SHARED] = "memfd",
					     [GUEST_MEMORY_PRIVATE] = "anon",
					     [GUEST_MEMORY_HUGE] = "thp",
					     [GUEST_MEMORY_HUGETLB] = "hugetlb" };

	if (o.memory_text) /* their former names */
		o.backing_text = names[o.memory_text[0] == 's'	 ? GUEST_MEMORY_SHARED
				       : o.memory_text[0] == 'h' ? GUEST_MEMORY_HUGE
								 : GUEST_MEMORY_PRIVATE];
	for (int i = 0; i < 4; i++)
		if (!strcmp(o.backing_text, names[i]))
			o.guest_opts.memory = (enum guest_memory_kind)i;
}

/* Percent of the guest, in whole pages. */
static int understand_percent(const char *option, const char *text, uint64_t *bytes_p, char *why,
			      size_t why_bytes)
{
	char *end = NULL;
	double percent = text ? strtod(text, &end) : 0;

	if (text && (*text < '0' || *text > '9' || *end || !(percent <= 100))) {
		snprintf(why, why_bytes, "--%s: percent from 0 to 100, not '%s'", option, text);
		return -EINVAL;
	}
	*bytes_p = (uint64_t)((double)o.size_bytes / 100 * percent) & ~(uint64_t)4095;
	return 0;
}

static void understand_hints(void)
{
	struct guest_opts *go = &o.guest_opts;

	go->reuse_bytes_per_s = o.reuse_bytes_per_s != UINT64_MAX ? o.reuse_bytes_per_s : REUSE;
	go->hints = !o.hints_text || o.hints_text[0] == 'r' ? GUEST_HINTS_REPORTING
		    : o.hints_text[0] == 'b'		    ? GUEST_HINTS_BALLOON
							    : GUEST_HINTS_NONE;
}

/* What is in the guest's memory, and what of it is free. */
static int understand_parts(char *why, size_t why_bytes)
{
	struct guest_opts *go = &o.guest_opts;
	bool has_parts = o.used_bytes || o.free_text || o.zero_text;

	if (understand_percent("free", o.free_text, &go->free_bytes, why, why_bytes) < 0 ||
	    understand_percent("zero", o.zero_text, &go->zero_bytes, why, why_bytes) < 0)
		return -EINVAL;
	if (!go->free_bytes && (o.hints_text || o.reuse_bytes_per_s != UINT64_MAX)) {
		snprintf(why, why_bytes, "--hints and --reuse are about free memory: give --free");
		return -EINVAL;
	}
	if (!o.fill_text)
		o.fill_text = has_parts ? "random" : "mixed";
	go->fill_text = !strcmp(o.fill_text, "text");
	go->fill_all = go->fill_text || !strcmp(o.fill_text, "random");
	go->fill_none = !strcmp(o.fill_text, "none");
	go->used_bytes = o.used_bytes;
	if (go->free_bytes)
		understand_hints();
	return has_parts && !o.listen ? guest_opts_check(go, why, why_bytes) : 0;
}

/* What the options mean together. */
static int understand(char *why, size_t why_bytes)
{
	static const char *const kinds[] = { "kvm", "synthetic", "marked" };
	struct guest_opts *go = &o.guest_opts;

	if (o.listen && o.to) {
		snprintf(why, why_bytes, "--listen and --to exclude each other: one machine each");
		return -EINVAL;
	}
	if (o.data_addrs && o.to) {
		snprintf(why, why_bytes, "--data-addrs is the destination's: give it there");
		return -EINVAL;
	}
	if (o.timeline_path && o.listen) {
		snprintf(why, why_bytes, "--timeline is the source's: give it there");
		return -EINVAL;
	}
	if ((o.control || o.pause_before_switchover) && o.listen) {
		snprintf(
			why, why_bytes,
			"--control and --pause-before-switchover are the source's: give them there");
		return -EINVAL;
	}
	o.control |= o.pause_before_switchover;
	if (understand_throttle(why, why_bytes) < 0)
		return -EINVAL;
	if (o.filters_text && filters_parse(o.filters_text, &o.filters, why, why_bytes) < 0)
		return -EINVAL;
	if (guest_parse_workload(o.workload_text, &go->workload, why, why_bytes) < 0)
		return -EINVAL;
	if (!strcmp(o.guest, "auto")) {
		go->kind = has_kvm() ? GUEST_KVM : GUEST_SYNTHETIC;
		if (!has_kvm())
			o.guest_why = "no usable /dev/kvm here, so no real virtual machine";
	}
	for (int i = 0; i < 3; i++) {
		if (!strcmp(o.guest, kinds[i]))
			go->kind = (enum guest_kind)i;
	}
	if (o.size_bytes < 16u << 20 || o.size_bytes % 4096) {
		snprintf(why, why_bytes,
			 "--size: a guest has at least 16M, in whole pages of 4096 bytes");
		return -EINVAL;
	}
	if (o.prefault && go->kind == GUEST_MARKED && !o.listen) {
		snprintf(why, why_bytes, "--prefault needs real memory; a marked guest has none");
		return -EINVAL;
	}
	if (o.nodes_text && go->kind == GUEST_MARKED && !o.listen) {
		snprintf(why, why_bytes,
			 "--memory-nodes needs real memory; a marked guest has none");
		return -EINVAL;
	}
	if (o.nodes_text && guest_parse_nodes(o.nodes_text, &go->nodes, why, why_bytes) < 0)
		return -EINVAL;
	if (o.tracker_text && go->kind != GUEST_KVM && !o.listen) {
		snprintf(why, why_bytes, "--tracker is about KVM: it needs a kvm guest");
		return -EINVAL;
	}
	if (o.verify && go->kind == GUEST_MARKED && !o.listen) {
		snprintf(why, why_bytes, "--verify needs real memory; a marked guest has none");
		return -EINVAL;
	}
	o.progress = !strcmp(o.progress_text, "auto");
	go->size_bytes = o.size_bytes;
	go->seed = o.seed;
	go->tracker = o.tracker_text && !strcmp(o.tracker_text, "ring") ? GUEST_TRACKER_RING
									: GUEST_TRACKER_LOG;
	go->break_device_tracking = o.break_text && !strcmp(o.break_text, "device-tracking");
	understand_backing();
	return understand_parts(why, why_bytes);
}

static int check_null(const struct bench_route *r, char *why, size_t why_bytes)
{
	if (o.guest_opts.fill_none && strcmp(r->transport, "null") && !o.listen) {
		snprintf(why, why_bytes,
			 "--fill none: such memory is not there to be read; use --transport null");
		return -EINVAL;
	}
	if (strcmp(r->transport, "null") || !o.verify)
		return 0;
	snprintf(why, why_bytes,
		 "--verify needs memory that arrives; the null transport moves none");
	return -EINVAL;
}

/* Listening at any address: the other machine needs one, and knows this one by its name if by anything. */
static void reachable_uri(const char *uri, char *to, size_t to_bytes)
{
	static const char *const any[] = { "://0.0.0.0:", "://[::]:", "://:" };
	char name[128] = "THIS-HOST";

	snprintf(to, to_bytes, "%s", uri);
	gethostname(name, sizeof(name) - 1);
	for (size_t i = 0; i < sizeof(any) / sizeof(*any); i++) {
		const char *at = strstr(uri, any[i]);

		if (at)
			snprintf(to, to_bytes, "%.*s://%s:%s", (int)(at - uri), uri, name,
				 at + strlen(any[i]));
	}
}

static void say_listening(void *arg, const char *uri)
{
	char reachable[MIGRATE_URI + 128];

	(void)arg;
	reachable_uri(uri, reachable, sizeof(reachable));
	progress_say("listening at %s; on the other machine: ramjet-migrate --to %s", uri,
		     reachable);
}

static int choose_route(struct rj_env *env, struct bench_route *r, char *why, size_t why_bytes)
{
	const char *uri = o.listen ? o.listen : o.to;

	if (uri)
		return route_uri(env, uri, o.transport, r, why, why_bytes);
	return route_local(env, o.transport, r, why, why_bytes);
}

static void run(struct rj_env *env, const struct bench_route *route, struct migrate_result *res)
{
	int report_fd = (int)o.report_fd;
	bool child = o.report_fd != UINT32_MAX;
	int ret;

	if (o.listen) {
		res->role = "destination";
		destination_run(env, &o, route->uri, child ? pair_tell_listening : say_listening,
				&report_fd, res);
		return;
	}
	progress_plan(&o, route);
	if (o.to)
		res->role = "source";
	ret = timeline_open(o.timeline_path, &o.timeline);
	if (ret < 0)
		result_fail(res, "--timeline: cannot write %s: %s", o.timeline_path,
			    strerror(-ret));
	else if (o.to)
		source_run(env, &o, route->uri, res);
	else
		pair_run(env, &o, route, res);
	ret = timeline_close(&o.timeline, res);
	if (ret < 0)
		fprintf(stderr, "%s: %s is not whole: %s\n", program.name, o.timeline_path,
			strerror(-ret));
	if (o.json)
		result_print_json(res);
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL); /* a thread waits for them: cancel_by_signals() */
}

static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	static const char *const kinds[] = { "kvm", "synthetic", "marked" };
	struct migrate_result res = { .status = "failed", .runs_at = "source", .verified = -1 };
	struct bench_route route;
	struct rj_env_opts eo;
	struct rj_env *env = NULL;
	char why[MIGRATE_TEXT] = "";
	int ret = options_parse(&program, argc, argv, why, sizeof(why));

	if (ret > 0)
		return 0;
	if (ret < 0 || understand(why, sizeof(why)) < 0)
		return usage(&res, wants_json(argc, argv), why);
	res.guest = o.listen ? NULL : kinds[o.guest_opts.kind];
	res.max_downtime_ms = o.max_downtime_ms;
	progress_enable(o.progress);
	progress_verbose(o.verbose);
	block_signals();
	if (o.report_fd != UINT32_MAX) /* killed parents leave no destination that waits for ever */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	rj_env_opts_init(&eo);
	eo.log = progress_log;
	eo.arg = o.report_fd != UINT32_MAX ? "destination " : "";
	eo.log_level = o.verbose ? RJ_LOG_DEBUG : RJ_LOG_WARN;
	ret = rj_env_open(&eo, &env);
	if (ret < 0) {
		result_fail(&res, "cannot start: %s", rj_strerror(ret));
	} else {
		ret = choose_route(env, &route, why, sizeof(why));
		if (!ret && check_null(&route, why, sizeof(why)) < 0)
			ret = RJ_E_URI;
		if (ret == RJ_E_URI) {
			rj_env_close(&env);
			return usage(&res, o.json, why);
		}
		if (ret < 0)
			result_fail(&res, "%s", why);
		else
			run(env, &route, &res);
	}
	if (ret < 0 && o.json)
		result_print_json(&res);
	if (!o.json && o.report_fd == UINT32_MAX)
		result_print_summary(&res);
	rj_env_close(&env);
	lanes_free(&res.lanes);
	return result_exit(&res);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* ramjet-snapshot: save a running guest made for it to a file, restore it, look at the file. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/common/options.h"
#include "bench/snapshot/snapshot_bench.h"

static struct snapshot_opts o = {
	.guest = "auto",
	.workload_text = "uniform:50M",
	.memory_text = "shared",
	.fill_text = "mixed",
	.strict_text = "off",
	.register_text = "none",
	.progress_text = "auto",
	.size_bytes = 1ull << 30,
	.max_downtime_ms = 300,
	.timeout_s = 600,
	.seed = 1,
};

static const struct bench_option options[] = {
	BENCH_CHOICE("guest", &o.guest, "auto|kvm|synthetic",
		     "save: what is saved; auto: kvm where /dev/kvm works, else synthetic"),
	BENCH_BYTES("size", &o.size_bytes, "BYTES", "save: guest memory (1G)"),
	BENCH_BYTES("used", &o.used_bytes, "BYTES",
		    "save: what of it was ever used, the rest never touched (all)"),
	BENCH_BYTES("free", &o.free_bytes, "BYTES",
		    "save: what of the rest was used, given up, and is reported as free when the "
		    "save begins (none)"),
	BENCH_CHOICE("fill", &o.fill_text, "mixed|random",
		     "save: what is in it: zero pages among random ones, or random only (mixed)"),
	BENCH_CHOICE("memory", &o.memory_text, "shared|private|huge",
		     "what it is made of: a memfd, anonymous memory, or that with transparent "
		     "huge pages (shared)"),
	BENCH_FLAG("prefault", &o.prefault,
		   "restore: have the memory present before the restore begins"),
	BENCH_FLAG("lazy", &o.lazy,
		   "restore: let the guest run at once, and bring its memory while it does"),
	BENCH_TEXT("workload", &o.workload_text, "W",
		   "save: idle, uniform:RATE, hot:BYTES:RATE or sweep:RATE (uniform:50M)"),
	BENCH_FLAG("stopped", &o.stopped,
		   "save: pause the guest first, and save it standing still"),
	BENCH_FLAG("stay", &o.stay, "save: do not let the guest go on afterwards"),
	BENCH_NUMBER("lanes", &o.n_lanes, "N", 1, RJ_MAX_LANES,
		     "threads that write or read (chosen for this machine)"),
	BENCH_CHOICE("register", &o.register_text, "none|all",
		     "save: have io_uring register each piece of guest memory before it is written "
		     "(none)"),
	BENCH_NUMBER("max-downtime", &o.max_downtime_ms, "MS", 1, 2000000,
		     "save: how long the guest may stand still (300)"),
	BENCH_CHOICE("strict-downtime", &o.strict_text, "on|off",
		     "save: rather never finish than break it (off)"),
	BENCH_BYTES("bandwidth", &o.bandwidth_bytes_per_s, "BYTES_PER_S",
		    "save: cap on all lanes together (none)"),
	BENCH_NUMBER("timeout", &o.timeout_s, "S", 1, 1000000,
		     "save: cancel when the guest is not paused by then (600)"),
	BENCH_FLAG("verify", &o.verify,
		   "save: read the file back; restore: compare memory with the guest's records"),
	BENCH_FLAG("json", &o.json, "one JSON object on stdout instead of a summary"),
	BENCH_CHOICE("progress", &o.progress_text, "auto|never", "lines on stderr (auto)"),
	BENCH_NUMBER("seed", &o.seed, "N", 0, UINT32_MAX - 1,
		     "of the workload's random numbers (1)"),
	BENCH_FLAG("verbose", &o.verbose, "the library's log on stderr"),
};

static const struct bench_program program = {
	.name = "ramjet-snapshot",
	.summary =
		"Put COMMAND first: save, restore, verify or info.\n"
		"Save a running guest to FILE, restore it from there, check the file or show what it holds.",
	.example = "\nExamples:\n"
		   "  ramjet-snapshot save /var/tmp/guest.snap --size 4G --workload uniform:200M\n"
		   "  ramjet-snapshot restore /var/tmp/guest.snap --verify\n"
		   "  ramjet-snapshot restore /var/tmp/guest.snap --lazy --verify\n"
		   "  ramjet-snapshot info /var/tmp/guest.snap\n"
		   "\nExit status: 0 done, 1 failed, 2 usage, 4 cancelled.\n",
	.options = options,
	.n_options = sizeof(options) / sizeof(*options),
	.operand = "FILE",
	.operand_value = &o.file,
};

static const struct command {
	const char *name;
	void (*run)(struct rj_env *env, const struct snapshot_opts *opts,
		    struct snapshot_result *res);
} commands[] = {
	{ "save", snapshot_save },
	{ "restore", snapshot_restore },
	{ "verify", snapshot_verify },
	{ "info", snapshot_info },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (name && !strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static bool has_kvm(void)
{
	return access("/dev/kvm", R_OK | W_OK) == 0;
}

/* A URI has the whole path. */
static int make_uri(char *why, size_t why_bytes)
{
	char here[SNAPSHOT_URI] = "";
	int n;

	if (o.file[0] != '/' && !getcwd(here, sizeof(here))) {
		snprintf(why, why_bytes, "%s: write the whole path", o.file);
		return -EINVAL;
	}
	n = snprintf(o.uri, sizeof(o.uri), "file://%s%s%s", here, here[0] ? "/" : "", o.file);
	if (n >= (int)sizeof(o.uri)) {
		snprintf(why, why_bytes, "the path is too long");
		return -ENAMETOOLONG;
	}
	return 0;
}

static int understand(char *why, size_t why_bytes)
{
	if (!o.file || !o.file[0]) {
		snprintf(why, why_bytes, "name the FILE: %s %s FILE", program.name, o.command);
		return -EINVAL;
	}
	if (guest_parse_workload(o.workload_text, &o.workload, why, why_bytes) < 0)
		return -EINVAL;
	if (o.size_bytes < 16u << 20 || o.size_bytes % 4096) {
		snprintf(why, why_bytes,
			 "--size: a guest has at least 16M, in whole pages of 4096 bytes");
		return -EINVAL;
	}
	if (o.used_bytes > o.size_bytes || o.used_bytes % (1u << 20)) {
		snprintf(why, why_bytes, "--used: no more than --size, in whole MiB");
		return -EINVAL;
	}
	if (o.free_bytes > o.size_bytes - o.used_bytes || o.free_bytes % (1u << 20)) {
		snprintf(why, why_bytes, "--free: no more than --used leaves, in whole MiB");
		return -EINVAL;
	}
	o.kind = !strcmp(o.guest, "synthetic") || (!strcmp(o.guest, "auto") && !has_kvm())
			 ? GUEST_SYNTHETIC
			 : GUEST_KVM;
	o.memory = o.memory_text[0] == 's'   ? GUEST_MEMORY_SHARED
		   : o.memory_text[0] == 'h' ? GUEST_MEMORY_HUGE
					     : GUEST_MEMORY_PRIVATE;
	return make_uri(why, why_bytes);
}

static int usage(struct snapshot_result *res, bool json, const char *why)
{
	fprintf(stderr, "%s: %s\n", program.name, why);
	if (json) {
		report_fail(res, "%s", why);
		report_json(res);
	}
	return BENCH_EXIT_USAGE;
}

static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			return true;
	}
	return false;
}

static void run(const struct command *command, struct snapshot_result *res)
{
	struct rj_env *env = NULL;
	struct rj_env_opts eo;
	int ret;

	rj_env_opts_init(&eo);
	eo.log = report_log;
	eo.log_level = o.verbose ? RJ_LOG_DEBUG : RJ_LOG_WARN;
	ret = rj_env_open(&eo, &env);
	if (ret < 0) {
		report_fail(res, "cannot start: %s", rj_strerror(ret));
		return;
	}
	command->run(env, &o, res);
	rj_env_close(&env);
}

int main(int argc, char **argv)
{
	struct snapshot_result res = { .command = "",
				       .status = "completed",
				       .peak_memory_bytes = -1,
				       .direct_io = -1,
				       .verified = -1 };
	const struct command *command = find_command(argc > 1 ? argv[1] : NULL);
	char why[SNAPSHOT_TEXT] = "";
	int ret;

	if (!command && (argc < 2 || argv[1][0] != '-'))
		return usage(&res, wants_json(argc, argv),
			     "write what to do first: save, restore, verify or info; see --help");
	ret = options_parse(&program, command ? argc - 1 : argc, command ? argv + 1 : argv, why,
			    sizeof(why));
	if (ret > 0)
		return 0;
	if (!ret && !command)
		return usage(&res, o.json, "write what to do first: save, restore, verify or info");
	if (command)
		res.command = o.command = command->name;
	if (ret < 0 || understand(why, sizeof(why)) < 0)
		return usage(&res, wants_json(argc, argv), why);
	report_enable(!strcmp(o.progress_text, "auto") && command->run != snapshot_info, o.verbose);
	run(command, &res);
	if (o.json)
		report_json(&res);
	else
		report_summary(&res);
	return report_exit(&res);
}

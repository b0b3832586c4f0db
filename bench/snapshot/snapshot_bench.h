/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_SNAPSHOT_SNAPSHOT_BENCH_H
#define BENCH_SNAPSHOT_SNAPSHOT_BENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <ramjet/ramjet.h>

#include "bench/guest/guest.h"

/*
 * ramjet-snapshot: one file a part.
 *
 *   ramjet-snapshot.c   commands and options, exit status
 *   snapshot_save.c     a guest that runs, and its VMM's hooks
 *   snapshot_restore.c  an empty guest, and the hooks
 *   snapshot_look.c     verify and info
 *   snapshot_memory.c   how much memory it takes beside the guest's
 *   snapshot_report.c   progress, and the figures as JSON and as a summary
 */
enum snapshot_exit { SNAPSHOT_OK = 0, SNAPSHOT_FAILED = 1, SNAPSHOT_CANCELLED = 4 };

#define SNAPSHOT_TEXT 512
#define SNAPSHOT_URI 1100

struct snapshot_opts {
	const char *command, *file;
	const char *guest, *workload_text, *memory_text, *fill_text, *strict_text, *progress_text,
		*register_text;
	uint64_t size_bytes, used_bytes, free_bytes, bandwidth_bytes_per_s;
	uint32_t n_lanes, max_downtime_ms, timeout_s, seed;
	bool stopped, stay, prefault, lazy, verify, json, verbose;
	/* understood */
	char uri[SNAPSHOT_URI];
	struct guest_workload workload;
	enum guest_kind kind;
	enum guest_memory_kind memory;
};

struct snapshot_result {
	const char *command;
	const char *status; /* completed, cancelled, failed */
	char error[SNAPSHOT_TEXT];
	struct rj_stats st; /* of the session; verify and info fill in what they know */
	uint64_t file_bytes, disk_bytes;
	int64_t peak_memory_bytes; /* -1: not known */
	int direct_io;		   /* -1: not known */
	int verified;		   /* 1, 0, -1: not asked for, or it did not come to it */
	char verify_text[SNAPSHOT_TEXT];
	int lazy; /* restore: 1, 0; -1 otherwise */
	/* restore: since it was begun, with making the guest; 0: it did not come to it */
	uint64_t resumed_ns, first_beat_ns;
	uint64_t counter_before, counter_after;
	struct guest_beats beats;
};

void snapshot_save(struct rj_env *env, const struct snapshot_opts *o, struct snapshot_result *res);
void snapshot_restore(struct rj_env *env, const struct snapshot_opts *o,
		      struct snapshot_result *res);
void snapshot_verify(struct rj_env *env, const struct snapshot_opts *o,
		     struct snapshot_result *res);
void snapshot_info(struct rj_env *env, const struct snapshot_opts *o, struct snapshot_result *res);

/* --- what the commands share --- */

/* Open, run, close: the session's part of a save or a restore. */
void snapshot_run(struct rj_session *s, const struct rj_hooks *hooks, void *arg,
		  struct snapshot_result *res);
void snapshot_session_opts(const struct snapshot_opts *o, struct rj_opts *so);
/* Length and blocks of the file, if there is one. */
void snapshot_stat(const char *file, struct snapshot_result *res);
/* rj_snapshot_verify() of a file that is there. */
void snapshot_check_file(struct rj_env *env, const struct snapshot_opts *o,
			 struct snapshot_result *res);

/* --- snapshot_memory.c --- */

/* Watch this process's own memory from now on; shared guest memory is not part of it. */
void memory_watch_start(void);
uint64_t memory_watch_stop(void); /* the peak above the start */

/* --- snapshot_report.c --- */

void report_enable(bool progress, bool verbose);
void report_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void report_event(const struct rj_event *ev);
void report_log(void *arg, enum rj_log_level level, const char *line);
/* A line a second on how far it is, until stopped; s NULL: of done_bytes. */
void report_progress_start(struct rj_session *s, const uint64_t *done_bytes, uint64_t all_bytes);
void report_progress_stop(void);
void report_fail(struct snapshot_result *res, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void report_json(const struct snapshot_result *res);
void report_summary(const struct snapshot_result *res);
enum snapshot_exit report_exit(const struct snapshot_result *res);

#endif

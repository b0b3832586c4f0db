/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_MIGRATE_MIGRATE_H
#define BENCH_MIGRATE_MIGRATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <ramjet/ramjet.h>

#include "bench/common/route.h"
#include "bench/guest/guest.h"

/*
 * ramjet-migrate: one file a part.
 *
 *   ramjet-migrate.c  options, which role, exit status
 *   source_end.c      a guest that runs, and the hooks of its VMM
 *   destination_end.c an empty guest, its VMM's hooks, and the check of what arrived
 *   verify.c          memory of both sides compared, over a connection of its own
 *   pair.c            both ends by one command: the destination as a child process
 *   progress.c        what a person sees while it happens
 *   registering.c     when that is memory being registered
 *   timeline.c        what happens meanwhile, in a file
 *   lane_report.c     where lanes run, and what they sent of which node's memory
 *   commands.c        what is changed meanwhile by lines on stdin
 *   filter_names.c    --filters
 *   common_end.c      what both ends do alike
 *   result.c          the figures, as JSON and as a summary
 */

enum migrate_exit {
	MIGRATE_COMPLETED = 0,
	MIGRATE_FAILED = 1,
	MIGRATE_USAGE = 2,
	MIGRATE_UNKNOWN = 3,
	MIGRATE_CANCELLED = 4,
};

#define MIGRATE_TEXT 512
#define MIGRATE_URI ROUTE_URI

struct migrate_opts {
	const char *transport, *guest, *workload_text, *listen, *to, *progress_text, *strict_text,
		*on_timeout_text;
	const char *backing_text, *memory_text, *fill_text, *tracker_text;
	const char *zero_text, *free_text, *hints_text, *filters_text;
	const char *nodes_text, *cpus, *data_addrs;
	const char *break_text; /* tests */
	const char *register_text, *timeline_path, *throttle_text;
	uint64_t size_bytes, used_bytes, reuse_bytes_per_s, bandwidth_bytes_per_s, pin_cap_bytes;
	uint32_t n_lanes, max_downtime_ms, timeout_s, report_fd, seed, throttle_percent, warm_up_ms,
		lane_nice;
	bool verify, json, verbose, prefault, paused, control, pause_before_switchover;
	/* understood */
	struct guest_opts guest_opts;
	uint32_t filters;
	const char *guest_why; /* why another kind than the usual one; or NULL */
	bool progress;
	struct timeline *timeline; /* or NULL */
};

/* Where the lanes ran, and what each sent of each node's memory. */
struct lane_report {
	uint32_t n_lanes;
	struct rj_lane_plan plan[RJ_MAX_LANES];
	uint32_t n_bytes, max_bytes;
	struct rj_lane_bytes *bytes;
};

/* What came of it. Written by one thread, read when it is over. */
struct migrate_result {
	const char *role;    /* "source", "destination", or NULL: both */
	const char *status;  /* completed, cancelled, failed, unknown */
	const char *runs_at; /* source, destination, unknown */
	char error[MIGRATE_TEXT];
	char transport[16];
	const char *guest;
	struct rj_stats st; /* this side's */
	uint32_t max_downtime_ms;
	uint64_t verify_ns;
	int verified; /* 1, 0, -1: not asked for, or it did not come to it */
	char verify_text[MIGRATE_TEXT];
	struct guest_beats beats;
	struct guest_beats beats_before; /* of the warm-up; n is 0 without one */
	bool has_free; /* memory, and these are its figures when the guest stopped */
	struct guest_free_figures free_figures;
	uint64_t counter_before, counter_after; /* around the switchover, or the failure */
	uint64_t peer_cpu_ns;			/* the other side's, where known */
	bool peer_cpu_known;
	struct lane_report lanes; /* this side's */
	struct migrate_pins {
		uint64_t peak_bytes, register_ns, evictions;
	} peer_pins; /* the same, known together */
};

/* --- filter_names.c --- */

/* The names of enum rj_filter by the number of the bit, and of --filters. */
const char *filter_name(uint32_t i);
/* "hole,zero", or "none". 0, or -EINVAL with a one-line why. */
int filters_parse(const char *text, uint32_t *filters_p, char *why, size_t why_bytes);

/* --- lane_report.c --- */

/* The plan of a session that has not started, for people. */
void lanes_say_plan(struct rj_session *s);
/* What came of it. */
void lanes_take(struct rj_session *s, struct lane_report *r);
void lanes_free(struct lane_report *r);

/* --- the two ends; each returns when its session is over --- */

void source_run(struct rj_env *env, const struct migrate_opts *o, const char *uri,
		struct migrate_result *res);
/* listening(arg, uri) is told the real address. */
void destination_run(struct rj_env *env, const struct migrate_opts *o, const char *uri,
		     void (*listening)(void *arg, const char *uri), void *arg,
		     struct migrate_result *res);

/* What both do alike: options, cancel on SIGINT and SIGTERM, what a session ended with. */
void migrate_opts_to_session(const struct migrate_opts *o, const char *uri, struct rj_opts *so);
void cancel_by_signals(struct rj_session *s); /* NULL: not any more */
void result_of_session(struct migrate_result *res, struct rj_session *s, int status,
		       enum rj_outcome runs);
void result_fail(struct migrate_result *res, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* --- commands.c --- */

/* From now on lines on stdin are for this session and guest; NULL: for none any more. */
void commands_from_stdin(struct rj_session *s, struct guest *g);

/* --- verify.c --- */

/*
 * 64 bits for each 4 KiB of a guest's memory, in the order of its regions. All free pages have the same:
 * they may differ, and the guest's own check says in what.
 */
struct page_sums {
	uint64_t n, n_free;
	uint64_t n_free_zero; /* destination */
	uint64_t *sum;
};

int page_sums_take(const struct guest *g, struct page_sums *sums);
void page_sums_free(struct page_sums *sums);

/* The destination's side: where the source can bring its sums. The address goes into the set-up reply. */
struct verifier;
int verifier_open(struct verifier **v_p, void *reply, size_t reply_bytes); /* length of the reply */
/* Wait for the source and compare. 1: equal; 0: not, text says where; -1: it did not come. */
int verifier_compare(struct verifier *v, const struct page_sums *mine, uint32_t timeout_ms,
		     char *text, size_t text_bytes);
void verifier_close(struct verifier **v_p);
/* The source's side. Same results. */
int verify_at_destination(const char *uri, const void *reply, size_t reply_bytes,
			  const struct page_sums *mine, char *text, size_t text_bytes);

/* --- pair.c --- */

void pair_run(struct rj_env *env, const struct migrate_opts *o, const struct bench_route *route,
	      struct migrate_result *res);
/* In the child: the parent is told where we listen, and the result, over this descriptor. */
void pair_tell_listening(void *fd, const char *uri);
void pair_tell_result(int fd, const struct migrate_result *res);

/* --- progress.c --- */

void progress_enable(bool on);
void progress_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void progress_plan(const struct migrate_opts *o, const struct bench_route *r);
void progress_event(const struct rj_event *ev);
void progress_log(void *arg, enum rj_log_level level, const char *line);
void progress_verbose(bool on);
/* Between these two, what has no event: a session that waits for memory to be registered. */
void progress_watch(struct rj_session *s, bool is_source);
void progress_unwatch(void);

/* --- timeline.c: all do nothing without a timeline --- */

int timeline_open(const char *path, struct timeline **t_p); /* path NULL: none. 0 or -errno */
/* From here the session and the guest are sampled, until stop: they must live so long. */
void timeline_start(struct timeline *t, const struct migrate_opts *o, struct rj_session *s,
		    const struct guest *g);
void timeline_event(struct timeline *t, const struct rj_event *ev);
void timeline_stop(struct timeline *t);
/* With what came of it. 0 or -errno: not all could be written. */
int timeline_close(struct timeline **t_p, const struct migrate_result *res);

/* --- result.c --- */

struct json_t;
struct json_t *result_terms(const struct rj_downtime_terms *t); /* in milliseconds */
struct json_t *result_pages(const struct rj_page_counts *p);

void result_print_json(const struct migrate_result *res);
void result_print_summary(const struct migrate_result *res);
enum migrate_exit result_exit(const struct migrate_result *res);

#endif

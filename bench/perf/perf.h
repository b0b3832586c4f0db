/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_PERF_PERF_H
#define BENCH_PERF_PERF_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/fail.h"
#include "bench/common/route.h"
#include "numa/placement.h"
#include "pagesender/pageset.h"
#include "transport/transport.h"
#include "transport/uri.h"

/*
 * ramjet-perf: the pipeline without a guest and without a migration around it, one file a part.
 *
 *   ramjet-perf.c       options, which role, exit status
 *   perf_opts.c         lists, and what the options mean together
 *   perf_wire.c         the control connection: JSON objects with a length in front
 *   perf_destination.c  the end that is written to
 *   perf_source.c       the end that sends: every case in turn
 *   perf_bed.c          dirty bits, tracker, harvest, lanes: what a case is measured on
 *   perf_place.c        nodes: where memory lies and lanes run
 *   perf_memory.c       memory of both ends, pages that can be told apart
 *   perf_result.c       table, JSON lines, progress
 *   perf_report.c       --report: all that is needed to judge a run from afar
 *   perf_host.c         this machine, for the report: CPUs, nodes, devices
 *
 * It links the library's insides, unlike the other programs: what it measures is what a
 * migration's lanes do, by the same code.
 */

#define PERF_MAX_LIST 16
#define PERF_PAGE_BYTES 4096u
#define PERF_PAGE_SHIFT 12
#define PERF_TEXT 512

enum perf_pattern { PERF_CONTIGUOUS, PERF_SCATTERED, PERF_RANDOM, PERF_PATTERNS };

extern const char *const perf_pattern_names[PERF_PATTERNS];

struct perf_opts {
	const char *transport, *sizes_text, *lanes_text, *pattern_text, *listen, *to, *report_path;
	const char *nodes, *cpus; /* lists, or NULL */
	const char *progress_text;
	uint64_t memory_bytes; /* 0: chosen for the transport */
	uint64_t bandwidth_bytes_per_s;
	uint32_t duration_ms, repeat, warmup;
	uint32_t tell_fd; /* a child says where it listens; UINT32_MAX: no child */
	bool json, verbose;
	/* understood */
	uint32_t n_sizes, n_lanes, n_patterns;
	uint32_t sizes[PERF_MAX_LIST], lanes[PERF_MAX_LIST];
	enum perf_pattern patterns[PERF_PATTERNS];
	bool progress;
};

/* 0 or -EINVAL with why. */
int perf_understand(struct perf_opts *o, char *why, size_t why_bytes);

/* --- perf_wire.c --- */

/* Send o, whose reference is taken. 0 or negative with err. */
int perf_wire_send(int fd, const struct rji_stop *stop, json_t *o, struct rj_error *err);
/* The next object, whatever it says. Any bytes may come in. */
int perf_wire_recv(int fd, const struct rji_stop *stop, uint32_t timeout_ms, json_t **o_p,
		   struct rj_error *err);
/* Send a question and take its answer; an answer with "error" is a failure. */
int perf_wire_ask(int fd, const struct rji_stop *stop, json_t *question, uint32_t timeout_ms,
		  json_t **answer_p, struct rj_error *err);
/* Bytes as hexadecimal text. decode: the length, or -EINVAL. */
json_t *perf_hex(const void *bytes, size_t n);
int perf_unhex(const json_t *text, void *bytes, size_t max);

/* --- perf_memory.c --- */

struct perf_memory {
	uint8_t *at;
	uint64_t len_bytes;
	bool backed; /* false: address space only, for a transport that moves nothing */
};

/* nodes: where, "0,1"; NULL: wherever the kernel likes. */
int perf_memory_init(struct perf_memory *m, uint64_t len_bytes, bool backed, const char *nodes,
		     struct rj_error *err);
void perf_memory_fini(struct perf_memory *m);
/* Source: every page gets its own bytes. */
void perf_memory_fill(struct perf_memory *m);
/* Destination: pages which hold what the source's do. */
uint64_t perf_memory_arrived(const struct perf_memory *m);

/* --- perf_place.c --- */

int perf_memory_spread(const struct perf_memory *m, const char *nodes, struct rj_error *err);
/* cpus: NULL, or those that lanes stay in. */
int perf_place(const char *transport, const struct rji_addrs *addrs, const char *cpus,
	       struct rji_pageset *set, uint32_t n_lanes, struct rji_placement *p_p,
	       struct rj_error *err);

/* --- perf_bed.c --- */

struct perf_bed;

struct perf_bed_opts {
	const struct rji_host *host;
	const struct rji_transport_ops *ops;
	struct rji_transport *tp;
	struct rji_stop *stop;
	const struct perf_memory *memory;
	const struct rji_addrs *addrs; /* where lanes connect */
	const char *cpus;
	uint32_t n_lanes;
	uint64_t bandwidth_bytes_per_s;
};

/* One round, or several added up. */
struct perf_round {
	uint64_t rounds, pages, bytes;
	uint64_t ns; /* all of it: collect, line up, send, fence, clean */
	uint64_t collect_ns, send_ns, fence_ns, finish_ns;
	uint64_t cpu_ns; /* of the lanes and of the thread that controls them */
	uint64_t requests, posts, polls, signalled;
};

int perf_bed_create(const struct perf_bed_opts *o, struct perf_bed **b_p, struct rj_error *err);
int perf_bed_connect(struct perf_bed *b, const struct rji_admission *adm, struct rj_error *err);
/* Where its lanes run. */
const struct rji_placement *perf_bed_placement(const struct perf_bed *b);
/* What is dirty from now on; extents are at most message_bytes. */
void perf_bed_shape(struct perf_bed *b, enum perf_pattern pattern, uint32_t message_bytes);
/* Dirty the pages, untimed, and send them. */
int perf_bed_round(struct perf_bed *b, struct perf_round *r_p, struct rj_error *err);
void perf_bed_destroy(struct perf_bed **b_p);

/* --- perf_result.c --- */

/* A case, measured. */
struct perf_case {
	const char *transport;
	enum perf_pattern pattern;
	uint32_t message_bytes, lanes;
	uint64_t memory_bytes;
	uint64_t port_rate_bytes_per_s; /* 0: not known */
	uint32_t n_repetitions;
	double *repetition; /* bytes a second, in order of time */
	uint64_t round_p50_ns, round_p99_ns;
	struct perf_round sum;
	uint64_t destination_cpu_ns;
	const char *nodes;
	const struct rji_placement *placement;
};

json_t *perf_case_json(const struct perf_case *c);
/* All keys, with no figures in them. */
json_t *perf_failure_json(const char *why);
void perf_print_head(void);
void perf_print_case(const struct perf_case *c);
void perf_print_json(json_t *o); /* a line; the reference is taken */

/* --- perf_report.c, perf_host.c --- */

json_t *perf_describe_host(void);
/* Of the port that leads there, fd being connected to it; 0: not known, or none at all. */
uint64_t perf_port_rate(const char *transport, const struct rji_uri *to, int fd);
/* Write everything; 0 or -errno. The references are borrowed. */
int perf_write_report(const char *path, const struct perf_opts *o, int argc, char **argv,
		      const struct bench_route *route, json_t *peer, json_t *results,
		      const char *error);

/* --- the two ends --- */

struct perf_setting {
	const struct perf_opts *o;
	const struct rji_host *host;
	const struct rji_transport_ops *ops;
	const char *transport;
	uint64_t memory_bytes;
};

/* Listen at uri, tell where through listening, serve one source until it says good-bye. */
int perf_destination_run(const struct perf_setting *s, const char *uri,
			 void (*listening)(void *arg, const char *uri), void *arg,
			 struct rj_error *err);
/* All cases. results is an array that gets an object for each; peer what the other end says of itself. */
int perf_source_run(const struct perf_setting *s, const char *uri, uint32_t default_lanes,
		    json_t *results, json_t **peer_p, struct rj_error *err);

void perf_say(const struct perf_opts *o, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

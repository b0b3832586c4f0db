/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_SCAN_SCAN_H
#define BENCH_SCAN_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/*
 * ramjet-scan: what it costs to look at a page, so as not to send it. One file a part.
 *
 *   ramjet-scan.c   options, exit status, what is printed, which stage runs on what
 *   scan_data.c     the pages: zero, random, text, and how they change
 *   scan_process.c  those of a process, twice
 *   scan_clock.c    a stage on so many threads, and its time
 *   scan_look.c     stages that only look: read, copy, zero test
 *   scan_hash.c     XXH3 and SHA-1
 *   scan_codec.c    stages that code: XBZRLE, zstd, and back
 *   scan_prefix.c   zstd with the old page as prefix
 *
 * It links the library's insides: what it measures is what the lanes would do.
 */

#define SCAN_PAGE_BYTES 4096u
#define SCAN_TEXT 512
#define SCAN_MAX_LEVELS 8

struct scan_opts {
	const char *data_text, *memory, *levels_text;
	uint64_t size_bytes;
	uint32_t threads, repeat, pid, interval_ms;
	bool json;
	/* understood */
	bool with[4]; /* by enum scan_kind */
	int levels[SCAN_MAX_LEVELS];
	uint32_t n_levels;
};

enum scan_kind { SCAN_ZERO, SCAN_RANDOM, SCAN_TEXT_LIKE, SCAN_PROCESS, SCAN_KINDS };
enum scan_change { SCAN_FEW, SCAN_HALF, SCAN_ALL, SCAN_CHANGES };

extern const char *const scan_kind_names[SCAN_KINDS];
extern const char *const scan_change_names[SCAN_CHANGES];

/* Pages, each before and after a change. */
struct scan_data {
	uint8_t *now, *old;
	uint8_t *scratch;    /* as much again: what is decoded */
	uint8_t *code;	     /* a page's worth for each page */
	int32_t *code_bytes; /* of each page; <= 0: not coded */
	uint64_t n_pages, max_pages;
	size_t map_bytes; /* of each */
};

int scan_data_create(struct scan_data *d, const struct scan_opts *o, char *why, size_t why_bytes);
void scan_data_destroy(struct scan_data *d);
/* Both before and after are this. */
void scan_data_fill(struct scan_data *d, enum scan_kind kind);
/* After scan_data_fill(): before is that still, after is changed. */
void scan_data_change(struct scan_data *d, enum scan_kind kind, enum scan_change change);
/* As a process had them, and again after an interval. 0 or -errno with why. */
int scan_process_read(struct scan_data *d, const struct scan_opts *o, char *why, size_t why_bytes);
/* Leave those that differ. */
void scan_data_only_changed(struct scan_data *d);

struct scan_stage;

/* One thread's share. */
struct scan_worker {
	const struct scan_stage *stage;
	int level;
	const uint8_t *now, *old;
	uint8_t *scratch, *code;
	int32_t *code_bytes;
	uint64_t n_pages;
	uint8_t *staging; /* SCAN_STAGING_PAGES, in the caches */
	void *state;	  /* the stage's */
	uint64_t sink;	  /* so that results are used */
};

#define SCAN_STAGING_PAGES 64u

struct scan_stage {
	const char *stage, *variant;
	bool (*usable)(void);		     /* NULL: anywhere */
	int (*begin)(struct scan_worker *w); /* NULL: nothing to do; else 0 or -errno */
	void (*end)(struct scan_worker *w);
	/* Bytes that would be sent; SCAN_SKIPPED: the stage has nothing to do with this page; or -errno. */
	int64_t (*page)(struct scan_worker *w, uint64_t i);
	/* Afterwards, not timed: is what was made right? NULL: nothing was made. */
	bool (*check)(struct scan_worker *w);
	bool is_codec, has_level, needs_old;
	bool is_read; /* the rate others are compared with */
};

#define SCAN_SKIPPED (-1000000)

struct scan_result {
	uint64_t n_pages; /* without those skipped */
	double gb_per_s;  /* of one thread */
	double all_gb_per_s;
	double ns_per_page;
	double ratio; /* bytes out for one in */
};

/* The fastest of so many passes. 0 or -errno with why. */
int scan_measure(const struct scan_opts *o, const struct scan_data *d, const struct scan_stage *s,
		 int level, struct scan_result *r, char *why, size_t why_bytes);

extern const struct scan_stage scan_look_stages[], scan_hash_stages[], scan_codec_stages[],
	scan_prefix_stages[];
extern const size_t scan_n_look_stages, scan_n_hash_stages, scan_n_codec_stages,
	scan_n_prefix_stages;

bool scan_has_avx2(void);

/* How long the code of a page may be: else it is sent as it is. */
#define SCAN_CODE_BYTES (SCAN_PAGE_BYTES - 1)

static inline uint8_t *scan_staging(const struct scan_worker *w, uint64_t i)
{
	return w->staging + i % SCAN_STAGING_PAGES * SCAN_PAGE_BYTES;
}

static inline const uint8_t *scan_now(const struct scan_worker *w, uint64_t i)
{
	return w->now + i * SCAN_PAGE_BYTES;
}

static inline const uint8_t *scan_old(const struct scan_worker *w, uint64_t i)
{
	return w->old + i * SCAN_PAGE_BYTES;
}

static inline uint8_t *scan_code(const struct scan_worker *w, uint64_t i)
{
	return w->code + i * SCAN_PAGE_BYTES;
}

static inline uint8_t *scan_scratch(const struct scan_worker *w, uint64_t i)
{
	return w->scratch + i * SCAN_PAGE_BYTES;
}

/* How encoding and decoding stages are made of a pair of functions: see scan_codec.c. */
int64_t scan_encoded(int n);
int scan_prepare_decode(struct scan_worker *w,
			int (*encode)(struct scan_worker *w, uint64_t i, uint8_t *out));
int64_t scan_decoded(const struct scan_worker *w, uint64_t i, int ret);
bool scan_check_decoded(struct scan_worker *w);

#endif

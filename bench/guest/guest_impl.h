/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_IMPL_H
#define BENCH_GUEST_GUEST_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/guest/guest.h"
#include "bench/guest/guest_device.h"
#include "bench/guest/guest_hints.h"
#include "bench/guest/guest_memory.h"
#include "bench/guest/guest_pattern.h"
#include "bench/guest/guest_state.h"
#include "bench/guest/ticker.h"

#define GUEST_MAX_REGIONS 2u
#define GUEST_MAX_TICKERS 2u

/* What a kind of guest is. All calls but create and destroy are made with its tickers paused. */
struct guest_ops {
	const char *name;
	uint64_t size_max_bytes;
	uint32_t n_tickers;
	const char *ticker_name; /* of threads, at most 13 characters */
	/* Memory, and what kind needs; the tickers exist later. empty: memory is left alone. */
	int (*create)(struct guest *g, bool empty, char *why, size_t why_bytes);
	void (*destroy)(struct guest *g);
	/* Make g->tracker, or leave it NULL: every write is marked. */
	int (*track)(struct guest *g, char *why, size_t why_bytes);
	int (*tick)(void *guest_ticker, struct ticker *t, uint64_t n_pages);
	int (*save)(struct guest *g, struct guest_state *st);
	/* Take sections out of st without applying them, then apply them. */
	int (*load)(struct guest *g, struct guest_state *st, char *why, size_t why_bytes);
	int (*check)(const struct guest *g, char *why, size_t why_bytes);
};

extern const struct guest_ops guest_kvm_ops, guest_synthetic_ops, guest_marked_ops;

struct guest_ticker {
	struct guest *g;
	uint32_t number;
	struct guest_writes writes; /* its share */
	uint64_t done;		    /* writes so far; kvm: known when paused */
	struct ticker t;
};

struct guest {
	struct guest_opts o;
	const struct guest_ops *ops;
	struct guest_memory mem;
	bool untouched; /* memory that reads as zeros: made empty, nothing loaded */
	uint32_t n_regions;
	struct guest_region {
		const char *name;
		uint64_t offset, len_bytes, gpa; /* offset in mem */
		uint32_t number;		 /* in the session */
	} regions[GUEST_MAX_REGIONS];

	/*
	 * Writers of RAM that no tracker sees hold it shared over a write and its rj_mark_dirty();
	 * session changes under it exclusively. So a write is either marked or over before a
	 * session begins.
	 */
	pthread_rwlock_t marking;
	struct rj_session *session; /* NULL: none */
	struct rj_tracker *tracker; /* made at the first attach, destroyed with the guest */
	bool tracked_by_marks;

	struct guest_device dev;
	struct guest_hints hints;
	atomic_uint_fast64_t counter;
	char broken[256]; /* why a ticker gave up; "" */
	uint32_t n_tickers;
	struct guest_ticker tickers[GUEST_MAX_TICKERS];
	void *priv; /* of the kind */
};

/* rj_mark_dirty(), offset in mem; with marking held. */
void guest_mark(struct guest *g, uint64_t offset, uint64_t len_bytes);

#endif

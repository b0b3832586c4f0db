/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_H
#define BENCH_GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ramjet/ramjet.h>

/*
 * The guests of the bench programs, tests and examples: something that owns memory, writes to it
 * while it runs, can be paused, has a little device state, and can tell after its arrival whether
 * anything was lost.
 *
 *   kvm        a virtual machine: one vCPU, RAM, one device by which the VMM itself writes it
 *   synthetic  threads of this process that write memory
 *   marked     sparse memory and rj_mark_dirty(), for sizes beyond this machine; nothing is
 *              really written
 *
 * A source creates one from options, a destination from the description that came as the set-up
 * blob.
 */

enum guest_kind { GUEST_KVM, GUEST_SYNTHETIC, GUEST_MARKED };

enum workload_kind {
	WORKLOAD_IDLE,
	WORKLOAD_UNIFORM,
	WORKLOAD_HOT,
	WORKLOAD_SWEEP,
	WORKLOAD_SAME,	 /* writes what is there already */
	WORKLOAD_ABA,	 /* toggles a page between two contents */
	WORKLOAD_SPARSE, /* writes change_bytes, spread over the page */
	N_WORKLOADS,
};

/*
 * What the guest does: rate is bytes of pages dirtied per second (pages × 4096); hot_bytes is the
 * area WORKLOAD_HOT keeps to.
 */
struct guest_workload {
	enum workload_kind kind;
	uint64_t rate_bytes_per_s;
	uint64_t hot_bytes;
	uint32_t change_bytes; /* WORKLOAD_SPARSE: 8 to 4096, a power of two */
};

/*
 * "idle", "uniform:RATE", "hot:BYTES:RATE", "sweep:RATE", "same:RATE", "aba:RATE",
 * "sparse:BYTES:RATE", sizes with K, M, G, T. 0, or -EINVAL with a one-line why.
 */
int guest_parse_workload(const char *text, struct guest_workload *w, char *why, size_t why_bytes);

/* What guest RAM is made of. Each end has its own: it is not in the description. */
enum guest_memory_kind {
	GUEST_MEMORY_SHARED,  /* a memfd */
	GUEST_MEMORY_PRIVATE, /* anonymous, without transparent huge pages */
	GUEST_MEMORY_HUGE,    /* anonymous, with transparent huge pages, as QEMU's default is */
	GUEST_MEMORY_HUGETLB, /* a memfd of reserved huge pages of 2 MiB */
};

/*
 * How the guest tells its VMM which pages are free, and the VMM the session. See guest_hints.h.
 */
enum guest_hinting {
	GUEST_HINTS_NONE,
	GUEST_HINTS_REPORTING, /* a page is not used again before the VMM has taken the report */
	GUEST_HINTS_BALLOON,   /* hints carry a generation, and pages are used again at any time */
	N_GUEST_HINTS,
};

/* NUMA nodes, by the kernel's numbers, each with an equal part of guest RAM; none: not bound. */
struct guest_nodes {
	uint32_t n;
	uint8_t number[16];
};

/* "0,1". 0, or -EINVAL with a one-line why. */
int guest_parse_nodes(const char *text, struct guest_nodes *nodes, char *why, size_t why_bytes);

/* How KVM tells what its vCPU writes. */
enum guest_tracker { GUEST_TRACKER_LOG, GUEST_TRACKER_RING };

struct guest_opts {
	enum guest_kind kind;
	uint64_t size_bytes; /* of guest RAM */
	struct guest_workload workload;
	uint64_t seed;
	bool fill_all;	/* no zero pages among those that are filled at first */
	bool fill_none; /* kvm: nothing is, and memory is there only where the guest writes it */
	bool fill_text; /* with words, as text has, instead of random numbers */
	/*
	 * RAM from its start: what the guest uses and writes, MiBs, 0: all that follows leave; what
	 * is free and holds old content; zeros that were written; and what was never touched.
	 */
	uint64_t used_bytes, free_bytes, zero_bytes;
	enum guest_hinting hints;
	uint64_t reuse_bytes_per_s; /* free pages that are taken into use, and later freed again */
	enum guest_memory_kind memory;
	struct guest_nodes nodes;   /* of this side; not in the description */
	enum guest_tracker tracker; /* of this side; not in the description */
	uint32_t ring_pages;	    /* tests: of the ring; 0: as many as KVM allows */
	bool prefault;		    /* made empty: its memory is there, not only its addresses */
	bool lazy; /* made empty: memory comes while it runs; a page that never does breaks it, not the program */
	bool break_device_tracking; /* tests: device writes are not announced: the loss must show */
};

/* Heartbeat intervals while the guest was meant to run, in this process. */
struct guest_beats {
	uint64_t n;
	uint64_t gap_max_ns;
	uint64_t gap_p99_ns;
};

/* What is free, and what became of the hints, in this process. */
struct guest_free_figures {
	uint64_t free_pages; /* now; paused */
	uint64_t n_hints, hinted_pages;
	uint64_t taken_pages;	/* by rj_mark_free()'s answers */
	uint64_t refused_hints; /* by rj_mark_free(): of a generation that is void */
};

/* Options that a guest can be made of? 0, or -EINVAL with a one-line why. */
int guest_opts_check(const struct guest_opts *o, char *why, size_t why_bytes);

struct guest;

/*
 * Source: make a guest, not running yet. 0, or -errno with a one-line why that says what to do (no
 * /dev/kvm, no permission, not enough memory).
 */
int guest_create(const struct guest_opts *o, struct guest **g_p, char *why, size_t why_bytes);
void guest_destroy(struct guest **g_p);

/*
 * What a destination needs to make the same guest, empty: versioned bytes for rj_set_setup_blob().
 * Return the length or -ENOSPC.
 */
int guest_describe(const struct guest *g, void *blob, size_t blob_bytes);
/* The options out of it; -EINVAL for anything that guest_describe() would not write. */
int guest_understand(const void *blob, size_t len_bytes, struct guest_opts *o, char *why,
		     size_t why_bytes);
/* Destination: the same as guest_create(), with memory that reads as zeros and nothing loaded. */
int guest_create_empty(const struct guest_opts *o, struct guest **g_p, char *why, size_t why_bytes);

/* Its memory. n_regions regions; fill in number i. */
uint32_t guest_n_regions(const struct guest *g);
void guest_region(const struct guest *g, uint32_t i, struct rj_region *r);

/*
 * Source: add the regions and trackers to a session that has not started, and remember the session
 * for rj_mark_dirty(); NULL forgets it. 0 or negative with why.
 */
int guest_attach(struct guest *g, struct rj_session *s, char *why, size_t why_bytes);
void guest_detach(struct guest *g);

/* Let it run, stop it (all its writers have stopped when this returns). */
int guest_run(struct guest *g);
int guest_pause(struct guest *g); /* RJ_WAS_RUNNING or RJ_WAS_PAUSED */

/* Have it sleep so many percent of its time, up to 99. While it runs, too. */
void guest_throttle(struct guest *g, uint32_t percent);

/*
 * Have it dirty so much a second from now on, as its workload was to from the start. 0: its heart still beats. Where it
 * arrives it does as described.
 */
void guest_set_rate(struct guest *g, uint64_t bytes_per_s);

/*
 * Device state through the session, paused. Saving writes guest RAM on purpose (and marks it), as
 * real devices do.
 */
int guest_save(struct guest *g, struct rj_session *s);
int guest_load(struct guest *g, struct rj_session *s, char *why, size_t why_bytes);

/* How far it has come; grows while it runs. */
uint64_t guest_counter(const struct guest *g);

/*
 * Paused, at the destination before it runs: is each page at least as new as the guest's own
 * ordered records say? Finds lost and stale pages without knowing the source's memory. 0, or -EIO
 * with why naming the first bad page.
 */
int guest_check(const struct guest *g, char *why, size_t why_bytes);

/*
 * Source, once the session sends: have the guest tell which pages are free, all of them and from
 * then on each that becomes so. Any thread, does not wait.
 */
void guest_ask_hints(struct guest *g);

/*
 * Paused: may this page, by its number in RAM, hold zeros or something older, since it is free and
 * the VMM was told so? guest_check() sees that it is nothing else.
 */
bool guest_page_is_free(const struct guest *g, uint64_t page);
void guest_free_figures(const struct guest *g, struct guest_free_figures *f);
/* Paused: how many of the free pages hold zeros. */
uint64_t guest_free_zero_pages(const struct guest *g);

/* So far, since creation. */
void guest_beats(const struct guest *g, struct guest_beats *b);
/* Paused: from here on instead. */
void guest_restart_beats(struct guest *g);

/*
 * The tracker that attaching would add, for programs that drive it themselves; the guest's. NULL:
 * every write is marked, or with why it cannot be made.
 */
struct rj_tracker *guest_tracker(struct guest *g, char *why, size_t why_bytes);

/*
 * Who tells which pages it wrote, once attached: "kvm dirty log", "kvm dirty ring", "userfaultfd
 * write-protection", "rj_mark_dirty()".
 */
const char *guest_tracking(const struct guest *g);

/* CPU seconds are not the guest's business. */

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_GUEST_H
#define RJ_TESTS_SIM_GUEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include <ramjet/ramjet.h>

#include "tests/support/sim_random.h"

/*
 * A guest made of memory and writers. Its memory is cut into units of 4 KiB; word 0 of a unit
 * counts the writes to it, its generation, so that a unit which is lost, stale or overwritten by an
 * older one is named with both generations.
 *
 * Three kinds of writers, as in a real VMM:
 *   vcpu    seen by a log like KVM's (sim_log_create): a bit is set by the first write after the
 *           page was re-armed; all bits are set at the start;
 *   io      seen by a tracker that re-arms what it reports (sim_rearming_create);
 *   device  seen by nobody: calls rj_mark_dirty() after the write.
 * A region with RJ_REGION_MARKED has the third kind only.
 *
 * Writes happen in sim_guest_step(), which the simulated wire and the trackers call at moments
 * between all others, or in threads of a test's own. While the guest is paused nothing writes but
 * sim_guest_dirty_by_save().
 */
#define SIM_UNIT_BYTES 4096u
#define SIM_UNIT_WORDS (SIM_UNIT_BYTES / 8)
#define SIM_MAX_REGIONS 6

typedef _Atomic uint64_t sim_word;

/* What one tracker knows of one region; under the region's lock. A bit per page. */
struct sim_log {
	bool on;
	uint64_t *dirty;
	uint64_t *armed; /* the next write sets the dirty bit */
};

struct sim_region {
	char name[RJ_NAME_BYTES];
	sim_word *words;
	void *map;
	size_t map_bytes;
	uint64_t len_bytes;
	uint32_t page_bytes;
	uint32_t flags;
	int fd; /* a memfd, or -1 */
	uint64_t n_pages, n_units;
	uint32_t number;      /* in the session it is attached to */
	pthread_mutex_t lock; /* makes a write one with its trace in the logs */
	struct sim_log vcpu, io;
	uint64_t *floor;   /* generations go on from here where a unit was punched */
	uint64_t *ceiling; /* the highest generation a unit had; with returns only */
	uint8_t *freed;	   /* enum sim_freed, of each page; under the lock */
};

/*
 * A page that the guest gave up. What is in it does not matter any more, until it is written: then it is the
 * guest's again.
 */
enum sim_freed {
	SIM_IN_USE,
	SIM_GIVING_UP, /* until the VMM has taken the hint: not used */
	SIM_FREED,
};

/* A hint under way: the guest may have used the page again. */
struct sim_hint {
	uint32_t region;
	uint64_t page, generation;
};
#define SIM_MAX_HINTS 64

struct sim_guest {
	uint32_t n_regions;
	struct sim_region region[SIM_MAX_REGIONS];
	pthread_rwlock_t
		gate; /* writers hold it for reading; pause, attach and detach for writing */
	bool running;
	struct rj_session *session; /* to mark dirty in */
	pthread_mutex_t step_lock;
	struct sim_random random; /* of steps */
	_Atomic int64_t budget;	  /* writes that steps may still make */
	uint32_t hot_percent;	  /* of steps that hit a small set of units */
	/*
	 * Of steps that leave a unit as it was, bring an earlier content back, or make it zero. Generations do
	 * not only grow then, and nobody can tell stale from newer before the end.
	 */
	uint32_t return_percent;
	uint32_t free_percent; /* of sim_guest_free_step()s that do something */
	bool balloon;	       /* hints by generation, late; else reported */
	uint64_t generation;   /* from rj_free_begin() */
	uint32_t n_hints;
	struct sim_hint hint[SIM_MAX_HINTS];
	uint64_t n_given_up; /* the latest of them are the likeliest to be used again */
	struct sim_hint given_up[SIM_MAX_HINTS];
	_Atomic uint64_t n_writes;
};

/* A guest of a seed's shape, running, written to before. */
struct sim_guest *sim_guest_create(uint64_t seed);
/* One region "ram0" of so many pages of 4 KiB, all written by vCPUs, I/O and devices alike. Running. */
struct sim_guest *sim_guest_create_of(uint64_t seed, uint32_t n_pages);
/* One with no regions, to be filled by sim_guest_add_region(). Not running. */
struct sim_guest *sim_guest_create_empty(uint64_t seed);
void sim_guest_destroy(struct sim_guest **g_p);
/* Memory that reads as zeros, or as something else where garbage is set. */
struct sim_region *sim_guest_add_region(struct sim_guest *g, const char *name, uint64_t len_bytes,
					uint32_t page_bytes, uint32_t flags, bool as_file,
					bool garbage);
struct sim_region *sim_guest_find(struct sim_guest *g, const char *name);

/*
 * From attach to detach device writes are marked dirty in s. Regions are given to s in this order
 * if give is set.
 */
int sim_guest_attach(struct sim_guest *g, struct rj_session *s, bool give);
void sim_guest_detach(struct sim_guest *g);

/* Returns whether it ran. */
bool sim_guest_pause(struct sim_guest *g);
void sim_guest_resume(struct sim_guest *g);
bool sim_guest_is_running(struct sim_guest *g);

enum sim_writer { SIM_VCPU, SIM_IO, SIM_DEVICE };
/* One write, if the guest runs. */
void sim_guest_write(struct sim_guest *g, uint32_t region, uint64_t unit, enum sim_writer by,
		     uint64_t value);
/* Up to n writes at random places, if it runs and the budget allows. */
void sim_guest_step(struct sim_guest *g, uint32_t n);
/* Give up a page, or hand in a hint that is under way. Not from a tracker, since a hint asks trackers. */
void sim_guest_free_step(struct sim_guest *g);
/* What saving device state does to guest RAM; the guest is paused. */
void sim_guest_dirty_by_save(struct sim_guest *g, uint32_t n);

/*
 * The VMM takes units away from a region that is a file, as a balloon does: rj_discard_begin(),
 * punch, rj_discard_end(). punched is called just before the punch. The units hold zeros then, or
 * are written anew before the end. Nothing happens while the guest is paused.
 */
int sim_guest_punch(struct sim_guest *g, uint32_t region, uint64_t unit, uint64_t n_units,
		    bool touch,
		    void (*punched)(void *arg, uint32_t number, uint64_t offset, uint64_t len),
		    void *arg);

/*
 * Are both the same? Else say in text where they differ, and how. Pages that the source's guest has given
 * up hold zeros or something older of it.
 */
bool sim_guest_equal(struct sim_guest *source, struct sim_guest *destination, char *text,
		     size_t text_bytes);

/* The two trackers. They stay valid as long as the guest. */
int sim_log_create(struct sim_guest *g, struct rj_tracker **t_p);
int sim_rearming_create(struct sim_guest *g, struct rj_tracker **t_p);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fake trackers, strict ones: start twice without stop fails, as KVM's or userfaultfd's would.
 * Guest steps run before and after each call, so that writes fall between any two of collect, re-
 * arm and read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bitmap.h"
#include "tests/support/sim_guest.h"

#define STEPS 3

/* Sessions number regions as they were added; the guest knows its own by the address. */
static struct sim_region *region_of(struct sim_guest *g, uint32_t number)
{
	for (uint32_t i = 0; i < g->n_regions; i++) {
		if (g->region[i].number == number)
			return &g->region[i];
	}
	return NULL;
}

static int attach(void *t, uint32_t number, const struct rj_region *desc, char *why,
		  size_t why_bytes)
{
	struct sim_region *r = sim_guest_find(t, desc->name);

	if (!r)
		return 0;
	if (r->number != number) {
		snprintf(why, why_bytes, "it is numbered otherwise");
		return -EINVAL;
	}
	return r->flags & RJ_REGION_MARKED ? 0 : 1;
}

static struct sim_log *log_of(struct sim_region *r, bool io)
{
	return io ? &r->io : &r->vcpu;
}

/* vcpu: all bits set, nothing armed. io: nothing set, all armed. */
static int start(struct sim_guest *g, bool io)
{
	int ret = 0;

	for (uint32_t i = 0; i < g->n_regions; i++) {
		struct sim_region *r = &g->region[i];
		struct sim_log *log = log_of(r, io);
		size_t bytes = rji_bitmap_words(r->n_pages) * sizeof(uint64_t);

		pthread_mutex_lock(&r->lock);
		if (log->on)
			ret = -EBUSY;
		log->on = true;
		memset(log->dirty, io ? 0 : 0xff, bytes);
		memset(log->armed, io ? 0xff : 0, bytes);
		pthread_mutex_unlock(&r->lock);
	}
	return ret;
}

static int stop(struct sim_guest *g, bool io)
{
	for (uint32_t i = 0; i < g->n_regions; i++) {
		struct sim_region *r = &g->region[i];

		pthread_mutex_lock(&r->lock);
		log_of(r, io)->on = false;
		pthread_mutex_unlock(&r->lock);
	}
	return 0;
}

static int start_log(void *t)
{
	return start(t, false);
}

static int stop_log(void *t)
{
	return stop(t, false);
}

static int start_rearming(void *t)
{
	return start(t, true);
}

static int stop_rearming(void *t)
{
	return stop(t, true);
}

/* The bits of [first_page, first_page + n_pages) of a word that starts at page. */
static uint64_t in_range(uint64_t n_pages, uint64_t word)
{
	uint64_t left = n_pages - word * 64;

	return left >= 64 ? ~0ull : (1ull << left) - 1;
}

static int collect(void *t, uint32_t number, uint64_t first_page, uint64_t n_pages, uint64_t *bits,
		   bool io)
{
	struct sim_region *r = region_of(t, number);
	struct sim_log *log = log_of(r, io);

	sim_guest_step(t, STEPS);
	pthread_mutex_lock(&r->lock);
	for (uint64_t w = 0; w < rji_bitmap_words(n_pages); w++) {
		uint64_t at = first_page / 64 + w;
		uint64_t found = log->dirty[at] & in_range(n_pages, w);

		bits[w] |= found;
		if (io) {
			log->dirty[at] &= ~found;
			log->armed[at] |= found;
		}
	}
	pthread_mutex_unlock(&r->lock);
	sim_guest_step(t, STEPS);
	return 0;
}

static int collect_log(void *t, uint32_t number, uint64_t first_page, uint64_t n_pages,
		       uint64_t *bits)
{
	return collect(t, number, first_page, n_pages, bits, false);
}

static int collect_rearming(void *t, uint32_t number, uint64_t first_page, uint64_t n_pages,
			    uint64_t *bits)
{
	return collect(t, number, first_page, n_pages, bits, true);
}

static int rearm_log(void *t, uint32_t number, uint64_t first_page, uint64_t n_pages,
		     uint64_t *bits)
{
	struct sim_region *r = region_of(t, number);

	sim_guest_step(t, STEPS);
	pthread_mutex_lock(&r->lock);
	for (uint64_t w = 0; w < rji_bitmap_words(n_pages); w++) {
		uint64_t at = first_page / 64 + w;
		uint64_t asked = bits[w] & in_range(n_pages, w);

		r->vcpu.dirty[at] &= ~asked;
		r->vcpu.armed[at] |= asked;
	}
	pthread_mutex_unlock(&r->lock);
	sim_guest_step(t, STEPS);
	return 0;
}

int sim_log_create(struct sim_guest *g, struct rj_tracker **t_p)
{
	static const struct rj_tracker_ops ops = { .size = sizeof(ops),
						   .name = "sim vcpu log",
						   .attach = attach,
						   .start = start_log,
						   .stop = stop_log,
						   .collect = collect_log,
						   .rearm = rearm_log };

	return rj_tracker_create(&ops, g, t_p);
}

int sim_rearming_create(struct sim_guest *g, struct rj_tracker **t_p)
{
	static const struct rj_tracker_ops ops = { .size = sizeof(ops),
						   .name = "sim re-arming tracker",
						   .attach = attach,
						   .start = start_rearming,
						   .stop = stop_rearming,
						   .collect = collect_rearming };

	return rj_tracker_create(&ops, g, t_p);
}

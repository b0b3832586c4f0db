/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a case is measured on: one region of memory, a tracker that is told what is dirty, and from
 * there on the library's own pipeline, harvest, lanes, transport, as rji_finish_round() drives it.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "bench/perf/perf.h"
#include "pagesender/sender.h"

#define CONNECT_MS 30000

struct perf_bed {
	struct perf_bed_opts o;
	uint64_t *pattern; /* what a round begins with */
	uint64_t *dirty;   /* the tracker's */
	uint64_t n_words;
	struct rji_pageset set;
	struct rji_holds holds;
	struct rji_harvest harvest;
	struct rji_pace pace;
	struct rji_lane_totals totals;
	struct rji_sender *sender;
	int done_fd;
	struct rji_addrs addrs;
	struct rji_placement placement;
};

/* --- the tracker --- */

static int dirty_collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
			 uint64_t *bits)
{
	const struct perf_bed *b = t;
	const uint64_t *dirty = b->dirty + first_page / RJI_WORD_BITS;

	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++)
		bits[i] |= dirty[i];
	return 0;
}

static int dirty_rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		       uint64_t *bits)
{
	const struct perf_bed *b = t;
	uint64_t *dirty = b->dirty + first_page / RJI_WORD_BITS;

	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++)
		dirty[i] &= ~bits[i];
	return 0;
}

static const struct rj_tracker_ops dirty_ops = {
	.size = sizeof(dirty_ops),
	.name = "ramjet-perf",
	.collect = dirty_collect,
	.rearm = dirty_rearm,
};

/* --- making it --- */

static int make_set(struct perf_bed *b, struct rj_error *err)
{
	const struct rj_region r = {
		.size = sizeof(r),
		.name = "perf",
		.host = b->o.memory->at,
		.len_bytes = b->o.memory->len_bytes,
		.page_bytes = PERF_PAGE_BYTES,
	};
	uint64_t n_pages = r.len_bytes / PERF_PAGE_BYTES;

	b->n_words = rji_bitmap_words(n_pages);
	b->pattern = rji_bitmap_alloc(n_pages);
	b->dirty = rji_bitmap_alloc(n_pages);
	if (!b->pattern || !b->dirty || rji_pageset_add(&b->set, &r) < 0 ||
	    rji_holds_init(&b->holds) < 0 || rji_harvest_init(&b->harvest, &b->set, &b->holds) < 0)
		return rji_fail(err, -ENOMEM, "no memory for the bitmaps");
	b->set.region[0].trackers[0] = (struct rji_attached){ &dirty_ops, b };
	b->set.region[0].n_trackers = 1;
	rji_pace_init(&b->pace, b->o.bandwidth_bytes_per_s);
	return 0;
}

static int place_lanes(struct perf_bed *b, struct rj_error *err)
{
	int ret = perf_place(b->o.ops->name, b->o.addrs, b->o.cpus, &b->set, b->o.n_lanes,
			     &b->placement, err);

	if (!ret && rji_harvest_set_groups(&b->harvest, b->placement.n_groups,
					   b->placement.group_of_node) < 0)
		ret = rji_fail(err, -ENOMEM, "no memory for the plan of the lanes");
	return ret;
}

const struct rji_placement *perf_bed_placement(const struct perf_bed *b)
{
	return &b->placement;
}

int perf_bed_create(const struct perf_bed_opts *o, struct perf_bed **b_p, struct rj_error *err)
{
	struct perf_bed *b = calloc(1, sizeof(*b));
	struct rji_sender_opts so;
	int ret;

	if (!b)
		return rji_fail(err, -ENOMEM, "no memory");
	b->o = *o;
	b->addrs = *o->addrs;
	b->o.addrs = &b->addrs;
	b->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = b->done_fd < 0 ? rji_fail_sys(err, 0, errno, "eventfd") : make_set(b, err);
	if (!ret)
		ret = place_lanes(b, err);
	so = (struct rji_sender_opts){ .host = o->host,
				       .ops = o->ops,
				       .tp = o->tp,
				       .stop = o->stop,
				       .harvest = &b->harvest,
				       .holds = &b->holds,
				       .pace = &b->pace,
				       .totals = &b->totals,
				       .placement = &b->placement,
				       .n_lanes = o->n_lanes,
				       .done_fd = b->done_fd };
	if (!ret)
		ret = rji_sender_create(&so, &b->sender, err);
	if (ret < 0) {
		perf_bed_destroy(&b);
		return ret;
	}
	*b_p = b;
	return 0;
}

void perf_bed_destroy(struct perf_bed **b_p)
{
	struct perf_bed *b = *b_p;

	if (!b)
		return;
	rji_sender_destroy(&b->sender);
	rji_harvest_fini(&b->harvest);
	rji_holds_fini(&b->holds);
	rji_pageset_fini(&b->set);
	rji_bitmap_free(b->pattern, b->n_words * RJI_WORD_BITS);
	rji_bitmap_free(b->dirty, b->n_words * RJI_WORD_BITS);
	if (b->done_fd >= 0)
		close(b->done_fd);
	free(b);
	*b_p = NULL;
}

/* --- using it --- */

/* Until the lanes have done what they were told. */
static int wait_for_lanes(struct perf_bed *b, struct rji_sent *sent_p, struct rj_error *err)
{
	while (rji_sender_busy(b->sender)) {
		struct pollfd fd = { .fd = b->done_fd, .events = POLLIN };
		eventfd_t ignored;

		if (poll(&fd, 1, -1) > 0)
			eventfd_read(b->done_fd, &ignored);
	}
	return rji_sender_result(b->sender, sent_p, err);
}

int perf_bed_connect(struct perf_bed *b, const struct rji_admission *adm, struct rj_error *err)
{
	rji_sender_connect(b->sender, b->o.addrs, adm, rji_now_ns() + CONNECT_MS * RJI_NS_PER_MS);
	return wait_for_lanes(b, NULL, err);
}

/* Each run of message_bytes is dirty or not by a coin that falls alike each time. */
static bool coin(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 63;
}

void perf_bed_shape(struct perf_bed *b, enum perf_pattern pattern, uint32_t message_bytes)
{
	uint64_t run = message_bytes >> PERF_PAGE_SHIFT, state = 88172645463325252;
	uint64_t n_pages = b->set.region[0].n_pages;

	memset(b->pattern, pattern == PERF_CONTIGUOUS ? 0xff : 0, b->n_words * sizeof(uint64_t));
	for (uint64_t i = 0; pattern != PERF_CONTIGUOUS && i + run <= n_pages; i += run) {
		if (pattern == PERF_RANDOM ? coin(&state) : i / run % 2 == 0)
			rji_bitmap_set_range(b->pattern, i, run);
	}
	rji_sender_set_extent_max(b->sender, message_bytes);
}

static struct perf_round counts(const struct perf_bed *b)
{
	const struct rji_lane_totals *t = &b->totals;

	return (struct perf_round){ .requests = t->requests,
				    .posts = t->posts,
				    .polls = t->polls,
				    .signalled = t->signalled,
				    .cpu_ns = t->cpu_ns };
}

int perf_bed_round(struct perf_bed *b, struct perf_round *r_p, struct rj_error *err)
{
	uint64_t began, collected, fenced, cpu;
	struct perf_round before, after;
	struct rji_sent sent;
	struct rji_dirt dirt;
	int ret;

	memcpy(b->dirty, b->pattern, b->n_words * sizeof(uint64_t));
	before = counts(b);
	cpu = rji_thread_cpu_ns();
	began = rji_now_ns();
	ret = rji_harvest_collect(&b->harvest, &dirt, err);
	collected = rji_now_ns();
	if (ret < 0)
		return ret;
	rji_harvest_begin_round(&b->harvest);
	rji_sender_round(b->sender);
	ret = wait_for_lanes(b, &sent, err);
	fenced = rji_now_ns();
	if (ret < 0)
		return ret;
	rji_harvest_fenced(&b->harvest);
	if (sent.pages != dirt.pending_pages)
		return rji_fail(err, -EIO, "%llu pages were dirty, %llu were sent",
				(unsigned long long)dirt.pending_pages,
				(unsigned long long)sent.pages);
	after = counts(b);
	*r_p = (struct perf_round){
		.rounds = 1,
		.pages = sent.pages,
		.bytes = sent.bytes,
		.ns = rji_now_ns() - began,
		.collect_ns = collected - began,
		.send_ns = sent.send_ns,
		.fence_ns = sent.fence_ns,
		.finish_ns = rji_now_ns() - fenced,
		.cpu_ns = rji_thread_cpu_ns() - cpu + after.cpu_ns - before.cpu_ns,
		.requests = after.requests - before.requests,
		.posts = after.posts - before.posts,
		.polls = after.polls - before.polls,
		.signalled = after.signalled - before.signalled,
	};
	return 0;
}

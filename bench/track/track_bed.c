/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench/track/track.h"
#include "pagesender/dirty/tracker_impl.h"

const char *const track_names[TRACK_TRACKERS] = { "none", "log", "ring" };

static int say(int ret, const char *what, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s: %s", what, rj_strerror(ret));
	return ret;
}

static int add_regions(struct track_bed *b, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < guest_n_regions(b->guest); i++) {
		struct rji_pageset_region *pr;
		struct rj_region r;
		int ret;

		guest_region(b->guest, i, &r);
		ret = rji_pageset_add(&b->set, &r);
		if (ret < 0)
			return say(ret, "bitmaps", why, why_bytes);
		ret = b->ops->attach(b->t, i, &r, why, why_bytes);
		if (ret < 0)
			return ret;
		pr = &b->set.region[i];
		pr->trackers[pr->n_trackers++] = (struct rji_attached){ b->ops, b->t };
	}
	return 0;
}

static int start_tracker(struct track_bed *b, char *why, size_t why_bytes)
{
	struct rj_tracker *t = guest_tracker(b->guest, why, why_bytes);
	uint64_t start;
	int ret;

	if (!t)
		return -ENOTSUP;
	b->ops = &t->ops;
	b->t = t->t;
	ret = add_regions(b, why, why_bytes);
	if (ret < 0)
		return ret;
	rji_holds_init(&b->holds);
	ret = rji_harvest_init(&b->harvest, &b->set, &b->holds);
	if (ret < 0)
		return say(ret, "windows", why, why_bytes);
	b->harvesting = true;
	start = rji_now_ns();
	ret = b->ops->start(b->t);
	b->start_ns = rji_now_ns() - start;
	rji_pageset_all_pending(&b->set);
	return ret < 0 ? say(ret, "the tracker does not start", why, why_bytes) : 0;
}

int track_bed_open(struct track_bed *b, const struct guest_opts *go, enum track_tracker tracker,
		   char *why, size_t why_bytes)
{
	struct guest_opts o = *go;
	int ret;

	memset(b, 0, sizeof(*b));
	o.tracker = tracker == TRACK_RING ? GUEST_TRACKER_RING : GUEST_TRACKER_LOG;
	ret = guest_create(&o, &b->guest, why, why_bytes);
	if (!ret && tracker != TRACK_NONE)
		ret = start_tracker(b, why, why_bytes);
	if (ret < 0)
		track_bed_close(b);
	return ret;
}

void track_bed_stop(struct track_bed *b)
{
	uint64_t start = rji_now_ns();

	if (b->ops)
		b->ops->stop(b->t);
	b->stop_ns = rji_now_ns() - start;
}

void track_bed_close(struct track_bed *b)
{
	if (b->harvesting) {
		rji_harvest_fini(&b->harvest);
		rji_holds_fini(&b->holds);
	}
	rji_pageset_fini(&b->set);
	guest_destroy(&b->guest);
}

int track_bed_collect(struct track_bed *b, struct rji_dirt *dirt_p, char *why, size_t why_bytes)
{
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = rji_harvest_collect(&b->harvest, dirt_p, &err);
	if (ret < 0)
		snprintf(why, why_bytes, "%s", err.text);
	return ret;
}

int64_t track_bed_round(struct track_bed *b, char *why, size_t why_bytes)
{
	struct rji_harvest_cursor c;
	struct rji_span span;
	struct rj_error err;
	int64_t pages = 0;
	int ret;

	rji_error_init(&err);
	rji_harvest_begin_round(&b->harvest);
	rji_harvest_cursor_init(&c, 0);
	while ((ret = rji_harvest_next(&b->harvest, &c, &span, &err)) == 1) {
		for (uint64_t i = 0; i < (span.n_pages + 63) / 64; i++)
			pages += __builtin_popcountll(span.bits[i]);
	}
	rji_harvest_fenced(&b->harvest);
	if (ret < 0)
		snprintf(why, why_bytes, "%s", err.text);
	return ret < 0 ? ret : pages;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/track/track.h"

/*
 * The guest writes as fast as it can until enough of its memory is there, and then until enough of
 * that is dirty; a round each time, while it runs: its vCPU's faults and the calls measured here
 * are in each other's way as in a migration. At last it stands still: a round that finds nothing.
 */

#define AS_FAST_AS_IT_CAN (4ull << 30)
#define STUCK_NS (60 * RJI_NS_PER_S)

struct walk {
	uint64_t collect_max_ns, collect_cpu_ns, rearm_max_ns, round_max_ns, clean_ns;
	uint64_t n_collects, dirty_pages;
};

/* Collect until so many pages are pending. */
static int wait_for_dirty(struct track_bed *b, struct walk *w, uint64_t pages, char *why,
			  size_t why_bytes)
{
	struct rji_dirt dirt = { 0 };
	uint64_t began = rji_now_ns(), beat = guest_counter(b->guest);

	while (dirt.pending_pages < pages) {
		uint64_t cpu_ns = rji_thread_cpu_ns();
		int ret = track_bed_collect(b, &dirt, why, why_bytes);

		if (ret < 0)
			return ret;
		w->collect_cpu_ns += rji_thread_cpu_ns() - cpu_ns;
		w->n_collects++;
		usleep(20000);
		if (rji_now_ns() - began < STUCK_NS)
			continue;
		snprintf(why, why_bytes, "%s: it wrote %" PRIu64 " of %" PRIu64 " pages in 60 s",
			 guest_counter(b->guest) == beat ? "the guest stands still"
							 : "the guest is too slow",
			 dirt.pending_pages, pages);
		return -ETIMEDOUT;
	}
	w->dirty_pages = dirt.pending_pages;
	return 0;
}

static int one_round(struct track_bed *b, struct walk *w, char *why, size_t why_bytes)
{
	uint64_t start = rji_now_ns(), ns;
	int64_t n = track_bed_round(b, why, why_bytes);

	ns = rji_now_ns() - start;
	if (ns > w->round_max_ns)
		w->round_max_ns = ns;
	return n < 0 ? (int)n : 0;
}

static int clean_round(struct track_bed *b, struct walk *w, char *why, size_t why_bytes)
{
	struct rji_dirt dirt;
	uint64_t start;
	int ret;

	guest_pause(b->guest);
	ret = track_bed_collect(b, &dirt, why, why_bytes);
	if (!ret)
		ret = one_round(b, w, why, why_bytes);
	start = rji_now_ns();
	if (!ret)
		ret = track_bed_collect(b, &dirt, why, why_bytes);
	if (!ret)
		ret = one_round(b, w, why, why_bytes);
	w->clean_ns = rji_now_ns() - start;
	return ret;
}

static int run(struct track_bed *b, const struct track_opts *o, uint32_t percent, struct walk *w,
	       char *why, size_t why_bytes)
{
	uint64_t touched = o->touched_bytes / 4096;
	int ret = one_round(b, w, why, why_bytes); /* the bulk round: all of it */

	if (!ret)
		ret = guest_run(b->guest);
	if (!ret)
		ret = wait_for_dirty(b, w, touched / 2, why, why_bytes);
	for (uint32_t i = 0; i < o->repeat && !ret; i++) {
		ret = one_round(b, w, why, why_bytes);
		if (!ret)
			ret = wait_for_dirty(b, w, touched * percent / 100, why, why_bytes);
	}
	return ret ? ret : clean_round(b, w, why, why_bytes);
}

static json_t *us(uint64_t ns)
{
	return json_real((double)(ns / 100) / 10);
}

static void print(const struct track_opts *o, const struct track_bed *b, const struct walk *w,
		  const char *tracker, bool sweep, uint32_t percent)
{
	json_t *r = json_pack("{s:s,s:s,s:I,s:I,s:i,s:I}", "tracker", tracker, "pattern",
			      sweep ? "runs" : "scattered", "guest_gib",
			      (json_int_t)(o->size_bytes >> 30), "touched_mib",
			      (json_int_t)(o->touched_bytes >> 20), "dirty_percent", (int)percent,
			      "dirty_pages", (json_int_t)w->dirty_pages);

	json_object_set_new(r, "collect_max_us", us(b->harvest.collect_max_ns));
	json_object_set_new(r, "collect_cpu_us", us(w->collect_cpu_ns / w->n_collects));
	json_object_set_new(r, "rearm_max_us", us(b->harvest.rearm_max_ns));
	json_object_set_new(r, "round_max_us", us(w->round_max_ns));
	json_object_set_new(r, "clean_round_us", us(w->clean_ns));
	json_object_set_new(r, "start_us", us(b->start_ns));
	json_object_set_new(r, "stop_us", us(b->stop_ns));
	track_print(o, r);
}

int track_walk(const struct track_opts *o, enum track_tracker tracker, bool sweep, uint32_t percent,
	       char *why, size_t why_bytes)
{
	struct guest_opts go = {
		.kind = GUEST_KVM,
		.size_bytes = o->size_bytes,
		.fill_none = true,
		.workload = { .kind = sweep ? WORKLOAD_SWEEP : WORKLOAD_HOT,
			      .rate_bytes_per_s = AS_FAST_AS_IT_CAN,
			      .hot_bytes = sweep ? 0 : o->touched_bytes },
	};
	struct walk w = { 0 };
	struct track_bed b;
	int ret = track_bed_open(&b, &go, tracker, why, why_bytes);

	if (ret < 0)
		return ret;
	ret = run(&b, o, percent, &w, why, why_bytes);
	guest_pause(b.guest);
	track_bed_stop(&b);
	if (!ret)
		print(o, &b, &w, track_names[tracker], sweep, percent);
	track_bed_close(&b);
	return ret;
}

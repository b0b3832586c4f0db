/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/lane.h"

/* A link that writes down what it is asked to do. */
static struct {
	char order[4096]; /* p: post, d: drain, f: fence */
	size_t n_calls;
	uint64_t n_extents, bytes, largest_batch;
	uint32_t max_extents;
	int fail_post_after; /* -1: never */
	int fence_ret;
	void (*on_post)(void);
} link_;

static void note(char what)
{
	if (link_.n_calls < sizeof(link_.order) - 1)
		link_.order[link_.n_calls++] = what;
}

static int post(struct rji_lane *lane, const struct rji_extent *e, uint32_t n, struct rj_error *err)
{
	uint64_t bytes = 0;

	note('p');
	if (link_.fail_post_after-- == 0)
		return rji_fail(err, RJ_E_LANE, "cable pulled");
	for (uint32_t i = 0; i < n; i++)
		bytes += e[i].len_bytes;
	link_.n_extents += n;
	link_.bytes += bytes;
	link_.max_extents = n > link_.max_extents ? n : link_.max_extents;
	link_.largest_batch = bytes > link_.largest_batch ? bytes : link_.largest_batch;
	if (link_.on_post)
		link_.on_post();
	return 0;
}

static int drain(struct rji_lane *lane, struct rj_error *err)
{
	note('d');
	return 0;
}

static int fence(struct rji_lane *lane, uint64_t deadline_ns, struct rj_error *err)
{
	note('f');
	return link_.fence_ret ? rji_fail(err, link_.fence_ret, "no answer") : 0;
}

static const struct rji_transport_ops ops = { .post = post, .drain = drain, .fence = fence };

static struct rji_pageset set;
static struct rji_holds holds;
static struct rji_harvest harvest;
static struct rji_pace pace;
static struct rji_lane_totals totals;
static struct rji_stop stop;
static struct rji_lane_sender lane;

static void set_up(void)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = "ram";
	r.host = (void *)0x40000000; /* never touched here */
	r.len_bytes = 32 << 20;
	rji_pageset_add(&set, &r);
	rji_holds_init(&holds);
	rji_harvest_init(&harvest, &set, &holds);
	rji_pace_init(&pace, 0);
	rji_stop_init(&stop);
	lane = (struct rji_lane_sender){ .number = 2,
					 .extent_max_bytes = RJI_EXTENT_MAX_BYTES,
					 .ops = &ops,
					 .harvest = &harvest,
					 .holds = &holds,
					 .pace = &pace,
					 .totals = &totals,
					 .stop = &stop };
	rji_error_init(&lane.err);
	link_.fail_post_after = -1;
}

static void tear_down(void)
{
	rji_harvest_fini(&harvest);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	rji_stop_fini(&stop);
}

TestSuite(lane, .init = set_up, .fini = tear_down, .timeout = 10);

Test(lane, round_is_posts_and_one_fence_behind_them)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	cr_assert_eq(link_.bytes, 32 << 20);
	cr_assert_eq(lane.round.bytes, 32 << 20);
	cr_assert_eq(lane.round.pages, 8192);
	cr_assert_eq(strspn(link_.order, "p"), link_.n_calls - 1);
	cr_assert_eq(link_.order[link_.n_calls - 1], 'f');
	cr_assert_geq(lane.round.fenced_at_ns, lane.round.sent_at_ns);
}

Test(lane, round_without_pages_is_a_fence)
{
	rji_harvest_begin_round(&harvest);
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	cr_assert_str_eq(link_.order, "f");
	cr_assert_eq(lane.round.pages, 0);
}

Test(lane, batches_keep_to_their_limits)
{
	for (uint64_t p = 0; p < 8192; p += 2)
		rji_pageset_pend(&set.region[0], p, 1);
	rji_harvest_begin_round(&harvest);
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	cr_assert_eq(link_.n_extents, 4096);
	cr_assert_eq(link_.max_extents, RJI_BATCH_EXTENTS);
	cr_assert_eq(link_.n_calls, 4096 / RJI_BATCH_EXTENTS + 1);
	cr_assert_eq(link_.largest_batch, RJI_BATCH_EXTENTS * 4096);
}

Test(lane, under_a_rate_posts_are_as_small_as_it_asks_for)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	rji_pace_init(&pace, 512 << 20);
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	cr_assert_eq(link_.largest_batch, rji_pace_quantum(&pace), "long extents go in parts");
	cr_assert_eq(link_.bytes, 32 << 20, "all of them");
	cr_assert_eq(lane.round.bytes, 32 << 20);
	cr_assert_eq(lane.round.pages, 8192);
}

Test(lane, what_does_not_fill_a_batch_is_sent_before_the_fence)
{
	for (int round = 0; round < 2; round++) {
		rji_pageset_pend(&set.region[0], 0, 3);
		rji_harvest_begin_round(&harvest);
		cr_assert_eq(rji_lane_send_round(&lane), 0);
		cr_assert_eq(lane.round.pages, 3, "of this round");
		cr_assert_eq(lane.round.bytes, 3 * 4096);
	}
	cr_assert_str_eq(link_.order, "pfpf");
	cr_assert_eq(link_.bytes, 6 * 4096);
}

Test(lane, failed_post_is_not_followed_by_anything)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	link_.fail_post_after = 3;
	cr_assert_eq(rji_lane_send_round(&lane), RJ_E_LANE);
	cr_assert_str_eq(link_.order, "pppp");
	cr_assert_str_eq(lane.err.text, "cable pulled");
	cr_assert_not(holds.lane[2].in_round, "holders do not wait for it");
}

Test(lane, fence_that_is_not_answered_fails_the_round)
{
	rji_harvest_begin_round(&harvest);
	link_.fence_ret = RJ_E_LANE;
	cr_assert_eq(rji_lane_send_round(&lane), RJ_E_LANE);
	cr_assert_str_eq(lane.err.text, "no answer");
}

Test(lane, pages_of_a_failed_round_are_unfenced_or_pending)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	link_.fail_post_after = 1;
	rji_lane_send_round(&lane);
	rji_pageset_unfenced_to_pending(&set);
	cr_assert_eq(rji_bitmap_weight(set.region[0].pending, set.region[0].n_words), 8192);
}

Test(lane, batch_of_a_failed_round_is_not_sent_by_the_next)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	link_.fence_ret = RJ_E_LANE;
	harvest.abort = true;
	lane.n_extents = 5; /* as if gathered */
	lane.batch_bytes = 5 * 4096;
	rji_lane_send_round(&lane);
	cr_assert_eq(lane.n_extents, 0);
	cr_assert_eq(lane.batch_bytes, 0);
}

/* What a holder does, but without waiting: the lane's own thread plays it here. */
static void hold_once(void)
{
	link_.on_post = NULL;
	pthread_mutex_lock(&holds.lock);
	holds.held[0] = (struct rji_held){ 0, 4096, 4096, 4096 * 4096, 4096 * 4096 };
	holds.n = 1;
	holds.generation++;
	pthread_mutex_unlock(&holds.lock);
}

Test(lane, hold_is_acknowledged_when_nothing_is_in_flight_any_more)
{
	const char *drained;

	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	link_.on_post = hold_once;
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	drained = strchr(link_.order, 'd');
	cr_assert_not_null(drained);
	cr_assert_null(strchr(drained + 1, 'd'), "once");
	cr_assert_not(rji_holds_changed(&holds, 2));
	cr_assert_eq(link_.bytes, 16 << 20);
	cr_assert_eq(rji_bitmap_weight(set.region[0].pending, set.region[0].n_words), 4096);
}

/* The batch that is being gathered names pages which may be held now. */
Test(lane, hold_finds_no_batch_half_gathered)
{
	for (uint64_t p = 0; p < 8192; p += 3)
		rji_pageset_pend(&set.region[0], p, 1);
	rji_harvest_begin_round(&harvest);
	link_.on_post = hold_once;
	cr_assert_eq(rji_lane_send_round(&lane), 0);
	cr_assert_eq(strncmp(link_.order, "ppd", 3), 0, "%s", link_.order);
}

static void fail_elsewhere(void)
{
	atomic_store(&harvest.abort, true);
}

/* What it has sent is in flight: without a fence it could arrive after a newer copy by another lane. */
Test(lane, round_that_another_lane_broke_is_fenced)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	link_.on_post = fail_elsewhere;
	cr_assert_eq(rji_lane_send_round(&lane), 0, "it is sound itself");
	cr_assert_str_eq(link_.order, "pf");
	cr_assert_lt(lane.round.pages, 8192);
}

Test(lane, stop_ends_a_paced_round)
{
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	rji_pace_init(&pace, 1);
	rji_stop_set(&stop);
	cr_assert_eq(rji_lane_send_round(&lane), -ECANCELED);
}

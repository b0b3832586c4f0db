/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/harvest.h"

/* Three windows; the last is short and ends inside a word. */
#define N_PAGES 40000u
#define N_WORDS 625u
#define WINDOW 16384u
#define PAGE 4096ull

/* What a tracker knows, finds besides in re-arming, and was asked to re-arm. */
struct fake {
	uint64_t dirty[N_WORDS], finds[N_WORDS], rearmed[N_WORDS];
	uint32_t n_rearms;
	int rearm_ret;
};

static struct rji_pageset set;
static struct rji_free_hints hints;
static struct rji_holds holds;
static struct rji_harvest harvest;
static struct rj_error err;
static struct fake *fake, *second;
static struct rji_pageset_region *ram;

static int collect_fake(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
			uint64_t *bits)
{
	const struct fake *f = t;

	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++)
		bits[i] |= f->dirty[first_page / 64 + i];
	return 0;
}

static int rearm_fake(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		      uint64_t *bits)
{
	struct fake *f = t;
	uint64_t at = first_page / 64;

	cr_assert_eq(first_page % 64, 0);
	cr_assert_leq(first_page + n_pages, N_PAGES);
	f->n_rearms++;
	if (f->rearm_ret)
		return f->rearm_ret;
	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++) {
		f->rearmed[at + i] |= bits[i];
		bits[i] |= f->finds[at + i];
		f->finds[at + i] = 0;
		f->dirty[at + i] &= ~bits[i];
	}
	return 0;
}

static const struct rj_tracker_ops fake_ops = { .size = sizeof(fake_ops),
						.name = "fake",
						.collect = collect_fake,
						.rearm = rearm_fake };

static void open_hints(bool given_zeroed)
{
	ram->given_zeroed = given_zeroed;
	rji_free_hints_open(&hints, true);
}

static void set_up(void)
{
	struct rj_region r;

	rji_error_init(&err);
	fake = calloc(1, sizeof(*fake));
	second = calloc(1, sizeof(*second));
	rj_region_init(&r);
	r.name = "ram";
	r.host = (void *)0x40000000; /* never touched here */
	r.len_bytes = N_PAGES * PAGE;
	cr_assert_eq(rji_pageset_add(&set, &r), 0);
	ram = &set.region[0];
	cr_assert_eq(rji_pageset_keep(&set, true), 0);
	ram->trackers[0] = (struct rji_attached){ &fake_ops, fake };
	ram->trackers[1] = (struct rji_attached){ &fake_ops, second };
	ram->n_trackers = 2;
	rji_free_hints_init(&hints, &set, true);
	rji_holds_init(&holds);
	cr_assert_eq(rji_harvest_init(&harvest, &set, &holds), 0);
	harvest.hints = &hints;
}

static void tear_down(void)
{
	rji_harvest_fini(&harvest);
	rji_free_hints_fini(&hints);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	free(fake);
	free(second);
}

TestSuite(free_hint, .init = set_up, .fini = tear_down, .timeout = 10);

/* --- a round --- */

static uint64_t sent[N_WORDS], cleared[N_WORDS]; /* in the last one */
static bool lanes_may_clear = true;
static void (*at_span)(const struct rji_span *span);

static void take_span(const struct rji_span *span)
{
	uint64_t first = span->first_page / 64, n = rji_bitmap_words(span->n_pages);
	uint64_t clears[RJI_SPAN_MAX_WORDS];

	rji_free_take_clears(ram, span->first_page, n, span->bits, clears);
	for (uint64_t i = 0; i < n; i++) {
		cr_assert_eq(clears[i] & ~span->bits[i], 0);
		if (!lanes_may_clear)
			clears[i] = 0;
		cleared[first + i] |= clears[i];
		sent[first + i] |= span->bits[i] & ~clears[i];
		ram->touched[first + i] |= span->bits[i];
	}
}

static uint64_t collect(void)
{
	struct rji_dirt dirt;

	cr_assert_eq(rji_harvest_collect(&harvest, &dirt, &err), 0);
	return dirt.pending_pages;
}

/* Returns how many pages were sent. */
static uint64_t send_round(void)
{
	struct rji_harvest_cursor c;
	struct rji_span span;

	memset(sent, 0, sizeof(sent));
	memset(cleared, 0, sizeof(cleared));
	rji_harvest_begin_round(&harvest);
	rji_harvest_cursor_init(&c, 0);
	while (rji_harvest_next(&harvest, &c, &span, &err) == 1) {
		if (at_span)
			at_span(&span);
		take_span(&span);
	}
	rji_harvest_fenced(&harvest);
	return rji_bitmap_weight(sent, N_WORDS);
}

static uint64_t n_cleared(void)
{
	return rji_bitmap_weight(cleared, N_WORDS);
}

static int mark(uint64_t first_page, uint64_t n_pages, uint64_t generation)
{
	return rji_free_mark(&hints, 0, first_page * PAGE, n_pages * PAGE, generation);
}

static uint64_t begin(void)
{
	uint64_t generation = 0;

	cr_assert_eq(rji_free_begin(&hints, &generation), 0);
	cr_assert_neq(generation, 0);
	return generation;
}

static void all_pending(void)
{
	memset(fake->dirty, 0xff, sizeof(fake->dirty));
	rji_pageset_all_pending(&set);
}

static bool is_dirty(const struct fake *f, uint64_t page)
{
	return rji_bitmap_test(f->dirty, page);
}

static uint64_t skipped(void)
{
	return hints.skipped_pages;
}

/* --- reported: the guest waits --- */

Test(free_hint, reported_pages_are_rearmed_at_once_and_not_sent)
{
	open_hints(true);
	all_pending();
	rji_pageset_mark(&set, 0, 100 * PAGE, PAGE);
	cr_assert_eq(mark(100, 1000, RJ_FREE_REPORTED), 1000);
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), 1000);
	cr_assert_eq(rji_bitmap_weight(second->rearmed, N_WORDS), 1000);
	cr_assert_not(is_dirty(fake, 100));
	cr_assert(is_dirty(fake, 99), "exactly these");
	cr_assert(is_dirty(fake, 1100));
	cr_assert_eq(mark(100, 1000, RJ_FREE_REPORTED), 0, "known already");
	cr_assert_eq(send_round(), N_PAGES - 1000);
	cr_assert_not(rji_bitmap_test(sent, 100));
	cr_assert(rji_bitmap_test(sent, 99));
	cr_assert_eq(n_cleared(), 0, "it has zeros there");
	cr_assert_eq(skipped(), 1000);
	cr_assert_eq(hints.skipped_bytes, 1000 * PAGE);
	cr_assert_eq(collect(), 0, "marked while it was the guest's: of no interest any more");
}

/* Each write after the hint leaves a trace that nothing may take away before it is found. */
Test(free_hint, page_written_after_it_was_reported_is_sent)
{
	open_hints(true);
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	rji_bitmap_set(fake->dirty, 103);
	rji_bitmap_set(second->dirty, 104);
	rji_pageset_mark(&set, 0, 105 * PAGE, PAGE);
	cr_assert_eq(send_round(), N_PAGES - 10, "not yet found");
	cr_assert(is_dirty(fake, 103), "opening its window took no trace");
	cr_assert(is_dirty(second, 104));
	cr_assert_eq(collect(), 3);
	cr_assert_eq(send_round(), 3);
	cr_assert(rji_bitmap_test(sent, 103) && rji_bitmap_test(sent, 104) &&
		  rji_bitmap_test(sent, 105));
}

Test(free_hint, page_found_before_the_round_wins_over_its_hint)
{
	open_hints(true);
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	rji_bitmap_set(fake->dirty, 103);
	collect();
	cr_assert_eq(send_round(), N_PAGES - 9);
	cr_assert(rji_bitmap_test(sent, 103));
}

Test(free_hint, hint_is_good_for_one_round)
{
	open_hints(true);
	all_pending();
	mark(0, 10, RJ_FREE_REPORTED);
	send_round();
	rji_pageset_pend(ram, 0, 10); /* as after a lane that failed, but found dirty nowhere */
	cr_assert_eq(send_round(), 10);
}

Test(free_hint, clean_page_that_is_reported_is_sent_when_written)
{
	open_hints(true);
	mark(7, 1, RJ_FREE_REPORTED);
	cr_assert_eq(collect(), 0);
	rji_bitmap_set(fake->dirty, 7);
	cr_assert_eq(collect(), 1);
	cr_assert_eq(send_round(), 1);
}

/* What a tracker finds besides, while a hint re-arms, was written: by whom is not known. */
Test(free_hint, what_is_found_in_rearming_is_sent)
{
	open_hints(true);
	mark(64, 2, RJ_FREE_REPORTED);
	mark(67, 1, RJ_FREE_REPORTED);
	rji_bitmap_set(fake->finds, 66);
	rji_bitmap_set(fake->finds, 67); /* hinted before */
	rji_bitmap_set(second->finds, 70);
	cr_assert_eq(mark(65, 1, RJ_FREE_REPORTED), 0);
	cr_assert_eq(collect(), 3);
	cr_assert_eq(send_round(), 3);
	cr_assert(rji_bitmap_test(sent, 66) && rji_bitmap_test(sent, 67) &&
		  rji_bitmap_test(sent, 70));
}

/* The session may go on after a hint that failed, so that nothing may be lost by it. */
Test(free_hint, what_is_found_in_rearming_is_kept_when_the_next_tracker_fails)
{
	open_hints(true);
	rji_bitmap_set(fake->finds, 66);
	second->rearm_ret = -EIO;
	cr_assert_eq(mark(65, 1, RJ_FREE_REPORTED), RJ_E_TRACKER);
	second->rearm_ret = 0;
	rji_pageset_pend(ram, 65, 1);
	cr_assert_eq(collect(), 2, "nor is it a hint");
	cr_assert_eq(send_round(), 2);
	cr_assert(rji_bitmap_test(sent, 66));
}

Test(free_hint, what_is_found_in_opening_the_window_is_sent_though_hinted)
{
	open_hints(false);
	all_pending();
	mark(100, 3, RJ_FREE_REPORTED);
	rji_bitmap_set(fake->finds, 101);
	cr_assert_eq(send_round(), N_PAGES - 2);
	cr_assert(rji_bitmap_test(sent, 101));
	cr_assert_eq(n_cleared(), 2);
	cr_assert_not(rji_bitmap_test(cleared, 101));
}

/* --- hinted by generation: the guest does not wait --- */

Test(free_hint, begin_rearms_what_is_pending_and_nothing_else)
{
	open_hints(true);
	rji_pageset_pend(ram, 100, 50);
	rji_pageset_pend(ram, 39999, 1);
	rji_bitmap_set(fake->dirty, 99); /* not collected: it may be needed */
	begin();
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), 51);
	cr_assert_eq(rji_bitmap_weight(second->rearmed, N_WORDS), 51);
	cr_assert(is_dirty(fake, 99));
	cr_assert_eq(fake->n_rearms, 2, "windows with nothing are not asked");
}

Test(free_hint, only_what_was_pending_at_the_begin_can_be_left_out)
{
	uint64_t generation;

	open_hints(true);
	rji_pageset_pend(ram, 100, 50);
	generation = begin();
	rji_pageset_pend(ram, 150, 1);
	cr_assert_eq(mark(90, 100, generation), 50);
	cr_assert_eq(send_round(), 1);
	cr_assert(rji_bitmap_test(sent, 150));
	cr_assert_eq(skipped(), 50);
}

Test(free_hint, page_found_since_the_begin_is_not_taken_by_a_hint)
{
	uint64_t generation;

	open_hints(true);
	all_pending();
	generation = begin();
	rji_bitmap_set(fake->dirty, 103); /* used again, and its hint is on its way */
	collect();
	cr_assert_eq(mark(100, 10, generation), 9);
	cr_assert_eq(send_round(), N_PAGES - 9);
	cr_assert(rji_bitmap_test(sent, 103));
}

Test(free_hint, page_written_since_the_begin_and_not_found_is_sent_when_found)
{
	uint64_t generation;

	open_hints(true);
	all_pending();
	generation = begin();
	rji_bitmap_set(fake->dirty, 103);
	rji_pageset_mark(&set, 0, 104 * PAGE, PAGE);
	cr_assert_eq(mark(100, 10, generation), 10);
	send_round();
	cr_assert_eq(collect(), 2);
	cr_assert_eq(send_round(), 2);
}

Test(free_hint, page_that_went_out_since_the_begin_is_not_taken_by_a_hint)
{
	uint64_t generation;

	open_hints(true);
	rji_pageset_pend(ram, 100, 50);
	generation = begin();
	send_round();
	cr_assert_eq(mark(100, 50, generation), 0);
	rji_bitmap_set(fake->dirty, 100);
	cr_assert_eq(collect(), 1);
	cr_assert_eq(mark(100, 50, generation), 0);
	cr_assert_eq(send_round(), 1);
}

/* A window that lanes have is on its way: begin leaves it alone, as its bits are theirs. */
static uint64_t generation_in_hand;

static void begin_in_the_round(const struct rji_span *span)
{
	at_span = NULL;
	memset(fake->rearmed, 0, sizeof(fake->rearmed));
	generation_in_hand = begin();
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, WINDOW / 64), 0, "in hand");
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), N_PAGES - WINDOW);
	cr_assert_eq(mark(0, N_PAGES, generation_in_hand), (int)(N_PAGES - WINDOW));
}

/* Also by the first hint that comes at all: it is asked for in the bulk round. */
Test(free_hint, windows_in_hand_are_not_armed)
{
	open_hints(true);
	all_pending();
	at_span = begin_in_the_round;
	cr_assert_eq(send_round(), WINDOW);
}

static void report_the_span(const struct rji_span *span)
{
	mark(span->first_page, span->n_pages, RJ_FREE_REPORTED);
}

Test(free_hint, pages_in_hand_are_sent_though_reported_and_found_when_written)
{
	open_hints(true);
	all_pending();
	at_span = report_the_span;
	cr_assert_eq(send_round(), N_PAGES);
	at_span = NULL;
	cr_assert_eq(collect(), 0);
	rji_bitmap_set(fake->dirty, 5);
	cr_assert_eq(collect(), 1);
	cr_assert_eq(send_round(), 1);
}

/* It will be left out, so that nobody else would look for what was written since. */
Test(free_hint, next_begin_takes_no_trace_of_a_page_that_is_hinted)
{
	uint64_t generation;

	open_hints(true);
	all_pending();
	generation = begin();
	cr_assert_eq(mark(100, 10, generation), 10);
	mark(110, 1, RJ_FREE_REPORTED);
	rji_bitmap_set(fake->dirty, 103); /* used again */
	rji_bitmap_set(fake->dirty, 110);
	begin();
	cr_assert(is_dirty(fake, 103) && is_dirty(fake, 110));
	cr_assert_eq(send_round(), N_PAGES - 11);
	cr_assert_eq(collect(), 2);
	cr_assert_eq(send_round(), 2);
}

Test(free_hint, other_generations_are_refused)
{
	uint64_t first, last;

	open_hints(true);
	cr_assert_eq(mark(0, 1, 1), -EINVAL, "none was given");
	all_pending();
	first = begin();
	last = begin();
	cr_assert_gt(last, first);
	cr_assert_eq(mark(0, 1, first), -EINVAL);
	cr_assert_eq(mark(0, 1, last + 1), -EINVAL);
	cr_assert_eq(mark(0, 1, last), 1);
	second->rearm_ret = -EIO;
	cr_assert_eq(rji_free_begin(&hints, &first), RJ_E_TRACKER);
	cr_assert_eq(mark(1, 1, last), -EINVAL, "void since the next was asked for");
	rji_free_hints_open(&hints, false);
	rji_free_hints_open(&hints, true);
	cr_assert_eq(mark(1, 1, last), -EINVAL);
}

Test(free_hint, begin_that_fails_loses_nothing)
{
	uint64_t generation = 77;

	open_hints(true);
	all_pending();
	rji_bitmap_set(fake->finds, 3);
	second->rearm_ret = -EIO;
	cr_assert_eq(rji_free_begin(&hints, &generation), RJ_E_TRACKER);
	cr_assert_eq(generation, 77);
	second->rearm_ret = 0;
	cr_assert_eq(send_round(), N_PAGES);
}

/* --- where the destination's memory is not known to be zero --- */

Test(free_hint, page_left_out_that_nothing_was_done_to_is_cleared_once)
{
	open_hints(false);
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	cr_assert_eq(send_round(), N_PAGES - 10);
	cr_assert_eq(n_cleared(), 10);
	cr_assert_eq(skipped(), 0, "counted by who clears");
	rji_pageset_pend(ram, 100, 10);
	mark(100, 10, RJ_FREE_REPORTED);
	cr_assert_eq(send_round(), 0);
	cr_assert_eq(n_cleared(), 0, "it has this guest's");
	cr_assert_eq(skipped(), 10);
}

Test(free_hint, page_that_was_sent_before_is_not_cleared)
{
	open_hints(false);
	all_pending();
	send_round();
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	cr_assert_eq(send_round(), N_PAGES - 10);
	cr_assert_eq(n_cleared(), 0);
}

Test(free_hint, where_lanes_cannot_clear_they_send)
{
	open_hints(false);
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	lanes_may_clear = false;
	cr_assert_eq(send_round(), N_PAGES);
	lanes_may_clear = true;
	cr_assert_eq(skipped(), 0);
}

/* Not cleared in its round: held, or the round broke. Then it is as dirty as any other page. */
Test(free_hint, page_to_be_cleared_that_was_not_is_sent)
{
	struct rji_held held = { 0, 100, 10, 100 * PAGE, 10 * PAGE };

	open_hints(false);
	all_pending();
	mark(100, 20, RJ_FREE_REPORTED);
	cr_assert_eq(rji_holds_add(&holds, &held), 0);
	cr_assert_eq(send_round(), N_PAGES - 20);
	cr_assert_eq(n_cleared(), 10);
	rji_holds_remove(&holds, &held);
	memset(fake->rearmed, 0, sizeof(fake->rearmed));
	cr_assert_eq(send_round(), 10);
	cr_assert_eq(n_cleared(), 0);
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), 10, "and re-armed before");
}

Test(free_hint, page_to_be_cleared_that_is_found_dirty_is_sent)
{
	struct rji_held held = { 0, 100, 10, 100 * PAGE, 10 * PAGE };

	open_hints(false);
	all_pending();
	mark(100, 10, RJ_FREE_REPORTED);
	rji_holds_add(&holds, &held);
	send_round();
	rji_holds_remove(&holds, &held);
	rji_bitmap_set(fake->dirty, 104);
	mark(100, 10, RJ_FREE_REPORTED); /* takes the trace, and hints anew */
	rji_bitmap_set(fake->dirty, 105);
	cr_assert_eq(collect(), 10);
	send_round();
	cr_assert(rji_bitmap_test(sent, 105));
	cr_assert_not(rji_bitmap_test(cleared, 105));
	cr_assert(rji_bitmap_test(cleared, 104), "given up, nothing done to it, and hinted again");
}

/* --- ranges --- */

Test(free_hint, ranges_go_over_windows_and_end_in_the_last_word)
{
	open_hints(true);
	all_pending();
	cr_assert_eq(mark(3, N_PAGES - 3, RJ_FREE_REPORTED), (int)N_PAGES - 3);
	cr_assert_eq(fake->n_rearms, 3, "a call a window");
	cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), N_PAGES - 3);
	cr_assert_eq(send_round(), 3);
}

Test(free_hint, each_edge_of_a_word_is_where_it_should_be)
{
	open_hints(true);
	for (uint64_t first = 0; first < 66; first++) {
		for (uint64_t n = 1; n < 130; n += n < 3 ? 1 : 31) {
			uint64_t at = WINDOW - 64 + first; /* over the edge of a window */

			memset(fake->rearmed, 0, sizeof(fake->rearmed));
			mark(at, n, RJ_FREE_REPORTED);
			cr_assert_eq(rji_bitmap_weight(fake->rearmed, N_WORDS), n);
			cr_assert(rji_bitmap_test(fake->rearmed, at) &&
				  rji_bitmap_test(fake->rearmed, at + n - 1));
		}
	}
}

static const struct {
	uint32_t region;
	uint64_t offset_bytes, len_bytes;
} bad[] = {
	{ 1, 0, PAGE },
	{ UINT32_MAX, 0, PAGE },
	{ 0, 0, (N_PAGES + 1) * PAGE },
	{ 0, N_PAGES *PAGE, PAGE },
	{ 0, (N_PAGES + 1) * PAGE, 0 },
	{ 0, PAGE, UINT64_MAX - PAGE + 1 },
	{ 0, UINT64_MAX - PAGE + 1, PAGE },
	{ 0, 1, PAGE },
	{ 0, 0, 1 },
	{ 0, 0, PAGE + 512 },
	{ 0, 512, PAGE },
};

Test(free_hint, ranges_outside_or_not_of_pages_are_refused)
{
	open_hints(true);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_assert_eq(rji_free_mark(&hints, bad[i].region, bad[i].offset_bytes,
					   bad[i].len_bytes, RJ_FREE_REPORTED),
			     -EINVAL, "%zu", i);
	cr_assert_eq(fake->n_rearms, 0);
	cr_assert_eq(mark(N_PAGES, 0, RJ_FREE_REPORTED), 0, "nothing is nothing");
	cr_assert_eq(mark(N_PAGES - 1, 1, RJ_FREE_REPORTED), 1);
}

Test(free_hint, region_of_huge_pages)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = "huge";
	r.host = (void *)0x40000000;
	r.page_bytes = 2 << 20;
	r.len_bytes = 100ull << 21;
	cr_assert_eq(rji_pageset_add(&set, &r), 0);
	rji_pageset_keep(&set, false);
	set.region[1].given_zeroed = true;
	rji_free_hints_open(&hints, true);
	cr_assert_eq(rji_free_mark(&hints, 1, PAGE, 2 << 20, RJ_FREE_REPORTED), -EINVAL);
	cr_assert_eq(rji_free_mark(&hints, 1, 10ull << 21, 90ull << 21, RJ_FREE_REPORTED), 90);
	rji_pageset_pend(&set.region[1], 0, 100);
	rji_free_leave_out(&hints, &set.region[1], 0, 64);
	rji_free_leave_out(&hints, &set.region[1], 64, 36);
	cr_assert_eq(set.region[1].pending[0], (1 << 10) - 1);
	cr_assert_eq(set.region[1].pending[1], 0);
	cr_assert_eq(hints.skipped_bytes, 90ull << 21);
}

/* --- when --- */

Test(free_hint, no_hint_is_taken_unless_trackers_run)
{
	uint64_t generation = 77;

	all_pending();
	cr_assert_eq(mark(0, 100, RJ_FREE_REPORTED), 0);
	cr_assert_eq(rji_free_begin(&hints, &generation), RJ_E_STATE);
	cr_assert_eq(generation, 77);
	open_hints(true);
	rji_free_hints_open(&hints, false);
	cr_assert_eq(mark(0, 100, RJ_FREE_REPORTED), 0);
	cr_assert_eq(fake->n_rearms, 0);
	cr_assert_eq(send_round(), N_PAGES);
}

Test(free_hint, session_without_the_filter_takes_none_and_spends_nothing)
{
	rji_free_hints_fini(&hints);
	rji_free_hints_init(&hints, &set, false);
	open_hints(true);
	all_pending();
	cr_assert_eq(mark(0, 100, RJ_FREE_REPORTED), 0);
	cr_assert_eq(send_round(), N_PAGES);
	cr_assert_eq(hints.map_bytes, 0);
}

Test(free_hint, maps_are_there_from_the_first_hint_and_counted)
{
	open_hints(true);
	cr_assert_eq(hints.map_bytes, 0);
	mark(0, 1, RJ_FREE_REPORTED);
	cr_assert_eq(hints.map_bytes, 3 * N_WORDS * 8 + sizeof(struct rji_free_maps));
}

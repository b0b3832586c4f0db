/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/harvest.h"

/* Enough for the regions here: 40000 pages. */
#define MAX_WORDS 640u

/* A tracker that knows what it is told, and remembers how it was asked. */
struct fake {
	uint64_t dirty[RJ_MAX_REGIONS][MAX_WORDS];
	uint64_t finds[RJ_MAX_REGIONS][MAX_WORDS];   /* and re-arms, beyond what it is asked for */
	uint64_t rearmed[RJ_MAX_REGIONS][MAX_WORDS]; /* what it was asked for */
	int n_rearms;
	int collect_ret, rearm_ret;
};

static struct rji_pageset set;
static struct rji_holds holds;
static struct rji_harvest harvest;
static struct rj_error err;
static struct fake *fake;

static int fake_collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
			uint64_t *bits)
{
	struct fake *f = t;

	cr_assert_eq(first_page, 0);
	cr_assert_eq(n_pages, set.region[region].n_pages);
	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++)
		bits[i] |= f->dirty[region][i];
	return f->collect_ret;
}

static int fake_rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		      uint64_t *bits)
{
	struct fake *f = t;
	uint64_t at = first_page / 64;

	cr_assert_eq(first_page % 64, 0);
	cr_assert_leq(first_page + n_pages, set.region[region].n_pages);
	f->n_rearms++;
	if (f->rearm_ret)
		return f->rearm_ret;
	for (uint64_t i = 0; i < rji_bitmap_words(n_pages); i++) {
		f->rearmed[region][at + i] |= bits[i];
		f->dirty[region][at + i] &= ~bits[i];
		bits[i] |= f->finds[region][at + i];
		f->dirty[region][at + i] &= ~f->finds[region][at + i];
		f->finds[region][at + i] = 0;
	}
	return 0;
}

static const struct rj_tracker_ops fake_ops = { .size = sizeof(fake_ops),
						.name = "fake",
						.collect = fake_collect,
						.rearm = fake_rearm };

static void add_region(uint64_t n_pages, uint32_t page_bytes)
{
	struct rj_region r;
	char name[16];

	snprintf(name, sizeof(name), "ram%u", set.n_regions);
	rj_region_init(&r);
	r.name = name;
	r.host = (void *)0x40000000; /* never touched here */
	r.len_bytes = n_pages * page_bytes;
	r.page_bytes = page_bytes;
	cr_assert_eq(rji_pageset_add(&set, &r), 0);
}

static void attach(uint32_t region, struct fake *f, const struct rj_tracker_ops *ops)
{
	struct rji_pageset_region *r = &set.region[region];

	r->trackers[r->n_trackers++] = (struct rji_attached){ ops, f };
}

static void set_up(void)
{
	rji_error_init(&err);
	fake = calloc(1, sizeof(*fake));
	rji_holds_init(&holds);
	add_region(40000, 4096); /* three windows, the last is short and ends inside a word */
	add_region(100, 2 << 20);
	add_region(1, 4096);
	for (uint32_t i = 0; i < 3; i++)
		attach(i, fake, &fake_ops);
	cr_assert_eq(rji_harvest_init(&harvest, &set, &holds), 0);
}

static void tear_down(void)
{
	rji_harvest_fini(&harvest);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	free(fake);
}

TestSuite(harvest, .init = set_up, .fini = tear_down);

static struct rji_dirt collect(void)
{
	struct rji_dirt dirt;

	cr_assert_eq(rji_harvest_collect(&harvest, &dirt, &err), 0, "%s", err.text);
	return dirt;
}

/* What one lane is handed out in a round. Each page at most once. */
struct sent {
	uint64_t map[3][MAX_WORDS];
	uint64_t n_pages;
};

static int send_round(struct sent *sent)
{
	struct rji_harvest_cursor c;
	struct rji_span span;
	int ret;

	memset(sent, 0, sizeof(*sent));
	rji_harvest_begin_round(&harvest);
	rji_harvest_cursor_init(&c, 0);
	while ((ret = rji_harvest_next(&harvest, &c, &span, &err)) == 1) {
		const struct rji_pageset_region *r = &set.region[span.region];

		cr_assert_eq(span.first_page % 64, 0);
		cr_assert_leq(span.n_pages, r->span_pages);
		cr_assert_leq(span.first_page + span.n_pages, r->n_pages);
		for (uint64_t i = 0; i < span.n_pages; i++) {
			uint64_t page = span.first_page + i;

			if (!rji_bitmap_test(span.bits, i))
				continue;
			cr_assert_not(rji_bitmap_test(sent->map[span.region], page), "twice");
			cr_assert(rji_bitmap_test(r->unfenced, page));
			rji_bitmap_set(sent->map[span.region], page);
			sent->n_pages++;
		}
	}
	return ret;
}

static bool is_sent(const struct sent *sent, uint32_t region, uint64_t page)
{
	return rji_bitmap_test(sent->map[region], page);
}

static uint64_t weight(const uint64_t *map, uint32_t region)
{
	return rji_bitmap_weight(map, set.region[region].n_words);
}

Test(harvest, collect_forgets_nothing_and_counts_in_pages_and_bytes)
{
	struct rji_dirt dirt;

	fake->dirty[0][0] = 0x7;
	fake->dirty[1][1] = 0x1;
	rji_pageset_mark(&set, 0, 63 * 4096, 4096);
	dirt = collect();
	cr_assert_eq(dirt.new_pages, 5);
	cr_assert_eq(dirt.new_bytes, 4 * 4096 + (2 << 20));
	cr_assert_eq(dirt.pending_pages, 5);
	cr_assert_eq(dirt.pending_bytes, dirt.new_bytes);
	fake->dirty[0][0] |= 0x8;
	dirt = collect();
	cr_assert_eq(dirt.new_pages, 1);
	cr_assert_eq(dirt.pending_pages, 6);
	cr_assert_eq(fake->n_rearms, 0);
	cr_assert_eq(set.region[0].marked[0], 1ull << 63);
}

Test(harvest, bulk_round_hands_out_every_page_once)
{
	static struct sent sent;

	rji_pageset_all_pending(&set);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 40101);
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert_eq(weight(set.region[i].pending, i), 0);
		cr_assert_eq(weight(set.region[i].unfenced, i), set.region[i].n_pages);
		cr_assert_eq(weight(fake->rearmed[i], i), set.region[i].n_pages);
	}
	cr_assert_eq(send_round(&sent), 0, "and nothing is left");
	cr_assert_eq(sent.n_pages, 0);
}

Test(harvest, random_rounds_hand_out_what_is_pending_and_nothing_else)
{
	static struct sent sent;
	uint64_t random = 88172645463325252ull;

	for (int round = 0; round < 40; round++) {
		static uint64_t expected[3][MAX_WORDS];
		uint64_t n = 0;

		memset(fake->rearmed, 0, sizeof(fake->rearmed));
		for (int i = 0; i < 300; i++) {
			uint32_t region;

			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			region = (uint32_t)(random >> 60) % 3;
			rji_bitmap_set(fake->dirty[region], random % set.region[region].n_pages);
		}
		collect();
		for (uint32_t i = 0; i < 3; i++) {
			memcpy(expected[i], set.region[i].pending, set.region[i].n_words * 8);
			n += weight(expected[i], i);
		}
		cr_assert_eq(send_round(&sent), 0);
		cr_assert_eq(sent.n_pages, n);
		cr_assert(!memcmp(sent.map, expected, sizeof(expected)));
		cr_assert(!memcmp(fake->rearmed, expected, sizeof(expected)),
			  "re-armed is exactly what was pending");
		rji_harvest_fenced(&harvest);
		cr_assert_eq(weight(set.region[0].unfenced, 0), 0);
	}
}

Test(harvest, lane_that_finds_no_window_helps_with_anothers)
{
	struct rji_harvest_cursor mine, helper;
	struct rji_span a, b;

	rji_pageset_pend(&set.region[0], 0, 16384);
	cr_assert_eq(rji_harvest_begin_round(&harvest), 1);
	rji_harvest_cursor_init(&mine, 0);
	rji_harvest_cursor_init(&helper, 0);
	for (int i = 0; i < 16; i++) {
		cr_assert_eq(rji_harvest_next(&harvest, &mine, &a, &err), 1);
		cr_assert_eq(rji_harvest_next(&harvest, &helper, &b, &err), 1);
		cr_assert_neq(a.first_page, b.first_page);
	}
	cr_assert_eq(rji_harvest_next(&harvest, &helper, &b, &err), 0);
	cr_assert_eq(rji_harvest_next(&harvest, &mine, &a, &err), 0);
	cr_assert_eq(fake->n_rearms, 1);
}

/* --- several nodes: spans and lanes belong to groups --- */

/* Region 0 has 79 spans in three windows. Node of each: as the string says, '?' unknown. */
static void set_nodes(const char *pattern, uint32_t n_groups)
{
	static const uint8_t group_of_node[RJI_MAX_NODES] = { 0, 1, 1 };

	for (uint32_t i = 0; i < 3; i++) {
		struct rji_pageset_region *r = &set.region[i];
		uint64_t n = (r->n_pages + r->span_pages - 1) / r->span_pages;

		r->span_node = malloc(n);
		for (uint64_t k = 0; k < n; k++) {
			char node = pattern[k % strlen(pattern)];

			r->span_node[k] = node == '?' ? RJI_NODE_UNKNOWN : (uint8_t)(node - '0');
		}
	}
	cr_assert_eq(rji_harvest_set_groups(&harvest, n_groups, group_of_node), 0);
}

static uint8_t group_of(const struct rji_span *span)
{
	return span->node == 0 ? 0 : span->node == RJI_NODE_UNKNOWN ? RJI_ANY_GROUP : 1;
}

/* What a lane of a group gets, as one letter a span: 'o' its own, 'a' anybody's, 'h' help. */
static size_t take_all(uint32_t group, char *order, uint64_t *n_pages)
{
	struct rji_harvest_cursor c;
	struct rji_span span;
	size_t n = 0;

	rji_harvest_cursor_init(&c, group);
	while (rji_harvest_next(&harvest, &c, &span, &err) == 1) {
		const struct rji_pageset_region *r = &set.region[span.region];

		cr_assert_eq(span.node, r->span_node[span.first_page / r->span_pages]);
		order[n++] = group_of(&span) == group		? 'o'
			     : group_of(&span) == RJI_ANY_GROUP ? 'a'
								: 'h';
		*n_pages += rji_bitmap_weight(span.bits, rji_bitmap_words(span.n_pages));
	}
	order[n] = '\0';
	return n;
}

Test(harvest, lane_takes_its_own_nodes_spans_then_nobodys_then_helps)
{
	static const char *const patterns[] = { "0",
						"1",
						"01",
						"0000000011111111",
						"01?2",
						"?",
						"00000000000000000000000000000000"
						"11111111111111111111111111111111" };

	set_nodes("0", 2);
	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++) {
		for (uint32_t group = 0; group < 2; group++) {
			char order[128];
			uint64_t n_pages = 0;
			size_t n;

			for (uint32_t k = 0; k < 3; k++)
				free(set.region[k].span_node);
			set_nodes(patterns[i], 2);
			rji_pageset_all_pending(&set);
			rji_harvest_begin_round(&harvest);
			n = take_all(group, order, &n_pages);
			cr_assert_eq(n, 79 + 2 + 1);
			cr_assert_eq(n_pages, 40101, "every page once");
			cr_assert_null(strstr(order, "ao"), "%s: %s", patterns[i], order);
			cr_assert_null(strstr(order, "ho"), "%s: %s", patterns[i], order);
			cr_assert_null(strstr(order, "ha"), "%s: %s", patterns[i], order);
			cr_assert_eq(harvest.n_unopened, 0);
			rji_harvest_fenced(&harvest);
		}
	}
	cr_assert(harvest.helped);
}

/* Two lanes in turn, each with half of the memory: neither helps while the other has work. */
Test(harvest, lanes_of_two_nodes_share_a_mixed_window_and_each_keeps_to_its_own)
{
	struct rji_harvest_cursor lane[2];
	struct rji_span span;

	set_nodes("01", 2);
	rji_bitmap_set_range(set.region[0].pending, 0, 16384);
	set.region[0].may_pend[0] = 1;
	cr_assert_eq(rji_harvest_begin_round(&harvest), 1);
	rji_harvest_cursor_init(&lane[0], 0);
	rji_harvest_cursor_init(&lane[1], 1);
	for (uint32_t turn = 0; turn < 32; turn++) {
		cr_assert_eq(rji_harvest_next(&harvest, &lane[turn % 2], &span, &err), 1);
		cr_assert_eq(span.node, turn % 2);
		cr_assert_not(harvest.helped);
	}
	cr_assert_eq(rji_harvest_next(&harvest, &lane[0], &span, &err), 0);
	cr_assert_eq(rji_harvest_next(&harvest, &lane[1], &span, &err), 0);
	cr_assert_eq(fake->n_rearms, 1, "the window is re-armed once, by who comes first");
}

/* A tracker finds pages while re-arming, in a span that was in nobody's queue. */
Test(harvest, pages_found_by_rearming_in_another_nodes_span_are_sent_too)
{
	char order[128];
	uint64_t n_pages = 0;

	set_nodes("01", 2);
	fake->dirty[0][0] = 1;				   /* span 0, node 0 */
	fake->finds[0][set.region[0].span_pages / 64] = 2; /* span 1, node 1 */
	collect();
	cr_assert_eq(rji_harvest_begin_round(&harvest), 1);
	cr_assert_eq(take_all(0, order, &n_pages), 2);
	cr_assert_str_eq(order, "oh");
	cr_assert_eq(n_pages, 2);
}

Test(harvest, without_nodes_several_groups_share_everything)
{
	char order[128];
	uint64_t n_pages = 0;

	set_nodes("?", 2);
	for (uint32_t i = 0; i < 3; i++) {
		free(set.region[i].span_node);
		set.region[i].span_node = NULL;
	}
	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	for (int i = 0; i < 3; i++)
		set.region[i].span_node = calloc(100, 1); /* take_all() looks */
	for (int i = 0; i < 3; i++)
		memset(set.region[i].span_node, RJI_NODE_UNKNOWN, 100);
	cr_assert_eq(take_all(1, order, &n_pages), 82);
	cr_assert_eq(n_pages, 40101);
	cr_assert_eq(strspn(order, "a"), 82);
}

Test(harvest, windows_with_nothing_pending_are_not_touched)
{
	static struct sent sent;

	rji_pageset_pend(&set.region[0], 20000, 1);
	cr_assert_eq(rji_harvest_begin_round(&harvest), 1);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(fake->n_rearms, 1);
	cr_assert(is_sent(&sent, 0, 20000));
	cr_assert_eq(sent.n_pages, 1);
}

/* A write between collect and re-arm, to a page that was not collected: its bit must stay. */
Test(harvest, write_that_was_not_collected_is_not_forgotten)
{
	static struct sent sent;

	fake->dirty[0][0] = 0x1;
	rji_pageset_mark(&set, 0, 0, 4096);
	collect();
	fake->dirty[0][0] |= 0x2;
	rji_pageset_mark(&set, 0, 4 * 4096, 4096);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 1);
	cr_assert_eq(fake->dirty[0][0], 0x2);
	cr_assert_eq(collect().pending_pages, 2);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert(is_sent(&sent, 0, 1) && is_sent(&sent, 0, 4));
}

/* What was marked is re-armed as well: it is sent once, not again in the next round. */
Test(harvest, marked_pages_are_sent_once)
{
	static struct sent sent;

	rji_pageset_mark(&set, 1, 0, 4 << 20);
	cr_assert_eq(collect().new_pages, 2);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(collect().new_pages, 0);
}

Test(harvest, pages_a_tracker_finds_while_rearming_are_sent_too)
{
	static struct sent sent;

	fake->dirty[0][300] = 0x10;
	fake->finds[0][300] = 0x6;
	fake->finds[0][505] = 0x1; /* another span of the window */
	rji_pageset_mark(&set, 0, 505 * 64 * 4096, 4096);
	fake->finds[0][10] = 0xff; /* another window: nobody asks there */
	fake->dirty[0][0] = 0;
	collect();
	rji_bitmap_clear_range(set.region[0].pending, 505 * 64, 1);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert(is_sent(&sent, 0, 300 * 64 + 1) && is_sent(&sent, 0, 300 * 64 + 2));
	cr_assert(is_sent(&sent, 0, 300 * 64 + 4) && is_sent(&sent, 0, 505 * 64));
	cr_assert_eq(sent.n_pages, 4);
	cr_assert_eq(set.region[0].marked[505], 0, "the plain bitmap is re-armed for these too");
}

Test(harvest, every_tracker_of_a_region_is_asked)
{
	static struct sent sent;
	struct fake *second = calloc(1, sizeof(*second));

	attach(0, second, &fake_ops);
	fake->dirty[0][0] = 0x1;
	second->dirty[0][0] = 0x2;
	cr_assert_eq(collect().new_pages, 2);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(fake->rearmed[0][0], 0x3);
	cr_assert_eq(second->rearmed[0][0], 0x3);
	free(second);
}

Test(harvest, tracker_without_rearm_is_fine)
{
	static struct sent sent;
	struct rj_tracker_ops ops = fake_ops;

	ops.rearm = NULL;
	set.region[2].n_trackers = 0;
	attach(2, fake, &ops);
	fake->dirty[2][0] = 1;
	collect();
	cr_assert_eq(send_round(&sent), 0);
	cr_assert(is_sent(&sent, 2, 0));
}

Test(harvest, page_written_again_before_its_fence_stays_pending)
{
	static struct sent sent;

	fake->dirty[0][0] = 0x3;
	collect();
	send_round(&sent);
	fake->dirty[0][0] = 0x1;
	collect();
	cr_assert(rji_bitmap_test(set.region[0].unfenced, 0));
	rji_harvest_fenced(&harvest);
	cr_assert_eq(set.region[0].pending[0], 0x1);
	cr_assert_eq(set.region[0].unfenced[0], 0);
}

Test(harvest, what_was_not_fenced_goes_out_again)
{
	static struct sent sent;

	fake->dirty[0][0] = 0xf0;
	fake->dirty[1][0] = 0x1;
	collect();
	send_round(&sent);
	rji_pageset_unfenced_to_pending(&set);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 5);
}

Test(harvest, held_pages_stay_pending_until_they_are_let_go)
{
	static struct sent sent;
	const struct rji_held held = { 0, 10, 1000, 10 * 4096, 1000 * 4096 };

	rji_pageset_all_pending(&set);
	rji_holds_add(&holds, &held);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 40101 - 1000);
	cr_assert_not(is_sent(&sent, 0, 10));
	cr_assert_not(is_sent(&sent, 0, 1009));
	cr_assert_eq(weight(set.region[0].pending, 0), 1000);
	rji_harvest_fenced(&harvest);
	rji_holds_remove(&holds, &held);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 1000);
}

Test(harvest, abort_ends_a_round_and_the_next_begins_anew)
{
	static struct sent sent;
	struct rji_harvest_cursor c;
	struct rji_span span;

	rji_pageset_all_pending(&set);
	rji_harvest_begin_round(&harvest);
	rji_harvest_cursor_init(&c, 0);
	cr_assert_eq(rji_harvest_next(&harvest, &c, &span, &err), 1);
	harvest.abort = true;
	cr_assert_eq(rji_harvest_next(&harvest, &c, &span, &err), -ECANCELED);
	rji_pageset_unfenced_to_pending(&set);
	cr_assert_eq(send_round(&sent), 0);
	cr_assert_eq(sent.n_pages, 40101);
}

Test(harvest, tracker_that_cannot_tell_is_named)
{
	struct rji_dirt dirt = { .new_pages = 77 };

	fake->collect_ret = -EIO;
	cr_assert_eq(rji_harvest_collect(&harvest, &dirt, &err), RJ_E_TRACKER);
	cr_assert_not_null(strstr(err.text, "'fake'"), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "'ram0'"), "%s", err.text);
	cr_assert_eq(err.sys_errno, EIO);
	cr_assert_eq(dirt.new_pages, 77);
}

Test(harvest, tracker_that_cannot_rearm_is_named_and_nothing_is_lost)
{
	static struct sent sent;

	fake->dirty[2][0] = 1;
	collect();
	fake->rearm_ret = -EFAULT;
	cr_assert_eq(send_round(&sent), RJ_E_TRACKER);
	cr_assert_not_null(strstr(err.text, "re-arm region 'ram2'"), "%s", err.text);
	cr_assert_eq(sent.n_pages, 0);
	cr_assert_eq(set.region[2].pending[0], 1);
}

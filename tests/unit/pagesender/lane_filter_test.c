/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/apply.h"
#include "pagesender/lane.h"

/*
 * A lane with all filters, and a destination that does what comes. A guest writes all the time, also while its pages
 * are on their way: in the end the destination has the same. In a round a page goes one way only.
 */
#define PAGE 4096u
#define N_PAGES 6000u
#define BYTES (N_PAGES * (uint64_t)PAGE)

static struct rji_pageset set;
static struct rji_pageset_region *ram;
static struct rji_holds holds;
static struct rji_harvest harvest;
static struct rji_free_hints hints;
static struct rji_filters filters;
static struct rji_pace pace;
static struct rji_lane_totals totals;
static struct rji_stop stop;
static struct rji_lane_sender *lane;
static struct rj_error err;
static uint8_t *source, *destination;
static void *applying;
static uint8_t *room;
static uint64_t gone[N_PAGES / 64 + 1]; /* on their way in this round */
static uint32_t undrained;
static uint64_t n_fences, n_staged, n_coded[4], clear_bytes, most_clear_bytes;
static uint64_t seed = 88172645463325252ull;
static bool writes_meanwhile;
static uint64_t mapped_bytes = BYTES;
static bool apply_nothing; /* only count */

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* --- the guest --- */

static void fill(uint8_t *p, uint64_t kind)
{
	switch (kind) {
	case 0: memset(p, 0, PAGE); break;
	case 1: break; /* what is there */
	case 2: p[next() % PAGE] ^= (uint8_t)(1 + next() % 255); break;
	case 3: /* there and back again, seen from afar */
		for (uint32_t i = 0; i < PAGE; i++)
			p[i] ^= 0x5a;
		break;
	case 4:
		for (uint32_t i = 0, k = (uint32_t)next() % 7; i < PAGE; i++)
			p[i] = (uint8_t)('a' + i / 40 % (11 + k));
		break;
	default:
		for (uint32_t i = 0; i < PAGE; i += 8)
			memcpy(p + i, &(uint64_t){ next() }, 8);
	}
}

/* Runs of pages that were treated alike, as guests do it. */
static void write_some(uint32_t n_runs)
{
	for (uint32_t i = 0; i < n_runs; i++) {
		uint64_t first = next() % N_PAGES, n = 1 + next() % 40, kind = next() % 6;

		n = first + n < N_PAGES ? n : N_PAGES - first;
		for (uint64_t p = first; p < first + n; p++)
			fill(source + p * PAGE, kind);
		rji_pageset_mark(&set, 0, first * PAGE, n * PAGE);
	}
}

/* --- the link --- */

static void on_its_way(const struct rji_extent *e)
{
	cr_assert_eq(e->region, 0);
	cr_assert_leq(e->offset_bytes + e->len_bytes, mapped_bytes);
	if (writes_meanwhile)
		write_some(1);
	if (apply_nothing)
		return;
	for (uint64_t at = e->offset_bytes; at < e->offset_bytes + e->len_bytes; at += PAGE) {
		cr_assert_not(rji_bitmap_test(gone, at / PAGE), "page %lu goes twice", at / PAGE);
		rji_bitmap_set(gone, at / PAGE);
	}
}

static int post(struct rji_lane *l, const struct rji_extent *e, uint32_t n, struct rj_error *e_)
{
	for (uint32_t i = 0; i < n; i++) {
		on_its_way(&e[i]);
		memcpy(destination + e[i].offset_bytes, source + e[i].offset_bytes, e[i].len_bytes);
	}
	return 0;
}

static void *staging(struct rji_lane *l, size_t len_bytes)
{
	room = malloc(len_bytes);
	return room;
}

static int post_staged(struct rji_lane *l, const struct rji_extent *e, const void *const *from,
		       uint32_t n, struct rj_error *e_)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *p = from[i];

		cr_assert(p >= room && p + e[i].len_bytes <= room + RJI_STAGE_BYTES);
		on_its_way(&e[i]);
		memcpy(destination + e[i].offset_bytes, p, e[i].len_bytes);
		n_staged += e[i].len_bytes / PAGE;
	}
	undrained = 1;
	return 0;
}

static int post_coded(struct rji_lane *l, const struct rji_coded *c, uint32_t n,
		      struct rj_error *e_)
{
	for (uint32_t i = 0; i < n; i++) {
		on_its_way(&c[i].extent);
		n_coded[c[i].coding] += c[i].extent.len_bytes / PAGE;
		if (c[i].coding == RJI_CODING_ZEROS)
			clear_bytes += c[i].extent.len_bytes;
		if (!apply_nothing)
			cr_assert_eq(rji_apply.apply(applying, c[i].coding, c[i].bytes,
						     c[i].len_bytes,
						     destination + c[i].extent.offset_bytes,
						     c[i].extent.len_bytes, &err),
				     0, "%s", err.text);
	}
	return 0;
}

static int drain(struct rji_lane *l, struct rj_error *e)
{
	undrained = 0;
	return 0;
}

static int fence(struct rji_lane *l, uint64_t deadline_ns, struct rj_error *e)
{
	n_fences++;
	most_clear_bytes = clear_bytes > most_clear_bytes ? clear_bytes : most_clear_bytes;
	clear_bytes = 0;
	return 0;
}

static const struct rji_transport_ops ops = { .post = post,
					      .staging = staging,
					      .post_staged = post_staged,
					      .post_coded = post_coded,
					      .drain = drain,
					      .fence = fence };

static void open_lane(uint32_t on, bool given_zeroed)
{
	const struct rji_filters_opts o = { .on = on, .can_clear = true };
	struct rj_region r;

	rji_error_init(&err);
	source = mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	destination = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!given_zeroed)
		memset(destination, 0xee, BYTES);
	rj_region_init(&r);
	r.name = "ram";
	r.host = source;
	r.len_bytes = mapped_bytes;
	rji_pageset_add(&set, &r);
	ram = &set.region[0];
	ram->given_zeroed = given_zeroed;
	rji_free_hints_init(&hints, &set, true);
	rji_holds_init(&holds);
	rji_harvest_init(&harvest, &set, &holds);
	harvest.hints = &hints;
	cr_assert_eq(rji_filters_init(&filters, &set, &hints, &o), 0);
	rji_pace_init(&pace, 0);
	rji_stop_init(&stop);
	cr_assert_eq(rji_apply.create(&applying), 0);
	lane = calloc(1, sizeof(*lane));
	*lane = (struct rji_lane_sender){ .extent_max_bytes = RJI_EXTENT_MAX_BYTES,
					  .ops = &ops,
					  .harvest = &harvest,
					  .holds = &holds,
					  .pace = &pace,
					  .totals = &totals,
					  .stop = &stop,
					  .filters = true };
	rji_error_init(&lane->err);
	cr_assert_eq(rji_lane_filter_init(&lane->filter, &filters, &ops, NULL), 0);
	rji_pageset_all_pending(&set);
}

static void close_lane(void)
{
	rji_lane_filter_fini(&lane->filter);
	free(lane);
	rji_apply.destroy(&applying);
	rji_filters_fini(&filters);
	rji_free_hints_fini(&hints);
	rji_harvest_fini(&harvest);
	rji_pageset_fini(&set);
	rji_holds_fini(&holds);
	rji_stop_fini(&stop);
	munmap(source, mapped_bytes);
	munmap(destination, BYTES);
	free(room);
}

TestSuite(lane_filter, .fini = close_lane, .timeout = 60);

static uint64_t send_round(void)
{
	struct rji_dirt dirt;

	cr_assert_eq(rji_harvest_collect(&harvest, &dirt, &err), 0);
	memset(gone, 0, sizeof(gone));
	rji_harvest_begin_round(&harvest);
	cr_assert_eq(rji_lane_send_round(lane), 0, "%s", lane->err.text);
	cr_assert_eq(undrained, 0, "copies are read no more");
	rji_harvest_fenced(&harvest);
	return dirt.pending_pages;
}

static uint64_t all_kinds(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < RJI_N_KINDS; i++)
		sum += filters.kinds[i];
	return sum;
}

/* As if the link were slow or fast, now and then. */
static void change_the_weather(uint32_t round)
{
	lane->filter.send_ns = round % 5 == 4 ? 100 : 1000000;
	lane->filter.shrink.on = round % 3 == 1;
	lane->filter.shrink.wait = 1 + next() % 40;
	lane->filter.shrink.plain_ns = 1000000;
	rji_pace_init(&pace, round % 7 == 3 ? 2ull << 30 : 0);
}

static void migrate(uint32_t on, bool given_zeroed)
{
	uint64_t pages = 0;

	open_lane(on, given_zeroed);
	write_some(200);
	for (uint32_t round = 0; round < 60; round++) {
		change_the_weather(round);
		writes_meanwhile = round % 2;
		pages += send_round();
		writes_meanwhile = false;
		write_some(30);
	}
	pages += send_round();
	cr_assert_eq(send_round(), 0);
	for (uint64_t p = 0; p < N_PAGES; p++)
		cr_assert(!memcmp(source + p * PAGE, destination + p * PAGE, PAGE), "page %lu", p);
	cr_assert_eq(all_kinds(), pages, "each is of one kind");
}

Test(lane_filter, destination_is_as_the_source_with_all_filters)
{
	migrate(RJ_FILTER_ALL & ~(uint32_t)RJ_FILTER_HOLE, true);
	cr_assert_gt(filters.kinds[RJI_KIND_NORMAL], 0);
	cr_assert_gt(filters.kinds[RJI_KIND_ZERO], 0);
	cr_assert_gt(filters.kinds[RJI_KIND_SAME], 0);
	cr_assert_gt(filters.kinds[RJI_KIND_DELTA], 0);
	cr_assert_gt(filters.kinds[RJI_KIND_ZSTD], 0);
	cr_assert_eq(n_coded[RJI_CODING_XBZRLE], filters.kinds[RJI_KIND_DELTA]);
	cr_assert_eq(n_coded[RJI_CODING_ZSTD], filters.kinds[RJI_KIND_ZSTD]);
	cr_assert_eq(n_coded[RJI_CODING_ZEROS], filters.cleared_pages);
	cr_assert_gt(n_staged, 0);
}

Test(lane_filter, destination_is_as_the_source_where_its_memory_was_used_before)
{
	migrate(RJ_FILTER_ALL & ~(uint32_t)RJ_FILTER_HOLE, false);
	cr_assert_eq(n_coded[RJI_CODING_ZEROS], filters.kinds[RJI_KIND_ZERO]);
}

Test(lane_filter, destination_is_as_the_source_with_some_filters)
{
	migrate(RJ_FILTER_SAME | RJ_FILTER_DELTA, false);
	cr_assert_eq(filters.kinds[RJI_KIND_ZSTD], 0);
	cr_assert_eq(n_coded[RJI_CODING_ZEROS], 0);
}

Test(lane_filter, destination_is_as_the_source_with_compression_alone)
{
	migrate(RJ_FILTER_ZSTD | RJ_FILTER_ZERO, true);
	cr_assert_eq(filters.kinds[RJI_KIND_SAME], 0);
	cr_assert_gt(filters.kinds[RJI_KIND_ZSTD], 0);
}

/* A message of zeros is nothing to send and much to do: no more than some is on its way without an answer. */
Test(lane_filter, zeros_are_fenced_by_the_way)
{
	mapped_bytes = 3ull * RJI_CLEARS_BYTES - (8 << 20);
	apply_nothing = true;
	open_lane(RJ_FILTER_ZERO, false);
	send_round();
	cr_assert_eq(n_coded[RJI_CODING_ZEROS], mapped_bytes / PAGE);
	cr_assert_eq(n_fences, 3);
	cr_assert_leq(most_clear_bytes, RJI_CLEARS_BYTES + RJI_SPAN_BYTES);
	send_round();
	cr_assert_eq(n_fences, 4, "a round's end is one");
}

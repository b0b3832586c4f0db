/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/filter/filter.h"

#define PAGE 4096u
#define SPAN_PAGES 512u
#define N_SPANS 40u
#define N_PAGES (SPAN_PAGES * N_SPANS)
#define BYTES (N_PAGES * (uint64_t)PAGE)

static struct rji_pageset set;
static struct rji_pageset_region *ram;
static struct rji_free_hints hints;
static struct rji_filters filters;
static struct rji_lane_filter lf;
static struct rj_region region;
static uint8_t *memory;
static int fd = -1;
static void *room;

/* --- a transport that has room for copies, unless it has not --- */

static bool no_room;

static void *staging(struct rji_lane *lane, size_t len_bytes)
{
	room = no_room ? NULL : malloc(len_bytes);
	return room;
}

static const struct rji_transport_ops ops = { .staging = staging };

static void add_region(void *host, uint64_t len_bytes, uint32_t page_bytes)
{
	rj_region_init(&region);
	region.name = "ram";
	region.host = host;
	region.len_bytes = len_bytes;
	region.page_bytes = page_bytes;
	region.fd = fd;
	cr_assert_eq(rji_pageset_add(&set, &region), 0);
	ram = &set.region[0];
	rji_free_hints_init(&hints, &set, true);
}

static void open_filters(uint32_t on, bool can_clear)
{
	const struct rj_region *const given[] = { &region };
	const struct rji_filters_opts o = { .on = on, .can_clear = can_clear, .regions = given };

	cr_assert_eq(rji_filters_init(&filters, &set, &hints, &o), 0);
	cr_assert_eq(rji_lane_filter_init(&lf, &filters, &ops, NULL), 0);
}

static void set_up(void)
{
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	add_region(memory, BYTES, PAGE);
}

static void tear_down(void)
{
	rji_lane_filter_fini(&lf);
	rji_filters_fini(&filters);
	rji_free_hints_fini(&hints);
	rji_pageset_fini(&set);
	free(room);
	munmap(memory, BYTES);
	if (fd >= 0)
		close(fd);
}

TestSuite(filter, .init = set_up, .fini = tear_down, .timeout = 20);

static void fill_random(void *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i += 8) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		memcpy((uint8_t *)p + i, &(uint64_t){ seed ^ seed >> 29 }, 8);
	}
}

static uint64_t bits[RJI_SPAN_MAX_WORDS]; /* of the span; as it left the filter */

/* Sort pages [first, first + n) of one span. */
static void sort(uint64_t first, uint64_t n)
{
	uint64_t at = first / SPAN_PAGES * SPAN_PAGES, left = ram->n_pages - at;
	struct rji_span span = { .first_page = at,
				 .n_pages = left < ram->span_pages ? left : ram->span_pages,
				 .bits = bits };

	memset(bits, 0, sizeof(bits));
	rji_bitmap_set_range(bits, first - at, n);
	rji_lane_filter_span(&lf, &span);
	for (uint64_t i = 0; i < rji_bitmap_words(span.n_pages); i++) {
		cr_assert_eq(bits[i] & lf.clear[i], 0, "one way only");
		cr_assert_eq(bits[i] & lf.copy[i], 0);
		cr_assert_eq(lf.clear[i] & lf.copy[i], 0);
	}
}

static uint64_t count(const uint64_t *map)
{
	return rji_bitmap_weight(map, rji_bitmap_words(ram->span_pages));
}

static bool is_touched(uint64_t page)
{
	return rji_bitmap_test(ram->touched, page);
}

static bool is_known(uint64_t page)
{
	return rji_bitmap_test(ram->known, page);
}

/* --- zeros --- */

Test(filter, untouched_zeros_are_passed_over_where_zeros_are_promised)
{
	ram->given_zeroed = true;
	memory[5 * PAGE + 4095] = 1;
	open_filters(RJ_FILTER_ZERO, true);
	sort(0, 100);
	cr_assert_eq(count(bits), 1);
	cr_assert(rji_bitmap_test(bits, 5));
	cr_assert_eq(count(lf.clear), 0);
	cr_assert(is_touched(5));
	cr_assert_not(is_touched(4));
	cr_assert_eq(lf.kinds[RJI_KIND_ZERO], 99);
	cr_assert_eq(lf.kinds[RJI_KIND_NORMAL], 1);
}

Test(filter, zeros_are_cleared_where_something_was_sent_before)
{
	ram->given_zeroed = true;
	memory[5 * PAGE] = 1;
	open_filters(RJ_FILTER_ZERO, true);
	sort(0, 100);
	memory[5 * PAGE] = 0;
	for (int i = 0; i < 2; i++) { /* also the second time: what is there may be written again */
		sort(0, 100);
		cr_assert_eq(count(bits), 0);
		cr_assert_eq(count(lf.clear), 1);
		cr_assert(rji_bitmap_test(lf.clear, 5));
	}
	cr_assert_eq(lf.cleared, 2);
	cr_assert(is_touched(5));
}

Test(filter, zeros_are_cleared_where_nothing_is_promised)
{
	open_filters(RJ_FILTER_ZERO, true);
	sort(0, 100);
	cr_assert_eq(count(bits), 0);
	cr_assert_eq(count(lf.clear), 100);
	cr_assert(is_touched(0) && is_touched(99));
	cr_assert_not(is_touched(100));
}

Test(filter, zeros_are_sent_where_they_can_not_be_cleared)
{
	open_filters(RJ_FILTER_ZERO, false);
	sort(0, 100);
	cr_assert_eq(count(bits), 100);
	cr_assert_eq(count(lf.clear), 0);
	cr_assert_eq(lf.kinds[RJI_KIND_NORMAL], 100);
	cr_assert_eq(lf.kinds[RJI_KIND_ZERO], 0);
}

Test(filter, zeros_that_were_promised_and_touched_are_sent_where_they_can_not_be_cleared)
{
	ram->given_zeroed = true;
	memory[5 * PAGE] = 1;
	open_filters(RJ_FILTER_ZERO, false);
	sort(0, 100);
	memory[5 * PAGE] = 0;
	sort(0, 100);
	cr_assert_eq(count(bits), 1);
	cr_assert(rji_bitmap_test(bits, 5));
}

/* What the destination itself wrote, in loading a state that was rolled back. */
Test(filter, zeros_are_cleared_where_the_destination_wrote)
{
	ram->given_zeroed = true;
	open_filters(RJ_FILTER_ZERO, true);
	sort(0, 100);
	cr_assert_eq(rji_pageset_changed_there(&set, 0, 7 * PAGE + 100, PAGE), 0);
	sort(0, 100);
	cr_assert_eq(count(lf.clear), 2);
	cr_assert(rji_bitmap_test(lf.clear, 7) && rji_bitmap_test(lf.clear, 8));
}

Test(filter, only_pages_that_are_to_be_sent_are_looked_at)
{
	ram->given_zeroed = true;
	open_filters(RJ_FILTER_ZERO, true);
	munmap(memory + 100 * PAGE, PAGE); /* or this ends here */
	sort(0, 100);
	sort(101, 411);
	cr_assert_eq(count(bits), 0);
}

Test(filter, huge_pages_are_tested_whole)
{
	uint8_t *huge;

	tear_down();
	memset(&set, 0, sizeof(set));
	room = NULL;
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	add_region(memory, BYTES, 2 << 20);
	huge = memory + (3ull << 21);
	huge[(2 << 20) - 1] = 1;
	ram->given_zeroed = true;
	open_filters(RJ_FILTER_ALL, true);
	memset(bits, 0, sizeof(bits));
	rji_bitmap_set_range(bits, 0, N_SPANS);
	rji_lane_filter_span(&lf, &(struct rji_span){ .n_pages = N_SPANS, .bits = bits });
	cr_assert_eq(bits[0], 1 << 3);
	cr_assert_eq(lf.copy[0], 0, "nor are they copied");
	cr_assert_eq(lf.kinds[RJI_KIND_ZERO], N_SPANS - 1);
	cr_assert_eq(lf.account[2].saved_bytes, (N_SPANS - 1) * (2ull << 20));
}

/* --- the zero test where it does not pay --- */

static void sort_all(void)
{
	for (uint64_t s = 0; s < N_SPANS; s++)
		sort(s * SPAN_PAGES, SPAN_PAGES);
}

static uint64_t tested(void)
{
	uint64_t n = lf.account[2].applied;

	lf.account[2].applied = 0;
	return n;
}

Test(filter, zero_test_leaves_off_where_nothing_is_zero_and_comes_back)
{
	fill_random(memory, BYTES, 1);
	open_filters(RJ_FILTER_ZERO, true);
	sort_all();
	cr_assert_leq(tested(), 2000 + N_PAGES / 16, "a sample is enough");
	sort_all();
	cr_assert_eq(tested(), N_PAGES / 16);
	cr_assert_eq(lf.kinds[RJI_KIND_ZERO], 0);
	memset(memory, 0, BYTES);
	sort_all();
	cr_assert_eq(tested(), N_PAGES, "a zero in the sample means a look at its neighbours");
	cr_assert_eq(lf.kinds[RJI_KIND_ZERO], N_PAGES);
}

/* Over the rounds every page's turn comes, or a pattern of the guest's would hide its zeros for ever. */
Test(filter, zeros_at_a_distance_are_found)
{
	fill_random(memory, BYTES, 1);
	for (uint64_t p = 0; p < N_PAGES; p += 16)
		memset(memory + p * PAGE, 0, PAGE);
	open_filters(RJ_FILTER_ZERO, true);
	sort_all();
	cr_assert_gt(lf.kinds[RJI_KIND_ZERO], N_PAGES / 16 / 2);
}

/* --- holes --- */

static void set_up_file(int flags)
{
	tear_down();
	memset(&set, 0, sizeof(set));
	room = NULL;
	fd = memfd_create("ram", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, (off_t)BYTES), 0);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
	add_region(memory, BYTES, PAGE);
}

static uint64_t file_bytes(void)
{
	off_t data = lseek(fd, 0, SEEK_DATA);

	return data < 0 && errno == ENXIO ? 0 : 1;
}

Test(filter, holes_are_neither_sent_nor_read)
{
	set_up_file(MAP_SHARED);
	ram->given_zeroed = true;
	memory[7 * PAGE] = 1;
	memory[600 * PAGE] = 0; /* there, though zero */
	open_filters(RJ_FILTER_HOLE, true);
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(bits), 1);
	cr_assert(rji_bitmap_test(bits, 7));
	cr_assert_eq(lf.kinds[RJI_KIND_HOLE], SPAN_PAGES - 1);
	sort(SPAN_PAGES, SPAN_PAGES);
	cr_assert_eq(count(bits), 1);
	cr_assert(rji_bitmap_test(bits, 600 - SPAN_PAGES));
	cr_assert_not(is_touched(8));
	cr_assert_lt(lseek(fd, 601 * PAGE, SEEK_DATA), 0, "reading would have filled them");
	cr_assert_eq(file_bytes(), 1);
}

Test(filter, page_written_into_a_hole_is_sent_the_next_time)
{
	set_up_file(MAP_SHARED);
	ram->given_zeroed = true;
	open_filters(RJ_FILTER_HOLE, true);
	sort_all();
	cr_assert_eq(lf.kinds[RJI_KIND_HOLE], N_PAGES);
	memory[9000 * PAGE] = 1;
	sort_all();
	cr_assert_eq(lf.kinds[RJI_KIND_NORMAL], 1);
	cr_assert(is_touched(9000));
}

/* What it was told of data lasts, of holes not. */
Test(filter, page_written_beside_known_data_is_sent)
{
	set_up_file(MAP_SHARED);
	ram->given_zeroed = true;
	memory[100 * PAGE] = 1;
	open_filters(RJ_FILTER_HOLE, true);
	sort(0, 100);
	cr_assert_eq(count(bits), 0);
	memory[99 * PAGE] = memory[101 * PAGE] = 1;
	sort(98, 5);
	cr_assert_eq(count(bits), 3);
}

Test(filter, hole_that_was_punched_after_it_was_sent_is_cleared)
{
	set_up_file(MAP_SHARED);
	ram->given_zeroed = true;
	memory[7 * PAGE] = 1;
	open_filters(RJ_FILTER_HOLE, true);
	sort(0, SPAN_PAGES);
	madvise(memory + 7 * PAGE, PAGE, MADV_REMOVE);
	sort(0, SPAN_PAGES);
	sort(0, SPAN_PAGES);
	cr_assert(count(lf.clear) == 1 || count(bits) == 1, "as data once more at most");
	cr_assert(rji_bitmap_test(lf.clear, 7) || rji_bitmap_test(bits, 7));
}

Test(filter, holes_of_a_private_mapping_say_nothing)
{
	set_up_file(MAP_PRIVATE);
	ram->given_zeroed = true;
	memory[7 * PAGE] = 1; /* still a hole of the file */
	open_filters(RJ_FILTER_HOLE, true);
	cr_assert_eq(filters.hole_fd[0], -1);
	cr_assert_not(rji_filters_is_hole(&filters, 0, 0, BYTES));
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(bits), SPAN_PAGES);
}

Test(filter, hole_for_those_who_prepare_is_all_of_a_range)
{
	set_up_file(MAP_SHARED);
	memory[600 * PAGE] = 1;
	open_filters(RJ_FILTER_HOLE, true);
	cr_assert(rji_filters_is_hole(&filters, 0, 0, 600 * PAGE));
	cr_assert_not(rji_filters_is_hole(&filters, 0, 0, 601 * PAGE));
	cr_assert_not(rji_filters_is_hole(&filters, 0, 600 * PAGE, PAGE));
	cr_assert(rji_filters_is_hole(&filters, 0, 601 * PAGE, BYTES - 601 * PAGE));
}

/* --- free --- */

static void leave_out(uint64_t first, uint64_t n)
{
	rji_free_hints_open(&hints, true);
	cr_assert_eq(rji_free_mark(&hints, 0, first * PAGE, n * PAGE, RJ_FREE_REPORTED), (int)n);
	rji_pageset_pend(ram, first, n);
	rji_free_leave_out(&hints, ram, 0, ram->window_pages);
	rji_free_put_back(ram, 0, ram->window_pages);
}

Test(filter, free_pages_to_be_cleared_are_cleared_whatever_they_hold)
{
	memset(memory, 0x55, 64 * PAGE);
	open_filters(RJ_FILTER_FREE, true);
	leave_out(10, 5);
	sort(10, 6);
	cr_assert_eq(count(lf.clear), 5);
	cr_assert_eq(count(bits), 1);
	cr_assert_eq(lf.kinds[RJI_KIND_FREE], 5);
	sort(10, 6);
	cr_assert_eq(count(lf.clear), 0, "once");
	cr_assert_eq(count(bits), 6);
}

Test(filter, free_pages_to_be_cleared_are_sent_where_that_cannot_be)
{
	open_filters(RJ_FILTER_FREE, false);
	leave_out(10, 5);
	sort(10, 5);
	cr_assert_eq(count(bits), 5);
	cr_assert_eq(lf.kinds[RJI_KIND_FREE], 0);
}

/* --- copies --- */

Test(filter, one_page_of_each_span_is_copied_and_the_same_each_time)
{
	uint64_t first[RJI_SPAN_MAX_WORDS];

	fill_random(memory, BYTES, 1);
	open_filters(RJ_FILTER_SAME, true);
	lf.send_ns = 400; /* not worth the copies */
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(lf.copy), 1);
	cr_assert_eq(count(bits), SPAN_PAGES - 1);
	memcpy(first, lf.copy, sizeof(first));
	sort(0, SPAN_PAGES);
	cr_assert_arr_eq(lf.copy, first, sizeof(first));
	sort(SPAN_PAGES, SPAN_PAGES);
	cr_assert_eq(count(lf.copy), 1);
}

Test(filter, all_are_copied_where_enough_are_the_same)
{
	fill_random(memory, BYTES, 1);
	open_filters(RJ_FILTER_SAME, true);
	lf.send_ns = 3000;
	rji_area_saw_same(filters.same, rji_area_of(filters.same, ram, 0, 0), 100, 90);
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(lf.copy), SPAN_PAGES);
	cr_assert_eq(lf.copy[0], ~0ull);
	lf.send_ns = 500; /* but not if sending is as cheap as copying */
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(lf.copy), 1);
}

Test(filter, page_that_goes_another_way_than_by_a_copy_is_not_known_any_more)
{
	fill_random(memory, BYTES, 1);
	memset(memory + 3 * PAGE, 0, PAGE);
	open_filters(RJ_FILTER_SAME | RJ_FILTER_ZERO, true);
	lf.send_ns = 400;
	rji_bitmap_set_range(ram->known, 0, SPAN_PAGES + 1);
	sort(0, SPAN_PAGES);
	for (uint64_t p = 0; p < SPAN_PAGES; p++)
		cr_assert_eq(is_known(p), rji_bitmap_test(lf.copy, p), "%lu", p);
	cr_assert(is_known(SPAN_PAGES), "which was not sent");
	cr_assert_eq(count(lf.clear), 1);
}

Test(filter, without_room_nothing_is_copied)
{
	no_room = true;
	fill_random(memory, BYTES, 1);
	open_filters(RJ_FILTER_ALL, true);
	cr_assert_null(lf.stage);
	sort(0, SPAN_PAGES);
	cr_assert_eq(count(lf.copy), 0);
	cr_assert_eq(count(bits), SPAN_PAGES);
	rji_lane_filter_tell(&lf);
	cr_assert_eq(filters.kinds[RJI_KIND_NORMAL], SPAN_PAGES);
}

Test(filter, a_few_pages_are_compressed_to_see_and_then_all)
{
	bool seen = false;

	fill_random(memory, BYTES, 1);
	open_filters(RJ_FILTER_ZSTD, true);
	lf.shrink.plain_ns = 30000;
	for (int i = 0; i < 10 && !seen; i++) {
		sort(0, SPAN_PAGES);
		seen = lf.how == RJI_SHRINK_PIECE;
		cr_assert_eq(count(lf.copy), seen ? 16 : 0);
	}
	cr_assert(seen);
	lf.shrink.on = true;
	lf.shrink.wait = 100;
	sort(0, SPAN_PAGES);
	cr_assert_eq(lf.how, RJI_SHRINK_ALL);
	cr_assert_eq(count(lf.copy), SPAN_PAGES);
}

/* --- figures --- */

Test(filter, figures_are_told_once)
{
	ram->given_zeroed = true;
	memory[5 * PAGE] = 1;
	open_filters(RJ_FILTER_ZERO, true);
	sort(0, 100);
	for (int i = 0; i < 2; i++) {
		rji_lane_filter_tell(&lf);
		cr_assert_eq(filters.kinds[RJI_KIND_ZERO], 99);
		cr_assert_eq(filters.kinds[RJI_KIND_NORMAL], 1);
		cr_assert_eq(filters.figures[2].saved_bytes, 99 * PAGE);
		cr_assert_eq(filters.figures[2].came, 100);
		cr_assert_eq(filters.figures[2].applied, 100);
	}
}

Test(filter, memory_is_counted_as_it_is_used)
{
	uint64_t before = rji_pageset_metadata_bytes(&set);
	uint64_t maps = N_PAGES / 8;

	open_filters(RJ_FILTER_ZERO, true);
	cr_assert_eq(rji_pageset_metadata_bytes(&set), before + maps);
	cr_assert_eq(rji_filters_metadata_bytes(&filters), 0);
	tear_down();
	memset(&set, 0, sizeof(set));
	room = NULL;
	set_up();
	open_filters(RJ_FILTER_ALL, true);
	cr_assert_eq(rji_pageset_metadata_bytes(&set), before + 2 * maps);
	before = rji_filters_metadata_bytes(&filters);
	cr_assert_lt(before - filters.lane_bytes, BYTES / 100, "hashes and old pages come later");
	rji_area_hashes(filters.same, ram, rji_area_of(filters.same, ram, 0, 0));
	cr_assert_eq(rji_filters_metadata_bytes(&filters), before + 16384 * 16);
}

static uint64_t allocated_bytes(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void check_room_is_counted(uint32_t on)
{
	uint64_t begin = allocated_bytes(), used;

	open_filters(on, true);
	rji_filters_fini(&filters); /* the rest */
	if (lf.stage->zstd)
		cr_assert_gt(rji_zstd_encode(lf.stage->zstd, memory, PAGE, lf.stage->codes,
					     RJI_STAGE_BYTES),
			     0);
	rji_lane_filter_tell(&lf);
	used = allocated_bytes() - begin;
	cr_assert_geq(filters.lane_bytes, RJI_STAGE_BYTES);
	if (begin) /* not with a sanitizer's malloc */
		cr_assert(filters.lane_bytes > used / 100 * 98 &&
				  filters.lane_bytes < used / 100 * 102,
			  "%lu counted, %lu used", filters.lane_bytes, used);
	rji_lane_filter_fini(&lf);
	cr_assert_eq(filters.lane_bytes, 0);
	free(room);
	room = NULL;
}

Test(filter, rooms_of_lanes_are_counted)
{
	check_room_is_counted(RJ_FILTER_SAME);
	check_room_is_counted(RJ_FILTER_SAME | RJ_FILTER_DELTA);
	check_room_is_counted(RJ_FILTER_ALL);
}

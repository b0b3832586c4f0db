/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "pagesender/apply.h"
#include "pagesender/filter/stage.h"

/* What comes out of the stage is applied to a destination, by which each test can tell whether it was right. */
#define PAGE 4096u
#define N_PAGES 1024u
#define SPAN_PAGES 512u

static struct rji_pageset set;
static struct rji_pageset_region *ram;
static struct rji_stage *st;
static uint8_t *source, *destination;
static uint64_t first_number[RJ_MAX_REGIONS] = { 5 };
static void *applying;
static struct rj_error err;

static uint8_t *map(void)
{
	return mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
}

static void set_up(void)
{
	struct rj_region r;

	rji_error_init(&err);
	source = map();
	destination = map();
	rj_region_init(&r);
	r.name = "ram";
	r.host = source;
	r.len_bytes = N_PAGES * PAGE;
	rji_pageset_add(&set, &r);
	ram = &set.region[0];
	cr_assert_eq(rji_pageset_keep(&set, true), 0);
	st = calloc(1, sizeof(*st));
	cr_assert_eq(rji_same_create(&set, &st->same), 0);
	st->old = rji_old_pages_create(N_PAGES * PAGE);
	cr_assert_eq(rji_zstd_create(RJI_ZSTD_LEVEL, &st->zstd), 0);
	cr_assert_eq(rji_apply.create(&applying), 0);
	st->first_number = first_number;
	st->room = malloc(RJI_STAGE_BYTES);
	st->codes = malloc(RJI_STAGE_BYTES);
}

static void tear_down(void)
{
	rji_apply.destroy(&applying);
	rji_zstd_destroy(&st->zstd);
	rji_old_pages_destroy(st->old);
	rji_same_destroy(&st->same);
	free(st->room);
	free(st->codes);
	free(st);
	rji_pageset_fini(&set);
	munmap(source, N_PAGES * PAGE);
	munmap(destination, N_PAGES * PAGE);
}

TestSuite(stage, .init = set_up, .fini = tear_down, .timeout = 20);

/* Bytes that do not compress. */
static void fill_random(uint8_t *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i += 8) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(p + i, &(uint64_t){ seed ^ seed >> 29 }, 8);
	}
}

static uint8_t *page_at(uint8_t *memory, uint64_t page)
{
	return memory + page * PAGE;
}

/* What the destination does with all that stands in the stage. */
static void deliver(void)
{
	for (uint32_t i = 0; i < st->n_pages; i++)
		memcpy(destination + st->pages[i].offset_bytes, st->from[i],
		       st->pages[i].len_bytes);
	for (uint32_t i = 0; i < st->n_coded; i++)
		cr_assert_eq(rji_apply.apply(applying, st->coded[i].coding, st->coded[i].bytes,
					     st->coded[i].len_bytes,
					     destination + st->coded[i].extent.offset_bytes,
					     st->coded[i].extent.len_bytes, &err),
			     0, "%s", err.text);
	rji_stage_reset(st);
}

/* Put [first, first + n) of one span in; all fits. */
static void put(uint64_t first, uint64_t n, bool want_old)
{
	uint64_t bits[RJI_SPAN_MAX_WORDS] = { 0 }, at = first / SPAN_PAGES * SPAN_PAGES;
	struct rji_span span = { .first_page = at, .n_pages = SPAN_PAGES };

	rji_bitmap_set_range(bits, first - at, n);
	memset(st->kinds, 0, sizeof(st->kinds));
	cr_assert(rji_stage_span(st, ram, &span, bits, want_old));
	cr_assert_eq(rji_bitmap_weight(bits, RJI_SPAN_MAX_WORDS), 0);
}

static bool is_there(uint64_t page)
{
	return !memcmp(page_at(source, page), page_at(destination, page), PAGE);
}

static bool is_known(uint64_t page)
{
	return rji_bitmap_test(ram->known, page);
}

Test(stage, pages_go_out_as_they_were_copied_and_neighbours_together)
{
	fill_random(source, N_PAGES * PAGE, 1);
	put(3, 40, false);
	cr_assert_eq(st->n_pages, 3, "of 64 KiB at most");
	cr_assert_eq(st->pages[0].offset_bytes, 3 * PAGE);
	cr_assert_eq(st->pages[0].len_bytes, RJI_CODED_PAGES_BYTES);
	cr_assert_eq(st->pages[2].len_bytes, 8 * PAGE);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 40);
	memset(page_at(source, 10), 0xab, PAGE); /* written since: the copy goes */
	deliver();
	cr_assert_not(is_there(10));
	cr_assert(is_there(3) && is_there(42));
	cr_assert(is_known(10), "what it has is known");
	put(10, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1, "and that this is not the same");
	deliver();
	cr_assert(is_there(10));
}

Test(stage, unchanged_page_does_not_go_out_again)
{
	fill_random(source, N_PAGES * PAGE, 1);
	put(0, 8, false);
	deliver();
	put(0, 9, false);
	cr_assert_eq(st->kinds[RJI_KIND_SAME], 8);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	cr_assert_eq(st->same_account.saved_bytes, 8 * PAGE);
	deliver();
	cr_assert(is_there(8));
}

/* A hashed, B written, A again: what was sent is what was hashed, whatever the guest does between. */
Test(stage, content_that_comes_back_between_is_what_the_destination_has)
{
	fill_random(source, PAGE, 1);
	put(0, 1, false);
	memset(source, 0xbb, PAGE);
	deliver();
	fill_random(source, PAGE, 1);
	put(0, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_SAME], 1);
	deliver();
	cr_assert(is_there(0));
}

Test(stage, page_that_went_another_way_is_not_the_same)
{
	fill_random(source, PAGE, 1);
	put(0, 1, true);
	deliver();
	/* B goes out as it is, by which its known bit goes. */
	memset(destination, 0xbb, PAGE);
	ram->known[0] = 0;
	put(0, 1, true);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	cr_assert_eq(st->n_coded, 0, "no difference against what it has not");
	deliver();
	cr_assert(is_there(0));
	/* Nor a difference, of A against the old copy of A. */
	memset(destination, 0xbb, PAGE);
	ram->known[0] = 0;
	source[100] ^= 1;
	put(0, 1, true);
	cr_assert_eq(st->n_coded, 0);
	deliver();
	cr_assert(is_there(0));
}

Test(stage, changed_page_goes_as_a_difference)
{
	fill_random(source, N_PAGES * PAGE, 1);
	put(0, 4, true);
	deliver();
	for (int round = 0; round < 5; round++) {
		source[PAGE + 1000 + round] ^= 0x55;
		source[3 * PAGE] ^= 0x55;
		put(0, 4, false);
		cr_assert_eq(st->kinds[RJI_KIND_DELTA], 2);
		cr_assert_eq(st->kinds[RJI_KIND_SAME], 2);
		cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 0);
		cr_assert_eq(st->n_coded, 2);
		cr_assert_eq(st->n_pages, 0);
		deliver();
		cr_assert(is_there(1) && is_there(3));
	}
	cr_assert_gt(st->delta_account.saved_bytes, 10 * (PAGE - 100));
}

Test(stage, difference_that_is_too_long_goes_as_a_page)
{
	fill_random(source, PAGE, 1);
	put(0, 1, true);
	deliver();
	fill_random(source, PAGE, 2);
	put(0, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	deliver();
	cr_assert(is_there(0));
	source[7] ^= 1; /* what was sent is remembered for the next */
	put(0, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_DELTA], 1);
	deliver();
	cr_assert(is_there(0));
}

Test(stage, old_copy_that_is_not_what_the_destination_has_is_of_no_use)
{
	struct rji_old_page *taken;

	fill_random(source, PAGE, 1);
	put(0, 1, true); /* A is kept */
	deliver();
	taken = rji_old_page_take(st->old, first_number[0]);
	cr_assert_not_null(taken);
	source[5] ^= 1;
	put(0, 1, true); /* B is sent, but not kept: its place is taken */
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	deliver();
	rji_old_page_leave(taken);
	source[6] ^= 1;
	put(0, 1, true);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1, "C is no difference of A there");
	deliver();
	cr_assert(is_there(0));
}

Test(stage, place_that_another_page_took_is_of_no_use)
{
	rji_old_pages_destroy(st->old);
	st->old = rji_old_pages_create(PAGE); /* one place */
	fill_random(source, PAGE, 1);
	memcpy(source + PAGE, source, PAGE); /* the same content in both */
	put(0, 2, true);
	deliver();
	source[9] ^= 1;
	put(0, 1, true);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	deliver();
	source[9] ^= 1;
	put(0, 1, true);
	cr_assert_eq(st->kinds[RJI_KIND_DELTA], 1);
	deliver();
	cr_assert(is_there(0));
}

Test(stage, without_old_pages_nothing_is_coded)
{
	rji_old_pages_destroy(st->old);
	st->old = NULL;
	free(st->codes);
	st->codes = NULL;
	fill_random(source, PAGE, 1);
	put(0, 1, true);
	deliver();
	source[9] ^= 1;
	put(0, 1, true);
	cr_assert_eq(st->n_coded, 0);
	deliver();
	cr_assert(is_there(0));
}

Test(stage, without_hashes_everything_goes_and_nothing_is_known)
{
	rji_same_destroy(&st->same);
	fill_random(source, PAGE, 1);
	ram->known[0] = 1;
	put(0, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	cr_assert_not(is_known(0));
	deliver();
	put(0, 1, false);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 1);
	deliver();
	cr_assert(is_there(0));
}

/* --- room --- */

static uint32_t put_in_parts(uint64_t *bits)
{
	struct rji_span span = { .first_page = 0, .n_pages = SPAN_PAGES };
	uint32_t n = 1;

	memset(st->kinds, 0, sizeof(st->kinds));
	while (!rji_stage_span(st, ram, &span, bits, true)) {
		cr_assert_gt(st->n_pages + st->n_coded, 0);
		deliver();
		n++;
	}
	deliver();
	return n;
}

Test(stage, full_stage_is_posted_and_goes_on_where_it_was)
{
	uint64_t bits[RJI_SPAN_MAX_WORDS];

	fill_random(source, N_PAGES * PAGE, 1);
	memset(bits, 0xff, sizeof(bits));
	cr_assert_eq(put_in_parts(bits), 2, "2 MiB by 1");
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], SPAN_PAGES);
	cr_assert(!memcmp(source, destination, SPAN_PAGES * PAGE));
	/* All of it a difference. */
	for (uint32_t i = 0; i < SPAN_PAGES; i++)
		source[i * PAGE + i] ^= 1;
	memset(bits, 0xff, sizeof(bits));
	put_in_parts(bits);
	cr_assert_eq(st->kinds[RJI_KIND_DELTA], SPAN_PAGES);
	cr_assert(!memcmp(source, destination, SPAN_PAGES * PAGE));
	/* And every second one the same. */
	for (uint32_t i = 0; i < SPAN_PAGES; i += 2)
		fill_random(page_at(source, i), PAGE, 1000 + i);
	memset(bits, 0xff, sizeof(bits));
	put_in_parts(bits);
	cr_assert_eq(st->kinds[RJI_KIND_SAME], SPAN_PAGES / 2);
	cr_assert(!memcmp(source, destination, SPAN_PAGES * PAGE));
}

/* --- compression --- */

static void fill_text(uint64_t first, uint64_t n)
{
	for (uint64_t i = first * PAGE; i < (first + n) * PAGE; i++)
		source[i] = (uint8_t)('a' + i / 50 % 17);
}

Test(stage, what_compresses_moves_and_the_rest_stays)
{
	uint64_t pages, bytes;

	fill_text(0, 16);
	fill_random(page_at(source, 16), 16 * PAGE, 3);
	fill_text(32, 8);
	put(0, 40, false);
	rji_stage_pack(st, true, &pages, &bytes);
	cr_assert_eq(pages, 40);
	cr_assert_lt(bytes, 20 * PAGE);
	cr_assert_geq(bytes, 16 * PAGE);
	cr_assert_eq(st->n_pages, 1);
	cr_assert_eq(st->pages[0].offset_bytes, 16 * PAGE);
	cr_assert_eq(st->n_coded, 2);
	cr_assert_eq(st->kinds[RJI_KIND_ZSTD], 24);
	cr_assert_eq(st->kinds[RJI_KIND_NORMAL], 16);
	deliver();
	cr_assert(!memcmp(source, destination, 40 * PAGE));
	put(0, 40, false);
	cr_assert_eq(st->kinds[RJI_KIND_SAME], 40, "known however they went");
}

Test(stage, one_piece_is_compressed_to_see)
{
	uint64_t pages, bytes;

	fill_text(0, 40);
	put(0, 40, false);
	rji_stage_pack(st, false, &pages, &bytes);
	cr_assert_eq(pages, 16);
	cr_assert_lt(bytes, 8 * PAGE);
	cr_assert_eq(st->n_pages, 2);
	cr_assert_eq(st->n_coded, 1);
	deliver();
	cr_assert(!memcmp(source, destination, 40 * PAGE));
}

Test(stage, differences_and_compressed_pages_go_together)
{
	uint64_t pages, bytes;

	fill_text(0, 64);
	put(0, 64, true);
	deliver();
	for (uint32_t i = 0; i < 64; i += 2)
		source[i * PAGE] ^= 1;
	for (uint32_t i = 1; i < 64; i += 4)
		memset(page_at(source, i), (int)i, PAGE);
	put(0, 64, false);
	rji_stage_pack(st, true, &pages, &bytes);
	cr_assert_eq(st->kinds[RJI_KIND_DELTA], 32);
	cr_assert_eq(st->kinds[RJI_KIND_ZSTD], 16);
	cr_assert_eq(st->kinds[RJI_KIND_SAME], 16);
	deliver();
	cr_assert(!memcmp(source, destination, 64 * PAGE));
}

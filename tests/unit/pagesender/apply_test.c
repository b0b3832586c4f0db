/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "pagesender/apply.h"
#include "pagesender/codec/xbzrle.h"
#include "pagesender/codec/zstd_block.h"
#include "transport/clear.h"

#define PAGE 4096u

static void *ctx;
static struct rj_error err;

static void set_up(void)
{
	rji_error_init(&err);
	cr_assert_eq(rji_apply.create(&ctx), 0);
	cr_assert_not_null(ctx);
}

static void tear_down(void)
{
	rji_apply.destroy(&ctx);
	cr_assert_null(ctx);
}

TestSuite(apply, .init = set_up, .fini = tear_down, .timeout = 10);

static int apply(unsigned int coding, const void *code, uint32_t code_bytes, void *page,
		 uint32_t len_bytes)
{
	return rji_apply.apply(ctx, coding, code, code_bytes, page, len_bytes, &err);
}

Test(apply, zeros_reach_exactly_to_their_end)
{
	uint8_t *p = aligned_alloc(PAGE, 4 * PAGE);

	memset(p, 0x11, 4 * PAGE);
	cr_assert_eq(apply(RJI_CODING_ZEROS, NULL, 0, p + PAGE, 2 * PAGE), 0);
	cr_assert_eq(p[PAGE - 1], 0x11);
	for (uint32_t i = PAGE; i < 3 * PAGE; i++)
		cr_assert_eq(p[i], 0);
	cr_assert_eq(p[3 * PAGE], 0x11);
	free(p);
}

Test(apply, difference_is_against_what_is_there)
{
	uint8_t old[PAGE], now[PAGE], page[PAGE], code[PAGE];
	int len;

	for (uint32_t i = 0; i < PAGE; i++)
		old[i] = (uint8_t)(i * 13);
	memcpy(now, old, PAGE);
	memset(now + 100, 0xee, 50);
	now[PAGE - 1] ^= 1;
	memcpy(page, old, PAGE);
	len = rji_xbzrle_encode(old, now, PAGE, code, PAGE);
	cr_assert_gt(len, 0);
	cr_assert_eq(apply(RJI_CODING_XBZRLE, code, (uint32_t)len, page, PAGE), 0);
	cr_assert_arr_eq(page, now, PAGE);
}

Test(apply, compressed_pages_come_back)
{
	uint8_t *now = malloc(16 * PAGE), *page = malloc(16 * PAGE), *code = malloc(16 * PAGE);
	struct rji_zstd *z;
	int len;

	for (uint32_t i = 0; i < 16 * PAGE; i++)
		now[i] = (uint8_t)(i / 97);
	cr_assert_eq(rji_zstd_create(RJI_ZSTD_LEVEL, &z), 0);
	len = rji_zstd_encode(z, now, 16 * PAGE, code, 16 * PAGE);
	cr_assert_gt(len, 0);
	cr_assert_eq(apply(RJI_CODING_ZSTD, code, (uint32_t)len, page, 16 * PAGE), 0);
	cr_assert_arr_eq(page, now, 16 * PAGE);
	cr_assert_eq(apply(RJI_CODING_ZSTD, code, (uint32_t)len, page, 15 * PAGE), RJ_E_PROTOCOL,
		     "it makes more than it may");
	rji_zstd_destroy(&z);
	free(now);
	free(page);
	free(code);
}

Test(apply, what_is_no_code_ends_the_lane)
{
	uint8_t page[PAGE] = { 0 };
	const uint8_t garbage[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	cr_assert_eq(apply(RJI_CODING_XBZRLE, garbage, sizeof(garbage), page, PAGE), RJ_E_PROTOCOL);
	cr_assert_not_null(strstr(err.text, "16 bytes of coding 2 do not make 4096 bytes"), "%s",
			   err.text);
	cr_assert_eq(apply(RJI_CODING_ZSTD, garbage, sizeof(garbage), page, PAGE), RJ_E_PROTOCOL);
	cr_assert_eq(apply(0, garbage, sizeof(garbage), page, PAGE), RJ_E_PROTOCOL);
	cr_assert_eq(apply(RJI_CODING_ZSTD + 1, garbage, sizeof(garbage), page, PAGE),
		     RJ_E_PROTOCOL);
}

/* --- clear.h --- */

Test(apply, memory_that_is_zero_is_not_written)
{
	void *p = mmap(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	rji_clear_memory(p, 8 * PAGE); /* or this ends here */
	munmap(p, 8 * PAGE);
}

static long resident_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long size, resident, shared;

	cr_assert_not_null(f);
	cr_assert_eq(fscanf(f, "%ld %ld %ld", &size, &resident, &shared), 3);
	fclose(f);
	return resident;
}

Test(apply, memory_that_was_never_touched_stays_so)
{
	uint64_t len = 64ull << 20;
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before;

	madvise(p, len, MADV_NOHUGEPAGE);
	before = resident_pages();
	rji_clear_memory(p, len);
	cr_assert_lt(resident_pages() - before, 4096, "of 16384 pages");
	p[len - PAGE] = 1;
	rji_clear_memory(p, len);
	cr_assert_eq(p[len - PAGE], 0);
	cr_assert_lt(resident_pages() - before, 4096);
	munmap(p, len);
}

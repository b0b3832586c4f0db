/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "transport/file/memory_holes.h"

#define PAGE 4096ull
#define N_PAGES 1500ull /* more than one question */
#define LEN (N_PAGES * PAGE)
#define BEFORE (3 * PAGE) /* of the file, that is not the region's */

static char *ram;
static int mem_fd, fd;
static uint64_t fd_offset;
static uint64_t expected[(N_PAGES + 63) / 64], found[(N_PAGES + 63) / 64];
static uint64_t swapped[(N_PAGES + 63) / 64]; /* out, as far as mincore() tells */

static int n_asked;

/* The kernel's, which calls pages that are swapped out not resident. */
int mincore(void *at, size_t len_bytes, unsigned char *resident)
{
	uint64_t first = (uint64_t)((char *)at - ram) / PAGE;
	int ret = (int)syscall(SYS_mincore, at, len_bytes, resident);

	n_asked++;
	for (uint64_t i = 0; !ret && i < len_bytes / PAGE; i++) {
		if (rji_bitmap_test(swapped, first + i))
			resident[i] = 0;
	}
	return ret;
}

static void setup(void)
{
	struct rj_region r = { .len_bytes = LEN, .fd_offset_bytes = BEFORE };

	mem_fd = memfd_create("holes", MFD_CLOEXEC);
	cr_assert(mem_fd >= 0 && !ftruncate(mem_fd, BEFORE + LEN + PAGE));
	ram = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd, BEFORE);
	cr_assert(ram != MAP_FAILED);
	r.host = ram;
	r.fd = mem_fd;
	fd = rji_memory_holes_open(&r, &fd_offset);
	cr_assert(fd >= 0 && fd_offset == BEFORE);
	memset(expected, 0, sizeof(expected));
	memset(found, 0, sizeof(found));
	memset(swapped, 0, sizeof(swapped));
}

static void teardown(void)
{
	close(fd);
	munmap(ram, LEN);
	close(mem_fd);
}

TestSuite(memory_holes, .init = setup, .fini = teardown);

static void touch(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		ram[i * PAGE] = 1;
	rji_bitmap_set_range(expected, from, to - from);
}

static void touch_and_swap_out(uint64_t from, uint64_t to)
{
	touch(from, to);
	rji_bitmap_set_range(swapped, from, to - from);
}

/* Not by this mapping. */
static void write_file(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		cr_assert(pwrite(mem_fd, "x", 1, (off_t)(BEFORE + i * PAGE)) == 1);
	rji_bitmap_set_range(expected, from, to - from);
}

static void look(uint64_t from, uint64_t to)
{
	struct rji_known_data known = { 0 };
	uint64_t at = from * PAGE;

	while (at < to * PAGE) {
		uint64_t end = rji_memory_holes_next(fd, fd_offset, ram, &known, &at, to * PAGE);

		cr_assert(at <= end && end <= to * PAGE);
		if (at < end)
			rji_bitmap_set_range(found, at / PAGE, (end - at) / PAGE);
		at = end;
	}
}

static void expect_same(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		bool differs = (found[i / 64] ^ expected[i / 64]) >> i % 64 & 1;

		cr_expect(!differs, "page %llu", (unsigned long long)i);
	}
}

Test(memory_holes, untouched_memory_is_a_hole)
{
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, full_memory_has_none)
{
	touch(0, N_PAGES);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, file_without_holes_is_not_asked_where_they_are)
{
	touch(0, N_PAGES);
	look(0, N_PAGES);
	cr_assert_gt(n_asked, 0, "there are holes outside the region");
	cr_assert_eq(fallocate(mem_fd, 0, 0, BEFORE + LEN + PAGE), 0); /* before and behind */
	n_asked = 0;
	memset(found, 0, sizeof(found));
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
	cr_assert_eq(n_asked, 0);
	cr_assert_eq(fallocate(mem_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       BEFORE + 700 * PAGE, 20 * PAGE),
		     0);
	rji_bitmap_clear_range(expected, 700, 20);
	memset(found, 0, sizeof(found));
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, stretches_of_both)
{
	touch(0, 3);
	touch(100, 600); /* over the end of one question */
	touch(601, 602);
	touch(1400, N_PAGES);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, every_second_page)
{
	for (uint64_t i = 1; i < N_PAGES; i += 2)
		touch(i, i + 1);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, data_that_is_not_mapped_is_data)
{
	touch(10, 20);
	write_file(20, 700);
	touch(900, 1000);
	write_file(1000, 1100);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, data_that_is_swapped_out_is_data)
{
	touch(10, 20);
	touch_and_swap_out(20, 700);
	touch_and_swap_out(720, 800);
	touch(900, 1000);
	touch_and_swap_out(1000, 1100);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, only_what_was_asked)
{
	touch(50, 60);
	touch_and_swap_out(60, 70);
	look(55, 65);
	expect_same(55, 65);
	cr_expect_eq(rji_bitmap_weight(found, (N_PAGES + 63) / 64), 10);
}

Test(memory_holes, what_lies_before_and_behind_is_not_the_regions)
{
	cr_assert(pwrite(mem_fd, "x", 1, 0) == 1);
	cr_assert(pwrite(mem_fd, "x", 1, (off_t)(BEFORE + LEN)) == 1);
	look(0, N_PAGES);
	expect_same(0, N_PAGES);
}

Test(memory_holes, private_memory_tells_nothing)
{
	struct rj_region r = { .len_bytes = LEN, .fd = mem_fd, .fd_offset_bytes = BEFORE };

	r.host = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, mem_fd, BEFORE);
	cr_expect_eq(rji_memory_holes_open(&r, &fd_offset), -1);
	munmap(r.host, LEN);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <ramjet/region.h>

#include "base/bitmap.h"
#include "pagesender/dirty/tracker_impl.h"

#define N_PAGES 1024u
#define N_WORDS (N_PAGES / 64)

/* One region under a tracker. */
struct world {
	struct rj_tracker *t;
	char *host;
	size_t page_bytes;
	uint64_t bits[N_WORDS];
};

/* Skips the test where the kernel has none of it. */
static void open_world(struct world *w, char *host, uint32_t page_bytes)
{
	struct rj_region r = {
		.size = sizeof(r),
		.name = "ram",
		.host = host,
		.len_bytes = (uint64_t)N_PAGES * page_bytes,
		.gpa = RJ_NO_GPA,
		.page_bytes = page_bytes,
		.fd = -1,
	};
	char why[256] = "";
	int ret = rj_uffd_wp_create(&w->t);

	if (ret == -ENOTSUP)
		cr_skip_test("this kernel has no PAGEMAP_SCAN");
	cr_assert_eq(ret, 0, "%d", ret);
	w->host = host;
	w->page_bytes = page_bytes;
	cr_assert_eq(w->t->ops.attach(w->t->t, 0, &r, why, sizeof(why)), 1, "%s", why);
	cr_assert_eq(w->t->ops.start(w->t->t), 0);
}

static void close_world(struct world *w)
{
	cr_assert_eq(w->t->ops.stop(w->t->t), 0);
	rj_tracker_destroy(&w->t);
	cr_assert_null(w->t);
}

static uint64_t collect(struct world *w)
{
	memset(w->bits, 0, sizeof(w->bits));
	cr_assert_eq(w->t->ops.collect(w->t->t, 0, 0, N_PAGES, w->bits), 0);
	return rji_bitmap_weight(w->bits, N_WORDS);
}

static void rearm(struct world *w)
{
	cr_assert_eq(w->t->ops.rearm(w->t->t, 0, 0, N_PAGES, w->bits), 0);
}

static void rearm_all(struct world *w)
{
	memset(w->bits, 0xff, sizeof(w->bits));
	rearm(w);
}

static void touch(struct world *w, uint64_t page)
{
	w->host[page * w->page_bytes + page % 4096]++;
}

static char *map(int flags, int fd, size_t page_bytes)
{
	char *p = mmap(NULL, N_PAGES * page_bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	cr_assert_neq(p, MAP_FAILED);
	return p;
}

static char *map_memfd(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);
	char *p;

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, N_PAGES * 4096l), 0);
	p = map(MAP_SHARED, fd, 4096);
	close(fd);
	return p;
}

/* The life of a page, on any kind of memory. */
static void check_memory(char *host, uint32_t page_bytes)
{
	struct world w;

	open_world(&w, host, page_bytes);
	rearm_all(&w);
	cr_assert_eq(collect(&w), 0);
	touch(&w, 0);
	touch(&w, 63);
	touch(&w, 700);
	touch(&w, N_PAGES - 1);
	for (int i = 0; i < 2; i++) /* clears nothing */
		cr_assert_eq(collect(&w), 4);
	cr_assert(rji_bitmap_test(w.bits, 0) && rji_bitmap_test(w.bits, 63));
	cr_assert(rji_bitmap_test(w.bits, 700) && rji_bitmap_test(w.bits, N_PAGES - 1));

	/* Only what is given is forgotten. */
	rji_bitmap_clear_range(w.bits, 63, 1);
	rearm(&w);
	cr_assert_eq(collect(&w), 1);
	cr_assert(rji_bitmap_test(w.bits, 63));
	close_world(&w);
}

Test(uffd_wp, anonymous_memory)
{
	char *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1, 4096);

	memset(p, 1, N_PAGES * 4096ul);
	check_memory(p, 4096);
}

Test(uffd_wp, anonymous_memory_that_was_never_touched)
{
	check_memory(map(MAP_PRIVATE | MAP_ANONYMOUS, -1, 4096), 4096);
}

Test(uffd_wp, anonymous_memory_of_transparent_huge_pages)
{
	char *p = map(MAP_PRIVATE | MAP_ANONYMOUS, -1, 4096);

	madvise(p, N_PAGES * 4096ul, MADV_HUGEPAGE);
	memset(p, 1, N_PAGES * 4096ul);
	check_memory(p, 4096);
}

Test(uffd_wp, memfd)
{
	char *p = map_memfd();

	memset(p, 1, N_PAGES * 2048ul); /* the upper half stays a hole */
	check_memory(p, 4096);
}

Test(uffd_wp, hugetlb)
{
	size_t huge = 2ul << 20;
	char *p = mmap(NULL, N_PAGES * huge, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	struct rj_tracker *t;
	struct rj_region r = {
		.size = sizeof(r),
		.name = "huge",
		.host = p,
		.len_bytes = huge,
		.page_bytes = 4096,
	};
	char why[256] = "";

	if (p == MAP_FAILED || madvise(p, 8 * huge, MADV_POPULATE_WRITE))
		cr_skip_test("no huge pages");
	if (rj_uffd_wp_create(&t) == -ENOTSUP)
		return;
	cr_assert_lt(t->ops.attach(t->t, 0, &r, why, sizeof(why)), 0);
	cr_assert(strstr(why, "page_bytes"));
	r.page_bytes = huge;
	r.len_bytes = 8 * huge;
	cr_assert_eq(t->ops.attach(t->t, 0, &r, why, sizeof(why)), 1, "%s", why);
	uint64_t bits = 0xff;

	cr_assert_eq(t->ops.rearm(t->t, 0, 0, 8, &bits), 0);
	p[3 * huge + 5] = 1;
	bits = 0;
	cr_assert_eq(t->ops.collect(t->t, 0, 0, 8, &bits), 0);
	cr_assert_eq(bits, 8);
	rj_tracker_destroy(&t);
}

/* More runs than are protected one by one: what rearm finds beyond its bits, it tells. */
Test(uffd_wp, rearm_tells_what_else_it_took)
{
	struct world w;

	open_world(&w, map_memfd(), 4096);
	rearm_all(&w);
	for (uint64_t i = 0; i < N_PAGES; i += 4)
		touch(&w, i);
	cr_assert_eq(collect(&w), N_PAGES / 4);
	touch(&w, 401); /* a write between collect and rearm */
	rearm(&w);
	cr_assert_eq(rji_bitmap_weight(w.bits, N_WORDS), N_PAGES / 4 + 1);
	cr_assert(rji_bitmap_test(w.bits, 401));
	cr_assert_eq(collect(&w), 0);
	close_world(&w);
}

Test(uffd_wp, a_write_between_collect_and_rearm_is_not_lost)
{
	struct world w;

	open_world(&w, map_memfd(), 4096);
	rearm_all(&w);
	touch(&w, 10);
	cr_assert_eq(collect(&w), 1);
	touch(&w, 500);
	rearm(&w);
	bool told = rji_bitmap_test(w.bits, 500);

	collect(&w);
	cr_assert(told || rji_bitmap_test(w.bits, 500));
	close_world(&w);
}

Test(uffd_wp, parts_of_a_region)
{
	struct world w;
	uint64_t bits[2] = { 0 };

	open_world(&w, map_memfd(), 4096);
	rearm_all(&w);
	touch(&w, 127);
	touch(&w, 130);
	touch(&w, 192);
	cr_assert_eq(w.t->ops.collect(w.t->t, 0, 128, 64, bits), 0);
	cr_assert_eq(bits[0], 1 << 2);
	cr_assert_eq(bits[1], 0);
	cr_assert_eq(w.t->ops.rearm(w.t->t, 0, 128, 64, bits), 0);
	cr_assert_eq(collect(&w), 2);
	close_world(&w);
}

/* Reading a hole, as a lane does, must not make it look written. */
Test(uffd_wp, reading_is_not_writing)
{
	struct world w;

	open_world(&w, map(MAP_PRIVATE | MAP_ANONYMOUS, -1, 4096), 4096);
	rearm_all(&w);
	for (uint64_t i = 0; i < N_PAGES; i++)
		(void)*(volatile char *)(w.host + i * 4096);
	cr_assert_eq(collect(&w), 0);
	close_world(&w);
}

/* What swapping does to a page table entry of shared memory; the page keeps its new content. */
Test(uffd_wp, an_entry_that_became_empty_counts_as_written)
{
	struct world w;

	open_world(&w, map_memfd(), 4096);
	memset(w.host, 1, N_PAGES * 4096ul);
	rearm_all(&w);
	touch(&w, 77);
	cr_assert_eq(madvise(w.host + 77 * 4096, 4096, MADV_DONTNEED), 0);
	collect(&w);
	cr_assert(rji_bitmap_test(w.bits, 77));
	close_world(&w);
}

/* The kernel writes for us: read() into guest RAM. */
Test(uffd_wp, sees_what_system_calls_write)
{
	struct world w;
	int p[2];

	open_world(&w, map_memfd(), 4096);
	cr_assert_eq(pipe(p), 0);
	rearm_all(&w);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(read(p[0], w.host + 33 * 4096, 1), 1);
	cr_assert_eq(collect(&w), 1);
	cr_assert(rji_bitmap_test(w.bits, 33));
	close_world(&w);
}

Test(uffd_wp, works_without_privilege)
{
	struct world w;
	int p[2];

	/* Only a program that may dump core may read its own pagemap. */
	if (geteuid() == 0 && (setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 1)))
		cr_skip_test("cannot drop root");
	int ret = rj_uffd_wp_create(&w.t);

	if (ret == -EPERM || ret == -ENOTSUP)
		return;
	rj_tracker_destroy(&w.t);
	open_world(&w, map_memfd(), 4096);
	cr_assert_eq(pipe(p), 0);
	rearm_all(&w);
	touch(&w, 5);
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(read(p[0], w.host + 33 * 4096, 1), 1);
	cr_assert_eq(collect(&w), 2);
	close_world(&w);
}

/* Memory that was replaced is not watched any more: an error, not silence. */
Test(uffd_wp, replaced_memory_is_an_error)
{
	struct world w;

	open_world(&w, map_memfd(), 4096);
	cr_assert_neq(mmap(w.host + 64 * 4096, 4096, PROT_READ | PROT_WRITE,
			   MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      MAP_FAILED);
	cr_assert_lt(w.t->ops.collect(w.t->t, 0, 0, N_PAGES, w.bits), 0);
	rj_tracker_destroy(&w.t);
}

/* From now on system call nr fails with err, if its second argument is arg (any: 0). */
static void refuse(int nr, uint32_t arg, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg, 0, arg ? 1 : 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

Test(uffd_wp, kernel_without_userfaultfd)
{
	struct rj_tracker *t = NULL;

	refuse(SYS_userfaultfd, 0, ENOSYS);
	cr_assert_eq(rj_uffd_wp_create(&t), -ENOTSUP);
	cr_assert_null(t);
}

/* An older kernel says EINVAL to feature bits it does not know. */
Test(uffd_wp, kernel_without_the_features)
{
	struct rj_tracker *t = NULL;

	refuse(SYS_ioctl, (uint32_t)(UFFDIO_API), EINVAL);
	cr_assert_eq(rj_uffd_wp_create(&t), -ENOTSUP);
	cr_assert_null(t);
}

Test(uffd_wp, kernel_without_pagemap_scan)
{
	struct rj_tracker *t = NULL;

	refuse(SYS_ioctl, 0xc0606610u, ENOTTY);
	cr_assert_eq(rj_uffd_wp_create(&t), -ENOTSUP);
	cr_assert_null(t);
}

Test(uffd_wp, not_allowed)
{
	struct rj_tracker *t = NULL;

	refuse(SYS_userfaultfd, 0, EPERM);
	refuse(SYS_openat, 0, EACCES);
	cr_assert_eq(rj_uffd_wp_create(&t), -EPERM);
	cr_assert_null(t);
}

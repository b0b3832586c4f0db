/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that is used while it comes out of a file. Skipped where userfaultfd is not allowed. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/stop.h"
#include "base/uffd_missing.h"
#include "transport/file/snap_filler.h"
#include "transport/file/snap_writer.h"
#include "transport/transport.h"

#define N_PAGES 6000u /* two chunks and a part; the last word of the bitmap is not full */
#define PAGE RJI_SNAP_PAGE_BYTES
#define LEN ((uint64_t)N_PAGES * PAGE)

static char dir[] = "/tmp/rj-filler-test-XXXXXX";
static char path[128];
static char *ram; /* what was saved */
static uint64_t pages_at;
static struct rj_error err;

static struct rj_region region;
static const struct rj_region *regions[] = { &region };
static struct rji_snap_reader *reader;
static struct rji_snap_filling filling;
static struct rji_snap_filler *filler;
static _Atomic uint64_t done_bytes, faults;

static uint8_t byte_of(uint32_t page)
{
	return page % 5 == 4 || page / 256 % 4 == 3 ? 0 : (uint8_t)(1 + page % 251);
}

static char *map(int flags, int fd)
{
	char *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, flags, fd, 0);

	cr_assert_neq(p, MAP_FAILED);
	return p;
}

static void save(void)
{
	const struct rji_snap_rest rest = { .state = "devices", .state_bytes = 7, .run = true };
	const struct rji_extent e = { .len_bytes = LEN };
	struct rji_transport_opts o = { 0 };
	struct rji_snap_writer *w = NULL;
	struct rji_transport *tp = NULL;
	struct rji_lane *lane = NULL;
	struct rji_stop stop;

	rji_stop_init(&stop);
	o.stop = &stop;
	region.host = ram;
	cr_assert_eq(rji_snap_writer_begin(&w, NULL, path, regions, 1, 0, &err), 0);
	o.arg = w;
	cr_assert_eq(rji_file_transport.create(&o, &err, &tp), 0);
	cr_assert_eq(rji_file_transport.connect(tp, 0, NULL, NULL, 0, &lane, &err), 0);
	cr_assert_eq(rji_file_transport.post(lane, &e, 1, &err), 0);
	cr_assert_eq(rji_file_transport.fence(lane, 0, &err), 0);
	cr_assert_eq(rji_snap_writer_commit(w, &rest, &err), 0, "%s", err.text);
	pages_at = w->snap.region[0].pages_offset;
	rji_file_transport.close(&lane);
	rji_file_transport.destroy(&tp);
	rji_snap_writer_end(&w);
	rji_stop_fini(&stop);
}

static void set_up(void)
{
	int fd = rji_missing_open();

	if (fd < 0)
		cr_skip_test("userfaultfd: %s", strerror(-fd));
	close(fd);
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/guest", dir);
	rji_error_init(&err);
	ram = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (uint32_t i = 0; i < N_PAGES; i++)
		memset(ram + (uint64_t)i * PAGE, byte_of(i), PAGE);
	rj_region_init(&region);
	region.name = "ram";
	region.len_bytes = LEN;
	save();
}

static void tear_down(void)
{
	char command[256];

	rji_snap_filler_stop(&filler);
	rji_snap_reader_close(&reader);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static int start(char *to, uint32_t n_lanes)
{
	int ret = rji_snap_reader_open(&reader, path, &err);

	if (!ret)
		ret = rji_snap_reader_load_maps(reader, 0, &err);
	cr_assert_eq(ret, 0, "%s", err.text);
	region.host = to;
	filling = (struct rji_snap_filling){ .reader = reader,
					     .regions = regions,
					     .n_lanes = n_lanes,
					     .wake_fd = eventfd(0, EFD_CLOEXEC),
					     .done_bytes = &done_bytes,
					     .faults = &faults };
	return rji_snap_filler_start(&filling, &filler, &err);
}

static int wait_for_end(void)
{
	eventfd_t n;
	int ret;

	while (!(ret = rji_snap_filler_state(filler, &err)))
		eventfd_read(filling.wake_fd, &n);
	return ret;
}

static void comes_back(char *to, uint32_t n_lanes)
{
	memset(to, 0x5a, LEN); /* what was there before does not matter */
	cr_assert_eq(start(to, n_lanes), 0, "%s", err.text);
	for (uint32_t i = 0; i < 400; i++) { /* touched while it comes, from behind */
		uint32_t page = N_PAGES - 1 - i * 13;

		cr_assert_eq((uint8_t)to[(uint64_t)page * PAGE + 77], byte_of(page), "page %u",
			     page);
	}
	cr_assert_eq(wait_for_end(), 1, "%s", err.text);
	cr_assert_eq(memcmp(to, ram, LEN), 0);
	rji_snap_filler_stop(&filler);
	cr_assert_eq(memcmp(to, ram, LEN), 0);
}

Test(snap_filler, private_memory_comes_while_it_is_read, .init = set_up, .fini = tear_down)
{
	comes_back(map(MAP_PRIVATE | MAP_ANONYMOUS, -1), 2);
}

Test(snap_filler, shared_memory_comes_while_it_is_read, .init = set_up, .fini = tear_down)
{
	comes_back(map(MAP_SHARED | MAP_ANONYMOUS, -1), 3);
}

/* Without streamers every page comes because it is touched, and each is placed once. */
Test(snap_filler, each_page_comes_when_it_is_touched, .init = set_up, .fini = tear_down)
{
	uint64_t n_present = 0;
	char *to = map(MAP_SHARED | MAP_ANONYMOUS, -1);

	cr_assert_eq(start(to, 0), 0, "%s", err.text);
	for (uint32_t i = 0; i < N_PAGES; i++) {
		uint32_t page = (uint32_t)((uint64_t)i * 4421 % N_PAGES);

		cr_assert_eq((uint8_t)to[(uint64_t)page * PAGE], byte_of(page), "page %u", page);
		n_present += byte_of(page) != 0;
	}
	cr_assert_eq(memcmp(to, ram, LEN), 0);
	cr_assert_eq(done_bytes, n_present * PAGE);
	cr_assert_gt(faults, N_PAGES / 32);
}

/* What the guest writes is never lost to a page that comes later. */
Test(snap_filler, what_is_written_meanwhile_stays, .init = set_up, .fini = tear_down)
{
	char *to = map(MAP_SHARED | MAP_ANONYMOUS, -1);

	cr_assert_eq(start(to, 2), 0, "%s", err.text);
	for (uint32_t i = 0; i < N_PAGES; i++) {
		uint32_t page = (uint32_t)((uint64_t)i * 4421 % N_PAGES);

		to[(uint64_t)page * PAGE + 9] = (char)0xee;
		ram[(uint64_t)page * PAGE + 9] = (char)0xee;
	}
	cr_assert_eq(wait_for_end(), 1, "%s", err.text);
	cr_assert_eq(memcmp(to, ram, LEN), 0);
}

Test(snap_filler, untouched_zeros_stay_holes, .init = set_up, .fini = tear_down)
{
	int fd = memfd_create("to", MFD_CLOEXEC);
	uint64_t n_present = 0;
	struct stat st;

	cr_assert_eq(ftruncate(fd, (off_t)LEN), 0);
	cr_assert_eq(start(map(MAP_SHARED, fd), 2), 0, "%s", err.text);
	cr_assert_eq(wait_for_end(), 1, "%s", err.text);
	for (uint32_t i = 0; i < N_PAGES; i++)
		n_present += byte_of(i) != 0;
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq((uint64_t)st.st_blocks * 512, n_present * PAGE);
}

/* The kernel waits for a page as well: it reads guest memory for the VMM. */
Test(snap_filler, the_kernel_waits_too, .init = set_up, .fini = tear_down)
{
	char *to = map(MAP_SHARED | MAP_ANONYMOUS, -1), got[64];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(start(to, 0), 0, "%s", err.text);
	cr_assert_eq(write(fds[1], to + 1601ull * PAGE, sizeof(got)), (ssize_t)sizeof(got));
	cr_assert_eq(read(fds[0], got, sizeof(got)), (ssize_t)sizeof(got));
	cr_assert_eq((uint8_t)got[5], byte_of(1601));
}

static sigjmp_buf lost;

static void on_lost_page(int number)
{
	(void)number;
	siglongjmp(lost, 1);
}

static bool is_lost(const char *p)
{
	if (sigsetjmp(lost, 1))
		return true;
	return *(const volatile char *)p == 1 && false;
}

static void damage(uint32_t page)
{
	int fd = open(path, O_WRONLY);
	char c = (char)0x81;

	cr_assert_eq(pwrite(fd, &c, 1, (off_t)(pages_at + (uint64_t)page * PAGE + 1234)), 1);
	fsync(fd);
	close(fd);
}

/* Found by whoever touches it, or by streaming: named, and seen by nobody. */
static void bad_page_is_kept_away(uint32_t n_lanes)
{
	char *to = map(MAP_SHARED | MAP_ANONYMOUS, -1), expected[64];

	signal(SIGSEGV, on_lost_page);
	damage(2101);
	cr_assert_eq(start(to, n_lanes), 0, "%s", err.text);
	if (!n_lanes)
		cr_assert(is_lost(to + 2101ull * PAGE), "a bad page was given to its reader");
	cr_assert_eq(wait_for_end(), RJ_E_SNAPSHOT);
	snprintf(expected, sizeof(expected), "offset %llu",
		 (unsigned long long)(pages_at + 2101ull * PAGE));
	cr_assert(strstr(err.text, path), "%s", err.text);
	cr_assert(strstr(err.text, expected), "%s", err.text);
	cr_assert_eq(err.offset_bytes, 2101ull * PAGE);
	cr_assert(is_lost(to + 2101ull * PAGE));
	/* Its neighbours, and pages that are far away, come still: the guest has to get to a stop. */
	cr_assert_eq((uint8_t)to[2102ull * PAGE], byte_of(2102));
	cr_assert_eq((uint8_t)to[2100ull * PAGE], byte_of(2100));
	cr_assert_eq((uint8_t)to[5800ull * PAGE], byte_of(5800));
}

Test(snap_filler, a_bad_page_that_is_touched_is_kept_away, .init = set_up, .fini = tear_down)
{
	bad_page_is_kept_away(0);
}

Test(snap_filler, a_bad_page_that_streams_in_is_kept_away, .init = set_up, .fini = tear_down)
{
	bad_page_is_kept_away(2);
}

Test(snap_filler, a_file_that_ends_early_is_told, .init = set_up, .fini = tear_down)
{
	char *to = map(MAP_SHARED | MAP_ANONYMOUS, -1);

	signal(SIGSEGV, on_lost_page);
	cr_assert_eq(start(to, 0), 0, "%s", err.text);
	cr_assert_eq(truncate(path, (off_t)(pages_at + 100 * PAGE)), 0);
	cr_assert(is_lost(to + 201ull * PAGE));
	cr_assert_lt(wait_for_end(), 0);
	cr_assert(strstr(err.text, "cannot read"), "%s", err.text);
}

/* Another mapping of the memory makes a page that the filler has not placed. */
Test(snap_filler, a_page_written_past_it_is_told, .init = set_up, .fini = tear_down)
{
	int fd = memfd_create("to", MFD_CLOEXEC);
	char *to, *other;

	signal(SIGSEGV, on_lost_page);
	cr_assert_eq(ftruncate(fd, (off_t)LEN), 0);
	to = map(MAP_SHARED, fd);
	other = map(MAP_SHARED, fd);
	cr_assert_eq(start(to, 0), 0, "%s", err.text);
	other[100 * PAGE] = 1;
	is_lost(to + 101ull * PAGE); /* comes with its neighbours */
	cr_assert_eq(wait_for_end(), RJ_E_REGION);
	cr_assert(strstr(err.text, "no other mapping"), "%s", err.text);
}

Test(snap_filler, memory_of_a_file_is_refused, .init = set_up, .fini = tear_down)
{
	int fd = memfd_create("to", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)LEN), 0);
	cr_assert_eq(start(map(MAP_PRIVATE, fd), 2), -ENOTSUP);
	cr_assert(strstr(err.text, "'ram'"), "%s", err.text);
}

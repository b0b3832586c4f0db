/* SPDX-License-Identifier: BSD-2-Clause */
/* Lanes into a file, what becomes of it at the commit, and the way back. */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "base/stop.h"
#include "transport/file/snap_loader.h"
#include "transport/file/snap_writer.h"
#include "transport/transport.h"

#define N_PAGES 1024u
#define PAGE RJI_SNAP_PAGE_BYTES
#define LEN ((uint64_t)N_PAGES * PAGE)

static char dir[] = "/tmp/rj-snapshot-test-XXXXXX";
static char path[128];
static char *ram;
static int ram_fd;
static struct rj_region region;
static struct rji_snap_writer *writer;
static struct rji_transport *tp;
static struct rji_lane *lane;
static struct rji_stop stop;
static struct rj_error err;
static bool registers;

static void set_up(void)
{
	cr_assert(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/guest", dir);
	ram_fd = memfd_create("ram", 0);
	cr_assert_eq(ftruncate(ram_fd, (off_t)LEN), 0);
	ram = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, 0);
	cr_assert_neq(ram, MAP_FAILED);
	rj_region_init(&region);
	region.name = "ram";
	region.host = ram;
	region.len_bytes = LEN;
	region.fd = ram_fd;
	rji_error_init(&err);
	rji_stop_init(&stop);
}

static void tear_down(void)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

static void open_lane(void)
{
	const struct rj_region *regions[] = { &region };
	struct rji_transport_opts o = { .stop = &stop };
	int ret = rji_snap_writer_begin(&writer, NULL, path, regions, 1, 5, &err);

	cr_assert_eq(ret, 0, "%s", err.text);
	writer->registers = registers;
	o.arg = writer;
	cr_assert_eq(rji_file_transport.create(&o, &err, &tp), 0);
	cr_assert_eq(rji_file_transport.connect(tp, 0, NULL, NULL, 0, &lane, &err), 0, "%s",
		     err.text);
}

static void close_lane(void)
{
	rji_file_transport.close(&lane);
	rji_file_transport.destroy(&tp);
	rji_snap_writer_end(&writer);
}

static void send_all(void)
{
	const struct rji_extent e = { .len_bytes = LEN };

	cr_assert_eq(rji_file_transport.post(lane, &e, 1, &err), 0, "%s", err.text);
	cr_assert_eq(rji_file_transport.fence(lane, 0, &err), 0, "%s", err.text);
}

static void commit(void)
{
	const struct rji_snap_rest rest = { .setup = "setup",
					    .setup_bytes = 5,
					    .state = "devices",
					    .state_bytes = 7,
					    .run = true };

	cr_assert_eq(rji_snap_writer_commit(writer, &rest, &err), 0, "%s", err.text);
}

static void fill(uint32_t page, int value)
{
	memset(ram + (uint64_t)page * PAGE, value, PAGE);
}

static int load(char *to, bool zeroed)
{
	struct rji_snap_target target = { to, zeroed };
	struct rji_snap_reader *r = NULL;
	struct rji_snap_loading l = { .targets = to ? &target : NULL, .n_lanes = 2 };
	int ret;

	rji_error_init(&err);
	ret = rji_snap_reader_open(&r, path, &err);
	if (!ret)
		ret = rji_snap_reader_load_maps(r, 0, &err);
	l.reader = r;
	if (!ret)
		ret = rji_snap_load(&l, &err);
	rji_snap_reader_close(&r);
	return ret;
}

/* Into memory that has something else in it. */
static void must_come_back(void)
{
	char *to = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	memset(to, 0x5a, LEN);
	ret = load(to, false);
	cr_assert_eq(ret, 0, "%s", err.text);
	cr_assert_eq(memcmp(to, ram, LEN), 0);
	cr_assert_eq(load(NULL, false), 0, "%s", err.text);
}

static uint64_t resident_bytes(void)
{
	struct stat st;

	fstat(ram_fd, &st);
	return (uint64_t)st.st_blocks * 512;
}

static uint64_t page_at(uint32_t page)
{
	return writer->snap.region[0].pages_offset + (uint64_t)page * PAGE;
}

/* Is the page's place in the file a hole? */
static bool is_hole(uint32_t page)
{
	off_t data;

	fsync(writer->meta_fd);
	data = lseek(writer->meta_fd, (off_t)page_at(page), SEEK_DATA);
	return data < 0 || (uint64_t)data >= page_at(page) + PAGE;
}

Test(snapshot_lane, memory_comes_back, .init = set_up, .fini = tear_down)
{
	for (uint32_t i = 0; i < N_PAGES; i += 1 + i % 7)
		fill(i, (int)(i % 251) + 1);
	open_lane();
	send_all();
	commit();
	close_lane();
	must_come_back();
}

Test(snapshot_lane, untouched_memory_stays_untouched, .init = set_up, .fini = tear_down)
{
	fill(3, 1);
	fill(700, 1);
	open_lane();
	cr_assert_geq(writer->memory[0].hole_fd, 0);
	send_all();
	cr_assert_leq(resident_bytes(), 4 * PAGE);
	cr_assert(rji_bitmap_test(writer->memory[0].present, 3));
	cr_assert_eq(rji_bitmap_weight(writer->memory[0].present, N_PAGES / 64), 2);
	commit();
	close_lane();
	must_come_back();
}

/* A private mapping of the same file: its holes say nothing about the guest's pages. */
Test(snapshot_lane, holes_of_a_private_mapping_are_not_believed, .init = set_up, .fini = tear_down)
{
	ram = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, ram_fd, 0);
	region.host = ram;
	fill(5, 7);
	open_lane();
	cr_assert_eq(writer->memory[0].hole_fd, -1);
	send_all();
	commit();
	close_lane();
	must_come_back();
}

Test(snapshot_lane, a_page_that_becomes_zero_is_punched, .init = set_up, .fini = tear_down)
{
	for (uint32_t i = 0; i < 64; i++)
		fill(i, 9);
	open_lane();
	send_all();
	cr_assert_not(is_hole(17));
	fill(17, 0);
	send_all();
	cr_assert(is_hole(17));
	cr_assert_not(is_hole(16));
	commit();
	close_lane();
	must_come_back();
}

/* Free pages are not looked at: what is in them does not matter. */
Test(snapshot_lane, pages_to_be_cleared_are_punched, .init = set_up, .fini = tear_down)
{
	const struct rji_coded c = { .extent = { .offset_bytes = 16 * PAGE, .len_bytes = 8 * PAGE },
				     .coding = RJI_CODING_ZEROS };

	for (uint32_t i = 0; i < 64; i++)
		fill(i, 9);
	open_lane();
	cr_assert_eq(rji_file_transport.codings, 1u << RJI_CODING_ZEROS);
	send_all();
	cr_assert_eq(rji_file_transport.post_coded(lane, &c, 1, &err), 0, "%s", err.text);
	cr_assert_eq(rji_file_transport.fence(lane, 0, &err), 0);
	for (uint32_t i = 16; i < 24; i++)
		cr_assert(is_hole(i));
	cr_assert_not(is_hole(15));
	cr_assert_not(is_hole(24));
	cr_assert_eq(rji_bitmap_weight(writer->memory[0].present, N_PAGES / 64), 56);
	commit();
	close_lane();
	memset(ram + 16 * PAGE, 0, 8 * PAGE);
	must_come_back();
}

Test(snapshot_lane, a_page_written_again_takes_its_own_place_and_a_new_checksum, .init = set_up,
     .fini = tear_down)
{
	uint64_t before;

	fill(100, 1);
	open_lane();
	send_all();
	before = writer->memory[0].sums[100];
	fill(100, 2);
	send_all();
	cr_assert_neq(writer->memory[0].sums[100], before);
	cr_assert_eq(rji_bitmap_weight(writer->memory[0].present, N_PAGES / 64), 1);
	commit();
	close_lane();
	must_come_back();
}

Test(snapshot_lane, without_a_commit_nothing_is_there, .init = set_up, .fini = tear_down)
{
	fill(1, 1);
	open_lane();
	send_all();
	cr_assert_lt(access(path, F_OK), 0);
	close_lane();
	cr_assert_lt(access(path, F_OK), 0);
	cr_assert_eq(rmdir(dir), 0, "something was left behind");
	cr_assert_eq(mkdir(dir, 0700), 0);
}

Test(snapshot_lane, the_old_file_stays_until_the_commit, .init = set_up, .fini = tear_down)
{
	fill(1, 1);
	open_lane();
	send_all();
	commit();
	close_lane();
	fill(1, 2);
	open_lane();
	send_all();
	close_lane();
	fill(1, 1);
	must_come_back();
}

Test(snapshot_lane, what_is_no_file_is_not_replaced, .init = set_up, .fini = tear_down)
{
	const struct rj_region *regions[] = { &region };

	snprintf(path, sizeof(path), "%s", dir);
	cr_assert_eq(rji_snap_writer_begin(&writer, NULL, path, regions, 1, 0, &err), -EINVAL);
	cr_assert(strstr(err.text, "not a regular file"), "%s", err.text);
	snprintf(path, sizeof(path), "%s/none/guest", dir);
	rji_error_init(&err);
	cr_assert_eq(rji_snap_writer_begin(&writer, NULL, path, regions, 1, 0, &err), -ENOENT);
}

static void flip(uint64_t offset)
{
	int fd = open(path, O_RDWR);
	char c;

	cr_assert_eq(pread(fd, &c, 1, (off_t)offset), 1);
	c ^= 0x10;
	cr_assert_eq(pwrite(fd, &c, 1, (off_t)offset), 1);
	close(fd);
}

static void finds(uint64_t offset, const char *where)
{
	char *to = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	flip(offset);
	cr_assert_eq(load(NULL, true), RJ_E_SNAPSHOT, "%s, offset %lu", where, offset);
	cr_assert(strstr(err.text, "damaged"), "%s", err.text);
	if (strcmp(where, "absent page") && strcmp(where, "gap")) {
		cr_assert_eq(load(to, true), RJ_E_SNAPSHOT);
	} else { /* not the guest's: never read for it */
		cr_assert_eq(load(to, true), 0);
		cr_assert_eq(memcmp(to, ram, LEN), 0);
	}
	munmap(to, LEN);
	flip(offset);
}

Test(snapshot_lane, damage_is_found_wherever_it_is, .init = set_up, .fini = tear_down)
{
	static struct rji_snap snap;
	char expected[64];

	for (uint32_t i = 0; i < N_PAGES; i += 2)
		fill(i, 3);
	open_lane();
	send_all();
	commit();
	snap = writer->snap;
	close_lane();
	finds(100, "header");
	finds(snap.table.offset + 70, "table");
	finds(snap.region[0].bitmap.offset + 9, "bitmap");
	finds(snap.region[0].sums.offset + 77, "checksums");
	finds(snap.region[0].pages_offset + 500 * PAGE + 123, "page");
	finds(snap.region[0].pages_offset + 501 * PAGE + 123, "absent page");
	finds(snap.table.offset + 4000, "gap");
	flip(snap.region[0].pages_offset + 500 * PAGE + 123);
	cr_assert_eq(load(NULL, true), RJ_E_SNAPSHOT);
	snprintf(expected, sizeof(expected), "offset %lu",
		 (unsigned long)(snap.region[0].pages_offset + 500 * PAGE));
	cr_assert(strstr(err.text, expected), "%s", err.text);
	cr_assert(strstr(err.text, path), "%s", err.text);
	cr_assert_eq(err.offset_bytes, 500 * PAGE);
}

/* Any error of a write: here the descriptor is gone. */
Test(snapshot_lane, a_write_that_fails_is_told_and_leaves_nothing, .init = set_up,
     .fini = tear_down)
{
	const struct rji_extent e = { .len_bytes = LEN };
	int ret;

	for (uint32_t i = 0; i < N_PAGES; i++)
		fill(i, 3);
	open_lane();
	cr_assert_eq(close(writer->fd), 0); /* the lane's ring has the number */
	ret = rji_file_transport.post(lane, &e, 1, &err);
	if (!ret)
		ret = rji_file_transport.fence(lane, 0, &err);
	cr_assert_eq(ret, -EBADF);
	cr_assert(strstr(err.text, "cannot write"), "%s", err.text);
	writer->fd = -1;
	close_lane();
	cr_assert_lt(access(path, F_OK), 0);
}

/* --- registered buffers --- */

/* What the kernel holds for this process. */
static uint64_t pinned_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmPin: %lu", &kib) == 1)
			break;
	}
	fclose(f);
	return (uint64_t)kib * 1024;
}

static void need_registration(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(1, &ring, 0);

	if (!ret) {
		ret = io_uring_register_buffers_sparse(&ring, 1);
		io_uring_queue_exit(&ring);
	}
	if (ret < 0)
		cr_skip_test("no sparse tables of registered buffers in this kernel");
}

static void post_all(void)
{
	const struct rji_extent e = { .len_bytes = LEN };

	cr_assert_eq(rji_file_transport.post(lane, &e, 1, &err), 0, "%s", err.text);
}

/* Only data is registered, while there is something to write, and the memory is as it was afterwards. */
Test(snapshot_lane, registered_memory_comes_back_and_holes_stay_holes, .init = set_up,
     .fini = tear_down)
{
	need_registration();
	registers = true;
	for (uint32_t i = 0; i < 600; i++)
		fill(i, (int)(i % 251) + 1);
	fill(800, 1);
	open_lane();
	post_all();
	cr_assert_geq(pinned_bytes(), 600 * PAGE);
	cr_assert_leq(resident_bytes(), 604 * PAGE);
	cr_assert_eq(rji_file_transport.fence(lane, 0, &err), 0, "%s", err.text);
	cr_assert_eq(writer->buffers.refused, 0);
	cr_assert_eq(writer->buffers.bytes, 601 * PAGE);
	commit();
	close_lane();
	must_come_back();
}

/* Whoever takes pages away waits for a drain: they are free at once then, and others are written. */
Test(snapshot_lane, nothing_is_registered_after_a_drain, .init = set_up, .fini = tear_down)
{
	need_registration();
	registers = true;
	for (uint32_t i = 0; i < N_PAGES; i++)
		fill(i, 3);
	open_lane();
	post_all();
	cr_assert_eq(rji_file_transport.drain(lane, &err), 0, "%s", err.text);
	cr_assert_eq(pinned_bytes(), 0);
	cr_assert_eq(fallocate(ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LEN / 2), 0);
	for (uint32_t i = 0; i < N_PAGES / 4; i++)
		fill(i, 5);
	send_all();
	cr_assert_eq(pinned_bytes(), 0);
	commit();
	close_lane();
	must_come_back();
}

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	cr_assert_eq(syscall(SYS_capget, &head, data), 0);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	cr_assert_eq(syscall(SYS_capset, &head, data), 0);
}

Test(snapshot_lane, too_little_locked_memory_is_told_and_pages_go_without, .init = set_up,
     .fini = tear_down)
{
	const struct rlimit limit = { PAGE, PAGE };

	need_registration();
	registers = true;
	for (uint32_t i = 0; i < N_PAGES; i++)
		fill(i, 3);
	drop_ipc_lock();
	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	open_lane();
	send_all();
	cr_assert_eq(writer->buffers.refused, -ENOMEM);
	cr_assert_eq(writer->buffers.bytes, 0);
	commit();
	close_lane();
	must_come_back();
}

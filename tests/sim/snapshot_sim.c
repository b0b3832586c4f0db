/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A snapshot file that somebody else has had his hands on, from a seed.
 *
 * Bits: each one flipped, of all kinds of areas, is refused or found by what verify does; a restore fails or gives
 * the memory as it was. A long run flips every bit of what is beside the pages, and many of theirs; a short one some.
 *
 * Headers: fields of the header and the region table take other values, with checksums that fit or not: no crash,
 * no descriptor left open, and no more memory asked for than a file of that length has room to describe. A long run
 * makes a million.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/stop.h"
#include "tests/support/sim_random.h"
#include "transport/file/snap_loader.h"
#include "transport/file/snap_writer.h"
#include "transport/transport.h"

#define PAGE RJI_SNAP_PAGE_BYTES
#define N_REGIONS 2u
#define PAGES_0 70u /* more than a word of the bitmap */
#define PAGES_1 9u
#define SUM_AT (RJI_SNAP_HEADER_BYTES - 8)
#define TABLE_SUM_AT 80
#define SPARE_BYTES (64ull << 20)
#define LONGEST_BYTES (1ull << 30) /* that a file is made, of holes */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WITH_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WITH_SANITIZER 1
#endif
#endif
#ifndef WITH_SANITIZER
#define WITH_SANITIZER 0
#endif

static char dir[64];
static char path[80];
static struct rji_snap snap;
static char *ram[N_REGIONS], *to[N_REGIONS];
static const uint32_t n_pages[N_REGIONS] = { PAGES_0, PAGES_1 };

static void die(const char *what, uint64_t n, const struct rj_error *err)
{
	fprintf(stderr, "%s (%llu): %s\n", what, (unsigned long long)n, err ? err->text : "");
	exit(1);
}

static char *map(uint64_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap", len, NULL);
	return p;
}

static void send_all(struct rji_snap_writer *w, struct rj_error *err)
{
	struct rji_transport_opts o = { .arg = w };
	struct rji_transport *tp = NULL;
	struct rji_lane *lane = NULL;
	struct rji_stop stop;

	rji_stop_init(&stop);
	o.stop = &stop;
	if (rji_file_transport.create(&o, err, &tp) ||
	    rji_file_transport.connect(tp, 0, NULL, NULL, 0, &lane, err))
		die("lane", 0, err);
	for (uint32_t i = 0; i < N_REGIONS; i++) {
		const struct rji_extent e = { .len_bytes = n_pages[i] * PAGE, .region = i };

		if (rji_file_transport.post(lane, &e, 1, err))
			die("post", i, err);
	}
	if (rji_file_transport.fence(lane, 0, err))
		die("fence", 0, err);
	rji_file_transport.close(&lane);
	rji_file_transport.destroy(&tp);
	rji_stop_fini(&stop);
}

static void save(void)
{
	const struct rji_snap_rest rest = { .setup = "set-up",
					    .setup_bytes = 6,
					    .state = "device state",
					    .state_bytes = 12,
					    .run = true };
	struct rj_region r[N_REGIONS];
	const struct rj_region *regions[N_REGIONS] = { &r[0], &r[1] };
	struct rji_snap_writer *w = NULL;
	struct rj_error err;

	rji_error_init(&err);
	for (uint32_t i = 0; i < N_REGIONS; i++) {
		rj_region_init(&r[i]);
		r[i].name = i ? "high" : "low";
		r[i].len_bytes = n_pages[i] * PAGE;
		r[i].host = ram[i] = map(r[i].len_bytes);
		to[i] = map(r[i].len_bytes);
		for (uint64_t k = 0; k < r[i].len_bytes; k++)
			ram[i][k] = (char)(k / PAGE % 5 == 3 ? 0 : 1 + k * 7 + k / PAGE);
	}
	if (rji_snap_writer_begin(&w, NULL, path, regions, N_REGIONS, rest.setup_bytes, &err))
		die("begin", 0, &err);
	send_all(w, &err);
	if (rji_snap_writer_commit(w, &rest, &err))
		die("commit", 0, &err);
	snap = w->snap;
	rji_snap_writer_end(&w);
}

/* --- looking at it, as verify and restore do --- */

static int get(struct rji_snap_reader *r, const struct rji_snap_area *area, struct rj_error *err)
{
	void *bytes = NULL;
	int ret = rji_snap_reader_get(r, area, "area", &bytes, err);

	if (!ret)
		free(bytes);
	return ret;
}

static int read_all(bool restore, struct rj_error *err)
{
	struct rji_snap_target targets[N_REGIONS] = { { to[0], false }, { to[1], false } };
	struct rji_snap_loading l = { .targets = restore ? targets : NULL, .n_lanes = 1 };
	struct rji_snap_reader *r = NULL;
	int ret = rji_snap_reader_open(&r, path, err);

	if (!ret)
		ret = get(r, &r->snap.setup, err);
	if (!ret)
		ret = get(r, &r->snap.state, err);
	for (uint32_t i = 0; !ret && i < r->snap.n_regions; i++)
		ret = rji_snap_reader_load_maps(r, i, err);
	l.reader = r;
	if (!ret && restore && r->snap.n_regions != N_REGIONS)
		ret = RJ_E_REGION;
	for (uint32_t i = 0; !ret && restore && i < N_REGIONS; i++)
		ret = r->snap.region[i].len_bytes == n_pages[i] * PAGE ? 0 : RJ_E_REGION;
	if (!ret)
		ret = rji_snap_load(&l, err);
	rji_snap_reader_close(&r);
	return ret;
}

static bool is_same(void)
{
	for (uint32_t i = 0; i < N_REGIONS; i++) {
		if (memcmp(to[i], ram[i], n_pages[i] * PAGE) != 0)
			return false;
	}
	return true;
}

/* --- bits --- */

static void flip(int fd, uint64_t bit)
{
	uint8_t byte;

	if (pread(fd, &byte, 1, (off_t)(bit / 8)) != 1)
		die("read", bit, NULL);
	byte ^= (uint8_t)(1u << bit % 8);
	if (pwrite(fd, &byte, 1, (off_t)(bit / 8)) != 1)
		die("write", bit, NULL);
}

static void try_bit(int fd, uint64_t bit, const char *where)
{
	struct rj_error err;
	int ret;

	flip(fd, bit);
	rji_error_init(&err);
	if (read_all(false, &err) >= 0)
		die(where, bit, &err);
	if (!err.code || !err.text[0])
		die("refused without a word", bit, &err);
	rji_error_init(&err);
	ret = read_all(true, &err);
	if (!ret && !is_same())
		die("restored in silence", bit, &err);
	flip(fd, bit);
}

/* Every step-th bit of an area. */
static uint64_t try_area(int fd, const char *where, uint64_t offset, uint64_t len, uint64_t step)
{
	uint64_t n = 0;

	for (uint64_t bit = offset * 8; bit < (offset + len) * 8; bit += step, n++)
		try_bit(fd, bit, where);
	return n;
}

static uint64_t try_bits(struct sim_random *rnd, bool longer)
{
	uint64_t fine = longer ? 1 : 37, coarse = longer ? 61 : 4099, n = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	n += try_area(fd, "header", 0, RJI_SNAP_HEADER_BYTES, longer ? 1 : 17);
	n += try_area(fd, "region table", snap.table.offset, snap.table.len_bytes, fine);
	n += try_area(fd, "set-up", snap.setup.offset, snap.setup.len_bytes, 1);
	n += try_area(fd, "device state", snap.state.offset, snap.state.len_bytes, 1);
	for (uint32_t i = 0; i < N_REGIONS; i++) {
		const struct rji_snap_region *r = &snap.region[i];

		n += try_area(fd, "bitmap", r->bitmap.offset, r->bitmap.len_bytes, longer ? 1 : 5);
		n += try_area(fd, "checksums", r->sums.offset, r->sums.len_bytes, fine);
		n += try_area(fd, "pages", r->pages_offset, r->len_bytes, coarse);
	}
	for (uint32_t i = 0; i < (longer ? 20000 : 100); i++, n++) /* gaps too */
		try_bit(fd, sim_below(rnd, snap.file_bytes * 8), "somewhere");
	close(fd);
	return n;
}

/* --- headers --- */

static uint64_t interesting(struct sim_random *rnd, uint64_t before, uint64_t file_bytes)
{
	const uint64_t values[] = {
		0,	    1,		UINT64_MAX,	  before + 1, before - 1,    before * 2,
		1ull << 62, 1ull << 63, (1ull << 62) - 1, file_bytes, before + PAGE, before - PAGE,
		PAGE,	    1ull << 30, 1ull << 40,	  255,	      256,	     257,
	};
	uint64_t i = sim_below(rnd, sizeof(values) / sizeof(*values) + 2);

	if (i < sizeof(values) / sizeof(*values))
		return values[i];
	return sim_next(rnd) >> sim_below(rnd, 64);
}

static void mutate(struct sim_random *rnd, uint8_t *bytes, size_t len, uint64_t file_bytes)
{
	size_t width = sim_below(rnd, 4) ? 8 : 4, at = sim_below(rnd, len / width) * width;
	uint64_t v = 0;

	memcpy(&v, bytes + at, width);
	v = sim_below(rnd, 4) ? interesting(rnd, v, file_bytes)
			      : v ^ 1ull << sim_below(rnd, width * 8);
	memcpy(bytes + at, &v, width);
}

static void seal(uint8_t *head, size_t table_bytes)
{
	uint64_t sum = rji_hash64(head + RJI_SNAP_HEADER_BYTES, table_bytes);

	memcpy(head + TABLE_SUM_AT, &sum, sizeof(sum));
	sum = rji_hash64(head, SUM_AT);
	memcpy(head + SUM_AT, &sum, sizeof(sum));
}

/* One file: true if its header and table were taken. */
static bool try_header(int fd, struct sim_random *rnd, const uint8_t *good)
{
	static uint8_t head[2 * RJI_SNAP_HEADER_BYTES];
	size_t table_bytes = N_REGIONS * RJI_SNAP_REGION_BYTES;
	uint64_t length = snap.file_bytes, says;
	struct rji_snap_reader *r = NULL;
	struct rj_error err;
	int ret;

	memcpy(head, good, sizeof(head));
	for (uint64_t i = 1 + sim_below(rnd, 4); i; i--) {
		if (sim_below(rnd, 2))
			mutate(rnd, head, 136, snap.file_bytes);
		else
			mutate(rnd, head + RJI_SNAP_HEADER_BYTES, table_bytes, snap.file_bytes);
	}
	if (sim_below(rnd, 8))
		seal(head, table_bytes);
	memcpy(&says, head + 16, sizeof(says));
	if (says <= LONGEST_BYTES && sim_below(rnd, 2))
		length = says;
	if (ftruncate(fd, (off_t)length) < 0 ||
	    pwrite(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
		die("write", length, NULL);
	if (length < sizeof(head) && ftruncate(fd, (off_t)length) < 0)
		die("cut", length, NULL);
	rji_error_init(&err);
	ret = rji_snap_reader_open(&r, path, &err);
	if (ret < 0 && (ret == -ENOMEM || !err.text[0]))
		die("a header", (uint64_t)-ret, &err);
	for (uint32_t i = 0; !ret && i < r->snap.n_regions; i++) {
		int loaded = rji_snap_reader_load_maps(r, i, &err);

		if (loaded == -ENOMEM)
			die("maps", i, &err);
	}
	rji_snap_reader_close(&r);
	return !ret;
}

static uint32_t count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint32_t n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* What is mapped now, and a little. */
static void limit_memory(void)
{
	struct rlimit lim;
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (!f || fscanf(f, "%lu", &pages) != 1)
		die("statm", 0, NULL);
	fclose(f);
	getrlimit(RLIMIT_AS, &lim);
	lim.rlim_cur = pages * PAGE + SPARE_BYTES;
	if (!WITH_SANITIZER)
		setrlimit(RLIMIT_AS, &lim);
}

static void try_headers(struct sim_random *rnd, uint64_t n)
{
	static uint8_t good[2 * RJI_SNAP_HEADER_BYTES];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint32_t before = count_descriptors();
	uint64_t n_taken = 0;

	if (pread(fd, good, sizeof(good), 0) != (ssize_t)sizeof(good))
		die("read", 0, NULL);
	limit_memory();
	for (uint64_t i = 0; i < n; i++)
		n_taken += try_header(fd, rnd, good);
	if (count_descriptors() != before)
		die("descriptors left open", count_descriptors() - before, NULL);
	/* Both ways have to be gone. */
	if (!n_taken || n_taken == n)
		die("headers taken", n_taken, NULL);
	printf("%llu headers, %llu of them taken\n", (unsigned long long)n,
	       (unsigned long long)n_taken);
	close(fd);
}

int main(int argc, char **argv)
{
	bool longer = getenv("RJ_TEST_LONG");
	struct sim_random rnd = { argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };
	struct rj_error err;
	uint64_t n;

	snprintf(dir, sizeof(dir), "%s/rj-snapshot-sim-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		die("mkdtemp", 0, NULL);
	snprintf(path, sizeof(path), "%s/guest", dir);
	save();
	rji_error_init(&err);
	if (read_all(false, &err) || read_all(true, &err) || !is_same())
		die("a good file", 0, &err);
	n = try_bits(&rnd, longer);
	printf("%llu bits flipped, each refused or found\n", (unsigned long long)n);
	rji_error_init(&err);
	if (read_all(false, &err))
		die("the file as it was", 0, &err);
	try_headers(&rnd, longer ? 1000000 : 20000);
	unlink(path);
	rmdir(dir);
	return 0;
}

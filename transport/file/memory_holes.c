/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/memory_holes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Of questions to mincore(2): of the first, and of all for a stretch together, a span. */
#define FIRST_LOOK_PAGES 32u
#define LOOK_PAGES 512u

#define STAT_BLOCK_BYTES 512u /* stat(3type) */

/* A line of /proc/self/maps (proc(5)). */
struct mapping {
	uint64_t start, end, offset;
	char perms[8];
	unsigned int major, minor;
	uint64_t inode;
};

static bool parse(const char *line, struct mapping *m)
{
	return sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64, &m->start,
		      &m->end, m->perms, &m->offset, &m->major, &m->minor, &m->inode) == 7;
}

static bool is_shared_mapping_of(const struct mapping *m, const struct stat *st)
{
	return m->perms[3] == 's' && m->inode == st->st_ino && m->major == major(st->st_dev) &&
	       m->minor == minor(st->st_dev);
}

/* Is all of the region a shared mapping of this file, where the VMM says that it is? */
static bool maps_it(const struct rj_region *r, const struct stat *st)
{
	uint64_t host = (uintptr_t)r->host, at = host, end = at + r->len_bytes;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (maps && at < end && fgets(line, sizeof(line), maps)) {
		struct mapping m;

		if (!parse(line, &m) || m.end <= at)
			continue;
		if (m.start > at || !is_shared_mapping_of(&m, st) ||
		    m.offset + (at - m.start) != r->fd_offset_bytes + (at - host))
			break;
		at = m.end;
	}
	if (maps)
		fclose(maps);
	return maps && at >= end;
}

int rji_memory_holes_open(const struct rj_region *r, uint64_t *fd_offset_p)
{
	struct statfs fs;
	struct stat st;
	char proc[32];

	if (r->fd < 0 || fstatfs(r->fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return -1;
	if (fstat(r->fd, &st) < 0 || !maps_it(r, &st))
		return -1;
	*fd_offset_p = r->fd_offset_bytes;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", r->fd);
	return open(proc, O_RDONLY | O_CLOEXEC);
}

/*
 * The first data of [from, to), by the file; to: there is none. False: it does not tell, and all may be data.
 * A jump over holes of any length.
 */
static bool next_data(int fd, uint64_t from, uint64_t to, uint64_t *data_p)
{
	off_t data = lseek(fd, (off_t)from, SEEK_DATA);
	bool tells = data >= 0 || errno == ENXIO;

	*data_p = !tells ? from : data < 0 || (uint64_t)data > to ? to : (uint64_t)data;
	return tells;
}

/* Where data ends that begins at from: a walk page by page, as far as it goes, not only to some end. */
static uint64_t data_end(int fd, uint64_t from)
{
	off_t hole = lseek(fd, (off_t)from, SEEK_HOLE);

	return hole > (off_t)from ? (uint64_t)hole : UINT64_MAX;
}

/* Nothing of the file is a hole, which is one question for a span instead of several. */
static bool is_full(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && (uint64_t)st.st_blocks * STAT_BLOCK_BYTES >= (uint64_t)st.st_size;
}

/* How many of n pages from host on are mapped, of LOOK_PAGES at most. */
static uint64_t mapped_pages(const char *host, uint64_t n, uint64_t page_bytes)
{
	unsigned char resident[LOOK_PAGES];
	uint64_t mapped = 0;

	if (mincore((void *)(uintptr_t)host, n * page_bytes, resident) < 0)
		return 0;
	while (mapped < n && resident[mapped] & 1)
		mapped++;
	return mapped;
}

/* How many bytes from host on are mapped, of a span at most: short stretches are not to cost a look at a long one. */
static uint64_t mapped_bytes(const char *host, uint64_t len_bytes)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), n, more, mapped = 0;
	uint64_t end = (len_bytes + page_bytes - 1) / page_bytes;

	if (end > LOOK_PAGES)
		end = LOOK_PAGES;
	do {
		n = mapped + FIRST_LOOK_PAGES;
		if (n > end - mapped)
			n = end - mapped;
		more = mapped_pages(host + mapped * page_bytes, n, page_bytes);
		mapped += more;
	} while (more == n && mapped < end);
	return mapped * page_bytes < len_bytes ? mapped * page_bytes : len_bytes;
}

uint64_t rji_memory_holes_next(int fd, uint64_t fd_offset, const char *host,
			       struct rji_known_data *known, uint64_t *at, uint64_t end)
{
	uint64_t from = fd_offset + *at, to = fd_offset + end;

	if (from < known->begin || from >= known->end) {
		uint64_t data, mapped;
		bool tells = next_data(fd, from, to, &data);

		if (data == from && is_full(fd)) /* behind a hole there is no need to ask */
			return end;
		*at = data - fd_offset;
		if (data == to)
			return end;
		mapped = tells && host ? mapped_bytes(host + *at, end - *at) : 0;
		if (mapped)
			return *at + mapped;
		*known = (struct rji_known_data){ data, tells ? data_end(fd, data) : UINT64_MAX };
	}
	return known->end < to ? known->end - fd_offset : end;
}

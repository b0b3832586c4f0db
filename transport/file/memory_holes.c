/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/memory_holes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

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

/* Learn the stretch of data at or after offset. False: there is none, it is holes to the end. */
static bool ask(int fd, uint64_t offset, struct rji_known_data *known)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO)
		return false;
	*known = (struct rji_known_data){ offset, UINT64_MAX };
	if (data < 0) /* it does not tell: all of it may hold something */
		return true;
	hole = lseek(fd, data, SEEK_HOLE);
	known->begin = (uint64_t)data;
	if (hole > data)
		known->end = (uint64_t)hole;
	return true;
}

uint64_t rji_memory_holes_next(int fd, uint64_t fd_offset, struct rji_known_data *known,
			       uint64_t *at, uint64_t end)
{
	uint64_t from = fd_offset + *at, to = fd_offset + end;
	bool is_known = known->begin <= from && from < known->end;

	if (!is_known && (!ask(fd, from, known) || known->begin >= to)) {
		*at = end;
		return end;
	}
	if (known->begin > from)
		*at = known->begin - fd_offset;
	return known->end < to ? known->end - fd_offset : end;
}

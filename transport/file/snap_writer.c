/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/snap_writer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/zero.h"
#include "transport/file/memory_holes.h"

#define NAME_TRIES 16

static int refuse(const struct rji_snap_writer *w, int sys_errno, const char *what,
		  struct rj_error *err)
{
	return rji_fail_sys(err, -sys_errno, sys_errno, "cannot %s for the snapshot %.200s", what,
			    w->path);
}

/* --- the file --- */

static int split_path(struct rji_snap_writer *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	w->path = strdup(path);
	w->dir = len ? strndup(path, len) : strdup(slash ? "/" : ".");
	return w->path && w->dir ? 0 : -ENOMEM;
}

/* What PATH names now is replaced at the end: it must be a file, if anything. */
static int check_target(const struct rji_snap_writer *w, struct rj_error *err)
{
	struct stat st;

	if (lstat(w->path, &st) < 0)
		return errno == ENOENT ? 0 : refuse(w, errno, "look at the place", err);
	if (!S_ISREG(st.st_mode))
		return rji_fail(
			err, -EINVAL,
			"%.300s is not a regular file: name a file, or one that does not exist yet",
			w->path);
	return 0;
}

/* PATH.tmp-XXXXXXXX, which is not there. */
static char *make_name(const struct rji_snap_writer *w)
{
	size_t size = strlen(w->path) + 16;
	char *name = malloc(size);
	uint32_t salt = 0;

	if (name && rji_random_bytes(&salt, sizeof(salt)) == 0)
		snprintf(name, size, "%s.tmp-%08x", w->path, salt);
	return name;
}

/* A file system without O_TMPFILE. */
static int create_named(struct rji_snap_writer *w)
{
	for (int i = 0; i < NAME_TRIES; i++) {
		char *name = make_name(w);
		int fd = name ? open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

		if (fd >= 0) {
			w->tmp_path = name;
			return fd;
		}
		free(name);
		if (errno != EEXIST)
			break;
	}
	return -errno;
}

static int create_file(struct rji_snap_writer *w, struct rj_error *err)
{
	/* Without /proc it could not get a name later. */
	bool named = access("/proc/self/fd", F_OK) < 0;

	w->meta_fd = named ? -1 : open(w->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (w->meta_fd < 0 && (named || errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
		w->meta_fd = create_named(w);
	else if (w->meta_fd < 0)
		w->meta_fd = -errno;
	if (w->meta_fd < 0)
		return refuse(w, -w->meta_fd, "create a file", err);
	if (ftruncate(w->meta_fd, (off_t)w->snap.file_bytes) < 0)
		return refuse(w, errno, "make the file as long as the guest", err);
	return 0;
}

/* Some file systems let it be opened and refuse the first write. */
static int try_direct(int fd)
{
	static _Alignas(RJI_SNAP_PAGE_BYTES) uint8_t zeros[RJI_SNAP_PAGE_BYTES];
	ssize_t n = pwrite(fd, zeros, sizeof(zeros), 0);

	return n < 0 ? -errno : 0;
}

/* A second descriptor of the same file, which goes around the page cache if it can. */
static int open_direct(struct rji_snap_writer *w, struct rj_error *err)
{
	char proc[32];
	int ret;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", w->meta_fd);
	w->fd = open(w->tmp_path ? w->tmp_path : proc, O_RDWR | O_DIRECT | O_CLOEXEC);
	ret = w->fd < 0 ? -errno : try_direct(w->fd);
	w->direct_io = !ret;
	if (!ret)
		return 0;
	if (ret == -ENOSPC || ret == -EDQUOT)
		return rji_fail_sys(err, ret, -ret,
				    "cannot write %.200s; free space there or choose another place",
				    w->path);
	snprintf(
		w->why_not_direct, sizeof(w->why_not_direct),
		"no O_DIRECT on this file system (%s): pages go through the page cache, slower and at the cost of memory",
		strerrordesc_np(-ret));
	if (w->fd >= 0)
		close(w->fd);
	w->fd = fcntl(w->meta_fd, F_DUPFD_CLOEXEC, 0);
	return w->fd < 0 ? refuse(w, errno, "open a descriptor", err) : 0;
}

/* --- begin --- */

static int add_region(struct rji_snap_writer *w, const struct rj_region *r, struct rj_error *err)
{
	uint32_t number = w->snap.n_regions++;
	struct rji_snap_region *in = &w->snap.region[number];
	struct rji_snap_memory *m = &w->memory[number];
	uint64_t n_pages;

	snprintf(in->name, sizeof(in->name), "%s", r->name);
	in->len_bytes = r->len_bytes;
	in->gpa = r->gpa;
	in->page_bytes = r->page_bytes;
	n_pages = rji_snap_n_pages(in);
	m->host = r->host;
	m->hole_fd = rji_memory_holes_open(r, &m->fd_offset);
	m->present = rji_bitmap_alloc(n_pages);
	m->sums = rji_bitmap_alloc(n_pages * 64); /* a word a page */
	return m->present && m->sums
		       ? 0
		       : rji_fail(err, -ENOMEM, "no memory for the checksums of region '%s'",
				  r->name);
}

int rji_snap_writer_begin(struct rji_snap_writer **w_p, const struct rji_host *host,
			  const char *path, const struct rj_region *const *regions,
			  uint32_t n_regions, size_t setup_bytes, struct rj_error *err)
{
	struct rji_snap_writer *w = calloc(1, sizeof(*w));
	int ret = w ? 0 : -ENOMEM;

	if (ret)
		return rji_fail(err, ret, "no memory for a snapshot");
	w->host = host;
	w->fd = w->meta_fd = -1;
	for (uint32_t i = 0; i < RJ_MAX_REGIONS; i++)
		w->memory[i].hole_fd = -1;
	ret = split_path(w, path);
	for (uint32_t i = 0; !ret && i < n_regions; i++)
		ret = add_region(w, regions[i], err);
	w->snap.setup.len_bytes = setup_bytes;
	if (!ret && rji_snap_lay_out(&w->snap) < 0)
		ret = rji_fail(err, -EFBIG, "the guest is larger than a file can be");
	if (!ret)
		ret = check_target(w, err);
	if (!ret)
		ret = create_file(w, err);
	if (!ret)
		ret = open_direct(w, err);
	if (ret < 0) {
		rji_snap_writer_end(&w);
		return rji_fail(err, ret, "no memory for a snapshot");
	}
	*w_p = w;
	return 0;
}

void rji_snap_writer_end(struct rji_snap_writer **w_p)
{
	struct rji_snap_writer *w = *w_p;

	if (!w)
		return;
	for (uint32_t i = 0; i < w->snap.n_regions; i++) {
		struct rji_snap_memory *m = &w->memory[i];
		uint64_t n_pages = rji_snap_n_pages(&w->snap.region[i]);

		rji_bitmap_free(m->present, n_pages);
		rji_bitmap_free(m->sums, n_pages * 64);
		if (m->hole_fd >= 0)
			close(m->hole_fd);
	}
	if (w->fd >= 0)
		close(w->fd);
	if (w->meta_fd >= 0)
		close(w->meta_fd);
	if (w->tmp_path)
		unlink(w->tmp_path);
	free(w->tmp_path);
	free(w->path);
	free(w->dir);
	free(w);
	*w_p = NULL;
}

uint64_t rji_snap_writer_metadata_bytes(const struct rji_snap_writer *w)
{
	uint64_t bytes = sizeof(*w);

	for (uint32_t i = 0; i < w->snap.n_regions; i++)
		bytes += w->snap.region[i].bitmap.len_bytes + w->snap.region[i].sums.len_bytes;
	return bytes;
}

/* --- commit --- */

static int write_area(struct rji_snap_writer *w, struct rji_snap_area *area, const void *p,
		      struct rj_error *err)
{
	if (!area->len_bytes)
		return 0;
	area->sum = rji_hash64(p, area->len_bytes);
	return rji_file_transfer(w->meta_fd, (void *)(uintptr_t)p, area->len_bytes, area->offset,
				 true, w->path, err);
}

/*
 * The same, but zeros stay holes: most of a large guest that uses little has neither bits nor checksums.
 * Nothing was written there before.
 */
static int write_map(struct rji_snap_writer *w, struct rji_snap_area *area, const void *map,
		     struct rj_error *err)
{
	char *p = (char *)(uintptr_t)map;
	int ret = 0;

	area->sum = rji_hash64(map, area->len_bytes);
	for (uint64_t at = 0; !ret && at < area->len_bytes; at += RJI_SNAP_PAGE_BYTES) {
		uint64_t left = area->len_bytes - at;

		if (left >= RJI_SNAP_PAGE_BYTES && rji_is_zero(p + at, RJI_SNAP_PAGE_BYTES))
			continue;
		ret = rji_file_transfer(w->meta_fd, p + at,
					left < RJI_SNAP_PAGE_BYTES ? left : RJI_SNAP_PAGE_BYTES,
					area->offset + at, true, w->path, err);
	}
	return ret;
}

static int write_region(struct rji_snap_writer *w, uint32_t number, struct rj_error *err)
{
	struct rji_snap_region *r = &w->snap.region[number];
	const struct rji_snap_memory *m = &w->memory[number];
	int ret = write_map(w, &r->bitmap, m->present, err);

	r->n_present = rji_bitmap_weight(m->present, rji_bitmap_words(rji_snap_n_pages(r)));
	return ret < 0 ? ret : write_map(w, &r->sums, m->sums, err);
}

static int write_head(struct rji_snap_writer *w, struct rj_error *err)
{
	uint8_t *table = malloc(w->snap.table.len_bytes);
	uint8_t header[RJI_SNAP_HEADER_BYTES];
	int ret;

	if (!table)
		return rji_fail(err, -ENOMEM, "no memory for the region table");
	rji_snap_encode_table(&w->snap, table);
	ret = write_area(w, &w->snap.table, table, err);
	free(table);
	rji_snap_encode_header(&w->snap, header);
	return ret < 0 ? ret
		       : rji_file_transfer(w->meta_fd, header, sizeof(header), 0, true, w->path,
					   err);
}

static int write_rest(struct rji_snap_writer *w, const struct rji_snap_rest *rest,
		      struct rj_error *err)
{
	int ret = 0;

	memcpy(w->snap.id, rest->id, sizeof(w->snap.id));
	w->snap.created_s = (uint64_t)time(NULL);
	w->snap.flags = rest->run ? RJI_SNAP_RUN : 0;
	rji_snap_set_state_bytes(&w->snap, rest->state_bytes);
	for (uint32_t i = 0; !ret && i < w->snap.n_regions; i++)
		ret = write_region(w, i, err);
	if (!ret)
		ret = write_area(w, &w->snap.setup, rest->setup, err);
	if (!ret)
		ret = write_area(w, &w->snap.state, rest->state, err);
	if (!ret && ftruncate(w->meta_fd, (off_t)w->snap.file_bytes) < 0)
		ret = refuse(w, errno, "set the length", err);
	return ret ? ret : write_head(w, err);
}

/* Give it a name, so that it can be renamed. */
static int name_it(struct rji_snap_writer *w, struct rj_error *err)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", w->meta_fd);
	for (int i = 0; !w->tmp_path && i < NAME_TRIES; i++) {
		char *name = make_name(w);

		if (name && !linkat(AT_FDCWD, proc, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) {
			w->tmp_path = name;
			return 0;
		}
		free(name);
		if (errno != EEXIST)
			break;
	}
	return w->tmp_path ? 0 : refuse(w, errno, "make a name", err);
}

static int sync_dir(const struct rji_snap_writer *w, struct rj_error *err)
{
	int fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = 0;

	if (fd < 0 || fsync(fd) < 0)
		ret = rji_fail_sys(
			err, -errno, errno,
			"the snapshot %.200s is complete, but a power cut may still undo it: its directory cannot be synced",
			w->path);
	if (fd >= 0)
		close(fd);
	return ret;
}

int rji_snap_writer_commit(struct rji_snap_writer *w, const struct rji_snap_rest *rest,
			   struct rj_error *err)
{
	int ret;

	if (fdatasync(w->fd) < 0)
		return refuse(w, errno, "sync the pages", err);
	ret = write_rest(w, rest, err);
	if (ret < 0)
		return ret;
	if (fsync(w->meta_fd) < 0)
		return refuse(w, errno, "sync", err);
	ret = name_it(w, err);
	if (ret < 0)
		return ret;
	if (rename(w->tmp_path, w->path) < 0)
		return refuse(w, errno, "put the file in place", err);
	free(w->tmp_path);
	w->tmp_path = NULL;
	return sync_dir(w, err);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ramjet/error.h>

#include "bench/scan/scan.h"

/*
 * The pages of a process that are there and that it may write, read while it runs: each page is as
 * it was at some moment, though not all at the same one.
 */

#define PRESENT (1ull << 63) /* in pagemap: Documentation/admin-guide/mm/pagemap.rst */

struct process {
	uint32_t pid;
	int mem, pagemap;
	uint64_t *address; /* of each page taken */
	uint64_t n_pages, max_pages;
	uint8_t *to;
};

static int open_file(uint32_t pid, const char *name, char *why, size_t why_bytes)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	fd = -errno;
	snprintf(why, why_bytes, "%s: %s", path, rj_strerror(fd));
	return fd;
}

static bool is_present(const struct process *p, uint64_t address)
{
	uint64_t entry = 0;
	off_t at = (off_t)(address / SCAN_PAGE_BYTES * sizeof(entry));

	return pread(p->pagemap, &entry, sizeof(entry), at) == sizeof(entry) && (entry & PRESENT);
}

static bool read_page(const struct process *p, uint64_t address, uint8_t *to)
{
	return pread(p->mem, to, SCAN_PAGE_BYTES, (off_t)address) == SCAN_PAGE_BYTES;
}

static void take_mapping(struct process *p, uint64_t begin, uint64_t end)
{
	for (uint64_t a = begin; a < end && p->n_pages < p->max_pages; a += SCAN_PAGE_BYTES) {
		if (!is_present(p, a) || !read_page(p, a, p->to + p->n_pages * SCAN_PAGE_BYTES))
			continue;
		p->address[p->n_pages++] = a;
	}
}

static int take_all(struct process *p, char *why, size_t why_bytes)
{
	int fd = open_file(p->pid, "maps", why, why_bytes);
	char *line = NULL;
	size_t bytes = 0;
	FILE *f;

	if (fd < 0)
		return fd;
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	while (getline(&line, &bytes, f) > 0) {
		uint64_t begin, end;
		char access[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &begin, &end, access) == 3 &&
		    access[0] == 'r' && access[1] == 'w')
			take_mapping(p, begin, end);
	}
	free(line);
	fclose(f);
	if (p->n_pages)
		return 0;
	snprintf(why, why_bytes, "process %" PRIu32 " has no page that can be read", p->pid);
	return -ENODATA;
}

static int read_twice(struct process *p, struct scan_data *d, const struct scan_opts *o, char *why,
		      size_t why_bytes)
{
	int ret = take_all(p, why, why_bytes);

	if (ret < 0)
		return ret;
	usleep(o->interval_ms * 1000);
	for (uint64_t i = 0; i < p->n_pages; i++) {
		size_t at = i * SCAN_PAGE_BYTES;

		/* Given back meanwhile: then it did not change. */
		if (!read_page(p, p->address[i], d->now + at))
			memcpy(d->now + at, d->old + at, SCAN_PAGE_BYTES);
	}
	d->n_pages = p->n_pages;
	return 0;
}

int scan_process_read(struct scan_data *d, const struct scan_opts *o, char *why, size_t why_bytes)
{
	struct process p = { .pid = o->pid, .max_pages = d->max_pages, .to = d->old };
	int ret;

	p.mem = open_file(o->pid, "mem", why, why_bytes);
	if (p.mem < 0)
		return p.mem;
	ret = p.pagemap = open_file(o->pid, "pagemap", why, why_bytes);
	if (ret < 0)
		goto close_mem;
	p.address = calloc(d->max_pages, sizeof(*p.address));
	ret = p.address ? read_twice(&p, d, o, why, why_bytes) : -ENOMEM;
	free(p.address);
	close(p.pagemap);
close_mem:
	close(p.mem);
	return ret;
}

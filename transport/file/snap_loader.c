/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole of a snapshot into memory, or past the checksums only.
 *
 * Threads take chunks of the regions in turn. Each has a ring of reads in flight; a read goes to guest
 * memory itself, and its pages are compared with their checksums when it is done, while others are on
 * their way. To verify, a chunk goes through a buffer of the thread.
 */
#include "transport/file/snap_loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/zero.h"
#include "transport/file/file_ring.h"
#include "transport/file/memory_holes.h"

#define CHUNK_BYTES (8ull << 20)
#define TAG_PAGE_BITS 50u /* the rest of a tag is the region */

struct loading {
	const struct rji_snap_loading *l;
	_Atomic uint64_t next; /* chunk, over all regions */
	atomic_bool failed;
};

struct loader {
	struct loading *loading;
	struct rji_snap_reader *reader;
	char *buffer; /* NULL: to guest memory */
	pthread_t thread;
	struct rj_error err;
	int result;
	struct rji_file_ring ring;
};

struct chunk {
	uint32_t region;
	uint64_t offset, end;
};

static bool take_chunk(struct loading *ing, struct chunk *c)
{
	const struct rji_snap *snap = &ing->l->reader->snap;
	uint64_t number = atomic_fetch_add_explicit(&ing->next, 1, memory_order_relaxed);

	for (uint32_t i = 0; i < snap->n_regions; i++) {
		uint64_t len = snap->region[i].len_bytes;
		uint64_t n = (len + CHUNK_BYTES - 1) / CHUNK_BYTES;

		if (number < n) {
			c->region = i;
			c->offset = number * CHUNK_BYTES;
			c->end = len - c->offset < CHUNK_BYTES ? len : c->offset + CHUNK_BYTES;
			return true;
		}
		number -= n;
	}
	return false;
}

/* A read is done: are its pages what they were? */
static int check_read(void *arg, const struct rji_file_op *op, struct rj_error *err)
{
	struct loader *loader = arg;
	uint32_t region = (uint32_t)(op->tag >> TAG_PAGE_BITS);
	uint64_t page = op->tag & ((1ull << TAG_PAGE_BITS) - 1);
	int ret = 0;

	for (uint32_t at = 0; !ret && at < op->len_bytes; at += RJI_SNAP_PAGE_BYTES)
		ret = rji_snap_check_page(loader->reader, region, page++, op->p + at, err);
	if (!ret && loader->loading->l->done_bytes)
		atomic_fetch_add_explicit(loader->loading->l->done_bytes, op->len_bytes,
					  memory_order_relaxed);
	return ret;
}

/* Where in memory the byte at offset goes. */
static char *place(const struct loader *loader, const struct chunk *c, uint64_t offset)
{
	return loader->buffer ? loader->buffer + (offset - c->offset)
			      : loader->loading->l->targets[c->region].host + offset;
}

static int read_present(struct loader *loader, const struct chunk *c, uint64_t first, uint64_t end)
{
	const struct rji_snap_region *r = &loader->reader->snap.region[c->region];
	int ret = 0;

	while (!ret && first < end) {
		uint64_t len = (end - first) * RJI_SNAP_PAGE_BYTES;
		uint64_t offset = first * RJI_SNAP_PAGE_BYTES;

		if (len > RJI_RING_MAX_BYTES)
			len = RJI_RING_MAX_BYTES;
		ret = rji_file_ring_start(&loader->ring, place(loader, c, offset), (uint32_t)len,
					  rji_snap_page_at(r, offset),
					  (uint64_t)c->region << TAG_PAGE_BITS | first,
					  &loader->err);
		first += len / RJI_SNAP_PAGE_BYTES;
	}
	return ret;
}

/* Bytes of the file that are nobody's: holes or zeros. */
static int check_nothing(const struct rji_snap_reader *r, uint64_t offset, uint64_t end,
			 struct rj_error *err)
{
	uint64_t block[512]; /* aligned for rji_is_zero() */
	struct rji_known_data known = { 0 };

	while (offset < end) {
		uint64_t data_end =
			rji_memory_holes_next(r->meta_fd, 0, NULL, &known, &offset, end);

		while (offset < data_end) {
			uint64_t len = data_end - offset < sizeof(block) ? data_end - offset
									 : sizeof(block);
			int ret;

			memset(block, 0, sizeof(block));
			ret = rji_file_transfer(r->meta_fd, block, len, offset, false, r->path,
						err);
			if (ret < 0)
				return ret;
			if (!rji_is_zero(block, sizeof(block)))
				return rji_fail(err, RJ_E_SNAPSHOT,
						"%.300s is damaged at offset %" PRIu64
						": there should be nothing",
						r->path, offset);
			offset += len;
		}
	}
	return 0;
}

static int clear_absent(struct loader *loader, const struct chunk *c, uint64_t first, uint64_t end)
{
	const struct rji_snap_region *r = &loader->reader->snap.region[c->region];
	uint64_t offset = first * RJI_SNAP_PAGE_BYTES, len = (end - first) * RJI_SNAP_PAGE_BYTES;

	if (loader->buffer)
		return check_nothing(loader->reader, rji_snap_page_at(r, offset),
				     rji_snap_page_at(r, offset) + len, &loader->err);
	if (!loader->loading->l->targets[c->region].zeroed)
		memset(place(loader, c, offset), 0, len);
	return 0;
}

static int load_chunk(struct loader *loader, const struct chunk *c)
{
	const uint64_t *present = loader->reader->present[c->region];
	uint64_t page = c->offset / RJI_SNAP_PAGE_BYTES, end = c->end / RJI_SNAP_PAGE_BYTES;
	int ret = 0;

	while (!ret && page < end) {
		uint64_t first = page, run = rji_bitmap_next_run(present, &first, end);

		if (!run)
			first = end;
		if (first > page)
			ret = clear_absent(loader, c, page, first);
		if (!ret && run)
			ret = read_present(loader, c, first, first + run);
		page = first + run;
	}
	if (!ret && loader->buffer)
		ret = rji_file_ring_drain(&loader->ring, &loader->err);
	return ret;
}

static int load_chunks(struct loader *loader)
{
	struct loading *ing = loader->loading;
	struct chunk c;
	int ret = 0;

	while (!ret && take_chunk(ing, &c)) {
		if ((ing->l->stop && rji_stop_is_set(ing->l->stop)) ||
		    atomic_load_explicit(&ing->failed, memory_order_relaxed))
			return -ECANCELED;
		ret = load_chunk(loader, &c);
	}
	return ret ? ret : rji_file_ring_submit(&loader->ring, &loader->err);
}

static void *loader_thread(void *arg)
{
	struct loader *loader = arg;
	const struct rji_snap_loading *l = loader->loading->l;
	int drained, ret;

	rji_file_ring_init(&loader->ring, loader->reader->fd, false, loader->reader->path);
	loader->ring.done = check_read;
	loader->ring.arg = loader;
	ret = load_chunks(loader);
	drained = rji_file_ring_drain(&loader->ring, &loader->err);
	ret = ret ? ret : drained;
	rji_file_ring_fini(&loader->ring);
	loader->result = ret;
	if (ret < 0) /* the others may stop: a hint */
		atomic_store_explicit(&loader->loading->failed, true, memory_order_relaxed);
	if (l->cpu_ns)
		atomic_fetch_add_explicit(l->cpu_ns, rji_thread_cpu_ns(), memory_order_relaxed);
	return NULL;
}

static int make_buffer(struct loader *loader)
{
	if (loader->loading->l->targets)
		return 0;
	loader->buffer =
		mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (loader->buffer != MAP_FAILED)
		return 0;
	loader->buffer = NULL;
	return -ENOMEM;
}

static int start(struct loader *loader, uint32_t number, struct rj_error *err)
{
	char role[24];
	int ret = make_buffer(loader);

	snprintf(role, sizeof(role), "rj-load-%u", number);
	rji_error_init(&loader->err);
	if (!ret)
		ret = rji_thread_start(loader->loading->l->host, role, loader_thread, loader,
				       &loader->thread);
	return ret < 0 ? rji_fail_sys(err, ret, -ret, "cannot start the thread %s", role) : 0;
}

/* Those that only stopped because another one failed are not the news. */
static int result_of(const struct loader *loaders, uint32_t n, struct rj_error *err)
{
	int ret = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (!loaders[i].result || (ret && loaders[i].result == -ECANCELED))
			continue;
		ret = loaders[i].result;
		if (err && !err->code && ret != -ECANCELED)
			*err = loaders[i].err;
	}
	return ret;
}

static int check_gaps(const struct rji_snap_reader *r, struct rj_error *err)
{
	const struct rji_snap *s = &r->snap;
	uint64_t at = s->table.offset + s->table.len_bytes;
	int ret = check_nothing(r, at, s->setup.offset, err);

	at = s->setup.offset + s->setup.len_bytes;
	for (uint32_t i = 0; !ret && i < s->n_regions; i++) {
		ret = check_nothing(r, at, s->region[i].bitmap.offset, err);
		at = s->region[i].bitmap.offset + s->region[i].bitmap.len_bytes;
	}
	for (uint32_t i = 0; !ret && i < s->n_regions; i++) {
		ret = check_nothing(r, at, s->region[i].sums.offset, err);
		at = s->region[i].sums.offset + s->region[i].sums.len_bytes;
	}
	for (uint32_t i = 0; !ret && i < s->n_regions; i++) {
		ret = check_nothing(r, at, s->region[i].pages_offset, err);
		at = s->region[i].pages_offset + s->region[i].len_bytes;
	}
	return ret ? ret : check_nothing(r, at, s->state.offset, err);
}

int rji_snap_load(const struct rji_snap_loading *l, struct rj_error *err)
{
	struct loading ing = { .l = l };
	struct loader *loaders = calloc(l->n_lanes, sizeof(*loaders));
	uint32_t n = 0;
	int ret = 0, result;

	if (!loaders)
		return rji_fail(err, -ENOMEM, "no memory for %u threads", l->n_lanes);
	while (!ret && n < l->n_lanes) {
		loaders[n].loading = &ing;
		loaders[n].reader = l->reader;
		ret = start(&loaders[n], n, err);
		n += !ret;
	}
	if (ret)
		atomic_store_explicit(&ing.failed, true, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++)
		pthread_join(loaders[i].thread, NULL);
	for (uint32_t i = 0; i < l->n_lanes; i++) {
		if (loaders[i].buffer)
			munmap(loaders[i].buffer, CHUNK_BYTES);
	}
	result = result_of(loaders, n, err);
	free(loaders);
	ret = ret ? ret : result;
	return ret || l->targets ? ret : check_gaps(l->reader, err);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source's lanes into a snapshot file: each page goes to its own place, straight from guest memory.
 *
 * A page that is taken while its guest runs may change between its checksum and its way to the disk.
 * Then file and checksum differ, but then the guest wrote after the trackers were re-armed, so the page
 * is dirty: it comes again, with a checksum of its own, in a later round, the last of them with the guest
 * paused. The file becomes valid only after that. What is asked about a page, whether it is zero or a
 * hole, is asked after the re-arming too, and answered anew each time it comes.
 *
 * One page, one change in flight: a span is one lane's in a round, each of its pages is written or punched
 * once in it, and the fence waits until the kernel has finished all of them.
 *
 * A lane holds no more memory than its ring: the pages themselves are what the kernel reads. Where they are
 * to be registered, only what the kernel has just said to be data is: holes would become memory.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/hash.h"
#include "base/zero.h"
#include "transport/file/memory_holes.h"
#include "transport/file/snap_writer.h"
#include "transport/transport.h"

/* A shorter run is read sooner than asked about. */
#define ASK_FOR_HOLES_BYTES (64u << 10)

struct file_transport {
	struct rji_snap_writer *writer; /* the session's */
	struct rji_stop *stop;
};

struct file_lane {
	struct rji_snap_writer *writer;
	struct rji_stop *stop;
	_Atomic uint64_t sent_bytes;
	_Atomic uint64_t requests;
	_Atomic uint64_t posts;
	struct rji_known_data known[RJ_MAX_REGIONS];
	struct rji_file_ring ring;
};

/* Pages one after the other that go out together. */
struct run {
	uint32_t region;
	uint64_t offset, len_bytes;
};

static int file_create(const struct rji_transport_opts *o, struct rj_error *err,
		       struct rji_transport **tp_p)
{
	struct file_transport *tp = calloc(1, sizeof(*tp));

	if (!tp)
		return rji_fail(err, -ENOMEM, "no memory for the file transport");
	tp->writer = o->arg;
	tp->stop = o->stop;
	*tp_p = (struct rji_transport *)tp;
	return 0;
}

static void file_destroy(struct rji_transport **tp_p)
{
	free(*tp_p);
	*tp_p = NULL;
}

/* The writer knows the regions. */
static int file_reg(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		    struct rj_error *err)
{
	(void)tp;
	(void)m;
	(void)done;
	(void)err;
	return 0;
}

static void file_dereg_all(struct rji_transport *tp)
{
	(void)tp;
}

static int file_connect(struct rji_transport *tp_, uint32_t number, const struct rji_addrs *addrs,
			const struct rji_admission *adm, uint64_t deadline_ns,
			struct rji_lane **lane_p, struct rj_error *err)
{
	struct file_transport *tp = (struct file_transport *)tp_;
	struct file_lane *lane = calloc(1, sizeof(*lane));

	(void)number;
	(void)addrs;
	(void)adm;
	(void)deadline_ns;
	if (!lane)
		return rji_fail(err, -ENOMEM, "no memory for a lane");
	lane->writer = tp->writer;
	lane->stop = tp->stop;
	rji_file_ring_init(&lane->ring, tp->writer->fd, true, tp->writer->path);
	if (tp->writer->registers)
		rji_file_ring_use_buffers(&lane->ring, &tp->writer->buffers);
	*lane_p = (struct rji_lane *)lane;
	return 0;
}

static void count(_Atomic uint64_t *total, uint64_t n)
{
	/* one writer */
	atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static int write_run(struct file_lane *lane, struct run *run, struct rj_error *err)
{
	const struct rji_snap_region *r = &lane->writer->snap.region[run->region];
	char *p = lane->writer->memory[run->region].host + run->offset;
	int ret;

	if (!run->len_bytes)
		return 0;
	ret = rji_file_ring_start(&lane->ring, p, (uint32_t)run->len_bytes,
				  rji_snap_page_at(r, run->offset), 0, err);
	count(&lane->sent_bytes, run->len_bytes);
	count(&lane->requests, 1);
	run->offset += run->len_bytes;
	run->len_bytes = 0;
	return ret;
}

/* Take [offset, end) out of the file. -EOPNOTSUPP: this file system cannot. */
static int punch(struct file_lane *lane, uint32_t region, uint64_t offset, uint64_t end,
		 struct rj_error *err)
{
	const struct rji_snap_region *r = &lane->writer->snap.region[region];
	int ret = fallocate(lane->writer->meta_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)rji_snap_page_at(r, offset), (off_t)(end - offset));

	if (!ret || errno == EOPNOTSUPP)
		return ret ? -EOPNOTSUPP : 0;
	return rji_fail_sys(err, -errno, errno, "cannot punch a hole into %.300s",
			    lane->writer->path);
}

/* Is the page zero now, and its place in the file a hole? 1, 0: it is to be written, or negative. */
static int leave_out(struct file_lane *lane, uint32_t region, uint64_t page, struct rj_error *err)
{
	struct rji_snap_memory *m = &lane->writer->memory[region];
	uint64_t offset = page * RJI_SNAP_PAGE_BYTES;
	int ret;

	if (!rji_is_zero(m->host + offset, RJI_SNAP_PAGE_BYTES))
		return 0;
	if (rji_bitmap_test(m->present, page)) {
		ret = punch(lane, region, offset, offset + RJI_SNAP_PAGE_BYTES, err);
		if (ret < 0)
			return ret == -EOPNOTSUPP ? 0 : ret;
		rji_bitmap_clear_range(m->present, page, 1);
	}
	m->sums[page] = 0;
	return 1;
}

/* Pages that may hold something. */
static int put_pages(struct file_lane *lane, uint32_t region, uint64_t offset, uint64_t end,
		     struct rj_error *err)
{
	struct rji_snap_memory *m = &lane->writer->memory[region];
	struct run run = { .region = region, .offset = offset };
	int ret = 0;

	for (; !ret && offset < end; offset += RJI_SNAP_PAGE_BYTES) {
		uint64_t page = offset / RJI_SNAP_PAGE_BYTES;

		ret = leave_out(lane, region, page, err);
		if (ret > 0) {
			ret = write_run(lane, &run, err);
			run.offset = offset + RJI_SNAP_PAGE_BYTES;
			continue;
		}
		if (ret < 0)
			break;
		m->sums[page] = rji_hash64(m->host + offset, RJI_SNAP_PAGE_BYTES);
		rji_bitmap_set(m->present, page);
		run.len_bytes += RJI_SNAP_PAGE_BYTES;
		if (run.len_bytes == RJI_RING_MAX_BYTES)
			ret = write_run(lane, &run, err);
	}
	return ret ? ret : write_run(lane, &run, err);
}

/* Never touched, or free: nothing in the file either. */
static int put_holes(struct file_lane *lane, uint32_t region, uint64_t offset, uint64_t end,
		     struct rj_error *err)
{
	struct rji_snap_memory *m = &lane->writer->memory[region];
	uint64_t page = offset / RJI_SNAP_PAGE_BYTES, last = end / RJI_SNAP_PAGE_BYTES;

	while (rji_bitmap_next_run(m->present, &page, last)) { /* it was, and was taken away */
		int ret = punch(lane, region, page * RJI_SNAP_PAGE_BYTES,
				(page + 1) * RJI_SNAP_PAGE_BYTES, err);

		if (ret == -EOPNOTSUPP)
			return put_pages(lane, region, page * RJI_SNAP_PAGE_BYTES, end, err);
		if (ret < 0)
			return ret;
		m->sums[page] = 0;
		rji_bitmap_clear_range(m->present, page, 1);
	}
	return 0;
}

static int put_extent(struct file_lane *lane, const struct rji_extent *e, struct rj_error *err)
{
	const struct rji_snap_memory *m = &lane->writer->memory[e->region];
	uint64_t at = e->offset_bytes, end = at + e->len_bytes;
	int ret = 0;

	if (m->hole_fd < 0 || e->len_bytes < ASK_FOR_HOLES_BYTES)
		return put_pages(lane, e->region, at, end, err);
	while (!ret && at < end) {
		uint64_t data = at, data_end;

		data_end = rji_memory_holes_next(m->hole_fd, m->fd_offset, m->host,
						 &lane->known[e->region], &data, end);
		if (data > at)
			ret = put_holes(lane, e->region, at, data, err);
		if (!ret && data < data_end) {
			rji_file_ring_expect(&lane->ring, m->host + data, data_end - data, err);
			ret = put_pages(lane, e->region, data, data_end, err);
		}
		at = data_end;
	}
	return ret;
}

static int file_post(struct rji_lane *lane_, const struct rji_extent *e, uint32_t n,
		     struct rj_error *err)
{
	struct file_lane *lane = (struct file_lane *)lane_;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < n; i++)
		ret = rji_stop_is_set(lane->stop) ? -ECANCELED : put_extent(lane, &e[i], err);
	count(&lane->posts, 1);
	return ret ? ret : rji_file_ring_submit(&lane->ring, err);
}

/* Pages that are to be zero, free ones: taken out of the file, without a look at them. */
static int file_post_coded(struct rji_lane *lane_, const struct rji_coded *c, uint32_t n,
			   struct rj_error *err)
{
	struct file_lane *lane = (struct file_lane *)lane_;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < n; i++) {
		const struct rji_extent *e = &c[i].extent;

		assert(c[i].coding == RJI_CODING_ZEROS);
		ret = rji_stop_is_set(lane->stop) ? -ECANCELED
						  : put_holes(lane, e->region, e->offset_bytes,
							      e->offset_bytes + e->len_bytes, err);
	}
	return ret;
}

static int file_drain(struct rji_lane *lane, struct rj_error *err)
{
	return rji_file_ring_drain(&((struct file_lane *)lane)->ring, err);
}

/* Written is placed; that it outlasts a power cut is the commit's business. */
static int file_fence(struct rji_lane *lane, uint64_t deadline_ns, struct rj_error *err)
{
	(void)deadline_ns;
	return file_drain(lane, err);
}

static void file_stats(const struct rji_lane *lane_, struct rji_lane_stats *st)
{
	const struct file_lane *lane = (const struct file_lane *)lane_;

	*st = (struct rji_lane_stats){
		.sent_bytes = atomic_load_explicit(&lane->sent_bytes, memory_order_relaxed),
		.requests = atomic_load_explicit(&lane->requests, memory_order_relaxed),
		.posts = atomic_load_explicit(&lane->posts, memory_order_relaxed),
	};
}

static void file_close(struct rji_lane **lane_p)
{
	struct file_lane *lane = (struct file_lane *)*lane_p;

	if (!lane)
		return;
	rji_file_ring_drain(&lane->ring, NULL); /* the kernel may still read guest memory */
	rji_file_ring_fini(&lane->ring);
	free(lane);
	*lane_p = NULL;
}

/* A file takes, it does not listen: no half of a destination. Restoring is snap_loader.c's. */
const struct rji_transport_ops rji_file_transport = {
	.name = "file",
	.moves_data = true,
	.create = file_create,
	.destroy = file_destroy,
	.reg = file_reg,
	.dereg_all = file_dereg_all,
	.connect = file_connect,
	.post = file_post,
	.codings = 1u << RJI_CODING_ZEROS,
	.post_coded = file_post_coded,
	.drain = file_drain,
	.fence = file_fence,
	.stats = file_stats,
	.close = file_close,
};

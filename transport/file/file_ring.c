/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/file/file_ring.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Small transfers go to the kernel in batches of so many; a large one at once. */
#define SUBMIT_BATCH 8u
#define SUBMIT_BYTES (256u << 10)

static int explain(const struct rji_file_ring *r, int sys_errno, uint64_t offset,
		   struct rj_error *err)
{
	if (r->writes && (sys_errno == ENOSPC || sys_errno == EDQUOT))
		return rji_fail_sys(
			err, -sys_errno, sys_errno,
			"cannot write %.200s at offset %" PRIu64
			"; free space there or choose another place (the guest goes on)",
			r->path, offset);
	return rji_fail_sys(err, -sys_errno, sys_errno, "cannot %s %.300s at offset %" PRIu64,
			    r->writes ? "write" : "read", r->path, offset);
}

static void fail(struct rji_file_ring *r, int sys_errno, uint64_t offset, struct rj_error *err)
{
	int ret = explain(r, sys_errno, offset, err);

	if (!r->failed)
		r->failed = ret;
}

void rji_file_ring_init(struct rji_file_ring *r, int fd, bool writes, const char *path)
{
	r->no_uring = io_uring_queue_init(RJI_RING_DEPTH, &r->uring, 0);
	r->fd = fd;
	r->writes = writes;
	r->path = path;
	r->n_unsubmitted = r->n_in_flight = 0;
	r->failed = 0;
	r->limit = RJI_RING_DEPTH;
	r->buffers = NULL;
	r->n_pieces = 0;
	r->piece_bytes = r->buffered_bytes = 0;
	r->free_ops = NULL;
	for (uint32_t i = 0; i < RJI_RING_DEPTH; i++) {
		r->ops[i].next_free = r->free_ops;
		r->free_ops = &r->ops[i];
	}
}

void rji_file_ring_fini(struct rji_file_ring *r)
{
	if (!r->no_uring)
		io_uring_queue_exit(&r->uring);
	r->no_uring = -ENOSYS;
}

/* --- registered buffers --- */

/* No order is needed: a ring that does not see it yet is refused itself. */
static bool is_refused(const struct rji_file_buffers *b)
{
	return atomic_load_explicit(&b->refused, memory_order_relaxed);
}

static void refused(struct rji_file_buffers *b, int ret)
{
	int none = 0;

	atomic_compare_exchange_strong_explicit(&b->refused, &none, ret < 0 ? ret : -EIO,
						memory_order_relaxed, memory_order_relaxed);
}

void rji_file_ring_use_buffers(struct rji_file_ring *r, struct rji_file_buffers *b)
{
	int ret = r->no_uring;

	if (!ret)
		ret = io_uring_register_buffers_sparse(&r->uring, RJI_RING_PIECES);
	if (ret < 0)
		refused(b, ret);
	else
		r->buffers = b;
}

void rji_file_ring_expect(struct rji_file_ring *r, void *p, uint64_t len_bytes,
			  struct rj_error *err)
{
	struct iovec iov = { p, len_bytes };
	int ret;

	r->piece_bytes = 0;
	if (!r->buffers || is_refused(r->buffers) || len_bytes > RJI_RING_MAX_PIECE_BYTES)
		return;
	/* What is in flight keeps the piece that loses its slot; what is not yet would find the new one. */
	if (rji_file_ring_submit(r, err) < 0)
		return;
	ret = io_uring_register_buffers_update_tag(&r->uring, r->n_pieces % RJI_RING_PIECES, &iov,
						   NULL, 1);
	if (ret != 1) {
		refused(r->buffers, ret);
		return;
	}
	r->n_pieces++;
	r->piece = p;
	r->piece_bytes = len_bytes;
}

static int slot_of(const struct rji_file_ring *r, const char *p, uint32_t len_bytes)
{
	if (!r->piece_bytes || p < r->piece || p + len_bytes > r->piece + r->piece_bytes)
		return -1;
	return (int)((r->n_pieces - 1) % RJI_RING_PIECES);
}

/* Nothing is in flight. */
static void forget_pieces(struct rji_file_ring *r)
{
	const struct iovec none[RJI_RING_PIECES] = { { NULL, 0 } };
	uint32_t n = r->n_pieces < RJI_RING_PIECES ? r->n_pieces : RJI_RING_PIECES;

	if (n)
		io_uring_register_buffers_update_tag(&r->uring, 0, none, NULL, n);
	r->n_pieces = 0;
	r->piece_bytes = 0;
	if (r->buffered_bytes)
		atomic_fetch_add_explicit(&r->buffers->bytes, r->buffered_bytes,
					  memory_order_relaxed);
	r->buffered_bytes = 0;
}

/* --- transfers --- */

static void prepare(struct rji_file_ring *r, struct rji_file_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring); /* as many as ops */
	char *p = op->p + op->done_bytes;
	uint32_t len = op->len_bytes - op->done_bytes;
	uint64_t at = op->offset + op->done_bytes;

	if (op->slot >= 0) /* a ring that writes */
		io_uring_prep_write_fixed(sqe, r->fd, p, len, at, op->slot);
	else if (r->writes)
		io_uring_prep_write(sqe, r->fd, p, len, at);
	else
		io_uring_prep_read(sqe, r->fd, p, len, at);
	io_uring_sqe_set_data(sqe, op);
	r->n_unsubmitted++;
}

int rji_file_ring_submit(struct rji_file_ring *r, struct rj_error *err)
{
	while (r->n_unsubmitted) {
		int n = io_uring_submit(&r->uring);

		if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY) {
			fail(r, -n, 0, err);
			/* They never reach the kernel: nobody may wait for them. */
			r->n_in_flight -= r->n_unsubmitted;
			r->n_unsubmitted = 0;
			return r->failed;
		}
		if (n > 0)
			r->n_unsubmitted -= (uint32_t)n;
	}
	return r->failed;
}

static void finish(struct rji_file_ring *r, struct rji_file_op *op, struct rj_error *err)
{
	if (!r->failed && r->done) {
		int ret = r->done(r->arg, op, err);

		if (ret < 0)
			r->failed = ret;
	}
	if (op->slot >= 0)
		r->buffered_bytes += op->len_bytes;
	op->next_free = r->free_ops;
	r->free_ops = op;
	r->n_in_flight--;
}

/* The kernel says what became of op: whole, in part, or not. */
static void complete(struct rji_file_ring *r, struct rji_file_op *op, int res, struct rj_error *err)
{
	uint64_t at = op->offset + op->done_bytes;

	if ((res == -EINTR || res == -EAGAIN) && !r->failed) {
		op->slot = -1; /* it may be another piece's by now */
		prepare(r, op);
		return;
	}
	if (res <= 0) /* nothing written: there is no more room; nothing read: the file was cut */
		fail(r, res ? -res : r->writes ? ENOSPC : EIO, at, err);
	else
		op->done_bytes += (uint32_t)res;
	if (res > 0 && op->done_bytes < op->len_bytes && !r->failed) {
		op->slot = -1;
		prepare(r, op);
		return;
	}
	finish(r, op, err);
}

/* Take in what is done; wait for one if asked to. */
static void reap(struct rji_file_ring *r, bool wait, struct rj_error *err)
{
	struct io_uring_cqe *cqe;

	rji_file_ring_submit(r, err);
	while (r->n_in_flight) {
		int ret = wait ? io_uring_wait_cqe(&r->uring, &cqe)
			       : io_uring_peek_cqe(&r->uring, &cqe);

		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return;
		complete(r, io_uring_cqe_get_data(cqe), cqe->res, err);
		io_uring_cqe_seen(&r->uring, cqe);
		wait = false;
	}
}

/* Without io_uring. */
static int transfer_now(struct rji_file_ring *r, const struct rji_file_op *op, struct rj_error *err)
{
	int ret =
		rji_file_transfer(r->fd, op->p, op->len_bytes, op->offset, r->writes, r->path, err);

	if (!ret && r->done)
		ret = r->done(r->arg, op, err);
	if (ret < 0 && !r->failed)
		r->failed = ret;
	return r->failed;
}

int rji_file_ring_start(struct rji_file_ring *r, void *p, uint32_t len_bytes, uint64_t offset,
			uint64_t tag, struct rj_error *err)
{
	struct rji_file_op now = {
		.p = p, .len_bytes = len_bytes, .offset = offset, .tag = tag, .slot = -1
	};
	struct rji_file_op *op;

	if (r->no_uring) {
		now.p = p ? p : r->own;
		return r->failed ? r->failed : transfer_now(r, &now, err);
	}
	while (!r->free_ops || r->n_in_flight >= r->limit)
		reap(r, true, err);
	if (r->failed)
		return r->failed;
	op = r->free_ops;
	r->free_ops = op->next_free;
	*op = now;
	if (p)
		op->slot = slot_of(r, p, len_bytes);
	else
		op->p = r->own + (size_t)(op - r->ops) * r->own_bytes;
	prepare(r, op);
	r->n_in_flight++;
	if (len_bytes < SUBMIT_BYTES && r->n_unsubmitted < SUBMIT_BATCH)
		return 0;
	reap(r, false, err);
	return r->failed;
}

int rji_file_ring_drain(struct rji_file_ring *r, struct rj_error *err)
{
	while (r->n_in_flight)
		reap(r, true, err);
	forget_pieces(r);
	return r->failed;
}

int rji_file_transfer(int fd, void *p, size_t len_bytes, uint64_t offset, bool writes,
		      const char *path, struct rj_error *err)
{
	const struct rji_file_ring told = { .writes = writes, .path = path };
	char *at = p;

	while (len_bytes) {
		ssize_t n = writes ? pwrite(fd, at, len_bytes, (off_t)offset)
				   : pread(fd, at, len_bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return explain(&told, n ? errno : writes ? ENOSPC : EIO, offset, err);
		at += n;
		offset += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

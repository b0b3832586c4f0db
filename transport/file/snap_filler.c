/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest runs while its memory comes from the file.
 *
 *   regions emptied and watched (userfaultfd, missing pages)
 *   servers   take faults: read the page and what is beside it, check, place
 *   streamers take chunks of the regions in turn: read all that is not claimed yet, check, place;
 *             let go of a chunk when every page of it is there
 *
 * Who places a page: a page of the file is claimed by setting its bit in claimed, by one thread, which
 * reads it to a buffer of its own, compares its checksum, places it, and sets its bit in placed. So a page is placed once,
 * never before it was checked, and never over what the guest has written since. Nobody else may place one: a
 * page that is there already when it is to be placed was written past us, by another mapping, and is an error.
 *
 * Pages that the file does not have are zero. Their faults are given a zero page; the rest is left to the
 * kernel, which has zeros for whoever touches them once the chunk is let go: an untouched page of a sparse guest costs
 * nothing. A fault on a page that was placed is of somebody who came just before it was, or the VMM has discarded it
 * since; both are served by zeros where there is nothing, and by looking again.
 *
 * A chunk is let go only when placed covers all it has in the file. The bits are set by several threads: placed
 * with release, after the page is there, and read with acquire before letting go.
 *
 * When a page is bad. It is never placed. mprotect() takes the page away before those who wait for it are woken, so
 * that they fault for good instead of seeing zeros. The other pages in flight are placed, the streamers
 * stop, the servers go on: vCPUs must get to where they can be stopped. After an I/O error it is
 * not known which pages of a streamer's were claimed and will not come: all of its chunks that are not there are taken away.
 *
 * What streamers have in flight is little, and less while somebody waits for a page, so that it does not wait for
 * them; and they let the guest begin without them.
 */
#include "transport/file/snap_filler.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/stop.h"
#include "base/uffd_missing.h"
#include "transport/file/file_ring.h"

#define CHUNK_PAGES 2048u /* 8 MiB: whole words of the bitmaps */
#define PIECE_PAGES 64u	  /* 256 KiB */
#define AROUND_PAGES 16u  /* that a fault brings, aligned: 64 KiB */
#define MAX_STREAMERS 4u
#define N_SERVERS 4u
#define MAX_OPEN 8u	    /* chunks that a streamer has begun and not let go of */
#define IN_FLIGHT 12u	    /* pieces of a streamer */
#define IN_FLIGHT_BEHIND 2u /* while somebody waits for a page */
#define TAG_PAGE_BITS 50u

/* Streamers begin when the guest has waited for pages and does no more, or so long after the start. */
#define HEAD_START_NS (100 * RJI_NS_PER_MS)
#define QUIET_NS (20 * RJI_NS_PER_MS)
#define PAGE RJI_SNAP_PAGE_BYTES

struct chunk {
	uint32_t region;
	uint64_t page, end;
};

struct worker {
	struct rji_snap_filler *f;
	pthread_t thread;
	bool started;
	char *buffer;
	size_t buffer_bytes;
	/* of a streamer */
	struct chunk open[MAX_OPEN];
	uint32_t n_open;
	struct rji_file_ring ring;
};

struct rji_snap_filler {
	const struct rji_snap_filling *filling;
	struct rji_snap_reader *reader;
	int fd; /* the userfaultfd */
	struct rji_stop stop;
	_Atomic uint64_t *claimed[RJ_MAX_REGIONS], *placed[RJ_MAX_REGIONS];
	uint32_t n_watched; /* regions */
	_Atomic uint64_t next_chunk;
	atomic_uint n_streaming;
	atomic_uint n_serving; /* faults */
	_Atomic uint64_t last_fault_ns;
	atomic_bool failed;
	pthread_mutex_t lock; /* err */
	struct rj_error err;
	uint32_t n_streamers;
	struct worker streamers[MAX_STREAMERS], servers[N_SERVERS];
};

static char *at(const struct rji_snap_filler *f, uint32_t region, uint64_t page)
{
	return (char *)f->filling->regions[region]->host + page * PAGE;
}

static void tell(const struct rji_snap_filler *f)
{
	if (f->filling->wake_fd >= 0)
		eventfd_write(f->filling->wake_fd, 1);
}

static void give_up(struct rji_snap_filler *f, const struct rj_error *err)
{
	pthread_mutex_lock(&f->lock);
	if (!f->err.code) {
		f->err = *err;
		rji_log(f->filling->host, RJ_LOG_ERROR, "%s", err->text);
	}
	pthread_mutex_unlock(&f->lock);
	/* pairs with rji_snap_filler_state() */
	atomic_store_explicit(&f->failed, true, memory_order_release);
	tell(f);
}

/* These never come: who waits for them, or touches them later, is to know. */
static void deny(struct rji_snap_filler *f, uint32_t region, uint64_t page, uint64_t n)
{
	char *p = at(f, region, page);

	if (mprotect(p, n * PAGE, PROT_NONE) < 0)
		rji_log(f->filling->host, RJ_LOG_ERROR,
			"cannot take away a page that is not there: who waits for it stays so");
	else
		rji_missing_wake(f->fd, p, n * PAGE);
}

/* --- who has a page --- */

static bool claim(struct rji_snap_filler *f, uint32_t region, uint64_t page)
{
	uint64_t bit = 1ull << page % RJI_WORD_BITS;

	/* nothing but the bit itself is handed over */
	return !(atomic_fetch_or_explicit(&f->claimed[region][page / RJI_WORD_BITS], bit,
					  memory_order_relaxed) &
		 bit);
}

static void note_placed(struct rji_snap_filler *f, uint32_t region, uint64_t page, uint64_t n)
{
	for (uint64_t i = page; i < page + n; i++)
		/* pairs with is_there() */
		atomic_fetch_or_explicit(&f->placed[region][i / RJI_WORD_BITS],
					 1ull << i % RJI_WORD_BITS, memory_order_release);
	if (f->filling->done_bytes)
		atomic_fetch_add_explicit(f->filling->done_bytes, n * PAGE, memory_order_relaxed);
}

static bool is_placed(struct rji_snap_filler *f, uint32_t region, uint64_t page)
{
	return atomic_load_explicit(&f->placed[region][page / RJI_WORD_BITS],
				    memory_order_acquire) >>
		       (page % RJI_WORD_BITS) &
	       1;
}

/* All that the file has of a chunk. */
static bool is_there(struct rji_snap_filler *f, const struct chunk *c)
{
	const uint64_t *present = f->reader->present[c->region];

	for (uint64_t w = c->page / RJI_WORD_BITS; w < rji_bitmap_words(c->end); w++) {
		/* pairs with note_placed() */
		if (present[w] &
		    ~atomic_load_explicit(&f->placed[c->region][w], memory_order_acquire))
			return false;
	}
	return true;
}

/* --- a page comes --- */

static void place_run(struct rji_snap_filler *f, uint32_t region, uint64_t page, uint64_t n,
		      const char *p)
{
	struct rj_error err;
	int ret = n ? rji_missing_place(f->fd, at(f, region, page), p, n * PAGE) : 0;

	if (!ret) {
		note_placed(f, region, page, n);
		return;
	}
	rji_error_init(&err);
	if (ret == -EEXIST)
		rji_fail(
			&err, RJ_E_REGION,
			"memory of region '%s' near offset 0x%" PRIx64
			" was written past its addresses before it was restored: use no other mapping of it",
			f->reader->snap.region[region].name, page * PAGE);
	else
		rji_fail_sys(&err, ret, -ret,
			     "cannot place a page at offset 0x%" PRIx64 " of region '%s'",
			     page * PAGE, f->reader->snap.region[region].name);
	give_up(f, &err);
	deny(f, region, page, n);
}

/* Claimed pages, read to p: check and place them; the bad ones are taken away. */
static void take_in(struct rji_snap_filler *f, uint32_t region, uint64_t page, uint64_t n,
		    const char *p)
{
	uint64_t first = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct rj_error err;

		rji_error_init(&err);
		if (!rji_snap_check_page(f->reader, region, page + i, p + i * PAGE, &err))
			continue;
		give_up(f, &err);
		place_run(f, region, page + first, i - first, p + first * PAGE);
		deny(f, region, page + i, 1);
		first = i + 1;
	}
	place_run(f, region, page + first, n - first, p + first * PAGE);
}

/* --- faults --- */

static bool find(const struct rji_snap_filler *f, const char *p, uint32_t *region_p,
		 uint64_t *page_p)
{
	for (uint32_t i = 0; i < f->reader->snap.n_regions; i++) {
		const struct rj_region *r = f->filling->regions[i];

		if (p >= (char *)r->host && p < (char *)r->host + r->len_bytes) {
			*region_p = i;
			*page_p = (uint64_t)(p - (char *)r->host) / PAGE;
			return true;
		}
	}
	return false;
}

/* The claimed page and its neighbours that are free to take. */
static void read_around(struct worker *w, uint32_t region, uint64_t page)
{
	struct rji_snap_filler *f = w->f;
	const struct rji_snap_region *r = &f->reader->snap.region[region];
	const uint64_t *present = f->reader->present[region];
	uint64_t from = page / AROUND_PAGES * AROUND_PAGES, to = from + AROUND_PAGES;
	uint64_t first = page, end = page + 1;
	struct rj_error err;
	int ret;

	if (to > rji_snap_n_pages(r))
		to = rji_snap_n_pages(r);
	while (first > from && rji_bitmap_test(present, first - 1) && claim(f, region, first - 1))
		first--;
	while (end < to && rji_bitmap_test(present, end) && claim(f, region, end))
		end++;
	rji_error_init(&err);
	ret = rji_file_transfer(f->reader->fd, w->buffer, (end - first) * PAGE,
				rji_snap_page_at(r, first * PAGE), false, f->reader->path, &err);
	if (!ret) {
		take_in(f, region, first, end - first, w->buffer);
		return;
	}
	give_up(f, &err);
	deny(f, region, first, end - first);
}

/* Nothing is there, and nothing of the file belongs there. Whoever lost a race against another server is woken. */
static void serve_zeros(struct rji_snap_filler *f, uint32_t region, uint64_t page)
{
	char *p = at(f, region, page);

	if (rji_missing_place_zeros(f->fd, p, PAGE) < 0) /* there, or let go of */
		rji_missing_wake(f->fd, p, PAGE);
}

static void serve(struct worker *w, const char *p)
{
	struct rji_snap_filler *f = w->f;
	uint64_t began = rji_now_ns(), page, now, took;
	uint32_t region;

	if (!find(f, p, &region, &page))
		return;
	if (!rji_bitmap_test(f->reader->present[region], page) || is_placed(f, region, page))
		serve_zeros(f, region, page);
	else if (claim(f, region, page))
		read_around(w, region, page);
	/* else it is on its way, and placing it wakes */
	now = rji_now_ns();
	took = now - began;
	/* a hint to the streamers */
	atomic_store_explicit(&f->last_fault_ns, now, memory_order_relaxed);
	if (f->filling->faults)
		atomic_fetch_add_explicit(f->filling->faults, 1, memory_order_relaxed);
	if (f->filling->fault_max_ns) {
		uint64_t max = atomic_load_explicit(f->filling->fault_max_ns, memory_order_relaxed);

		while (took > max && !atomic_compare_exchange_weak_explicit(
					     f->filling->fault_max_ns, &max, took,
					     memory_order_relaxed, memory_order_relaxed))
			;
	}
}

static void *server_thread(void *arg)
{
	struct worker *w = arg;
	struct rji_snap_filler *f = w->f;
	struct pollfd fds[2] = { { .fd = f->fd, .events = POLLIN },
				 { .fd = f->stop.fd, .events = POLLIN } };

	while (!rji_stop_is_set(&f->stop)) {
		void *p;

		if (rji_missing_next(f->fd, &p) <= 0) {
			poll(fds, 2, -1);
			continue;
		}
		/* a hint to the streamers */
		atomic_fetch_add_explicit(&f->n_serving, 1, memory_order_relaxed);
		serve(w, p);
		atomic_fetch_sub_explicit(&f->n_serving, 1, memory_order_relaxed);
	}
	if (f->filling->cpu_ns)
		atomic_fetch_add_explicit(f->filling->cpu_ns, rji_thread_cpu_ns(),
					  memory_order_relaxed);
	return NULL;
}

/* --- the rest --- */

static bool take_chunk(struct rji_snap_filler *f, struct chunk *c)
{
	const struct rji_snap *snap = &f->reader->snap;
	uint64_t number = atomic_fetch_add_explicit(&f->next_chunk, 1, memory_order_relaxed);

	for (uint32_t i = 0; i < snap->n_regions; i++) {
		uint64_t n_pages = rji_snap_n_pages(&snap->region[i]);
		uint64_t n = (n_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;

		if (number < n) {
			c->region = i;
			c->page = number * CHUNK_PAGES;
			c->end = n_pages - c->page < CHUNK_PAGES ? n_pages : c->page + CHUNK_PAGES;
			return true;
		}
		number -= n;
	}
	return false;
}

static int read_done(void *arg, const struct rji_file_op *op, struct rj_error *err)
{
	struct worker *w = arg;

	(void)err;
	take_in(w->f, (uint32_t)(op->tag >> TAG_PAGE_BITS), op->tag & ((1ull << TAG_PAGE_BITS) - 1),
		op->len_bytes / PAGE, op->p);
	return 0; /* the others in flight are wanted */
}

static int begin_chunk(struct worker *w, const struct chunk *c, struct rj_error *err)
{
	struct rji_snap_filler *f = w->f;
	const uint64_t *present = f->reader->present[c->region];
	uint64_t page = c->page;
	int ret = 0;

	while (!ret && rji_bitmap_next_run(present, &page, c->end)) {
		uint64_t n = 0;

		while (n < PIECE_PAGES && page + n < c->end && rji_bitmap_test(present, page + n) &&
		       claim(f, c->region, page + n))
			n++;
		w->ring.limit = atomic_load_explicit(&f->n_serving, memory_order_relaxed)
					? IN_FLIGHT_BEHIND
					: IN_FLIGHT;
		if (n)
			ret = rji_file_ring_start(
				&w->ring, NULL, (uint32_t)(n * PAGE),
				rji_snap_page_at(&f->reader->snap.region[c->region], page * PAGE),
				(uint64_t)c->region << TAG_PAGE_BITS | page, err);
		page += n ? n : 1; /* somebody else's */
	}
	return ret ? ret : rji_file_ring_submit(&w->ring, err);
}

/* Let go of those that are there. */
static void retire(struct worker *w)
{
	struct rji_snap_filler *f = w->f;
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n_open; i++) {
		const struct chunk c = w->open[i];

		if (is_there(f, &c))
			rji_missing_unwatch(f->fd, at(f, c.region, c.page),
					    (c.end - c.page) * PAGE);
		else
			w->open[n++] = c;
	}
	w->n_open = n;
}

static bool must_stop(struct rji_snap_filler *f)
{
	return rji_stop_is_set(&f->stop) || atomic_load_explicit(&f->failed, memory_order_acquire);
}

/* Until at most n are open; the servers have pages of them. */
static void wait_for_servers(struct worker *w, uint32_t n)
{
	const struct timespec moment = { .tv_nsec = 200000 };

	while (w->n_open > n && !must_stop(w->f)) {
		nanosleep(&moment, NULL);
		retire(w);
	}
}

static int stream_chunks(struct worker *w, struct rj_error *err)
{
	struct chunk c;
	int ret = 0;

	while (!ret && !must_stop(w->f) && take_chunk(w->f, &c)) {
		if (w->n_open == MAX_OPEN) {
			ret = rji_file_ring_drain(&w->ring, err);
			retire(w);
			wait_for_servers(w, MAX_OPEN - 1);
			if (ret || w->n_open == MAX_OPEN)
				break;
		}
		w->open[w->n_open++] = c;
		ret = begin_chunk(w, &c, err);
		retire(w);
	}
	return ret;
}

static void stream(struct worker *w)
{
	struct rj_error err;
	int ret, drained;

	rji_error_init(&err);
	rji_file_ring_init(&w->ring, w->f->reader->fd, false, w->f->reader->path);
	w->ring.done = read_done;
	w->ring.arg = w;
	w->ring.own = w->buffer;
	w->ring.own_bytes = PIECE_PAGES * PAGE;
	ret = stream_chunks(w, &err);
	drained = rji_file_ring_drain(&w->ring, &err);
	ret = ret ? ret : drained;
	retire(w);
	if (ret) {
		give_up(w->f, &err);
		for (uint32_t i = 0; i < w->n_open; i++)
			deny(w->f, w->open[i].region, w->open[i].page,
			     w->open[i].end - w->open[i].page);
	}
	wait_for_servers(w, 0);
	rji_file_ring_fini(&w->ring);
}

/* A guest that begins to run touches many pages in little time, and waits for each: disk and CPUs are its alone. */
static void give_head_start(struct rji_snap_filler *f)
{
	const struct timespec moment = { .tv_nsec = RJI_NS_PER_MS };
	uint64_t until = rji_now_ns() + HEAD_START_NS, last;

	do {
		nanosleep(&moment, NULL);
		last = atomic_load_explicit(&f->last_fault_ns, memory_order_relaxed);
	} while (!must_stop(f) && rji_now_ns() < until &&
		 (!last || rji_now_ns() < last + QUIET_NS));
}

static void *streamer_thread(void *arg)
{
	struct worker *w = arg;
	struct rji_snap_filler *f = w->f;

	give_head_start(f);
	stream(w);
	if (f->filling->cpu_ns)
		atomic_fetch_add_explicit(f->filling->cpu_ns, rji_thread_cpu_ns(),
					  memory_order_relaxed);
	/* pairs with rji_snap_filler_state() */
	if (atomic_fetch_sub_explicit(&f->n_streaming, 1, memory_order_acq_rel) == 1)
		tell(f);
	return NULL;
}

/* --- beginning and end --- */

/* Nothing may be there: a page that is never faults. */
static int empty(const struct rj_region *r, struct rj_error *err)
{
	if (!madvise(r->host, r->len_bytes, MADV_REMOVE))
		return 0; /* shared memory */
	if (errno == EINVAL && !madvise(r->host, r->len_bytes, MADV_DONTNEED))
		return 0; /* anonymous */
	return rji_fail_sys(
		err, errno == EACCES ? -ENOTSUP : -errno, errno,
		"memory of region '%s' cannot be emptied to be filled lazily: it has to be anonymous, or shared and not locked",
		r->name);
}

static int watch(struct rji_snap_filler *f, uint32_t i, struct rj_error *err)
{
	const struct rj_region *r = f->filling->regions[i];
	uint64_t n_pages = r->len_bytes / PAGE;
	int ret;

	f->claimed[i] = (_Atomic uint64_t *)rji_bitmap_alloc(n_pages);
	f->placed[i] = (_Atomic uint64_t *)rji_bitmap_alloc(n_pages);
	if (!f->claimed[i] || !f->placed[i])
		return rji_fail(err, -ENOMEM, "no memory for the bitmaps of region '%s'", r->name);
	ret = empty(r, err);
	if (!ret) {
		ret = rji_missing_watch(f->fd, r->host, r->len_bytes);
		if (ret < 0)
			rji_fail_sys(
				err, ret, -ret,
				"memory of region '%s' cannot be filled lazily: userfaultfd does not take this kind; restore it whole",
				r->name);
	}
	f->n_watched += !ret;
	return ret;
}

static int open_uffd(struct rji_snap_filler *f, struct rj_error *err)
{
	f->fd = rji_missing_open();
	if (f->fd >= 0)
		return 0;
	if (f->fd == -EPERM)
		return rji_fail_sys(
			err, -EPERM, EPERM,
			"cannot restore lazily: userfaultfd is not allowed; run as root, give access to /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1");
	return rji_fail_sys(err, f->fd, -f->fd,
			    "cannot restore lazily: this kernel has no userfaultfd for it");
}

static int start_worker(struct rji_snap_filler *f, struct worker *w, const char *role,
			size_t buffer_bytes, void *(*fn)(void *), struct rj_error *err)
{
	int ret;

	w->f = f;
	w->buffer_bytes = buffer_bytes;
	w->buffer = mmap(NULL, buffer_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (w->buffer == MAP_FAILED) {
		w->buffer = NULL;
		return rji_fail(err, -ENOMEM, "no memory for the buffer of thread %s", role);
	}
	ret = rji_thread_start(f->filling->host, role, fn, w, &w->thread);
	w->started = !ret;
	return ret < 0 ? rji_fail_sys(err, ret, -ret, "cannot start the thread %s", role) : 0;
}

static int start_all(struct rji_snap_filler *f, struct rj_error *err)
{
	uint32_t n = f->filling->n_lanes;
	char role[24];
	int ret = 0;

	f->n_streamers = n < MAX_STREAMERS ? n : MAX_STREAMERS;
	atomic_store_explicit(&f->n_streaming, f->n_streamers, memory_order_relaxed);
	for (uint32_t i = 0; !ret && i < N_SERVERS; i++) {
		snprintf(role, sizeof(role), "rj-fault-%u", i);
		ret = start_worker(f, &f->servers[i], role, AROUND_PAGES * PAGE, server_thread,
				   err);
	}
	for (uint32_t i = 0; !ret && i < f->n_streamers; i++) {
		snprintf(role, sizeof(role), "rj-load-%u", i);
		ret = start_worker(f, &f->streamers[i], role, RJI_RING_DEPTH * PIECE_PAGES * PAGE,
				   streamer_thread, err);
	}
	return ret;
}

int rji_snap_filler_start(const struct rji_snap_filling *filling, struct rji_snap_filler **f_p,
			  struct rj_error *err)
{
	struct rji_snap_filler *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return rji_fail(err, -ENOMEM, "no memory for a lazy restore");
	f->filling = filling;
	f->reader = filling->reader;
	rji_error_init(&f->err);
	pthread_mutex_init(&f->lock, NULL);
	f->fd = -1;
	ret = rji_stop_init(&f->stop);
	if (ret < 0) {
		pthread_mutex_destroy(&f->lock);
		free(f);
		return rji_fail_sys(err, ret, -ret, "no descriptor for a lazy restore");
	}
	ret = open_uffd(f, err);
	for (uint32_t i = 0; !ret && i < f->reader->snap.n_regions; i++)
		ret = watch(f, i, err);
	if (!ret)
		ret = start_all(f, err);
	if (ret < 0) {
		rji_snap_filler_stop(&f);
		return ret;
	}
	*f_p = f;
	return 0;
}

int rji_snap_filler_state(struct rji_snap_filler *f, struct rj_error *err)
{
	int ret;

	/* pairs with give_up() */
	if (atomic_load_explicit(&f->failed, memory_order_acquire)) {
		pthread_mutex_lock(&f->lock);
		ret = f->err.code;
		if (err && !err->code)
			*err = f->err;
		pthread_mutex_unlock(&f->lock);
		return ret;
	}
	/* pairs with streamer_thread() */
	return !atomic_load_explicit(&f->n_streaming, memory_order_acquire);
}

static void end_worker(struct worker *w)
{
	if (w->started)
		pthread_join(w->thread, NULL);
	if (w->buffer)
		munmap(w->buffer, w->buffer_bytes);
}

void rji_snap_filler_stop(struct rji_snap_filler **f_p)
{
	struct rji_snap_filler *f = *f_p;

	if (!f)
		return;
	rji_stop_set(&f->stop);
	for (uint32_t i = 0; i < f->n_streamers; i++)
		end_worker(&f->streamers[i]);
	for (uint32_t i = 0; i < N_SERVERS; i++)
		end_worker(&f->servers[i]);
	if (f->fd >= 0)
		close(f->fd); /* lets go of everything */
	for (uint32_t i = 0; i < f->reader->snap.n_regions; i++) {
		uint64_t n_pages = rji_snap_n_pages(&f->reader->snap.region[i]);

		rji_bitmap_free((uint64_t *)f->claimed[i], n_pages);
		rji_bitmap_free((uint64_t *)f->placed[i], n_pages);
	}
	rji_stop_fini(&f->stop);
	pthread_mutex_destroy(&f->lock);
	free(f);
	*f_p = NULL;
}

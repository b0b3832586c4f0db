/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/harvest.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"

static void raise_to(_Atomic uint64_t *max, uint64_t value)
{
	uint64_t seen = atomic_load_explicit(max, memory_order_relaxed);

	while (value > seen &&
	       !atomic_compare_exchange_weak_explicit(max, &seen, value, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

_Static_assert(RJI_WINDOW_BYTES / RJI_SPAN_BYTES <= RJI_MAX_WINDOW_SPANS, "a bit a span");

int rji_harvest_init(struct rji_harvest *h, struct rji_pageset *set, struct rji_holds *holds)
{
	uint64_t n = 0;

	memset(h, 0, sizeof(*h));
	for (uint32_t i = 0; i < set->n_regions; i++)
		n += div_up(set->region[i].n_pages, set->region[i].window_pages);
	h->windows = calloc(n ? n : 1, sizeof(*h->windows));
	if (!h->windows)
		return -ENOMEM;
	h->max_windows = (uint32_t)n;
	h->n_groups = 1;
	h->set = set;
	h->holds = holds;
	return 0;
}

void rji_harvest_fini(struct rji_harvest *h)
{
	for (uint32_t i = 0; i <= RJI_ANY_GROUP; i++) {
		free(h->queue[i].number);
		h->queue[i].number = NULL;
	}
	free(h->windows);
	h->windows = NULL;
}

int rji_harvest_set_groups(struct rji_harvest *h, uint32_t n_groups,
			   const uint8_t group_of_node[RJI_MAX_NODES])
{
	if (n_groups < 2)
		return 0;
	for (uint32_t i = 0; i <= RJI_ANY_GROUP; i++) {
		if (i >= n_groups && i != RJI_ANY_GROUP)
			continue;
		free(h->queue[i].number);
		h->queue[i].number = calloc(h->max_windows, sizeof(uint32_t));
		if (!h->queue[i].number)
			return -ENOMEM;
	}
	memset(h->group_of, RJI_ANY_GROUP, sizeof(h->group_of));
	memcpy(h->group_of, group_of_node, RJI_MAX_NODES);
	h->n_groups = n_groups;
	return 0;
}

/* The words of window number w of a region. */
static uint64_t words_of(const struct rji_pageset_region *r, uint32_t w, uint64_t *first_p)
{
	uint64_t n = r->window_pages / RJI_WORD_BITS;

	*first_p = w * n;
	return r->n_words - *first_p < n ? r->n_words - *first_p : n;
}

static void collect_marked(struct rji_pageset_region *r, uint64_t *into)
{
	uint64_t first, n;

	for (uint32_t w = 0; w < r->n_windows; w++) {
		/* pairs with rji_pageset_mark(): the bits behind it are there */
		if (!atomic_load_explicit(&r->may_mark[w], memory_order_acquire))
			continue;
		n = words_of(r, w, &first);
		rji_plain_collect(r->marked + first, n, into + first);
		r->may_pend[w] = 1;
	}
}

/* How many pages are pending; learns which windows have none. */
static uint64_t count_pending(struct rji_pageset_region *r)
{
	uint64_t sum = 0, first, n;

	for (uint32_t w = 0; w < r->n_windows; w++) {
		if (!r->may_pend[w])
			continue;
		n = words_of(r, w, &first);
		n = rji_bitmap_weight(r->pending + first, n);
		r->may_pend[w] = n != 0;
		sum += n;
	}
	return sum;
}

/* One region: what every tracker finds is pending. */
static int collect_region(struct rji_harvest *h, uint32_t number, struct rj_error *err)
{
	struct rji_pageset_region *r = &h->set->region[number];
	uint64_t *into = rji_free_collect_into(r);

	collect_marked(r, into);
	if (r->n_trackers) /* they do not say where they found something */
		memset(r->may_pend, 1, r->n_windows);
	for (uint32_t i = 0; i < r->n_trackers; i++) {
		const struct rji_attached *a = &r->trackers[i];
		int ret = a->ops->collect(a->t, number, 0, r->n_pages, into);

		if (ret < 0)
			return rji_fail_sys(
				err, RJ_E_TRACKER, -ret,
				"the tracker '%s' cannot tell what is dirty in region '%s'",
				a->ops->name, r->name);
	}
	rji_free_found(r);
	return 0;
}

static int collect_and_count(struct rji_harvest *h, uint32_t number, struct rji_dirt *dirt,
			     struct rj_error *err)
{
	struct rji_pageset_region *r = &h->set->region[number];
	uint64_t before = count_pending(r), after;
	int ret = collect_region(h, number, err);

	if (ret < 0)
		return ret;
	after = count_pending(r);
	dirt->new_pages += after - before;
	dirt->new_bytes += (after - before) << r->page_shift;
	dirt->pending_pages += after;
	dirt->pending_bytes += after << r->page_shift;
	return 0;
}

int rji_harvest_collect(struct rji_harvest *h, struct rji_dirt *dirt_p, struct rj_error *err)
{
	uint64_t start = rji_now_ns();
	struct rji_dirt dirt = { 0 };

	for (uint32_t i = 0; i < h->set->n_regions; i++) {
		int ret;

		rji_free_lock(h->hints);
		ret = collect_and_count(h, i, &dirt, err);
		rji_free_unlock(h->hints);
		if (ret < 0)
			return ret;
	}
	raise_to(&h->collect_max_ns, rji_now_ns() - start);
	*dirt_p = dirt;
	return 0;
}

static bool any_set(const uint64_t *words, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (words[i])
			return true;
	}
	return false;
}

/* The words of a window's pages. */
static uint64_t *window_words(uint64_t *map, const struct rji_window *w)
{
	return map + w->first_page / RJI_WORD_BITS;
}

/* The node of a window's span. */
static uint8_t span_node(const struct rji_pageset_region *r, const struct rji_window *w,
			 uint32_t number)
{
	return r->span_node ? r->span_node[w->first_page / r->span_pages + number]
			    : (uint8_t)RJI_NODE_UNKNOWN;
}

/* One bit a span of the window that belongs to group. */
static uint32_t spans_of_group(const struct rji_harvest *h, const struct rji_window *w,
			       uint32_t group)
{
	const struct rji_pageset_region *r = &h->set->region[w->region];
	uint32_t spans = 0;

	for (uint32_t i = 0; i < w->n_spans; i++) {
		if (h->group_of[span_node(r, w, i)] == group)
			spans |= 1u << i;
	}
	return spans;
}

/* One bit a span in which something is pending. */
static uint32_t spans_pending(const struct rji_pageset_region *r, const struct rji_window *w)
{
	const uint64_t *pending = r->pending + w->first_page / RJI_WORD_BITS;
	uint64_t words = r->span_pages / RJI_WORD_BITS, n = rji_bitmap_words(w->n_pages);
	uint32_t spans = 0;

	for (uint32_t i = 0; i < w->n_spans; i++) {
		uint64_t left = n - i * words;

		if (any_set(pending + i * words, left < words ? left : words))
			spans |= 1u << i;
	}
	return spans;
}

/* Into the queue of each group that has something to send in it. */
static void enqueue(struct rji_harvest *h, uint32_t number)
{
	const struct rji_window *w = &h->windows[number];
	const struct rji_pageset_region *r = &h->set->region[w->region];
	uint32_t pending = spans_pending(r, w);

	while (pending) {
		uint32_t first = (uint32_t)__builtin_ctz(pending);
		uint32_t group = h->group_of[span_node(r, w, first)];

		h->queue[group].number[h->queue[group].n++] = number;
		pending &= ~spans_of_group(h, w, group);
	}
}

static void line_up(struct rji_harvest *h, uint32_t region, uint64_t first_page)
{
	struct rji_pageset_region *r = &h->set->region[region];
	uint64_t left = r->n_pages - first_page;
	struct rji_window *w = &h->windows[h->n_windows];

	w->region = region;
	w->first_page = first_page;
	w->n_pages = left < r->window_pages ? left : r->window_pages;
	w->n_spans = (uint32_t)div_up(w->n_pages, r->span_pages);
	atomic_store_explicit(&w->left, UINT32_MAX >> (RJI_MAX_WINDOW_SPANS - w->n_spans),
			      memory_order_relaxed);
	atomic_store_explicit(&w->claimed, false, memory_order_relaxed);
	atomic_store_explicit(&w->opened, false, memory_order_relaxed);
	if (!any_set(window_words(r->pending, w), rji_bitmap_words(w->n_pages))) {
		r->may_pend[first_page >> r->window_shift] = 0;
		return;
	}
	if (h->n_groups > 1)
		enqueue(h, h->n_windows);
	h->n_windows++;
}

uint32_t rji_harvest_begin_round(struct rji_harvest *h)
{
	h->n_windows = 0;
	for (uint32_t i = 0; i <= RJI_ANY_GROUP; i++) {
		h->queue[i].n = 0;
		atomic_store_explicit(&h->queue[i].next, 0, memory_order_relaxed);
	}
	rji_free_lock(h->hints);
	rji_free_begin_round(h->hints);
	for (uint32_t i = 0; i < h->set->n_regions; i++) {
		const struct rji_pageset_region *r = &h->set->region[i];

		for (uint64_t w = 0; w < r->n_windows; w++)
			if (r->may_pend[w])
				line_up(h, i, w << r->window_shift);
	}
	rji_free_unlock(h->hints);
	if (h->n_groups == 1)
		h->queue[0].n = h->n_windows;
	atomic_store_explicit(&h->n_unopened, h->n_windows, memory_order_relaxed);
	atomic_store_explicit(&h->helped, false, memory_order_relaxed);
	/* with the job hand-over to the lanes */
	atomic_store_explicit(&h->abort, false, memory_order_release);
	return h->n_windows;
}

void rji_harvest_fenced(struct rji_harvest *h)
{
	for (uint32_t i = 0; i < h->n_windows; i++) {
		const struct rji_window *w = &h->windows[i];

		memset(window_words(h->set->region[w->region].unfenced, w), 0,
		       rji_bitmap_words(w->n_pages) * sizeof(uint64_t));
	}
}

void rji_harvest_cursor_init(struct rji_harvest_cursor *c, uint32_t group)
{
	c->group = group;
	c->mine = NULL;
	c->helping = false;
	c->helped = 0;
}

/*
 * The byte is taken before the bits are looked at, so that a mark whose bit is not seen here sets
 * it again (rji_pageset_mark()).
 */
static void rearm_marked(struct rji_pageset_region *r, const struct rji_window *w,
			 const uint64_t *pending)
{
	_Atomic uint8_t *may = &r->may_mark[w->first_page >> r->window_shift];
	rji_plain_word *marked = r->marked + w->first_page / RJI_WORD_BITS;

	if (atomic_exchange_explicit(may, 0, memory_order_acq_rel) &&
	    rji_plain_rearm(marked, rji_bitmap_words(w->n_pages), pending))
		atomic_store_explicit(may, 1, memory_order_release);
}

/*
 * Re-arm exactly what is pending in the window, in every tracker. A tracker may find more that is
 * dirty in the same step; it is pending then. The plain bitmap comes last, so that it is re-armed
 * for that as well.
 */
static int rearm(struct rji_harvest *h, const struct rji_window *w, struct rj_error *err)
{
	struct rji_pageset_region *r = &h->set->region[w->region];
	uint64_t *pending = window_words(r->pending, w);
	uint64_t start = rji_now_ns();

	for (uint32_t i = 0; i < r->n_trackers; i++) {
		const struct rji_attached *a = &r->trackers[i];
		int ret = a->ops->rearm ? a->ops->rearm(a->t, w->region, w->first_page, w->n_pages,
							pending)
					: 0;

		if (ret < 0)
			return rji_fail_sys(err, RJ_E_TRACKER, -ret,
					    "the tracker '%s' cannot re-arm region '%s'",
					    a->ops->name, r->name);
	}
	rearm_marked(r, w, pending);
	raise_to(&h->rearm_max_ns, rji_now_ns() - start);
	return 0;
}

/*
 * Move a span's pending pages, but those held, to unfenced and into the cursor. False: there are
 * none.
 */
static bool take(struct rji_harvest *h, struct rji_harvest_cursor *c, const struct rji_window *w,
		 uint32_t number, struct rji_span *span_p)
{
	struct rji_pageset_region *r = &h->set->region[w->region];
	uint64_t offset = number * r->span_pages;
	uint64_t left = w->n_pages - offset;
	uint64_t first = (w->first_page + offset) / RJI_WORD_BITS;
	uint64_t n_words, any = 0;

	span_p->region = w->region;
	span_p->first_page = w->first_page + offset;
	span_p->n_pages = left < r->span_pages ? left : r->span_pages;
	span_p->node = span_node(r, w, number);
	span_p->bits = c->bits;
	n_words = rji_bitmap_words(span_p->n_pages);
	memcpy(c->bits, r->pending + first, n_words * sizeof(uint64_t));
	rji_holds_mask(h->holds, span_p->region, span_p->first_page, span_p->n_pages, c->bits);
	for (uint64_t i = 0; i < n_words; i++) {
		r->pending[first + i] &= ~c->bits[i];
		r->unfenced[first + i] |= c->bits[i];
		any |= c->bits[i];
	}
	return any;
}

/* The next span of one window, of those wanted. */
static bool take_from(struct rji_harvest *h, struct rji_harvest_cursor *c, struct rji_window *w,
		      uint32_t wanted, struct rji_span *span_p)
{
	uint32_t left = atomic_load_explicit(&w->left, memory_order_relaxed) & wanted;

	while (left) {
		uint32_t number = (uint32_t)__builtin_ctz(left), bit = 1u << number;
		uint32_t before = atomic_fetch_and_explicit(&w->left, ~bit, memory_order_relaxed);

		if (before & bit && take(h, c, w, number, span_p))
			return true;
		left = before & wanted & ~bit;
	}
	return false;
}

/* What is known to be free is neither re-armed nor sent. */
static int leave_out_and_rearm(struct rji_harvest *h, const struct rji_window *w,
			       struct rj_error *err)
{
	struct rji_pageset_region *r = &h->set->region[w->region];
	int ret;

	rji_free_lock(h->hints);
	rji_free_leave_out(h->hints, r, w->first_page, w->n_pages);
	ret = rearm(h, w, err);
	rji_free_put_back(r, w->first_page, w->n_pages);
	rji_free_unlock(h->hints);
	return ret;
}

/* Another lane is re-arming it: less than a millisecond. False: the round was aborted meanwhile. */
static bool await_opened(const struct rji_harvest *h, const struct rji_window *w)
{
	while (!atomic_load_explicit(&w->opened, memory_order_acquire)) {
		if (atomic_load_explicit(&h->abort, memory_order_acquire))
			return false;
		sched_yield();
	}
	return true;
}

static int open_window(struct rji_harvest *h, struct rji_window *w, struct rj_error *err)
{
	int ret;

	if (atomic_exchange_explicit(&w->claimed, true, memory_order_relaxed))
		return await_opened(h, w) ? 0 : -ECANCELED;
	ret = leave_out_and_rearm(h, w, err);
	if (ret < 0)
		return ret;
	/* Pairs with await_opened() and help(): who sees it open sees pending as rearm() left it. */
	atomic_store_explicit(&w->opened, true, memory_order_release);
	atomic_fetch_sub_explicit(&h->n_unopened, 1, memory_order_release);
	return 0;
}

/* The next window of a queue. 1, 0: none left, or negative. */
static int next_of_queue(struct rji_harvest *h, struct rji_harvest_cursor *c, uint32_t queue,
			 struct rj_error *err)
{
	struct rji_window_queue *q = &h->queue[queue];
	uint32_t turn, number;
	int ret;

	if (atomic_load_explicit(&q->next, memory_order_relaxed) >= q->n)
		return 0;
	turn = atomic_fetch_add_explicit(&q->next, 1, memory_order_relaxed);
	if (turn >= q->n)
		return 0;
	number = q->number ? q->number[turn] : turn;
	c->wanted = h->n_groups == 1 ? UINT32_MAX : spans_of_group(h, &h->windows[number], queue);
	ret = open_window(h, &h->windows[number], err);
	if (ret < 0)
		return ret;
	c->mine = &h->windows[number];
	return 1;
}

/* A window of its own group's, of nobody's, of the other groups'. The same results. */
static int next_window(struct rji_harvest *h, struct rji_harvest_cursor *c, struct rj_error *err)
{
	int ret = next_of_queue(h, c, c->group, err);

	if (ret || h->n_groups == 1)
		return ret;
	ret = next_of_queue(h, c, RJI_ANY_GROUP, err);
	if (!ret)
		atomic_store_explicit(&h->helped, true, memory_order_relaxed);
	for (uint32_t i = 1; !ret && i < h->n_groups; i++)
		ret = next_of_queue(h, c, (c->group + i) % h->n_groups, err);
	return ret;
}

/* Take a span out of another lane's window. False: the round has no more. */
static bool help(struct rji_harvest *h, struct rji_harvest_cursor *c, struct rji_span *span_p)
{
	for (;;) {
		/*
		 * Read before looking: a window that is opened later is then seen by the next turn.
		 */
		bool all_open = !atomic_load_explicit(&h->n_unopened, memory_order_acquire);
		bool all_done = true;

		for (uint32_t i = c->helped; i < h->n_windows; i++) {
			struct rji_window *w = &h->windows[i];
			bool open = atomic_load_explicit(&w->opened, memory_order_acquire);

			if (open && take_from(h, c, w, UINT32_MAX, span_p))
				return true;
			all_done = all_done && open;
			if (all_done)
				c->helped = i + 1;
		}
		if (all_open || atomic_load_explicit(&h->abort, memory_order_acquire))
			return false;
		sched_yield(); /* a window is being re-armed: less than a millisecond */
	}
}

int rji_harvest_next(struct rji_harvest *h, struct rji_harvest_cursor *c, struct rji_span *span_p,
		     struct rj_error *err)
{
	for (;;) {
		int ret;

		if (atomic_load_explicit(&h->abort, memory_order_acquire))
			return -ECANCELED;
		if (c->mine && take_from(h, c, c->mine, c->wanted, span_p))
			return 1;
		c->mine = NULL;
		ret = c->helping ? 0 : next_window(h, c, err);
		if (ret < 0)
			return ret;
		if (ret > 0)
			continue;
		c->helping = true;
		return help(h, c, span_p);
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/lane.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"

static void add(_Atomic uint64_t *total, uint64_t now, uint64_t *told)
{
	atomic_fetch_add_explicit(total, now - *told, memory_order_relaxed);
	*told = now;
}

/* What has been sent, batch by batch. The CPU time costs a system call and waits for the round's end. */
static void tell_sent(struct rji_lane_sender *lane)
{
	struct rji_lane_stats st = { 0 };

	if (lane->link)
		lane->ops->stats(lane->link, &st);
	add(&lane->totals->sent_bytes, st.sent_bytes, &lane->told_bytes);
	add(&lane->totals->pages, lane->pages, &lane->told_pages);
	add(&lane->totals->guest_bytes, lane->guest_bytes, &lane->told_guest_bytes);
	if (lane->filters)
		rji_lane_filter_tell(&lane->filter);
}

void rji_lane_tell_totals(struct rji_lane_sender *lane)
{
	struct rji_lane_stats st = { 0 };

	tell_sent(lane);
	if (lane->link)
		lane->ops->stats(lane->link, &st);
	add(&lane->totals->requests, st.requests, &lane->told.requests);
	add(&lane->totals->posts, st.posts, &lane->told.posts);
	add(&lane->totals->polls, st.polls, &lane->told.polls);
	add(&lane->totals->signalled, st.signalled, &lane->told.signalled);
	add(&lane->totals->cpu_ns, rji_thread_cpu_ns(), &lane->told_cpu_ns);
}

/*
 * Calls of the transport are timed, so that the control thread can tell a lane that stands still
 * from one that waits for its turn. Relaxed: only the time counts.
 */
static void enter_call(struct rji_lane_sender *lane)
{
	atomic_store_explicit(&lane->calling_since_ns, rji_now_ns(), memory_order_relaxed);
}

static int leave_call(struct rji_lane_sender *lane, int ret)
{
	atomic_store_explicit(&lane->calling_since_ns, 0, memory_order_relaxed);
	return ret;
}

int rji_lane_fence(struct rji_lane_sender *lane)
{
	enter_call(lane);
	return leave_call(lane, lane->ops->fence(lane->link, 0, &lane->err));
}

/* from NULL: the pages themselves. */
static int post(struct rji_lane_sender *lane, const struct rji_extent *e, const void *const *from,
		uint32_t n, uint64_t bytes)
{
	int ret = rji_pace_wait(lane->pace, bytes, lane->stop);

	if (ret < 0)
		return ret;
	enter_call(lane);
	return leave_call(lane, from ? lane->ops->post_staged(lane->link, e, from, n, &lane->err)
				     : lane->ops->post(lane->link, e, n, &lane->err));
}

/* Under a rate: no more than a quantum at a time, a longer extent in parts. */
static int post_in_turns(struct rji_lane_sender *lane, struct rji_extent *e, const void **from,
			 uint32_t n_left, uint64_t quantum)
{
	int ret = 0;

	while (!ret && n_left) {
		struct rji_extent part = *e;
		uint64_t bytes = 0;
		uint32_t n = 0;

		while (n < n_left && bytes + e[n].len_bytes <= quantum)
			bytes += e[n++].len_bytes;
		if (n) {
			ret = post(lane, e, from, n, bytes);
			e += n;
			from = from ? from + n : NULL;
			n_left -= n;
			continue;
		}
		part.len_bytes = (uint32_t)quantum;
		ret = post(lane, &part, from, 1, quantum);
		e->offset_bytes += quantum;
		e->len_bytes -= part.len_bytes;
		if (from)
			*from = (const char *)*from + quantum;
	}
	return ret;
}

static int post_extents(struct rji_lane_sender *lane, struct rji_extent *e, const void **from,
			uint32_t n, uint64_t bytes)
{
	uint64_t quantum = rji_pace_quantum(lane->pace);
	int ret;

	if (!n)
		return 0;
	ret = bytes <= quantum ? post(lane, e, from, n, bytes)
			       : post_in_turns(lane, e, from, n, quantum);
	if (!ret)
		lane->round.bytes += bytes;
	return ret;
}

/* What is not the pages themselves; the same for its bytes. */
static int post_coded(struct rji_lane_sender *lane, const struct rji_coded *c, uint32_t n_left)
{
	uint64_t quantum = rji_pace_quantum(lane->pace);
	int ret = 0;

	while (!ret && n_left) {
		uint64_t bytes = c->len_bytes;
		uint32_t n = 1;

		while (n < n_left && bytes + c[n].len_bytes <= quantum)
			bytes += c[n++].len_bytes;
		ret = rji_pace_wait(lane->pace, bytes, lane->stop);
		if (ret < 0)
			return ret;
		enter_call(lane);
		ret = leave_call(lane, lane->ops->post_coded(lane->link, c, n, &lane->err));
		lane->round.bytes += bytes;
		c += n;
		n_left -= n;
	}
	return ret;
}

static int post_clears(struct rji_lane_sender *lane)
{
	int ret = post_coded(lane, lane->clears, lane->n_clears);

	lane->n_clears = 0;
	if (ret < 0 || lane->clear_bytes < RJI_CLEARS_BYTES)
		return ret;
	lane->clear_bytes = 0;
	return rji_lane_fence(lane); /* or its last fence had all of them to wait for */
}

/* What sending costs: by this the filter tells what would pay. */
static void saw_sending(struct rji_lane_sender *lane, uint64_t bytes, uint64_t ns)
{
	uint64_t pages = bytes >> RJI_STAGE_PAGE_SHIFT;

	if (!lane->filters || !pages)
		return;
	rji_average(&lane->filter.send_ns, ns / pages);
	rji_shrink_saw_plain(&lane->filter.shrink, pages, ns);
}

static int post_batch(struct rji_lane_sender *lane)
{
	uint64_t began = rji_now_ns();
	int ret = post_clears(lane);

	if (!ret)
		ret = post_extents(lane, lane->extents, NULL, lane->n_extents, lane->batch_bytes);
	if (!ret && lane->n_extents)
		saw_sending(lane, lane->batch_bytes, rji_now_ns() - began);
	if (!ret)
		tell_sent(lane);
	lane->n_extents = 0;
	lane->batch_bytes = 0;
	return ret;
}

/* --- copies --- */

/* Compress what stands in the stage, as was decided when it went in. */
static void pack(struct rji_lane_sender *lane, uint64_t *pages)
{
	struct rji_stage *st = lane->filter.stage;
	uint64_t bytes, began = rji_now_ns();

	*pages = 0;
	if (lane->packing == RJI_SHRINK_NO || !st->n_pages)
		return;
	rji_stage_pack(st, lane->packing == RJI_SHRINK_ALL, pages, &bytes);
	if (lane->packing == RJI_SHRINK_PIECE)
		rji_shrink_saw_piece(&lane->filter.shrink, *pages, bytes, rji_now_ns() - began);
}

static uint64_t bytes_of(const struct rji_extent *e, uint32_t n)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += e[i].len_bytes;
	return bytes;
}

/* Post what stands in the stage, and wait until nobody reads it. */
static int post_stage(struct rji_lane_sender *lane)
{
	struct rji_stage *st = lane->filter.stage;
	uint64_t began = rji_now_ns(), packed, bytes;
	int ret;

	if (!st || (!st->n_pages && !st->n_coded)) {
		if (st)
			rji_stage_reset(st);
		return 0;
	}
	pack(lane, &packed);
	bytes = bytes_of(st->pages, st->n_pages);
	ret = post_extents(lane, st->pages, st->from, st->n_pages, bytes);
	if (!ret && st->n_coded)
		ret = post_coded(lane, st->coded, st->n_coded);
	if (!ret) {
		enter_call(lane);
		ret = leave_call(lane, lane->ops->drain(lane->link, &lane->err));
	}
	if (!ret && lane->packing == RJI_SHRINK_ALL)
		rji_shrink_saw_packed(&lane->filter.shrink, packed, rji_now_ns() - began);
	else if (!ret && lane->packing == RJI_SHRINK_NO && bytes > RJI_STAGE_BYTES / 2)
		saw_sending(lane, bytes, rji_now_ns() - began);
	if (!ret)
		tell_sent(lane);
	rji_stage_reset(st);
	return ret;
}

static int send_copies(struct rji_lane_sender *lane, const struct rji_span *span)
{
	struct rji_lane_filter *lf = &lane->filter;
	struct rji_pageset_region *r = &lane->harvest->set->region[span->region];
	int ret = lf->how == lane->packing ? 0 : post_stage(lane);

	lane->packing = lf->how;
	lf->stage->packs = lf->how == RJI_SHRINK_ALL;
	while (!ret && !rji_stage_span(lf->stage, r, span, lf->copy, lf->want_old))
		ret = post_stage(lane);
	if (!ret && lf->how == RJI_SHRINK_PIECE) {
		ret = post_stage(lane);
		lane->packing = RJI_SHRINK_NO;
	}
	return ret;
}

static bool any(const uint64_t *words, uint64_t n)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < n; i++)
		all |= words[i];
	return all;
}

/* One message for all that lie side by side. */
static int gather_clears(struct rji_lane_sender *lane, const struct rji_span *span, uint32_t shift)
{
	struct rji_span zeros = *span;
	uint64_t page = 0;
	struct rji_extent e;

	zeros.bits = lane->filter.clear;
	while (rji_extents_of_span(&zeros, shift, RJI_EXTENT_MAX_BYTES, &page, &e, 1)) {
		struct rji_coded *last = lane->n_clears ? &lane->clears[lane->n_clears - 1] : NULL;
		int ret = 0;

		lane->clear_bytes += e.len_bytes;
		if (last && last->extent.region == e.region &&
		    last->extent.offset_bytes + last->extent.len_bytes == e.offset_bytes &&
		    last->extent.len_bytes <= RJI_EXTENT_MAX_BYTES - e.len_bytes)
			last->extent.len_bytes += e.len_bytes;
		else
			lane->clears[lane->n_clears++] =
				(struct rji_coded){ .extent = e, .coding = RJI_CODING_ZEROS };
		if (lane->n_clears == RJI_BATCH_EXTENTS || lane->clear_bytes >= RJI_CLEARS_BYTES)
			ret = post_clears(lane);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Let the filter sort the span; what is left in its bits goes as it is. */
static int filter_span(struct rji_lane_sender *lane, struct rji_span *span, uint32_t shift)
{
	uint64_t n = rji_bitmap_words(span->n_pages);
	int ret = 0;

	rji_lane_filter_span(&lane->filter, span);
	if (any(lane->filter.clear, n))
		ret = gather_clears(lane, span, shift);
	if (!ret && any(lane->filter.copy, n))
		ret = send_copies(lane, span);
	return ret;
}

static void grow(_Atomic uint64_t *bytes, uint64_t by)
{
	atomic_store_explicit(bytes, atomic_load_explicit(bytes, memory_order_relaxed) + by,
			      memory_order_relaxed); /* one writer */
}

static void count_node(const struct rji_lane_sender *lane, const struct rji_span *span,
		       uint64_t bytes)
{
	uint32_t node = span->node < lane->n_nodes ? span->node : lane->n_nodes;

	if (!lane->node_bytes)
		return;
	grow(&lane->node_bytes[node].all, bytes);
	if (!atomic_load_explicit(&lane->harvest->helped, memory_order_relaxed))
		grow(&lane->node_bytes[node].busy, bytes);
}

/* Gather what is left in the span's bits, and post when that is enough. */
static int send_pages(struct rji_lane_sender *lane, const struct rji_span *span, uint32_t shift)
{
	uint64_t page = 0;
	uint32_t n;

	while ((n = rji_extents_of_span(span, shift, lane->extent_max_bytes, &page,
					lane->extents + lane->n_extents,
					RJI_BATCH_EXTENTS - lane->n_extents))) {
		lane->batch_bytes += bytes_of(lane->extents + lane->n_extents, n);
		lane->n_extents += n;
		if (lane->n_extents == RJI_BATCH_EXTENTS || lane->batch_bytes >= RJI_BATCH_BYTES) {
			int ret = post_batch(lane);

			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

static int send_span(struct rji_lane_sender *lane, struct rji_span *span)
{
	uint32_t shift = lane->harvest->set->region[span->region].page_shift;
	uint64_t pages = rji_bitmap_weight(span->bits, rji_bitmap_words(span->n_pages));
	int ret = lane->filters ? filter_span(lane, span, shift) : 0;

	lane->round.pages += pages;
	lane->round.guest_bytes += pages << shift;
	lane->pages += pages;
	lane->guest_bytes += pages << shift;
	count_node(lane, span, pages << shift);
	return ret < 0 ? ret : send_pages(lane, span, shift);
}

/* Somebody holds a range: let go of all memory before saying so. */
static int heed_holds(struct rji_lane_sender *lane)
{
	int ret = post_batch(lane);

	enter_call(lane);
	if (!ret)
		ret = lane->ops->drain(lane->link, &lane->err);
	leave_call(lane, 0);
	if (!ret)
		rji_holds_acknowledge(lane->holds, lane->number);
	return ret;
}

static int send_spans(struct rji_lane_sender *lane)
{
	struct rji_span span;
	int ret;

	while ((ret = rji_harvest_next(lane->harvest, &lane->cursor, &span, &lane->err)) > 0) {
		ret = send_span(lane, &span);
		if (!ret && rji_holds_changed(lane->holds, lane->number))
			ret = heed_holds(lane);
		if (ret < 0)
			break;
	}
	if (!ret && lane->filters)
		ret = post_stage(lane);
	return ret < 0 ? ret : post_batch(lane);
}

int rji_lane_send_round(struct rji_lane_sender *lane)
{
	int ret;

	memset(&lane->round, 0, sizeof(lane->round));
	rji_harvest_cursor_init(&lane->cursor, lane->group);
	rji_holds_enter(lane->holds, lane->number);
	ret = send_spans(lane);
	if (ret == -ECANCELED && !lane->err.code && !rji_stop_is_set(lane->stop))
		ret = 0; /* another lane failed */
	lane->round.sent_at_ns = rji_now_ns();
	if (!ret)
		ret = rji_lane_fence(lane);
	lane->round.fenced_at_ns = rji_now_ns();
	rji_lane_tell_totals(lane);
	lane->n_extents = 0;
	lane->n_clears = 0;
	lane->clear_bytes = 0;
	lane->batch_bytes = 0;
	if (lane->filters && lane->filter.stage)
		rji_stage_reset(lane->filter.stage);
	rji_holds_leave(lane->holds, lane->number);
	return ret;
}

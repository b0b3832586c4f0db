/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/lane.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "pagesender/lane_filtered.h"
#include "pagesender/lane_post.h"

static void add(_Atomic uint64_t *total, uint64_t now, uint64_t *told)
{
	atomic_fetch_add_explicit(total, now - *told, memory_order_relaxed);
	*told = now;
}

void rji_lane_tell_sent(struct rji_lane_sender *lane)
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

	rji_lane_tell_sent(lane);
	if (lane->link)
		lane->ops->stats(lane->link, &st);
	add(&lane->totals->requests, st.requests, &lane->told.requests);
	add(&lane->totals->posts, st.posts, &lane->told.posts);
	add(&lane->totals->polls, st.polls, &lane->told.polls);
	add(&lane->totals->signalled, st.signalled, &lane->told.signalled);
	add(&lane->totals->cpu_ns, rji_thread_cpu_ns(), &lane->told_cpu_ns);
}

static int post_batch(struct rji_lane_sender *lane)
{
	uint64_t began = rji_now_ns();
	int ret = rji_lane_post_clears(lane);

	if (!ret)
		ret = rji_lane_post(lane, lane->extents, NULL, lane->n_extents, lane->batch_bytes);
	if (!ret && lane->n_extents)
		rji_lane_saw_sending(lane, lane->batch_bytes, rji_now_ns() - began);
	if (!ret)
		rji_lane_tell_sent(lane);
	lane->n_extents = 0;
	lane->batch_bytes = 0;
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
		lane->batch_bytes += rji_extents_bytes(lane->extents + lane->n_extents, n);
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
	int ret = lane->filters ? rji_lane_filter_and_post(lane, span, shift) : 0;

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

	if (!ret)
		ret = rji_lane_drain(lane);
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
		ret = rji_lane_post_stage(lane);
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
	lane->batch_bytes = 0;
	rji_lane_forget_filtered(lane);
	rji_holds_leave(lane->holds, lane->number);
	return ret;
}

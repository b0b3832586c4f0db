/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/lane.h"

#include <string.h>

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

static int post(struct rji_lane_sender *lane, const struct rji_extent *e, uint32_t n,
		uint64_t bytes)
{
	int ret = rji_pace_wait(lane->pace, bytes, lane->stop);

	if (ret < 0)
		return ret;
	enter_call(lane);
	return leave_call(lane, lane->ops->post(lane->link, e, n, &lane->err));
}

/* Under a rate: no more than a quantum at a time, a longer extent in parts. */
static int post_in_turns(struct rji_lane_sender *lane, uint64_t quantum)
{
	struct rji_extent *e = lane->extents, *end = e + lane->n_extents;
	int ret = 0;

	while (!ret && e < end) {
		struct rji_extent part = *e;
		uint64_t bytes = 0;
		uint32_t n = 0;

		while (e + n < end && bytes + e[n].len_bytes <= quantum)
			bytes += e[n++].len_bytes;
		if (n) {
			ret = post(lane, e, n, bytes);
			e += n;
			continue;
		}
		part.len_bytes = (uint32_t)quantum;
		e->offset_bytes += quantum;
		e->len_bytes -= part.len_bytes;
		ret = post(lane, &part, 1, quantum);
	}
	return ret;
}

static int post_batch(struct rji_lane_sender *lane)
{
	uint64_t quantum = rji_pace_quantum(lane->pace);
	int ret;

	if (!lane->n_extents)
		return 0;
	if (lane->batch_bytes <= quantum)
		ret = post(lane, lane->extents, lane->n_extents, lane->batch_bytes);
	else
		ret = post_in_turns(lane, quantum);
	if (!ret) {
		lane->round.bytes += lane->batch_bytes;
		tell_sent(lane);
	}
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

static int send_span(struct rji_lane_sender *lane, const struct rji_span *span)
{
	uint64_t pages_before = lane->pages;
	uint32_t shift = lane->harvest->set->region[span->region].page_shift;
	uint64_t page = 0;
	uint32_t n;

	while ((n = rji_extents_of_span(span, shift, lane->extent_max_bytes, &page,
					lane->extents + lane->n_extents,
					RJI_BATCH_EXTENTS - lane->n_extents))) {
		uint64_t bytes = 0;

		for (uint32_t i = 0; i < n; i++)
			bytes += lane->extents[lane->n_extents + i].len_bytes;
		lane->batch_bytes += bytes;
		lane->round.pages += bytes >> shift;
		lane->pages += bytes >> shift;
		lane->n_extents += n;
		if (lane->n_extents == RJI_BATCH_EXTENTS || lane->batch_bytes >= RJI_BATCH_BYTES) {
			int ret = post_batch(lane);

			if (ret < 0)
				return ret;
		}
	}
	count_node(lane, span, (lane->pages - pages_before) << shift);
	return 0;
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
	rji_holds_leave(lane->holds, lane->number);
	return ret;
}

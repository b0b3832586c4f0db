/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/lane_filtered.h"

#include "base/bitmap.h"
#include "base/clock.h"
#include "pagesender/lane_post.h"

void rji_lane_saw_sending(struct rji_lane_sender *lane, uint64_t bytes, uint64_t ns)
{
	uint64_t pages = bytes >> RJI_STAGE_PAGE_SHIFT;

	if (!lane->filters || !pages)
		return;
	rji_average(&lane->filter.send_ns, ns / pages, 8);
	rji_shrink_saw_plain(&lane->filter.shrink, pages, ns);
}

/* --- clears --- */

int rji_lane_post_clears(struct rji_lane_sender *lane)
{
	int ret = rji_lane_post_coded(lane, lane->clears, lane->n_clears);

	lane->n_clears = 0;
	if (ret < 0 || lane->clear_bytes < RJI_CLEARS_BYTES)
		return ret;
	lane->clear_bytes = 0;
	return rji_lane_fence(lane); /* or its last fence had all of them to wait for */
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
			ret = rji_lane_post_clears(lane);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* --- copies --- */

/* Compress what stands in the stage, as was decided when it went in. */
static void pack(struct rji_lane_sender *lane, uint64_t *pages)
{
	struct rji_stage *st = lane->filter.stage;
	uint64_t bytes, began;

	*pages = 0;
	if (lane->packing == RJI_SHRINK_NO || !st->n_pages)
		return;
	if (lane->packing == RJI_SHRINK_ALL) {
		rji_stage_pack(st, true, pages, &bytes);
		return;
	}
	rji_stage_warm_up(st);
	began = rji_thread_cpu_ns();
	rji_stage_pack(st, false, pages, &bytes);
	rji_shrink_saw_piece(&lane->filter.shrink, *pages, bytes, rji_thread_cpu_ns() - began);
}

int rji_lane_post_stage(struct rji_lane_sender *lane)
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
	bytes = rji_extents_bytes(st->pages, st->n_pages);
	ret = rji_lane_post(lane, st->pages, st->from, st->n_pages, bytes);
	if (!ret && st->n_coded)
		ret = rji_lane_post_coded(lane, st->coded, st->n_coded);
	if (!ret)
		ret = rji_lane_drain(lane);
	if (!ret && lane->packing == RJI_SHRINK_ALL)
		rji_shrink_saw_packed(&lane->filter.shrink, packed, rji_now_ns() - began);
	else if (!ret && lane->packing == RJI_SHRINK_NO && bytes > RJI_STAGE_BYTES / 2)
		rji_lane_saw_sending(lane, bytes, rji_now_ns() - began);
	if (!ret)
		rji_lane_tell_sent(lane);
	rji_stage_reset(st);
	return ret;
}

static int send_copies(struct rji_lane_sender *lane, const struct rji_span *span)
{
	struct rji_lane_filter *lf = &lane->filter;
	struct rji_pageset_region *r = &lane->harvest->set->region[span->region];
	int ret = lf->how == lane->packing ? 0 : rji_lane_post_stage(lane);

	lane->packing = lf->how;
	lf->stage->packs = lf->how == RJI_SHRINK_ALL;
	while (!ret && !rji_stage_span(lf->stage, r, span, lf->copy, lf->want_old))
		ret = rji_lane_post_stage(lane);
	if (!ret && lf->how == RJI_SHRINK_PIECE) {
		ret = rji_lane_post_stage(lane);
		lane->packing = RJI_SHRINK_NO;
	}
	return ret;
}

/* --- spans --- */

static bool any(const uint64_t *words, uint64_t n)
{
	uint64_t all = 0;

	for (uint64_t i = 0; i < n; i++)
		all |= words[i];
	return all;
}

int rji_lane_filter_and_post(struct rji_lane_sender *lane, struct rji_span *span, uint32_t shift)
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

void rji_lane_forget_filtered(struct rji_lane_sender *lane)
{
	lane->n_clears = 0;
	lane->clear_bytes = 0;
	if (lane->filters && lane->filter.stage)
		rji_stage_reset(lane->filter.stage);
}

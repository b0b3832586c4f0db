/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/lane_post.h"

#include "base/clock.h"

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

int rji_lane_drain(struct rji_lane_sender *lane)
{
	enter_call(lane);
	return leave_call(lane, lane->ops->drain(lane->link, &lane->err));
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

int rji_lane_post(struct rji_lane_sender *lane, struct rji_extent *e, const void **from, uint32_t n,
		  uint64_t bytes)
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

int rji_lane_post_coded(struct rji_lane_sender *lane, const struct rji_coded *c, uint32_t n_left)
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

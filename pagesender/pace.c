/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/pace.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/clock.h"

/* What a lane may catch up on after it came late. */
#define SLACK_NS (2 * RJI_NS_PER_MS)

void rji_pace_init(struct rji_pace *p, uint64_t rate_bytes_per_s)
{
	atomic_init(&p->rate_bytes_per_s, rate_bytes_per_s);
	atomic_init(&p->free_at_ns, 0);
}

void rji_pace_set(struct rji_pace *p, uint64_t rate_bytes_per_s)
{
	atomic_store_explicit(&p->rate_bytes_per_s, rate_bytes_per_s, memory_order_relaxed);
}

/* Returns when this reservation begins. */
static uint64_t reserve(struct rji_pace *p, uint64_t cost_ns, uint64_t now)
{
	uint64_t free_at = atomic_load_explicit(&p->free_at_ns, memory_order_relaxed), begin;

	do {
		begin = free_at + SLACK_NS < now ? now - SLACK_NS : free_at;
	} while (!atomic_compare_exchange_weak_explicit(&p->free_at_ns, &free_at, begin + cost_ns,
							memory_order_relaxed,
							memory_order_relaxed));
	return begin;
}

int rji_pace_wait(struct rji_pace *p, uint64_t bytes, const struct rji_stop *stop)
{
	uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);
	uint64_t now, turn;

	if (!rate)
		return 0;
	now = rji_now_ns();
	turn = reserve(p, (uint64_t)((__uint128_t)bytes * RJI_NS_PER_S / rate), now);
	while (turn > now) {
		struct pollfd fd = { .fd = stop->fd, .events = POLLIN };
		struct timespec ts = { .tv_sec = (time_t)((turn - now) / RJI_NS_PER_S),
				       .tv_nsec = (long)((turn - now) % RJI_NS_PER_S) };

		if (ppoll(&fd, 1, &ts, NULL) > 0)
			return -ECANCELED;
		if (!atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed))
			break; /* the limit was lifted meanwhile */
		now = rji_now_ns();
	}
	return 0;
}

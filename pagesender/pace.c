/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/pace.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/clock.h"

#define QUANTUM_PER_S 2000
#define QUANTUM_MIN 4096

/* How soon who waits notices that the rate was changed. */
#define LOOK_NS (50 * RJI_NS_PER_MS)

void rji_pace_init(struct rji_pace *p, uint64_t rate_bytes_per_s)
{
	atomic_init(&p->rate_bytes_per_s, rate_bytes_per_s);
	atomic_init(&p->free_at_ns, 0);
}

void rji_pace_set(struct rji_pace *p, uint64_t rate_bytes_per_s)
{
	atomic_store_explicit(&p->rate_bytes_per_s, rate_bytes_per_s, memory_order_relaxed);
	/*
	 * What was reserved at the old rate is void: who waits for it reserves anew. Release: who
	 * reserves after this finds the new rate.
	 */
	atomic_store_explicit(&p->free_at_ns, 0, memory_order_release);
}

uint64_t rji_pace_quantum(const struct rji_pace *p)
{
	uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);
	uint64_t bytes = rate / QUANTUM_PER_S / QUANTUM_MIN * QUANTUM_MIN;

	if (!rate)
		return UINT64_MAX;
	return bytes > QUANTUM_MIN ? bytes : QUANTUM_MIN;
}

/* Acquire pairs with rji_pace_set(). */
uint64_t rji_pace_reserve(struct rji_pace *p, uint64_t cost_ns, uint64_t now_ns)
{
	uint64_t free_at = atomic_load_explicit(&p->free_at_ns, memory_order_relaxed), begin;

	do {
		begin = free_at + RJI_PACE_SLACK_NS < now_ns ? now_ns - RJI_PACE_SLACK_NS : free_at;
	} while (!atomic_compare_exchange_weak_explicit(&p->free_at_ns, &free_at, begin + cost_ns,
							memory_order_acquire,
							memory_order_relaxed));
	return begin;
}

/* Sleep until turn. 1: the rate changed meanwhile; 0; -ECANCELED. */
static int sleep_until(const struct rji_pace *p, uint64_t turn, uint64_t now, uint64_t rate,
		       const struct rji_stop *stop)
{
	for (; turn > now; now = rji_now_ns()) {
		struct pollfd fd = { .fd = stop->fd, .events = POLLIN };
		uint64_t left = turn - now < LOOK_NS ? turn - now : LOOK_NS;
		struct timespec ts = { .tv_nsec = (long)left };

		if (ppoll(&fd, 1, &ts, NULL) > 0)
			return -ECANCELED;
		if (atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed) != rate)
			return 1;
	}
	return 0;
}

int rji_pace_wait(struct rji_pace *p, uint64_t bytes, const struct rji_stop *stop)
{
	for (;;) {
		uint64_t rate = atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed);
		uint64_t now, turn;
		int ret;

		if (!rate)
			return 0;
		now = rji_now_ns();
		turn = rji_pace_reserve(p, (uint64_t)((__uint128_t)bytes * RJI_NS_PER_S / rate),
					now);
		if (atomic_load_explicit(&p->rate_bytes_per_s, memory_order_relaxed) != rate) {
			/* Changed between reading and reserving: void as well. */
			atomic_store_explicit(&p->free_at_ns, 0, memory_order_relaxed);
			continue;
		}
		ret = sleep_until(p, turn, now, rate, stop);
		if (ret <= 0)
			return ret;
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_CLOCK_H
#define RJI_BASE_CLOCK_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

#define RJI_NS_PER_MS UINT64_C(1000000)
#define RJI_NS_PER_S UINT64_C(1000000000)

static inline uint64_t rji_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * RJI_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The clock of all deadlines and durations. */
static inline uint64_t rji_now_ns(void)
{
	return rji_clock_ns(CLOCK_MONOTONIC);
}

/* CPU time of the calling thread, user and system. */
static inline uint64_t rji_thread_cpu_ns(void)
{
	return rji_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/*
 * Milliseconds until a deadline, for poll(): rounded up, 0 when it has passed, -1 for none (0). One
 * too far away for an int is cut: who waits looks at the clock again.
 */
static inline int rji_ms_until(uint64_t deadline_ns)
{
	uint64_t now, ms;

	if (!deadline_ns)
		return -1;
	now = rji_now_ns();
	if (deadline_ns <= now)
		return 0;
	ms = (deadline_ns - now - 1) / RJI_NS_PER_MS + 1;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

#endif

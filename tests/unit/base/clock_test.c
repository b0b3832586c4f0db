/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>

#include <criterion/criterion.h>

#include "base/clock.h"

Test(clock, does_not_go_back)
{
	uint64_t before = rji_now_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = rji_now_ns();

		cr_assert_geq(now, before);
		before = now;
	}
}

Test(clock, no_deadline_waits_for_ever)
{
	cr_assert_eq(rji_ms_until(0), -1);
}

Test(clock, passed_deadline_does_not_wait)
{
	cr_assert_eq(rji_ms_until(1), 0);
	cr_assert_eq(rji_ms_until(rji_now_ns()), 0);
}

Test(clock, wait_is_rounded_up_so_that_it_ends_after_the_deadline)
{
	for (int i = 0; i < 100; i++) {
		uint64_t deadline = rji_now_ns() + 1000 * RJI_NS_PER_S + 1;
		int ms = rji_ms_until(deadline);

		cr_assert_geq(rji_now_ns() + (uint64_t)ms * RJI_NS_PER_MS, deadline);
		cr_assert_leq(ms, 1000001);
	}
}

Test(clock, far_deadline_neither_spins_nor_waits_for_ever)
{
	uint64_t now = rji_now_ns();

	cr_assert_eq(rji_ms_until(now + (1ull << 32) * RJI_NS_PER_MS), INT_MAX);
	cr_assert_eq(rji_ms_until(now + (1ull << 31) * RJI_NS_PER_MS + RJI_NS_PER_S), INT_MAX);
	cr_assert_eq(rji_ms_until(UINT64_MAX), INT_MAX);
}

Test(clock, thread_time_counts_work)
{
	uint64_t before = rji_thread_cpu_ns();
	volatile uint64_t sink = 0;

	while (rji_thread_cpu_ns() - before < RJI_NS_PER_MS)
		sink++;
	cr_assert_gt(sink, 0);
}

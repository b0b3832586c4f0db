/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "pagesender/pace.h"

static struct rji_pace pace;
static struct rji_stop stop;

static void set_up(void)
{
	rji_stop_init(&stop);
}

static void tear_down(void)
{
	rji_stop_fini(&stop);
}

TestSuite(pace, .init = set_up, .fini = tear_down, .timeout = 20);

Test(pace, no_limit_does_not_wait)
{
	rji_pace_init(&pace, 0);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(rji_pace_wait(&pace, 1ull << 40, &stop), 0);
	cr_assert_eq(pace.free_at_ns, 0, "nothing is reserved");
}

/*
 * 200 ms of link at 100 MB/s in batches of 1 MB. By the account: what was let through by any moment is what the rate
 * allows by then, and the slack for coming late. A machine that stalls only makes it less.
 */
Test(pace, never_more_than_the_rate_allows)
{
	const uint64_t rate = 100000000, batch = 1000000, n = 20;
	uint64_t start;

	rji_pace_init(&pace, rate);
	start = rji_now_ns();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t now, allowed;

		cr_assert_eq(rji_pace_wait(&pace, batch, &stop), 0);
		now = rji_now_ns();
		allowed = (now - start + 2 * RJI_NS_PER_MS) * rate / RJI_NS_PER_S + batch;
		cr_assert_leq((i + 1) * batch, allowed, "batch %lu after %lu ns", i, now - start);
	}
}

/* And no less: each turn comes when the link is free, so that the account ends where the rate says. */
Test(pace, turns_follow_each_other_without_gaps)
{
	const uint64_t rate = 100000000, batch = 1000000, n = 20;
	uint64_t first_end, late = 0;

	rji_pace_init(&pace, rate);
	rji_pace_wait(&pace, batch, &stop);
	first_end = pace.free_at_ns;
	for (uint64_t i = 1; i < n; i++) {
		uint64_t expected = pace.free_at_ns, began;

		rji_pace_wait(&pace, batch, &stop);
		began = pace.free_at_ns - batch * RJI_NS_PER_S / rate;
		late += began - expected; /* only where this process came later than the slack */
	}
	cr_assert_eq(pace.free_at_ns - first_end - late, (n - 1) * batch * RJI_NS_PER_S / rate);
}

Test(pace, one_that_was_away_catches_up_on_the_slack_only)
{
	uint64_t now;

	rji_pace_init(&pace, 1000000000);
	pace.free_at_ns = rji_now_ns() - 10 * RJI_NS_PER_S;
	now = rji_now_ns();
	rji_pace_wait(&pace, 1000, &stop);
	cr_assert_geq(pace.free_at_ns, now - 2 * RJI_NS_PER_MS + 1000);
	cr_assert_leq(pace.free_at_ns, rji_now_ns() - 2 * RJI_NS_PER_MS + 1000);
}

Test(pace, stop_ends_a_wait)
{
	rji_pace_init(&pace, 1);
	rji_pace_wait(&pace, 1000000, &stop); /* the next turn is in eleven days */
	rji_stop_set(&stop);
	cr_assert_eq(rji_pace_wait(&pace, 1, &stop), -ECANCELED);
}

static void *wait_for_turn(void *arg)
{
	*(int *)arg = rji_pace_wait(&pace, 1000000, &stop);
	return NULL;
}

/* A waiter whose turn is eleven days away; set() is called when it has reserved it. */
static void change_while_waiting(uint64_t rate)
{
	uint64_t before;
	pthread_t t;
	int ret = -1;

	rji_pace_init(&pace, 1);
	rji_pace_wait(&pace, 1000000, &stop);
	before = pace.free_at_ns;
	pthread_create(&t, NULL, wait_for_turn, &ret);
	while (pace.free_at_ns == before)
		;
	rji_pace_set(&pace, rate);
	pthread_join(t, NULL);
	cr_assert_eq(ret, 0);
}

Test(pace, lifting_the_limit_frees_who_waits)
{
	change_while_waiting(0);
	cr_assert_eq(rji_pace_wait(&pace, 1ull << 40, &stop), 0);
}

Test(pace, raising_the_limit_counts_for_who_waits_and_who_comes)
{
	change_while_waiting(1000000000);
	cr_assert_eq(rji_pace_wait(&pace, 1000000, &stop), 0);
	cr_assert_leq(pace.free_at_ns, rji_now_ns() + RJI_NS_PER_S);
}

Test(pace, account_does_not_wrap)
{
	uint64_t now = rji_now_ns();

	rji_pace_init(&pace, 1);
	rji_pace_wait(&pace, 8ull << 30, &stop);
	cr_assert_geq(pace.free_at_ns, now + (8ull << 30) * (RJI_NS_PER_S - 1));
}

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
		allowed = (now - start + RJI_PACE_SLACK_NS) * rate / RJI_NS_PER_S + batch;
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
	cr_assert_geq(pace.free_at_ns, now - RJI_PACE_SLACK_NS + 1000);
	cr_assert_leq(pace.free_at_ns, rji_now_ns() - RJI_PACE_SLACK_NS + 1000);
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

/* --- smooth at 10 ms, by a clock of the test's --- */

#define N_LANES 4
#define WINDOW_NS (10 * RJI_NS_PER_MS)
#define N_POSTS 20000

struct posted {
	uint64_t at_ns, bytes;
};

static struct posted posted[N_POSTS];

/* How long after its turn a lane wakes up, and how long it is away now and then. */
struct habits {
	uint64_t late_ns, pause_ns;
};

/*
 * Lanes that reserve, sleep and post in turn. The account is asked in the order in which they come.
 * Returns when the last one posted.
 */
static uint64_t run_lanes(uint64_t rate, struct habits h)
{
	uint64_t comes_at[N_LANES] = { 0 }, quantum, cost, last = 0;

	rji_pace_init(&pace, rate);
	quantum = rji_pace_quantum(&pace);
	cost = quantum * RJI_NS_PER_S / rate;
	for (int i = 0; i < N_LANES; i++)
		comes_at[i] = RJI_NS_PER_S;
	for (int i = 0; i < N_POSTS; i++) {
		uint64_t turn, *now = &comes_at[0];

		for (int k = 1; k < N_LANES; k++)
			now = comes_at[k] < *now ? &comes_at[k] : now;
		turn = rji_pace_reserve(&pace, cost, *now);
		*now = (turn > *now ? turn : *now) + (uint64_t)(i % 3) * h.late_ns / 2;
		posted[i] = (struct posted){ *now, quantum };
		last = *now > last ? *now : last;
		if (i % 1000 == 999)
			for (int k = 0; k < N_LANES; k++)
				comes_at[k] += h.pause_ns;
	}
	return last;
}

static int by_time(const void *a, const void *b)
{
	const struct posted *x = a, *y = b;

	return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

/* The most and the least that any 10 ms saw between the first post and end_ns. */
static void windows(uint64_t end_ns, uint64_t *most_p, uint64_t *least_p)
{
	uint64_t sum = 0, most = 0, least = UINT64_MAX;
	int first = 0;

	qsort(posted, N_POSTS, sizeof(*posted), by_time);
	for (int i = 0; i < N_POSTS && posted[i].at_ns <= end_ns; i++) {
		sum += posted[i].bytes;
		for (; posted[i].at_ns - posted[first].at_ns >= WINDOW_NS; first++)
			sum -= posted[first].bytes;
		most = sum > most ? sum : most;
		if (posted[i].at_ns - posted[0].at_ns >= WINDOW_NS)
			least = sum < least ? sum : least;
	}
	*most_p = most;
	*least_p = least;
}

static const uint64_t rates[] = { 10000000, 100000000, 1250000000, 12500000000 };

Test(pace, any_10_ms_are_within_a_tenth_of_the_rate)
{
	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		uint64_t end = run_lanes(rates[i], (struct habits){ 0 });
		uint64_t allowed = rates[i] / 100, most, least;

		windows(end, &most, &least);
		cr_assert_leq(most, allowed * 115 / 100, "%lu: %lu", rates[i], most);
		cr_assert_geq(least, allowed * 90 / 100, "%lu: %lu", rates[i], least);
	}
}

/* Late by up to half a millisecond, which is what a timer and a busy CPU do: it is caught up on. */
Test(pace, lateness_neither_bunches_nor_costs)
{
	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		uint64_t end = run_lanes(rates[i], (struct habits){ .late_ns = RJI_NS_PER_MS / 2 });
		uint64_t allowed = rates[i] / 100, whole, most, least;

		windows(end, &most, &least);
		cr_assert_leq(most, allowed * 120 / 100, "%lu: %lu", rates[i], most);
		cr_assert_geq(least, allowed * 80 / 100, "%lu: %lu", rates[i], least);
		whole = (uint64_t)((double)posted[0].bytes * N_POSTS /
				   (double)(end - posted[0].at_ns) * 1e9);
		cr_assert_geq(whole, rates[i] * 98 / 100, "%lu: %lu", rates[i], whole);
	}
}

Test(pace, no_burst_after_idling)
{
	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		uint64_t end = run_lanes(rates[i], (struct habits){ .pause_ns = RJI_NS_PER_S });
		uint64_t most, least;

		windows(end, &most, &least);
		cr_assert_leq(most, rates[i] / 100 * 115 / 100, "%lu: %lu", rates[i], most);
	}
}

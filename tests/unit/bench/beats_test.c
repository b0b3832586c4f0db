/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "bench/guest/beats.h"

static struct beats b, c;
static struct guest_beats sum;

static void add_up(void)
{
	const struct beats *all[2] = { &b, &c };

	beats_sum(all, 2, &sum);
}

Test(beats, none)
{
	add_up();
	cr_assert_eq(sum.n, 0);
	cr_assert_eq(sum.gap_max_ns, 0);
	cr_assert_eq(sum.gap_p99_ns, 0);
}

Test(beats, pauses_do_not_count)
{
	beats_start(&b, 1000);
	beats_beat(&b, 2000);
	beats_stop(&b, 2100);
	beats_start(&b, 900000000);
	beats_beat(&b, 900003000);
	add_up();
	cr_assert_eq(sum.n, 2);
	cr_assert_eq(sum.gap_max_ns, 3000);
}

/* A guest that stalls until it is paused stalled all the same. */
Test(beats, an_interval_cut_off_by_a_pause_can_be_the_longest)
{
	beats_start(&b, 1000);
	beats_beat(&b, 2000);
	beats_stop(&b, 50000);
	add_up();
	cr_assert_eq(sum.n, 1);
	cr_assert_eq(sum.gap_max_ns, 48000);
}

Test(beats, percentile_within_a_sixteenth)
{
	for (uint64_t gap = 1; gap < 1ull << 50; gap += gap / 8 + 1) {
		uint64_t now = 1;

		b = (struct beats){ 0 };
		beats_start(&b, now);
		for (int i = 0; i < 98; i++)
			beats_beat(&b, now += gap / 2);
		beats_beat(&b, now += gap);
		beats_beat(&b, now += gap + gap / 2);
		add_up();
		cr_assert_eq(sum.n, 100);
		cr_assert_eq(sum.gap_max_ns, gap + gap / 2);
		cr_assert(sum.gap_p99_ns >= gap && sum.gap_p99_ns <= gap + gap / 16, "%lu %lu", gap,
			  sum.gap_p99_ns);
	}
}

Test(beats, extreme_values_have_a_bucket)
{
	beats_start(&b, 0);
	beats_beat(&b, 0);
	beats_beat(&b, UINT64_MAX);
	add_up();
	cr_assert_eq(sum.n, 2);
	cr_assert_eq(sum.gap_max_ns, UINT64_MAX);
}

Test(beats, several_add_up)
{
	beats_start(&b, 1);
	beats_start(&c, 1);
	beats_beat(&b, 11);
	beats_beat(&c, 101);
	add_up();
	cr_assert_eq(sum.n, 2);
	cr_assert_eq(sum.gap_max_ns, 100);
	cr_assert_eq(sum.gap_p99_ns, 100);
}

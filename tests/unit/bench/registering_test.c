/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/migrate/registering.h"

#include <criterion/criterion.h>
#include <ramjet/ramjet.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)
#define LOOK_NS 250000000ull

static struct registering r;
static struct rj_stats st;
static uint64_t now_ns;
static char line[128];
static int n_lines;

static void begin(uint32_t state)
{
	st.state = state;
	st.guest_bytes = 4 * GIB;
	now_ns = 77 * LOOK_NS;
}

/* Some looks, between which so much is registered here and there, and lanes wait. */
static void pass(uint32_t looks, bool is_source, uint64_t here, uint64_t there, uint64_t wait_ns)
{
	for (uint32_t i = 0; i < looks; i++) {
		now_ns += LOOK_NS;
		st.registered_bytes += here;
		st.peer_registered_bytes += there;
		st.register_wait_ns += wait_ns;
		n_lines += registering_line(&r, &st, is_source, now_ns, line, sizeof(line));
	}
}

Test(registering, what_is_done_within_a_second_is_no_news)
{
	begin(RJ_STATE_BULK);
	pass(4, true, 256 * MIB, 0, 1);
	pass(100, true, 0, 0, 1);
	pass(4, true, 256 * MIB, 0, 1); /* nor is the same again, much later */
	cr_assert_eq(n_lines, 0);
}

Test(registering, a_round_that_waits_says_how_far_it_is)
{
	begin(RJ_STATE_BULK);
	pass(4, true, 256 * MIB, 0, 1);
	cr_assert_eq(n_lines, 0);
	pass(1, true, 256 * MIB, 0, 1);
	cr_assert_eq(n_lines, 1);
	cr_assert_str_eq(line, "registering  1.25 GiB of 4.00 GiB");
}

Test(registering, lanes_that_do_not_wait_need_no_line)
{
	begin(RJ_STATE_BULK);
	pass(8, true, 256 * MIB, 256 * MIB, 0);
	cr_assert_eq(n_lines, 0);
	pass(1, true, 256 * MIB, 0, 1);
	cr_assert_eq(n_lines, 1);
}

Test(registering, set_up_waits_in_any_case)
{
	begin(RJ_STATE_SETUP);
	pass(5, true, 256 * MIB, 0, 0);
	cr_assert_eq(n_lines, 1);
}

Test(registering, a_destination_tells_what_it_does_itself)
{
	begin(RJ_STATE_BULK);
	pass(6, false, 256 * MIB, 0, 0);
	cr_assert_eq(n_lines, 1);
	cr_assert_str_eq(line, "registering  1.25 GiB of 4.00 GiB");
}

Test(registering, a_source_tells_what_the_destination_does)
{
	begin(RJ_STATE_BULK);
	st.registered_bytes = 3 * GIB; /* the rest has no page */
	pass(5, true, 0, 128 * MIB, 1);
	cr_assert_eq(n_lines, 1);
	cr_assert_str_eq(line, "registering  640 MiB of 4.00 GiB at the destination");
}

Test(registering, of_both_the_one_behind_is_told)
{
	begin(RJ_STATE_BULK);
	pass(5, true, 256 * MIB, 128 * MIB, 1);
	cr_assert_str_eq(line, "registering  640 MiB of 4.00 GiB at the destination");
	cr_assert_eq(n_lines, 1);
}

Test(registering, lines_come_ever_less_often)
{
	begin(RJ_STATE_BULK);
	pass(1 + 4 * (1 + 1 + 2 + 4 + 8 + 8), true, MIB, 0, 1);
	cr_assert_eq(n_lines, 6);
}

Test(registering, a_large_piece_may_take_its_time)
{
	begin(RJ_STATE_SETUP);
	for (int i = 0; i < 3; i++) {
		pass(1, true, GIB, 0, 0);
		cr_assert_eq(n_lines, i);
		pass(7, true, 0, 0, 0);
	}
}

Test(registering, under_a_cap_there_is_no_end_to_tell)
{
	begin(RJ_STATE_DIRTY);
	for (int i = 0; i < 20; i++) {
		pass(1, true, 64 * MIB, 0, 1);
		pass(1, true, -32 * MIB, 0, 1);
	}
	cr_assert_eq(n_lines, 0);
}

Test(registering, the_end_and_the_switchover_are_no_news)
{
	begin(RJ_STATE_BULK);
	pass(16, true, 256 * MIB, 0, 0);
	pass(1, true, 0, 0, 1);
	st.registered_bytes = 0;
	r = (struct registering){ 0 };
	st.state = RJ_STATE_STOPPING;
	pass(8, true, 256 * MIB, 0, 1);
	cr_assert_eq(n_lines, 0);
}

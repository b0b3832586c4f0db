/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/window.h"

#include <criterion/criterion.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB (1ull << 20)

static struct rji_rdma_window_pool pool;
static struct rji_rdma_window_table t;

/* Ten windows of 1 MiB, the first and the last of half as much; room for some of them, for two lanes. */
static void make(uint64_t room_bytes)
{
	rji_rdma_window_pool_init(&pool);
	rji_rdma_window_pool_limit(&pool, room_bytes, 20, 2);
	t = (struct rji_rdma_window_table){ .shift = 20, .base = MIB / 2, .len_bytes = 9 * MIB };
	t.n = (uint32_t)rji_rdma_n_windows(t.base, t.len_bytes, t.shift);
	cr_assert_eq(t.n, 10);
	cr_assert_eq(rji_rdma_window_table_init(&t, &pool), 0);
}

/* Do what is to be done; return how much it was. */
static int work(void)
{
	struct rji_rdma_window *w;
	int n = 0;

	while ((w = rji_rdma_windows_todo(&pool, 0))) {
		n++;
		cr_assert_leq(pool.used_bytes, pool.room_bytes);
		if (w->state == RJI_RDMA_WINDOW_COMING)
			rji_rdma_windows_came(w, 100 + rji_rdma_window_index(w));
		else
			rji_rdma_windows_gone(w);
	}
	return n;
}

static struct rji_rdma_window *w(uint32_t i)
{
	return &t.window[i];
}

/* A lane comes to it, and leaves. */
static void visit(uint32_t i)
{
	if (!rji_rdma_window_enter(w(i))) {
		rji_rdma_windows_demand(w(i));
		work();
		cr_assert(rji_rdma_window_enter(w(i)));
	}
	cr_assert_eq(w(i)->key, 100 + i);
	rji_rdma_window_leave(w(i));
}

static bool is_ready(uint32_t i)
{
	return w(i)->state == RJI_RDMA_WINDOW_READY;
}

Test(window, ranges_end_with_the_region)
{
	uint64_t from, to;

	make(RJI_RDMA_NO_LIMIT);
	rji_rdma_window_range(w(0), &from, &to);
	cr_assert(from == MIB / 2 && to == MIB);
	rji_rdma_window_range(w(9), &from, &to);
	cr_assert(from == 9 * MIB && to == 9 * MIB + MIB / 2);
}

Test(window, least_recently_used_goes_first)
{
	make(3 * MIB);
	visit(1);
	visit(2);
	visit(3);
	visit(1);
	visit(4);
	cr_assert(is_ready(1) && !is_ready(2) && is_ready(3) && is_ready(4));
	visit(5);
	cr_assert(is_ready(1) && !is_ready(3) && is_ready(4) && is_ready(5));
	cr_assert_eq(pool.evictions, 2);
	cr_assert_eq(pool.used_bytes, 3 * MIB);
}

Test(window, one_with_a_lane_in_it_stays)
{
	make(2 * MIB);
	visit(1);
	visit(2);
	cr_assert(rji_rdma_window_enter(w(1)) && rji_rdma_window_enter(w(1)));
	cr_assert(rji_rdma_window_enter(w(2)));
	rji_rdma_windows_demand(w(3));
	cr_assert_eq(work(), 0);
	cr_assert(pool.starving);
	rji_rdma_window_leave(w(1));
	cr_assert_eq(work(), 0);
	rji_rdma_window_leave(w(1)); /* the last one out sees to the next */
	cr_assert_eq(work(), 2);
	cr_assert(!is_ready(1) && is_ready(2) && is_ready(3));
	cr_assert(!rji_rdma_window_enter(w(1)));
	cr_assert_eq(w(1)->users, 0);
}

Test(window, nobody_enters_one_that_goes)
{
	make(1 * MIB);
	visit(1);
	rji_rdma_windows_demand(w(2));
	cr_assert_eq(w(1)->state, RJI_RDMA_WINDOW_LEAVING);
	cr_assert(!rji_rdma_window_enter(w(1)));
	cr_assert_eq(w(1)->users, RJI_RDMA_WINDOW_GOING);
	rji_rdma_windows_demand(w(1)); /* later, then */
	work();
	cr_assert(is_ready(2));
	visit(1);
}

Test(window, what_is_ahead_comes_and_does_not_push_out_what_is_needed)
{
	make(6 * MIB);
	cr_assert_eq(pool.ahead, 2);
	for (uint32_t i = 1; i < 9; i++)
		if (i != 3)
			rji_rdma_window_expect(w(i));
	cr_assert(rji_rdma_window_met(w(1)) && !rji_rdma_window_met(w(1)));
	visit(1);
	rji_rdma_windows_ahead(w(1));
	work();
	cr_assert(is_ready(2) && !is_ready(3) && is_ready(4) && !is_ready(5));
	cr_assert(rji_rdma_window_met(w(5)));
	visit(5);
	rji_rdma_windows_ahead(w(5)); /* 6 and 7: room for both */
	work();
	cr_assert(is_ready(6) && is_ready(7));
	rji_rdma_windows_ahead(w(6)); /* 8 as well: 1 goes, which is done with */
	work();
	cr_assert(is_ready(8) && !is_ready(1));
	visit(9); /* a lane waits: 5 is done with, though used last */
	cr_assert(is_ready(9) && !is_ready(5) && is_ready(2));
}

Test(window, a_lane_that_waits_goes_before_what_is_ahead)
{
	make(2 * MIB);
	for (uint32_t i = 1; i < 9; i++)
		rji_rdma_window_expect(w(i));
	pool.ahead = 4;
	rji_rdma_windows_ahead(w(1));
	work();
	cr_assert(is_ready(2) && is_ready(3)); /* and no more: they are needed */
	visit(8);
	cr_assert(is_ready(8));
}

Test(window, everything_comes_a_few_at_once_in_order)
{
	make(RJI_RDMA_NO_LIMIT);
	rji_rdma_windows_all(&t);
	cr_assert_eq(pool.n_coming[0], 4);
	rji_rdma_windows_demand(w(8));
	cr_assert_eq(w(8)->state, RJI_RDMA_WINDOW_COMING);
	cr_assert_eq(w(5)->state, RJI_RDMA_WINDOW_ABSENT);
	cr_assert_eq(work(), 10);
	for (uint32_t i = 0; i < 10; i++)
		cr_assert(is_ready(i));
}

Test(window, an_empty_one_is_left_out_until_it_is_needed)
{
	struct rji_rdma_window *got;

	make(RJI_RDMA_NO_LIMIT);
	rji_rdma_windows_all(&t);
	got = rji_rdma_windows_todo(&pool, 0);
	cr_assert(got == w(0) && !got->demanded);
	rji_rdma_windows_left_out(got);
	work();
	cr_assert(!is_ready(0));
	rji_rdma_windows_demand(w(0));
	got = rji_rdma_windows_todo(&pool, 0);
	cr_assert(got == w(0) && got->demanded);
	rji_rdma_windows_came(got, 100);
	visit(0);
}

Test(window, blocked_ones_go_and_do_not_come)
{
	make(RJI_RDMA_NO_LIMIT);
	visit(1);
	rji_rdma_windows_demand(w(2)); /* under way */
	rji_rdma_windows_block(w(1));
	rji_rdma_windows_block(w(2));
	rji_rdma_windows_block(w(3));
	work();
	rji_rdma_windows_all(&t);
	work();
	cr_assert(!is_ready(1) && !is_ready(2) && !is_ready(3) && is_ready(4));
	cr_assert_eq(pool.evictions, 0);
	rji_rdma_windows_unblock(w(1));
	visit(1);
}

Test(window, the_peer_gets_what_there_is_room_for)
{
	make(2 * MIB);
	cr_assert(rji_rdma_windows_bring(w(1)) && !rji_rdma_windows_bring(w(1)));
	cr_assert(!rji_rdma_windows_drop(w(1))); /* it is not there yet */
	cr_assert(rji_rdma_windows_bring(w(2)));
	cr_assert(!rji_rdma_windows_bring(w(3)));
	work();
	cr_assert(rji_rdma_windows_drop(w(1)) && !rji_rdma_windows_drop(w(1)));
	cr_assert(!rji_rdma_windows_bring(w(3))); /* the pages are still pinned */
	work();
	cr_assert(rji_rdma_windows_bring(w(3)));
}

Test(window, waiting_lanes_are_woken)
{
	struct rji_rdma_waiter waiter = { .fd = eventfd(0, EFD_NONBLOCK) };
	struct rj_error why = { .code = -ENOMEM };
	eventfd_t n;

	make(RJI_RDMA_NO_LIMIT);
	LIST_INSERT_HEAD(&pool.waiters, &waiter, link);
	rji_rdma_windows_demand(w(1));
	cr_assert_neq(eventfd_read(waiter.fd, &n), 0);
	work();
	cr_assert_eq(eventfd_read(waiter.fd, &n), 0);
	rji_rdma_windows_fail(&pool, &why);
	cr_assert_eq(eventfd_read(waiter.fd, &n), 0);
	rji_rdma_windows_all(&t); /* nothing is begun any more */
	cr_assert_eq(work(), 0);
	close(waiter.fd);
}

Test(window, a_table_takes_its_account_with_it)
{
	make(4 * MIB);
	visit(1);
	rji_rdma_windows_demand(w(2));
	rji_rdma_windows_demand(w(3));
	rji_rdma_windows_demand(w(4));
	work();
	rji_rdma_windows_demand(w(5)); /* 1 on its way out, 5 waits */
	rji_rdma_window_table_fini(&t);
	cr_assert_eq(pool.used_bytes, 0);
	cr_assert_eq(pool.going_bytes, 0);
	cr_assert_eq(pool.n_coming[0], 0);
	cr_assert_null(rji_rdma_windows_todo(&pool, 0));
}

/* --- nodes --- */

/* Windows 0 to 4 are near node 1, 5 to 9 near node 2. */
static void make_of_two_nodes(void)
{
	make(RJI_RDMA_NO_LIMIT);
	for (uint32_t i = 0; i < t.n; i++)
		w(i)->node = i < 5 ? 1 : 2;
}

Test(window, each_node_has_a_few_on_their_way)
{
	make_of_two_nodes();
	rji_rdma_windows_all(&t);
	cr_assert(pool.n_coming[1] == 4 && pool.n_coming[2] == 4 && pool.n_coming[0] == 0);
	rji_rdma_windows_came(rji_rdma_windows_todo(&pool, 2), 105);
	cr_assert(pool.n_coming[1] == 4 && pool.n_coming[2] == 4);
	cr_assert_eq(w(9)->state, RJI_RDMA_WINDOW_COMING);
	cr_assert_eq(work(), 9);
}

Test(window, near_ones_are_taken_first_in_order_then_others)
{
	make_of_two_nodes();
	rji_rdma_windows_all(&t);
	for (uint32_t i = 5; i < 9; i++)
		cr_assert_eq(rji_rdma_windows_todo(&pool, 2), w(i));
	/* 9 is not on its way yet, all of node 2 that is has been taken: help. */
	for (uint32_t i = 0; i < 3; i++)
		cr_assert_eq(rji_rdma_windows_todo(&pool, 2), w(i));
	rji_rdma_windows_came(w(5), 105);
	cr_assert_eq(rji_rdma_windows_todo(&pool, 2), w(9));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 2), w(3));
	cr_assert_null(rji_rdma_windows_todo(&pool, 2));
}

Test(window, those_of_no_node_take_them_in_order)
{
	make_of_two_nodes();
	rji_rdma_windows_demand(w(6));
	rji_rdma_windows_demand(w(2));
	rji_rdma_windows_demand(w(7));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 0), w(6));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 0), w(2));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 0), w(7));
}

Test(window, one_a_lane_waits_for_goes_before_near_ones)
{
	make_of_two_nodes();
	rji_rdma_windows_all(&t);
	rji_rdma_windows_demand(w(9));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 1), w(9));
	w(7)->waiters = 1; /* on its way before, and now a lane has come to it */
	cr_assert_eq(rji_rdma_windows_todo(&pool, 1), w(7));
	cr_assert_eq(rji_rdma_windows_todo(&pool, 1), w(0));
}

Test(window, a_lane_finds_its_window_among_the_later_ones_of_its_node)
{
	make_of_two_nodes();
	rji_rdma_windows_all(&t);
	for (uint32_t i = 0; i < 10; i++)
		rji_rdma_window_expect(w(i));
	rji_rdma_windows_ahead(w(3)); /* 4 and 9 are all that wait for their turn */
	cr_assert(w(4)->list == RJI_RDMA_LIST_SOON);
	rji_rdma_windows_ahead(w(8));
	cr_assert(w(9)->list == RJI_RDMA_LIST_SOON);
	/* One of node 2 is not held up by those of node 1 before it. */
	rji_rdma_windows_came(rji_rdma_windows_todo(&pool, 2), 105);
	cr_assert_eq(work(), 9);
	rji_rdma_window_table_fini(&t);
	cr_assert(pool.n_coming[1] == 0 && pool.n_coming[2] == 0 && pool.used_bytes == 0);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/key_table.h"

#include <criterion/criterion.h>
#include <string.h>

#define LEN ((5ull << 30) + 4096)
#define BASE (1ull << 20)

static struct rji_rdma_window_pool pool;

static void make_pool(void)
{
	rji_rdma_window_pool_init(&pool);
}

TestSuite(key_table, .init = make_pool);

/* A destination's region with keys 100, 101, … on its first and 200, 201, … on its third device; free it with free_region(). */
static void make_region(struct rji_rdma_region *r, enum rji_rdma_key_mode mode)
{
	memset(r, 0, sizeof(*r));
	r->len_bytes = LEN;
	r->base = BASE;
	for (int d = 0; d < 3; d += 2) {
		struct rji_rdma_window_table *t = &r->here[d];

		t->shift = d ? 29 : 30;
		t->base = BASE;
		t->len_bytes = LEN;
		t->n = (uint32_t)rji_rdma_n_windows(BASE, LEN, t->shift);
		cr_assert_eq(rji_rdma_window_table_init(t, &pool), 0);
		for (uint32_t i = 0; i < t->n; i++)
			t->window[i].key = mode == RJI_RDMA_KEYS_COME && i % 2
						   ? 0
						   : 100 + 50 * (uint32_t)d + i;
	}
}

static int export_mode(enum rji_rdma_key_mode mode, uint8_t *buf, size_t size)
{
	static const uint32_t devices[] = { 0, 2 };
	struct rji_rdma_region r;
	int ret;

	make_region(&r, mode);
	ret = rji_rdma_put_keys(&r, devices, 2, mode, buf, size);
	rji_rdma_window_table_fini(&r.here[0]);
	rji_rdma_window_table_fini(&r.here[2]);
	return ret;
}

static int export(uint8_t *buf, size_t size)
{
	return export_mode(RJI_RDMA_KEYS_COMPLETE, buf, size);
}

static int import(struct rji_rdma_region *r, const void *keys, size_t len)
{
	return rji_rdma_get_keys(r, &pool, 2, keys, len);
}

Test(key_table, survives_the_way)
{
	struct rji_rdma_region r = { .len_bytes = LEN, .base = 4096 };
	uint8_t buf[512];
	int len = export(buf, sizeof(buf));

	cr_assert_gt(len, 0);
	cr_assert_eq(import(&r, buf, (size_t)len), 0);
	cr_assert_eq(r.peer_base, BASE);
	cr_assert_eq(r.n_there, 2);
	cr_assert_eq(r.there[0].shift, 30);
	cr_assert_eq(r.there[0].n, 6);
	cr_assert_eq(r.there[0].window[5].key, 105);
	cr_assert_eq(r.there[1].n, 11);
	cr_assert_eq(r.there[1].window[10].key, 210);
	/* Once more, in place of the first. */
	cr_assert_eq(import(&r, buf, (size_t)len), 0);
	rji_rdma_drop_keys(&r);
}

Test(key_table, tells_when_the_buffer_is_too_small)
{
	uint8_t buf[512];
	int len = export(buf, sizeof(buf));

	for (int size = 0; size < len; size++)
		cr_assert_eq(export(buf, (size_t)size), -ENOSPC);
	cr_assert_eq(export(buf, (size_t)len), len);
}

Test(key_table, refuses_what_is_cut_short_or_too_long)
{
	struct rji_rdma_region r = { .len_bytes = LEN };
	uint8_t buf[512] = { 0 };
	int len = export(buf, sizeof(buf));

	for (int size = 0; size < len; size++)
		cr_assert_eq(import(&r, buf, (size_t)size), RJ_E_PROTOCOL);
	cr_assert_eq(import(&r, buf, (size_t)len + 1), RJ_E_PROTOCOL);
	cr_assert_eq(r.n_there, 0);
}

Test(key_table, refuses_another_length_version_or_shape)
{
	struct rji_rdma_region r = { .len_bytes = LEN + 4096 };
	uint8_t buf[512];
	int len = export(buf, sizeof(buf));

	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_REGION);
	r.len_bytes = LEN;
	buf[0]++;
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_VERSION);
	buf[0]--;
	buf[2] = 9; /* devices */
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	buf[2] = 2;
	buf[24]++; /* shift: the number of windows does not fit it any more */
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	buf[24] = 200;
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	cr_assert_eq(r.n_there, 0);
}

Test(key_table, windows_cover_a_region_that_begins_inside_one)
{
	cr_assert_eq(rji_rdma_n_windows(0, 4096, 12), 1);
	cr_assert_eq(rji_rdma_n_windows(4096, 4096, 13), 1);
	cr_assert_eq(rji_rdma_n_windows(4096, 8192, 13), 2);
	cr_assert_eq(rji_rdma_n_windows(BASE, 1ull << 30, 30), 2);
	cr_assert_eq(rji_rdma_n_windows(0, 1ull << 30, 30), 1);
}

Test(key_table, windows_fit_the_device)
{
	cr_assert_eq(rji_rdma_window_shift(UINT64_MAX, 30), 30);
	cr_assert_eq(rji_rdma_window_shift(2ull << 30, 30), 30);
	cr_assert_eq(rji_rdma_window_shift((1ull << 30) - 1, 30), 29);
	cr_assert_eq(rji_rdma_window_shift(4096, 30), 12);
	cr_assert_eq(rji_rdma_window_shift(UINT64_MAX, 26), 26);
	cr_assert_eq(rji_rdma_window_shift(4095, 30), 0);
}

Test(key_table, keys_may_come_later_only_if_the_table_says_so)
{
	struct rji_rdma_region r = { .len_bytes = LEN };
	uint8_t buf[512];
	int len = export_mode(RJI_RDMA_KEYS_COME, buf, sizeof(buf));

	cr_assert_eq(import(&r, buf, (size_t)len), 0);
	cr_assert_eq(r.there[0].window[0].state, RJI_RDMA_WINDOW_READY);
	cr_assert(r.there[0].unasked && r.there[0].window[1].state == RJI_RDMA_WINDOW_ABSENT);
	cr_assert_eq(pool.room_bytes, RJI_RDMA_NO_LIMIT);
	rji_rdma_drop_keys(&r);
	buf[4] = RJI_RDMA_KEYS_COMPLETE;
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	buf[4] = 3;
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	cr_assert_eq(r.n_there, 0);
	cr_assert_eq(pool.used_bytes, 0);
}

Test(key_table, on_demand_it_has_no_keys_but_room)
{
	struct rji_rdma_region r = { .len_bytes = LEN }, other = { .len_bytes = LEN };
	uint8_t buf[512];
	int len;

	pool.room_bytes = 5ull << 30; /* the destination's */
	len = export_mode(RJI_RDMA_KEYS_ON_DEMAND, buf, sizeof(buf));
	cr_assert_eq(len, 24 + 8 + 2 * 8);
	pool.room_bytes = RJI_RDMA_NO_LIMIT;
	for (int size = 0; size < len; size++)
		cr_assert_eq(import(&r, buf, (size_t)size), RJ_E_PROTOCOL);
	cr_assert_eq(import(&r, buf, (size_t)len), 0);
	cr_assert_eq(pool.room_bytes, 5ull << 30);
	cr_assert_eq(r.there[1].window[3].state, RJI_RDMA_WINDOW_ABSENT);
	buf[24] ^= 1; /* another room with another region */
	cr_assert_eq(import(&other, buf, (size_t)len), RJ_E_PROTOCOL);
	rji_rdma_drop_keys(&r);
}

Test(key_table, a_room_too_small_for_a_window_a_lane_is_told)
{
	struct rji_rdma_region r = { .len_bytes = LEN };
	uint8_t buf[512];
	int len;

	pool.room_bytes = (2ull << 30) - 1;
	len = export_mode(RJI_RDMA_KEYS_ON_DEMAND, buf, sizeof(buf));
	pool.room_bytes = RJI_RDMA_NO_LIMIT;
	cr_assert_eq(import(&r, buf, (size_t)len), RJ_E_MEMLOCK);
	cr_assert_eq(r.n_there, 0);
}

Test(key_table, windows_fit_the_cap)
{
	cr_assert_eq(rji_rdma_cap_shift(UINT64_MAX, 64), RJI_RDMA_WINDOW_SHIFT);
	cr_assert_eq(rji_rdma_cap_shift(32ull << 20, 2), 22);
	cr_assert_eq(rji_rdma_cap_shift((32ull << 20) - 8192, 2), 21);
	cr_assert_eq(rji_rdma_cap_shift(1, 1), RJI_RDMA_MIN_WINDOW_SHIFT);
}

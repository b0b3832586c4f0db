/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/key_table.h"

#include <criterion/criterion.h>
#include <string.h>

#define LEN ((5ull << 30) + 4096)
#define BASE (1ull << 20)

/* A destination's region with keys 100, 101, … on its first and 200, 201, … on its third device. */
static void make_region(struct rji_rdma_region *r, struct ibv_mr *mr, struct ibv_mr **mrs)
{
	memset(r, 0, sizeof(*r));
	r->len_bytes = LEN;
	r->base = BASE;
	for (int d = 0; d < 3; d += 2) {
		r->local[d].shift = d ? 29 : 30;
		r->local[d].n = (uint32_t)rji_rdma_n_chunks(BASE, LEN, r->local[d].shift);
		r->local[d].mr = mrs + d * 16;
		for (uint32_t i = 0; i < r->local[d].n; i++) {
			mr[d * 16 + i].rkey = 100 + 50 * (uint32_t)d + i;
			mrs[d * 16 + i] = &mr[d * 16 + i];
		}
	}
}

static int export(uint8_t *buf, size_t size)
{
	static const uint32_t devices[] = { 0, 2 };
	struct rji_rdma_region r;
	struct ibv_mr mr[48];
	struct ibv_mr *mrs[48];

	make_region(&r, mr, mrs);
	return rji_rdma_put_keys(&r, devices, 2, buf, size);
}

Test(key_table, survives_the_way)
{
	struct rji_rdma_region r = { .len_bytes = LEN, .base = 4096 };
	uint8_t buf[512];
	int len = export(buf, sizeof(buf));

	cr_assert_gt(len, 0);
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), 0);
	cr_assert_eq(r.peer_base, BASE);
	cr_assert_eq(r.n_remote, 2);
	cr_assert_eq(r.remote[0].shift, 30);
	cr_assert_eq(r.remote[0].n, 6);
	cr_assert_eq(r.remote[0].rkey[5], 105);
	cr_assert_eq(r.remote[1].n, 11);
	cr_assert_eq(r.remote[1].rkey[10], 210);
	/* Once more, in place of the first. */
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), 0);
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
		cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)size), RJ_E_PROTOCOL);
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len + 1), RJ_E_PROTOCOL);
	cr_assert_eq(r.n_remote, 0);
}

Test(key_table, refuses_another_length_version_or_shape)
{
	struct rji_rdma_region r = { .len_bytes = LEN + 4096 };
	uint8_t buf[512];
	int len = export(buf, sizeof(buf));

	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), RJ_E_REGION);
	r.len_bytes = LEN;
	buf[0]++;
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), RJ_E_VERSION);
	buf[0]--;
	buf[2] = 9; /* devices */
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	buf[2] = 2;
	buf[24]++; /* shift: the number of chunks does not fit it any more */
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	buf[24] = 200;
	cr_assert_eq(rji_rdma_get_keys(&r, buf, (size_t)len), RJ_E_PROTOCOL);
	cr_assert_eq(r.n_remote, 0);
}

Test(key_table, chunks_cover_a_region_that_begins_inside_one)
{
	cr_assert_eq(rji_rdma_n_chunks(0, 4096, 12), 1);
	cr_assert_eq(rji_rdma_n_chunks(4096, 4096, 13), 1);
	cr_assert_eq(rji_rdma_n_chunks(4096, 8192, 13), 2);
	cr_assert_eq(rji_rdma_n_chunks(BASE, 1ull << 30, 30), 2);
	cr_assert_eq(rji_rdma_n_chunks(0, 1ull << 30, 30), 1);
}

Test(key_table, chunks_fit_the_device)
{
	cr_assert_eq(rji_rdma_chunk_shift(UINT64_MAX, 30), 30);
	cr_assert_eq(rji_rdma_chunk_shift(2ull << 30, 30), 30);
	cr_assert_eq(rji_rdma_chunk_shift((1ull << 30) - 1, 30), 29);
	cr_assert_eq(rji_rdma_chunk_shift(4096, 30), 12);
	cr_assert_eq(rji_rdma_chunk_shift(UINT64_MAX, 26), 26);
	cr_assert_eq(rji_rdma_chunk_shift(4095, 30), 0);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/lane_hello.h"

#include <criterion/criterion.h>
#include <string.h>

#include "rdma/lane_message.h"

static void make_hello(uint8_t *bytes)
{
	struct rji_rdma_hello h = { .lane = 0x1234 };

	memset(h.session_id, 0x11, sizeof(h.session_id));
	memset(h.token, 0x22, sizeof(h.token));
	rji_rdma_put_hello(&h, bytes);
}

/* Byte for byte what protocol version 1 says: another program must be able to rely on it. */
Test(lane_hello, has_the_documented_bytes)
{
	uint8_t bytes[RJI_RDMA_HELLO_BYTES];

	make_hello(bytes);
	cr_assert_eq(memcmp(bytes, "\x72\x6a\x44\x52\x01\x38\x34\x12\x11", 9), 0);
	cr_assert_eq(bytes[23], 0x11);
	cr_assert_eq(bytes[24], 0x22);
	cr_assert_eq(bytes[55], 0x22);
}

Test(lane_hello, survives_the_way_with_padding)
{
	uint8_t bytes[196] = { 0 };
	struct rji_rdma_hello h;

	make_hello(bytes);
	cr_assert_eq(rji_rdma_get_hello(bytes, sizeof(bytes), &h), RJI_RDMA_REFUSED_NONE);
	cr_assert_eq(h.lane, 0x1234);
	cr_assert_eq(h.session_id[15], 0x11);
	cr_assert_eq(h.token[31], 0x22);
}

Test(lane_hello, garbage_is_told_from_another_version)
{
	uint8_t bytes[RJI_RDMA_HELLO_BYTES];
	struct rji_rdma_hello h = { .lane = 7 };

	make_hello(bytes);
	for (size_t len = 0; len < sizeof(bytes); len++)
		cr_assert_eq(rji_rdma_get_hello(bytes, len, &h), RJI_RDMA_REFUSED_GARBAGE);
	bytes[5]--;
	cr_assert_eq(rji_rdma_get_hello(bytes, sizeof(bytes), &h), RJI_RDMA_REFUSED_GARBAGE);
	bytes[4]++;
	cr_assert_eq(rji_rdma_get_hello(bytes, sizeof(bytes), &h), RJI_RDMA_REFUSED_VERSION);
	bytes[0]++;
	cr_assert_eq(rji_rdma_get_hello(bytes, sizeof(bytes), &h), RJI_RDMA_REFUSED_GARBAGE);
	cr_assert_eq(h.lane, 7);
}

Test(lane_hello, welcome_survives_the_way)
{
	struct rji_rdma_welcome w = { .lane = 3, .device = 2, .max_msg_bytes = 8 << 20 }, got;
	uint8_t bytes[196] = { 0 };

	rji_rdma_put_welcome(&w, bytes);
	cr_assert_eq(rji_rdma_get_welcome(bytes, sizeof(bytes), &got), 0);
	cr_assert_eq(got.lane, 3);
	cr_assert_eq(got.device, 2);
	cr_assert_eq(got.max_msg_bytes, 8 << 20);
	cr_assert_eq(rji_rdma_get_welcome(bytes, 15, &got), RJ_E_PROTOCOL);
	memset(bytes + 12, 0, 4);
	cr_assert_eq(rji_rdma_get_welcome(bytes, sizeof(bytes), &got), RJ_E_PROTOCOL);
	bytes[4]++;
	cr_assert_eq(rji_rdma_get_welcome(bytes, sizeof(bytes), &got), RJ_E_VERSION);
}

Test(lane_hello, refusal_survives_the_way)
{
	uint8_t bytes[148] = { 0 };

	cr_assert_eq(rji_rdma_get_refusal(bytes, sizeof(bytes)), RJI_RDMA_REFUSED_NONE);
	for (int r = RJI_RDMA_REFUSED_GARBAGE; r <= RJI_RDMA_REFUSED_FAILED; r++) {
		rji_rdma_put_refusal((enum rji_rdma_refusal)r, bytes);
		cr_assert_eq((int)rji_rdma_get_refusal(bytes, sizeof(bytes)), r);
		cr_assert_not_null(rji_rdma_refusal_text((enum rji_rdma_refusal)r));
	}
	bytes[6] = 99;
	cr_assert_eq(rji_rdma_get_refusal(bytes, sizeof(bytes)), RJI_RDMA_REFUSED_NONE);
}

Test(lane_message, survives_the_way_and_nothing_else_does)
{
	struct rji_rdma_message m = { .type = RJI_RDMA_FENCE, .seq = 0x0102030405060708 }, got;
	uint8_t bytes[RJI_RDMA_MESSAGE_BYTES + 1];

	rji_rdma_put_message(&m, bytes);
	cr_assert_eq(memcmp(bytes, "RJ\x01\x01\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01", 16), 0);
	cr_assert(rji_rdma_get_message(bytes, RJI_RDMA_MESSAGE_BYTES, &got));
	cr_assert_eq(got.type, RJI_RDMA_FENCE);
	cr_assert_eq(got.seq, m.seq);
	cr_assert_not(rji_rdma_get_message(bytes, RJI_RDMA_MESSAGE_BYTES - 1, &got));
	cr_assert_not(rji_rdma_get_message(bytes, RJI_RDMA_MESSAGE_BYTES + 1, &got));
	for (int i = 0; i < 8; i++) {
		bytes[i] ^= 0x80;
		cr_assert_not(rji_rdma_get_message(bytes, RJI_RDMA_MESSAGE_BYTES, &got));
		bytes[i] ^= 0x80;
	}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/credit.h"

#include <criterion/criterion.h>

Test(credit, slots_come_back_only_with_a_completion_at_or_after_them)
{
	struct rji_rdma_sq sq;
	uint64_t bytes = 0;

	cr_assert_eq(rji_rdma_sq_init(&sq, 8), 0);
	for (uint32_t i = 0; i < 8; i++)
		cr_assert_eq(rji_rdma_sq_take(&sq, 3, i * 4096, 4096), i);
	cr_assert_eq(rji_rdma_sq_room(&sq), 0);
	cr_assert_eq(rji_rdma_sq_in_flight_bytes(&sq), 8 * 4096);
	cr_assert(rji_rdma_sq_complete(&sq, 4, &bytes));
	cr_assert_eq(bytes, 5 * 4096);
	cr_assert_eq(rji_rdma_sq_room(&sq), 5);
	cr_assert(rji_rdma_sq_complete(&sq, 7, &bytes));
	cr_assert_eq(bytes, 3 * 4096);
	cr_assert_eq(rji_rdma_sq_in_flight_bytes(&sq), 0);
	rji_rdma_sq_fini(&sq);
}

Test(credit, a_completion_of_nothing_in_flight_is_noticed)
{
	struct rji_rdma_sq sq;
	uint64_t bytes = 77;

	cr_assert_eq(rji_rdma_sq_init(&sq, 4), 0);
	cr_assert_not(rji_rdma_sq_complete(&sq, 0, &bytes));
	rji_rdma_sq_take(&sq, 0, 0, 1);
	cr_assert_not(rji_rdma_sq_complete(&sq, 1, &bytes));
	cr_assert(rji_rdma_sq_complete(&sq, 0, &bytes));
	cr_assert_eq(bytes, 1);
	cr_assert_not(rji_rdma_sq_complete(&sq, 0, &bytes));
	rji_rdma_sq_fini(&sq);
}

Test(credit, what_the_device_did_not_take_is_given_back)
{
	struct rji_rdma_sq sq;
	uint64_t bytes;

	cr_assert_eq(rji_rdma_sq_init(&sq, 4), 0);
	rji_rdma_sq_take(&sq, 0, 0, 100);
	rji_rdma_sq_take(&sq, 0, 0, 200);
	rji_rdma_sq_take(&sq, 0, 0, 300);
	rji_rdma_sq_untake(&sq, 2);
	cr_assert_eq(rji_rdma_sq_room(&sq), 3);
	cr_assert_eq(rji_rdma_sq_in_flight_bytes(&sq), 100);
	cr_assert_eq(rji_rdma_sq_take(&sq, 0, 0, 50), 1);
	cr_assert(rji_rdma_sq_complete(&sq, 1, &bytes));
	cr_assert_eq(bytes, 150);
	rji_rdma_sq_fini(&sq);
}

Test(credit, a_million_requests_keep_the_account)
{
	uint64_t state = 88172645463325252ull, in_flight = 0, bytes, total = 0, freed = 0;
	struct rji_rdma_sq sq;

	cr_assert_eq(rji_rdma_sq_init(&sq, 100), 0);
	for (int i = 0; i < 1000000; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		if (rji_rdma_sq_room(&sq) && state % 3) {
			rji_rdma_sq_take(&sq, 0, 0, state % 65536);
			total += state % 65536;
			in_flight++;
		} else if (in_flight) {
			uint64_t n = 1 + state % in_flight;

			cr_assert(rji_rdma_sq_complete(&sq, sq.freed + n - 1, &bytes));
			freed += bytes;
			in_flight -= n;
		}
		cr_assert_eq(rji_rdma_sq_room(&sq), 100 - in_flight);
		cr_assert_eq(rji_rdma_sq_in_flight_bytes(&sq), total - freed);
	}
	rji_rdma_sq_fini(&sq);
}

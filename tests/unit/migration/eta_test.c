/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/eta.h"

#define MIB (1ull << 20)
#define S RJI_NS_PER_S

Test(eta, of_an_idle_guest_is_the_rest_of_the_round)
{
	struct rji_eta e = { .remaining_bytes = 300 * MIB,
			     .round_bytes = 1000 * MIB,
			     .rate_bytes_per_s = 100 * MIB };

	cr_assert_eq(rji_eta_ns(&e), 3 * S);
}

/* 800, 400, 200, 100: then 50 are left. */
Test(eta, adds_up_rounds_until_one_fits)
{
	struct rji_eta e = { .remaining_bytes = 800 * MIB,
			     .round_bytes = 800 * MIB,
			     .rate_bytes_per_s = 100 * MIB,
			     .dirty_rate_bytes_per_s = 50 * MIB,
			     .fits_bytes = 50 * MIB };

	cr_assert_eq(rji_eta_ns(&e), 15 * S);
	e.fits_bytes = 50 * MIB - 1;
	cr_assert_eq(rji_eta_ns(&e), 15 * S + S / 2);
}

/* What is sent of a round was dirtied behind it all the same. */
Test(eta, counts_what_was_dirtied_during_the_whole_round)
{
	struct rji_eta e = { .remaining_bytes = 1 * MIB,
			     .round_bytes = 800 * MIB,
			     .rate_bytes_per_s = 100 * MIB,
			     .dirty_rate_bytes_per_s = 50 * MIB,
			     .fits_bytes = 399 * MIB };

	cr_assert_eq(rji_eta_ns(&e), S * 401 / 100);
}

Test(eta, is_not_known_where_it_does_not_converge)
{
	struct rji_eta e = { .remaining_bytes = 800 * MIB,
			     .round_bytes = 800 * MIB,
			     .rate_bytes_per_s = 100 * MIB,
			     .dirty_rate_bytes_per_s = 100 * MIB,
			     .fits_bytes = 10 * MIB };

	cr_assert_eq(rji_eta_ns(&e), 0);
	e.dirty_rate_bytes_per_s = 500 * MIB;
	cr_assert_eq(rji_eta_ns(&e), 0);
	e.rate_bytes_per_s = 0;
	cr_assert_eq(rji_eta_ns(&e), 0);
}

Test(eta, of_a_fast_guest_is_known_where_what_it_dirties_fits)
{
	struct rji_eta e = { .remaining_bytes = 8 * MIB,
			     .round_bytes = 8 * MIB,
			     .rate_bytes_per_s = 100 * MIB,
			     .dirty_rate_bytes_per_s = 200 * MIB,
			     .fits_bytes = 16 * MIB };

	cr_assert_eq(rji_eta_ns(&e), S * 8 / 100);
}

Test(eta, of_absurd_figures_is_no_accident)
{
	struct rji_eta e = { .remaining_bytes = UINT64_MAX,
			     .round_bytes = UINT64_MAX,
			     .rate_bytes_per_s = 2,
			     .dirty_rate_bytes_per_s = 1,
			     .fits_bytes = 1 };

	cr_assert_eq(rji_eta_ns(&e), UINT64_MAX);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>

#include <criterion/criterion.h>

#include "base/stop.h"

static int readable(const struct rji_stop *stop)
{
	struct pollfd fd = { .fd = stop->fd, .events = POLLIN };

	return poll(&fd, 1, 0);
}

Test(stop, is_seen_by_asking_and_by_polling_and_stays)
{
	struct rji_stop stop;

	cr_assert_eq(rji_stop_init(&stop), 0);
	cr_assert_not(rji_stop_is_set(&stop));
	cr_assert_eq(readable(&stop), 0);
	rji_stop_set(&stop);
	rji_stop_set(&stop);
	for (int i = 0; i < 3; i++) {
		cr_assert(rji_stop_is_set(&stop));
		cr_assert_eq(readable(&stop), 1);
	}
	rji_stop_fini(&stop);
	cr_assert_eq(stop.fd, -1);
}

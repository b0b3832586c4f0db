/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "transport/local_route.h"

static int ask(const char *text, struct rji_local_route *r, struct rj_error *err)
{
	struct rji_uri uri;

	rji_error_init(err);
	cr_assert_eq(rji_uri_parse(text, &uri, err), 0);
	return rji_local_route(&uri, r, err);
}

Test(local_route, to_oneself)
{
	struct rji_local_route r;
	struct rj_error err;

	cr_assert_eq(ask("tcp://127.0.0.1:7471", &r, &err), 0);
	cr_assert_str_eq(r.address, "127.0.0.1");
	cr_assert_str_eq(r.netdev, "lo");
	cr_assert_eq(ask("tcp://127.0.0.1:0", &r, &err), 0, "a destination's: any port");
}

Test(local_route, a_name_nobody_knows)
{
	struct rji_local_route r = { "x", "y" };
	struct rj_error err;

	cr_assert_eq(ask("tcp://no-such-host.invalid:1", &r, &err), RJ_E_CONNECT);
	cr_assert(strstr(err.text, "no-such-host.invalid"));
	cr_assert_str_eq(r.address, "x");
}

Test(local_route, an_address_that_is_not_ours)
{
	char netdev[IF_NAMESIZE] = "x";

	rji_local_netdev("192.0.2.99", netdev);
	cr_assert_str_eq(netdev, "");
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "rdma/rdma.h"
#include "tests/support/cases.h"
#include "tests/support/transport_pair.h"
#include "tests/support/verbs_shim/shim.h"

/*
 * Every call that can fail does, one at a time: the first of its kind, the second, … until a run ends without having come
 * to it. Each time: an error with a text, or all the data (what is optional may fail without a word); nothing left
 * behind; and a second attempt that works.
 */

#define OPS (&rji_rdma_transport)

static struct pair_opts opts(void)
{
	return (struct pair_opts){
		.ops = OPS,
		.host = "192.0.2.1",
		.n_lanes = 2,
		.n_regions = 2,
		.region_bytes = 1 << 20,
		.misalign = 4096,
		.peer_timeout_ms = 500,
		.deadline_ms = 1000,
	};
}

static bool lazily;

/* 0, or the error of whatever failed. */
static int attempt(uint64_t seed, struct rj_error *err)
{
	struct pair_opts o = opts();
	struct pair p;
	int ret;

	if (lazily) {
		o.background = o.lazy_source = o.lazy_destination = true;
		o.source_cap_bytes = o.destination_cap_bytes = rji_rdma_least_cap(o.n_lanes);
		o.region_bytes = 7 << 20;
	}
	rji_error_init(err);
	ret = pair_open(&p, &o, seed, err);
	if (!ret)
		ret = pair_send_all(&p, seed, err);
	if (!ret && !pair_equal(&p)) {
		printf("  success was claimed, and the memories differ\n");
		ret = 1;
	}
	pair_close(&p);
	return ret;
}

static bool sweep(enum shim_kind kind)
{
	uint32_t nth = 0, n_errors = 0;
	bool reached = true;

	while (reached) {
		struct shim_config c = { .seed = ++nth, .max_mr_bytes = 512 << 10 };
		struct rj_error err;
		int ret;

		shim_start(&c);
		shim_fail(kind, nth);
		ret = attempt(nth, &err);
		reached = shim_has_failed();
		if (ret < 0 ? err.code != ret || !err.text[0] : ret) {
			printf("  %s %u: %d, in err %d \"%s\"\n", shim_kind_name(kind), nth, ret,
			       err.code, err.text);
			return false;
		}
		if (ret && !reached) {
			printf("  %s %u: failed by itself: %d %s\n", shim_kind_name(kind), nth, ret,
			       err.text);
			return false;
		}
		n_errors += ret < 0;
		shim_fail_none();
		ret = attempt(nth, &err);
		if (ret) {
			printf("  %s %u: the second attempt: %d %s\n", shim_kind_name(kind), nth,
			       ret, err.text);
			return false;
		}
		if (!shim_stop()) {
			printf("  %s %u: not clean\n", shim_kind_name(kind), nth);
			return false;
		}
	}
	printf("  %-16s %3u points, %3u errors\n", shim_kind_name(kind), nth - 1, n_errors);
	return true;
}

static bool every_call_may_fail(void)
{
	for (int kind = 0; kind < SHIM_N_KINDS; kind++)
		CHECK(sweep((enum shim_kind)kind));
	return true;
}

/* A limit on pinned memory, wherever it strikes. */
static bool registration_stops_at_any_limit(void)
{
	for (uint64_t limit = 65536; limit < (5 << 20); limit += 300000) {
		struct shim_config c = {
			.seed = limit,
			.max_mr_bytes = 256 << 10,
			.pin_limit = limit,
		};
		struct rj_error err;
		int ret;

		shim_start(&c);
		ret = attempt(1, &err);
		CHECK(ret == 0 || (ret < 0 && err.code == ret && err.text[0]));
		CHECK(shim_stop());
	}
	return true;
}

/* The same where memory is registered while lanes work. */
static bool every_call_may_fail_lazily(void)
{
	static const enum shim_kind kinds[] = { SHIM_REG_MR, SHIM_EXECUTE };

	lazily = true;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		CHECK(sweep(kinds[i]));
	lazily = false;
	return true;
}

static const struct test_case cases[] = {
	{ "every_call_may_fail_lazily", every_call_may_fail_lazily },
	{ "every_call_may_fail", every_call_may_fail },
	{ "registration_stops_at_any_limit", registration_stops_at_any_limit },
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cases_run(cases, sizeof(cases) / sizeof(cases[0]), 240, argc, argv);
}

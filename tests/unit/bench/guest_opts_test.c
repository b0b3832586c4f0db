/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "bench/guest/guest_impl.h"

static char why[256];

Test(guest_opts, workloads)
{
	static const struct {
		const char *text;
		struct guest_workload w;
	} good[] = {
		{ "idle", { WORKLOAD_IDLE, 0, 0, 0 } },
		{ "uniform:100M", { WORKLOAD_UNIFORM, 100 << 20, 0, 0 } },
		{ "uniform:4096", { WORKLOAD_UNIFORM, 4096, 0, 0 } },
		{ "hot:64K:1G", { WORKLOAD_HOT, 1 << 30, 65536, 0 } },
		{ "sweep:1T", { WORKLOAD_SWEEP, 1ull << 40, 0, 0 } },
		{ "same:200M", { WORKLOAD_SAME, 200 << 20, 0, 0 } },
		{ "aba:1M", { WORKLOAD_ABA, 1 << 20, 0, 0 } },
		{ "sparse:8:1M", { WORKLOAD_SPARSE, 1 << 20, 0, 8 } },
		{ "sparse:4K:1M", { WORKLOAD_SPARSE, 1 << 20, 0, 4096 } },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct guest_workload w = { 0 };

		cr_assert_eq(guest_parse_workload(good[i].text, &w, why, sizeof(why)), 0, "%s: %s",
			     good[i].text, why);
		cr_assert_eq(w.kind, good[i].w.kind);
		cr_assert_eq(w.rate_bytes_per_s, good[i].w.rate_bytes_per_s);
		cr_assert_eq(w.hot_bytes, good[i].w.hot_bytes);
		cr_assert_eq(w.change_bytes, good[i].w.change_bytes);
	}
}

Test(guest_opts, workloads_that_are_none)
{
	static const char *const bad[] = {
		"",
		":",
		"idle:",
		"idle:1M",
		"idl",
		"idlee",
		"uniform",
		"uniform:",
		"uniform:0",
		"uniform:M",
		"uniform:1m",
		"uniform:1MB",
		"uniform:-1",
		"uniform: 1",
		"uniform:1.5G",
		"uniform:2T",
		"uniform:99999999999999999999",
		"uniform:18446744073709551615T",
		"uniform:1M:1M",
		"hot",
		"hot:1M",
		"hot:1M:",
		"hot::1M",
		"hot:1:1M",
		"hot:1M:1M:1M",
		"sweep:1M ",
		"Sweep:1M",
		"uniform:0x10",
		"same",
		"same:0",
		"same:1M:1M",
		"aba:",
		"sparse:1M",
		"sparse::1M",
		"sparse:4:1M",
		"sparse:24:1M",
		"sparse:8K:1M",
		"sparse:4294967304:1M",
		"sparse:8:1M:1M",
	};
	struct guest_workload w = { .rate_bytes_per_s = 77 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why[0] = '\0';
		cr_assert_eq(guest_parse_workload(bad[i], &w, why, sizeof(why)), -EINVAL, "%s",
			     bad[i]);
		cr_assert(why[0] && !strchr(why, '\n'));
	}
	cr_assert_eq(w.rate_bytes_per_s, 77);
}

Test(guest_opts, memory_nodes_are_a_list)
{
	static const char *const bad_lists[] = {
		"",   ",", "0,",  ",1",	  "0;1", "64",
		"-1", "x", "0 1", "0,,1", "0x1", "0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6"
	};
	struct guest_nodes nodes = { 0 };

	cr_assert_eq(guest_parse_nodes("1,0,63", &nodes, why, sizeof(why)), 0);
	cr_assert_eq(nodes.n, 3);
	cr_assert(nodes.number[0] == 1 && nodes.number[1] == 0 && nodes.number[2] == 63);
	for (size_t i = 0; i < sizeof(bad_lists) / sizeof(*bad_lists); i++) {
		why[0] = '\0';
		cr_assert_eq(guest_parse_nodes(bad_lists[i], &nodes, why, sizeof(why)), -EINVAL,
			     "%s", bad_lists[i]);
		cr_assert(why[0] && !strchr(why, '\n'));
	}
	cr_assert_eq(nodes.n, 3);
}

/* What is used, free and zero together are all of the memory, or less. */
Test(guest_opts, parts_of_memory)
{
	static const struct {
		uint64_t used, free_bytes, zero, reuse;
		enum guest_hinting hints;
		enum guest_kind kind;
		bool good;
	} cases[] = {
		{ 0, 0, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, true },
		{ 4 << 20, 0, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, true },
		{ 4 << 20, 28 << 20, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, true },
		{ 4 << 20, 20 << 20, 8 << 20, 0, GUEST_HINTS_BALLOON, GUEST_SYNTHETIC, true },
		{ 0, 65536, 4096, 1 << 20, GUEST_HINTS_REPORTING, GUEST_KVM, true },
		{ 3 << 20, 0, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 4 << 20, 28 << 20, 4096, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 28 << 20, 4096, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 1ull << 63, 1ull << 63, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 65536 + 1, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 4096, 0, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 0, 4097, 0, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 0, 4096, 0, GUEST_HINTS_BALLOON, GUEST_KVM, false },
		{ 0, 0, 4096, 1, GUEST_HINTS_NONE, GUEST_KVM, false },
		{ 0, 1 << 20, 0, 2ull << 30, GUEST_HINTS_BALLOON, GUEST_KVM, false },
		{ 0, 1 << 20, 0, 0, N_GUEST_HINTS, GUEST_KVM, false },
		{ 0, 1 << 20, 0, 0, GUEST_HINTS_NONE, GUEST_MARKED, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct guest_opts o = {
			.kind = cases[i].kind,
			.size_bytes = 32 << 20,
			.used_bytes = cases[i].used,
			.free_bytes = cases[i].free_bytes,
			.zero_bytes = cases[i].zero,
			.reuse_bytes_per_s = cases[i].reuse,
			.hints = cases[i].hints,
		};

		why[0] = '\0';
		cr_assert_eq(guest_opts_check(&o, why, sizeof(why)), cases[i].good ? 0 : -EINVAL,
			     "%zu: %s", i, why);
		cr_assert(cases[i].good || (why[0] && !strchr(why, '\n')));
	}
}

static struct guest_opts some = {
	.kind = GUEST_KVM,
	.size_bytes = 32 << 20,
	.workload = { WORKLOAD_HOT, 5 << 20, 3 << 20, 0 },
	.used_bytes = 6 << 20,
	.free_bytes = 7 << 20,
	.zero_bytes = 9 << 20,
	.reuse_bytes_per_s = 0x30000,
	.hints = GUEST_HINTS_BALLOON,
	.seed = 0x123456789abcdefull,
	.fill_all = true,
	.break_device_tracking = true,
	.memory = GUEST_MEMORY_HUGE, /* neither travels */
	.prefault = true,
};

static uint8_t blob[128];

static size_t describe(void)
{
	struct guest g = { .o = some };
	int len = guest_describe(&g, blob, sizeof(blob));

	cr_assert_gt(len, 0);
	for (int i = 0; i < len; i++)
		cr_assert_eq(guest_describe(&g, blob, (size_t)i), -ENOSPC);
	cr_assert_eq(guest_describe(&g, blob, (size_t)len), len);
	return (size_t)len;
}

Test(guest_opts, what_was_described_is_understood)
{
	struct guest_opts o;

	cr_assert_eq(guest_understand(blob, describe(), &o, why, sizeof(why)), 0, "%s", why);
	cr_assert_eq(o.kind, some.kind);
	cr_assert_eq(o.size_bytes, some.size_bytes);
	cr_assert_eq(o.workload.kind, some.workload.kind);
	cr_assert_eq(o.workload.rate_bytes_per_s, some.workload.rate_bytes_per_s);
	cr_assert_eq(o.workload.hot_bytes, some.workload.hot_bytes);
	cr_assert_eq(o.seed, some.seed);
	cr_assert_eq(o.used_bytes, some.used_bytes);
	cr_assert_eq(o.free_bytes, some.free_bytes);
	cr_assert_eq(o.zero_bytes, some.zero_bytes);
	cr_assert_eq(o.reuse_bytes_per_s, some.reuse_bytes_per_s);
	cr_assert_eq(o.hints, some.hints);
	cr_assert_not(o.fill_text);
	cr_assert_eq(o.fill_all, some.fill_all);
	cr_assert_eq(o.break_device_tracking, some.break_device_tracking);
	cr_assert_eq(o.memory, GUEST_MEMORY_SHARED);
	cr_assert_not(o.prefault);
}

/* The bytes are a contract between two machines. */
Test(guest_opts, layout)
{
	static const uint8_t want[80] = {
		'R', 'J', 'B',	'G', 2, 0, 0, 2, 3,    0,    0,	   0,	 6,    0,    0,	   0,
		0,   0,	  0,	2,   0, 0, 0, 0, 0,    0,    0x50, 0,	 0,    0,    0,	   0,
		0,   0,	  0x30, 0,   0, 0, 0, 0, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
		0,   0,	  0x70, 0,   0, 0, 0, 0, 0,    0,    0x90, 0,	 0,    0,    0,	   0,
		0,   0,	  3,	0,   0, 0, 0, 0, 0,    0,    0,	   0,	 2,    0,    0,	   0,
	};

	cr_assert_eq(describe(), sizeof(want));
	cr_assert_eq(memcmp(blob, want, sizeof(want)), 0);
}

Test(guest_opts, any_other_length_is_refused)
{
	struct guest_opts o = { .seed = 5 };
	size_t len = describe();

	for (size_t i = 0; i < sizeof(blob); i++)
		if (i != len)
			cr_assert_eq(guest_understand(blob, i, &o, why, sizeof(why)), -EINVAL);
	cr_assert_eq(o.seed, 5);
}

static void refuse_byte(size_t at, uint8_t value)
{
	struct guest_opts o;
	size_t len = describe();

	blob[at] = value;
	why[0] = '\0';
	cr_assert_eq(guest_understand(blob, len, &o, why, sizeof(why)), -EINVAL, "%zu", at);
	cr_assert(why[0] && !strchr(why, '\n'));
}

Test(guest_opts, bad_fields_are_refused)
{
	for (size_t i = 0; i < 4; i++) /* magic */
		refuse_byte(i, 0);
	refuse_byte(4, 1);  /* version */
	refuse_byte(6, 3);  /* kind */
	refuse_byte(7, 7);  /* workload */
	refuse_byte(7, 0);  /* idle, with a rate */
	refuse_byte(7, 1);  /* uniform, with a hot area */
	refuse_byte(8, 6);  /* flags: all is filled, and nothing is */
	refuse_byte(8, 16); /* no such flag */
	refuse_byte(15, 1); /* used: more than there is */
	refuse_byte(16, 1); /* size: not of whole pages */
	refuse_byte(22, 1); /* size: too large */
	refuse_byte(19, 0); /* size: 0 */
	refuse_byte(30, 1); /* rate */
	refuse_byte(34, 0); /* hot area: empty */
	refuse_byte(48, 1); /* free: not of whole pages */
	refuse_byte(51, 1); /* free: more than there is */
	refuse_byte(59, 1); /* zero: likewise */
	refuse_byte(69, 1); /* used again too fast */
	refuse_byte(72, 8); /* changes bytes, and is hot */
	refuse_byte(76, 3); /* hints */
}

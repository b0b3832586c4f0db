/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "migration/session_impl.h"

static struct rj_env *env;
static struct rj_session *s;
static struct rj_opts o;
static uint8_t *memory;
static struct rj_region r;

#define MEMORY_BYTES (4u << 20)

static void set_up(void)
{
	cr_assert_eq(rj_env_open(NULL, &env), 0);
	rj_opts_init(&o);
	o.uri = "tcp://127.0.0.1:0";
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	rj_region_init(&r);
	r.name = "ram";
	r.host = memory;
	r.len_bytes = MEMORY_BYTES;
	r.flags = RJ_REGION_MARKED;
}

static void tear_down(void)
{
	rj_close(&s);
	rj_env_close(&env);
	munmap(memory, MEMORY_BYTES);
}

TestSuite(session, .init = set_up, .fini = tear_down, .timeout = 20);

static void open_source(void)
{
	cr_assert_eq(rj_source_open(env, &o, &s), 0);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* --- options --- */

static const int some_fds[3] = { 0, 1, 2 };

static void no_uri(void)
{
	o.uri = NULL;
}
static void other_size(void)
{
	o.size = sizeof(o) - 8;
}
static void too_many_lanes(void)
{
	o.n_lanes = RJ_MAX_LANES + 1;
}
static void most_lanes(void)
{
	o.n_lanes = RJ_MAX_LANES;
}
static void too_many_fds(void)
{
	o.lane_fds = some_fds;
	o.n_lane_fds = RJ_MAX_LANES + 1;
}
static void fds_without_number(void)
{
	o.lane_fds = some_fds;
}
static void number_without_fds(void)
{
	o.n_lane_fds = 2;
}
static void lanes_unlike_fds(void)
{
	o.lane_fds = some_fds;
	o.n_lane_fds = 2;
	o.n_lanes = 3;
}
static void lanes_like_fds(void)
{
	o.lane_fds = some_fds;
	o.n_lane_fds = 2;
	o.n_lanes = 2;
}
static void listens(void)
{
	o.listen_fd = 0;
}
static void data_addrs(void)
{
	o.data_addrs = "10.0.0.1";
}
static void no_peer_timeout(void)
{
	o.peer_timeout_ms = 0;
}
static void no_request_timeout(void)
{
	o.request_timeout_ms = 0;
}
static void no_connect_timeout(void)
{
	o.connect_timeout_ms = 0;
}
static void bad_uri(void)
{
	o.uri = "tcp://x";
}
static void auto_uri(void)
{
	o.uri = "auto://x:1";
}
static void nothing(void)
{
}

static const struct {
	const char *what;
	void (*change)(void);
	int source, destination;
} opts_cases[] = {
	{ "defaults", nothing, 0, 0 },
	{ "no uri", no_uri, -EINVAL, -EINVAL },
	{ "a size of another version", other_size, -EINVAL, -EINVAL },
	{ "too many lanes", too_many_lanes, -EINVAL, -EINVAL },
	{ "most lanes", most_lanes, 0, 0 },
	{ "too many lane_fds", too_many_fds, -EINVAL, -EINVAL },
	{ "lane_fds without a number", fds_without_number, -EINVAL, -EINVAL },
	{ "a number without lane_fds", number_without_fds, -EINVAL, -EINVAL },
	{ "n_lanes unlike n_lane_fds", lanes_unlike_fds, -EINVAL, -EINVAL },
	{ "n_lanes like n_lane_fds", lanes_like_fds, 0, 0 },
	{ "listen_fd", listens, -EINVAL, 0 },
	{ "data_addrs", data_addrs, -EINVAL, 0 },
	{ "no peer timeout", no_peer_timeout, -EINVAL, -EINVAL },
	{ "no request timeout", no_request_timeout, -EINVAL, -EINVAL },
	{ "no connect timeout", no_connect_timeout, -EINVAL, -EINVAL },
	{ "a uri without port", bad_uri, RJ_E_URI, RJ_E_URI },
	{ "the uri of a plan", auto_uri, RJ_E_URI, RJ_E_URI },
};

Test(session, options_are_checked)
{
	for (size_t i = 0; i < sizeof(opts_cases) / sizeof(*opts_cases); i++) {
		for (int is_destination = 0; is_destination < 2; is_destination++) {
			int expected = is_destination ? opts_cases[i].destination
						      : opts_cases[i].source;
			int ret, n;

			rj_opts_init(&o);
			o.uri = "tcp://127.0.0.1:0";
			opts_cases[i].change();
			n = count_fds();
			ret = is_destination ? rj_destination_open(env, &o, &s)
					     : rj_source_open(env, &o, &s);
			cr_assert_eq(ret, expected, "%s, destination %d: %d", opts_cases[i].what,
				     is_destination, ret);
			cr_assert_eq(!!s, !ret, "%s", opts_cases[i].what);
			rj_close(&s);
			cr_assert_eq(count_fds(), n, "%s", opts_cases[i].what);
		}
	}
}

Test(session, missing_arguments)
{
	cr_assert_eq(rj_source_open(NULL, &o, &s), -EINVAL);
	cr_assert_eq(rj_source_open(env, NULL, &s), -EINVAL);
	cr_assert_eq(rj_source_open(env, &o, NULL), -EINVAL);
	cr_assert_eq(rj_start(NULL), -EINVAL);
	cr_assert_eq(rj_add_region(NULL, &r, NULL), -EINVAL);
	cr_assert_eq(rj_next_event(NULL, NULL), -EINVAL);
	cr_assert_eq(rj_answer(NULL, 1, 0), -EINVAL);
	cr_assert_eq(rj_mark_dirty(NULL, 0, 0, 1), -EINVAL);
	cr_assert_eq(rj_linger_ms(NULL), 0);
	rj_cancel(NULL);
	rj_close(NULL);
	rj_close(&s);
}

/* The descriptors of a session that never got its options are 0 in a fresh struct: not ours. */
Test(session, refused_uri_leaves_standard_input_open)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	dup2(fds[0], 0);
	o.uri = "tcp://nowhere";
	cr_assert_eq(rj_source_open(env, &o, &s), RJ_E_URI);
	cr_assert_neq(fcntl(0, F_GETFD), -1);
	close(fds[0]);
	close(fds[1]);
}

Test(session, descriptors_are_duplicated_and_closed_again)
{
	int pair[2], lanes[2][2], lane_fds[2], before;

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	for (int i = 0; i < 2; i++) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, lanes[i]);
		lane_fds[i] = lanes[i][0];
	}
	before = count_fds();
	o.uri = NULL;
	o.control_fd = pair[0];
	o.lane_fds = lane_fds;
	o.n_lane_fds = 2;
	open_source();
	for (int i = 0; i < 2; i++) {
		cr_assert_neq(s->lane_fds[i], lane_fds[i]);
		cr_assert_eq(fcntl(s->lane_fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	}
	lane_fds[0] = lane_fds[1] = -1; /* copied */
	rj_close(&s);
	cr_assert_eq(count_fds(), before);
	cr_assert_neq(fcntl(pair[0], F_GETFD), -1, "still the caller's");
	for (int i = 0; i < 2; i++)
		cr_assert_neq(fcntl(lanes[i][0], F_GETFD), -1);
}

Test(session, descriptor_that_is_none_is_refused_and_none_stay_open)
{
	int lane_fds[3] = { 0, 999999, 1 }, before = count_fds();

	dup2(2, 0);
	o.lane_fds = lane_fds;
	o.n_lane_fds = 3;
	cr_assert_eq(rj_source_open(env, &o, &s), -EBADF);
	o.lane_fds = NULL;
	o.n_lane_fds = 0;
	o.control_fd = 999999;
	cr_assert_eq(rj_source_open(env, &o, &s), -EBADF);
	o.control_fd = -1;
	o.listen_fd = 999999;
	cr_assert_eq(rj_destination_open(env, &o, &s), -EBADF);
	cr_assert_eq(count_fds(), before);
}

Test(session, strings_are_copied)
{
	char uri[64] = "tcp://127.0.0.1:0", addrs[] = "10.0.0.1";

	o.uri = uri;
	o.data_addrs = addrs;
	cr_assert_eq(rj_destination_open(env, &o, &s), 0);
	memset(uri, 'x', sizeof(uri));
	memset(addrs, 'x', sizeof(addrs) - 1);
	cr_assert_str_eq(s->o.uri, "tcp://127.0.0.1:0");
	cr_assert_str_eq(s->o.data_addrs, "10.0.0.1");
}

/* --- regions --- */

static void r_other_size(void)
{
	r.size = 8;
}
static void r_no_name(void)
{
	r.name = NULL;
}
static void r_empty_name(void)
{
	r.name = "";
}
static void r_long_name(void)
{
	r.name = "1234567890123456789012345678901234567890123456789012345678901234";
}
static void r_longest_name(void)
{
	r.name = "123456789012345678901234567890123456789012345678901234567890123";
}
static void r_no_host(void)
{
	r.host = NULL;
}
static void r_odd_host(void)
{
	r.host = memory + 512;
}
static void r_no_len(void)
{
	r.len_bytes = 0;
}
static void r_odd_len(void)
{
	r.len_bytes = 4096 + 512;
}
static void r_no_page(void)
{
	r.page_bytes = 0;
}
static void r_small_page(void)
{
	r.page_bytes = 2048;
}
static void r_odd_page(void)
{
	r.page_bytes = 12288;
	r.len_bytes = 12288;
}
static void r_large_page(void)
{
	r.page_bytes = 1u << 31;
	r.host = (void *)(1ull << 40);
	r.len_bytes = 1ull << 31;
}
static void r_host_off_page(void)
{
	r.page_bytes = 2 << 20;
	r.host = (void *)0x40001000;
	r.len_bytes = 2 << 20;
}
static void r_len_off_page(void)
{
	r.page_bytes = 2 << 20;
	r.host = (void *)0x40000000;
	r.len_bytes = 3 << 20;
}
static void r_wraps(void)
{
	r.len_bytes = 0 - (uint64_t)(uintptr_t)memory;
	r.len_bytes += 4096;
}
static void r_unknown_flag(void)
{
	r.flags = 1u << 7;
}

static const struct {
	const char *what;
	void (*change)(void);
	int ret;
} region_cases[] = {
	{ "good", nothing, 0 },
	{ "another size", r_other_size, -EINVAL },
	{ "no name", r_no_name, -EINVAL },
	{ "empty name", r_empty_name, -EINVAL },
	{ "long name", r_long_name, -EINVAL },
	{ "longest name", r_longest_name, 0 },
	{ "no host", r_no_host, -EINVAL },
	{ "odd host", r_odd_host, -EINVAL },
	{ "no length", r_no_len, -EINVAL },
	{ "odd length", r_odd_len, -EINVAL },
	{ "no page size", r_no_page, -EINVAL },
	{ "small pages", r_small_page, -EINVAL },
	{ "page size that is no power of two", r_odd_page, -EINVAL },
	{ "large pages", r_large_page, -EINVAL },
	{ "host off a page", r_host_off_page, -EINVAL },
	{ "length off a page", r_len_off_page, -EINVAL },
	{ "past the end of the address space", r_wraps, -EINVAL },
	{ "unknown flag", r_unknown_flag, -EINVAL },
};

Test(session, fields_of_a_region_are_checked)
{
	const struct rj_region good = r;

	for (size_t i = 0; i < sizeof(region_cases) / sizeof(*region_cases); i++) {
		for (int is_destination = 0; is_destination < 2; is_destination++) {
			uint32_t number = 77;

			cr_assert_eq(is_destination ? rj_destination_open(env, &o, &s)
						    : rj_source_open(env, &o, &s),
				     0);
			r = good;
			region_cases[i].change();
			cr_assert_eq(rj_add_region(s, &r, &number), region_cases[i].ret, "%s",
				     region_cases[i].what);
			cr_assert_eq(number, region_cases[i].ret ? 77u : 0u, "%s",
				     region_cases[i].what);
			rj_close(&s);
		}
	}
}

Test(session, names_are_unique_and_copied)
{
	char name[] = "ram";
	uint32_t number;

	open_source();
	r.name = name;
	cr_assert_eq(rj_add_region(s, &r, NULL), 0);
	cr_assert_eq(rj_add_region(s, &r, NULL), -EEXIST);
	name[0] = 'R';
	cr_assert_eq(rj_add_region(s, &r, &number), 0);
	cr_assert_eq(number, 1);
	cr_assert_str_eq(s->given[0].r.name, "ram");
}

Test(session, no_more_regions_than_fit)
{
	char name[16];

	open_source();
	r.name = name;
	for (int i = 0; i < RJ_MAX_REGIONS; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		cr_assert_eq(rj_add_region(s, &r, NULL), 0);
	}
	cr_assert_eq(rj_add_region(s, &r, NULL), -EEXIST);
	r.name = "one too many";
	cr_assert_eq(rj_add_region(s, &r, NULL), -ENOSPC);
}

/* --- the rest of what comes before the start --- */

Test(session, start_without_memory_says_what_is_missing)
{
	struct rj_error e = { .size = sizeof(e) };

	open_source();
	cr_assert_eq(rj_start(s), -EINVAL);
	cr_assert_eq(rj_error_detail(s, &e), 0);
	cr_assert_eq(e.code, -EINVAL);
	cr_assert_not_null(strstr(e.text, "rj_add_region()"));
}

Test(session, detail_of_another_size_is_refused)
{
	struct rj_error e = { .size = 8 };

	open_source();
	cr_assert_eq(rj_error_detail(s, &e), -EINVAL);
	e.size = sizeof(e);
	cr_assert_eq(rj_error_detail(s, &e), 0);
	cr_assert_eq(e.code, 0);
}

Test(session, roles_keep_to_their_functions)
{
	struct rj_tracker *t = (struct rj_tracker *)memory;
	char c;

	cr_assert_eq(rj_destination_open(env, &o, &s), 0);
	cr_assert_eq(rj_add_tracker(s, t), -EINVAL);
	cr_assert_eq(rj_add_blocker(s, "x"), -EINVAL);
	cr_assert_eq(rj_set_setup_blob(s, "x", 1), -EINVAL);
	cr_assert_eq(rj_set_setup_reply(s, "x", 1), RJ_E_STATE, "nobody asks");
	cr_assert_eq(rj_get_setup_reply(s, &c, 1), -EINVAL);
	cr_assert_eq(rj_mark_dirty(s, 0, 0, 1), RJ_E_STATE, "nothing is loaded");
	cr_assert_eq(rj_state_write(s, "x", 1), -EINVAL);
	cr_assert_eq(rj_state_read(s, &c, 1), RJ_E_STATE);
	rj_close(&s);
	open_source();
	cr_assert_eq(rj_set_setup_reply(s, "x", 1), -EINVAL);
	cr_assert_eq(rj_get_setup_reply(s, &c, 1), RJ_E_STATE);
	cr_assert_eq(rj_state_write(s, "x", 1), RJ_E_STATE);
	cr_assert_eq(rj_state_read(s, &c, 1), -EINVAL);
	cr_assert_eq(rj_mark_dirty(s, 0, 0, 1), 0, "not before the start");
}

Test(session, blob_has_a_limit_and_may_be_replaced)
{
	char *blob = calloc(1, RJ_MAX_BLOB_BYTES + 1);

	open_source();
	cr_assert_eq(rj_set_setup_blob(s, blob, RJ_MAX_BLOB_BYTES + 1), -EINVAL);
	cr_assert_eq(rj_set_setup_blob(s, NULL, 1), -EINVAL);
	cr_assert_eq(rj_set_setup_blob(s, blob, RJ_MAX_BLOB_BYTES), 0);
	cr_assert_eq(rj_set_setup_blob(s, "abc", 3), 0);
	cr_assert_eq(s->blob_bytes, 3);
	cr_assert_eq(rj_set_setup_blob(s, NULL, 0), 0);
	free(blob);
}

Test(session, no_more_trackers_than_fit)
{
	struct rj_tracker *t = (struct rj_tracker *)memory;

	open_source();
	cr_assert_eq(rj_add_tracker(s, NULL), -EINVAL);
	for (int i = 0; i < 16; i++)
		cr_assert_eq(rj_add_tracker(s, t), 0);
	cr_assert_eq(rj_add_tracker(s, t), -ENOSPC);
}

Test(session, settings_that_make_no_sense_are_refused)
{
	open_source();
	cr_assert_eq(rj_set(s, RJ_PARAM_MAX_DOWNTIME_MS, 0), -EINVAL);
	cr_assert_eq(rj_set(s, RJ_PARAM_MAX_DOWNTIME_MS, 1ull << 32), -EINVAL);
	cr_assert_eq(rj_set(s, RJ_PARAM_MAX_DOWNTIME_MS, 50), 0);
	cr_assert_eq(s->max_downtime_ms, 50);
	cr_assert_eq(rj_set(s, RJ_PARAM_BANDWIDTH_BYTES_PER_S, 0), 0);
	cr_assert_eq(rj_set(s, (enum rj_param)77, 1), -EINVAL);
}

Test(session, only_an_unknown_outcome_is_resolved)
{
	open_source();
	cr_assert_eq(rj_resolve(s, RJ_RUNS_AT_SOURCE), RJ_E_STATE);
	cr_assert_eq(rj_resolve(s, RJ_RUNS_UNKNOWN), -EINVAL);
	s->state = RJ_STATE_UNKNOWN;
	cr_assert_eq(rj_resolve(s, RJ_RUNS_AT_DESTINATION), 0);
	cr_assert_eq(s->state, RJ_STATE_COMPLETED);
	cr_assert_eq(rj_resolve(s, RJ_RUNS_AT_SOURCE), RJ_E_STATE);
}

Test(session, destination_tells_where_it_listens)
{
	char uri[64], small[8];

	cr_assert_eq(rj_destination_open(env, &o, &s), 0);
	cr_assert_lt(rj_local_uri(s, uri, sizeof(uri)), 0, "not yet");
	cr_assert_eq(rj_start(s), 0);
	cr_assert_eq(rj_start(s), RJ_E_STATE);
	cr_assert_eq(rj_local_uri(s, uri, sizeof(uri)), 0);
	cr_assert_eq(strncmp(uri, "tcp://127.0.0.1:", 16), 0, "%s", uri);
	cr_assert_neq(atoi(uri + 16), 0);
	cr_assert_eq(rj_local_uri(s, small, sizeof(small)), -ENOSPC);
	rj_close(&s); /* also while it listens */
	cr_assert_null(s);
}

Test(session, port_in_use_ends_the_start_with_a_text)
{
	struct rj_error e = { .size = sizeof(e) };
	struct rj_session *first;
	char uri[64];

	cr_assert_eq(rj_destination_open(env, &o, &first), 0);
	cr_assert_eq(rj_start(first), 0);
	cr_assert_eq(rj_local_uri(first, uri, sizeof(uri)), 0);
	o.uri = uri;
	cr_assert_eq(rj_destination_open(env, &o, &s), 0);
	cr_assert_eq(rj_start(s), -EADDRINUSE);
	rj_error_detail(s, &e);
	cr_assert_not_null(strstr(e.text, "another port"), "%s", e.text);
	rj_close(&first);
}

Test(session, names_of_states)
{
	for (int i = RJ_STATE_NEW; i <= RJ_STATE_UNKNOWN; i++)
		cr_assert_str_neq(rj_state_name((enum rj_state)i), "?");
	cr_assert_str_eq(rj_state_name(RJ_STATE_BULK), "bulk");
	cr_assert_str_eq(rj_state_name((enum rj_state)99), "?");
	cr_assert_str_eq(rj_state_name((enum rj_state) - 1), "?");
}

/* --- cpus, and where lanes run --- */

static void expect_refused(const char *cpus, const char *text)
{
	struct rj_error e = { .size = sizeof(e) };

	o.cpus = cpus;
	open_source();
	cr_assert_eq(rj_add_region(s, &r, NULL), 0);
	cr_assert_eq(rj_start(s), -EINVAL);
	cr_assert_eq(rj_error_detail(s, &e), 0);
	cr_assert_not_null(strstr(e.text, text), "%s", e.text);
	rj_close(&s);
}

Test(session, cpus_that_make_no_sense_or_are_not_ours_are_refused)
{
	expect_refused("0-", "\"0-\" is no list of CPUs such as 0-3,8");
	expect_refused("none", "is no list of CPUs");
	expect_refused("4095", "this process may not run on 4095, only on");
}

Test(session, lanes_are_planned_before_the_start)
{
	struct rj_lane_plan lp = { .size = sizeof(lp) };
	struct rj_lane_bytes lb = { .size = sizeof(lb) };
	struct rji_cpus one = { 0 };
	char list[16];

	rji_cpus_add(&one, rji_cpus_next(&env->topology->allowed, 0));
	rji_cpus_format(&one, list, sizeof(list));
	o.cpus = list;
	o.n_lanes = 3;
	open_source();
	cr_assert_eq(rj_add_region(s, &r, NULL), 0);
	cr_assert_eq(rj_get_lane_plan(s, 1, &lp), RJ_E_STATE, "lane 0 makes the plan");
	for (uint32_t i = 0; i < 3; i++) {
		memset(&lp, 0, sizeof(lp));
		lp.size = sizeof(lp);
		cr_assert_eq(rj_get_lane_plan(s, i, &lp), 0);
		cr_assert_str_eq(lp.cpus, list);
		cr_assert_neq(lp.why[0], '\0');
		cr_assert_str_eq(lp.port, "");
	}
	cr_assert_eq(rj_get_lane_plan(s, 3, &lp), -ENOENT);
	cr_assert_eq(rj_get_lane_bytes(s, 0, 0, &lb), RJ_E_STATE, "nothing is sent yet");
	lp.size--;
	cr_assert_eq(rj_get_lane_plan(s, 0, &lp), -EINVAL);
	lb.size--;
	cr_assert_eq(rj_get_lane_bytes(s, 0, 0, &lb), -EINVAL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"
#include "rdma/window_message.h"
#include "tests/support/cases.h"
#include "tests/support/rdma_stranger.h"
#include "tests/support/transport_pair.h"
#include "tests/support/verbs_shim/shim.h"

/* Whole lanes over the shim: what a strict device would hold against us, without one. */

#define MIB (1ull << 20)
#define OPS (&rji_rdma_transport)

static char last_log[1024];
static int n_logs;

static void keep_log(void *arg, enum rj_log_level level, const char *line)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	snprintf(last_log, sizeof(last_log), "%s", line);
	n_logs += level <= RJ_LOG_WARN;
	pthread_mutex_unlock(&lock);
}

static const struct rji_host log_host = { .log = keep_log, .log_level = RJ_LOG_WARN };

static struct pair_opts opts(uint32_t n_lanes)
{
	return (struct pair_opts){
		.ops = OPS,
		.host = "192.0.2.1",
		.n_lanes = n_lanes,
		.n_regions = 2,
		.region_bytes = 6 * MIB,
		.misalign = 1 * MIB + 8192,
		.peer_timeout_ms =
			30000, /* a machine that stands still for seconds is no lost peer */
		.log = &log_host,
	};
}

/* Some rounds over lanes; everything must arrive, and be given back. */
static bool transfer(const struct shim_config *c, const struct pair_opts *o)
{
	struct rji_lane_stats st;
	struct shim_counts counts;
	struct rj_error err;
	uint64_t sent = 0;
	struct pair p;
	int ret;

	shim_start(c);
	rji_error_init(&err);
	ret = pair_open(&p, o, c->seed, &err);
	if (ret)
		printf("  %d: %s\n", ret, err.text);
	CHECK(!ret);
	for (uint64_t round = 0; round < 3; round++) {
		pair_fill(&p, c->seed + round);
		ret = pair_send_all(&p, c->seed + round, &err);
		if (ret)
			printf("  %d: %s\n", ret, err.text);
		CHECK(!ret);
		CHECK(pair_equal(&p));
	}
	for (uint32_t i = 0; i < o->n_lanes; i++) {
		OPS->stats(p.lane[i].source, &st);
		sent += st.sent_bytes;
	}
	counts = shim_counts();
	CHECK(sent == counts.write_bytes + 3 * o->n_lanes * RJI_RDMA_MESSAGE_BYTES);
	CHECK(counts.rnr == 0);
	CHECK(counts.wide == 0 || c->refuse_narrow);
	CHECK(counts.max_queued_bytes <= 4 * MIB); /* or what is urgent waits behind it */
	CHECK(counts.max_write_bytes <= RJI_RDMA_MAX_WR_BYTES);
	if (c->max_mr_bytes)
		CHECK(counts.max_mr_bytes <= c->max_mr_bytes);
	if (!o->lazy_destination && c->n_devices <= 1) /* a key of everything has come */
		CHECK(p.source_pins.there_bytes + o->n_lanes * RJI_RDMA_CONTROL_BYTES ==
		      p.destination_pins.now_bytes);
	CHECK(!pair_end_lanes(&p));
	CHECK(!o->lazy_source || p.source_pins.peak_bytes <= o->source_cap_bytes);
	CHECK(!o->lazy_destination || p.destination_pins.peak_bytes <= o->destination_cap_bytes);
	if (o->lazy_source && o->lazy_destination)
		CHECK(counts.max_registered_bytes <=
		      o->source_cap_bytes + o->destination_cap_bytes);
	CHECK(!p.carrier_err.code);
	pair_close(&p);
	CHECK(p.source_pins.there_bytes == 0);
	CHECK(shim_stop());
	return true;
}

static bool pages_arrive_by_one_to_four_lanes(void)
{
	for (uint32_t n = 1; n <= 4; n++) {
		struct shim_config c = { .seed = n, .reorder = n % 2 };
		struct pair_opts o = opts(n);

		CHECK(transfer(&c, &o));
	}
	return true;
}

static bool pages_arrive_in_any_order(void)
{
	for (uint64_t seed = 100; seed < (getenv("RJ_TEST_LONG") ? 200 : 108); seed++) {
		struct shim_config c = { .seed = seed, .reorder = true };
		struct pair_opts o = opts(3);

		o.region_bytes = 3 * MIB;
		CHECK(transfer(&c, &o));
	}
	return true;
}

/* Chunks of 256 KiB at one end, and the two ends' boundaries at different pages. */
static bool pages_arrive_through_small_registrations(void)
{
	struct shim_config c = { .seed = 5, .max_mr_bytes = 300 << 10, .reorder = true };
	struct pair_opts o = opts(2);

	return transfer(&c, &o);
}

static bool pages_arrive_through_short_queues_and_messages(void)
{
	struct shim_config c = {
		.seed = 6,
		.max_qp_wr = 17,
		.max_msg_bytes = 64 << 10,
		.refuse_inline = true,
		.refuse_relaxed = true,
		.refuse_narrow = true,
	};
	struct pair_opts o = opts(2);

	return transfer(&c, &o);
}

static bool pages_arrive_where_lanes_spin(void)
{
	struct shim_config c = { .seed = 7, .hardware = true };
	struct pair_opts o = opts(2);

	return transfer(&c, &o);
}

static bool pages_arrive_by_ipv6(void)
{
	struct shim_config c = { .seed = 8 };
	struct pair_opts o = opts(2);

	o.host = "2001:db8::1";
	return transfer(&c, &o);
}

/* Two ports: two devices at each end, each with registrations of its own. */
static bool pages_arrive_by_two_devices(void)
{
	struct shim_config c = { .seed = 9, .n_devices = 2 };
	struct pair_opts o = opts(4);

	o.data_addrs = "192.0.2.1,192.0.2.2";
	return transfer(&c, &o);
}

/* The source's devices are named in the other order than lanes use them; only the second port listens. */
static bool pages_arrive_by_the_second_of_two_devices(void)
{
	struct shim_config c = { .seed = 10, .n_devices = 2 };
	struct pair_opts o = opts(2);

	o.host = "192.0.2.2";
	return transfer(&c, &o);
}

static bool only_the_devices_that_matter_are_registered_with(void)
{
	static const char *const hosts[] = { "192.0.2.2", "192.0.2.2,192.0.2.1", "198.51.100.1",
					     NULL };
	static const uint32_t n_expected[] = { 1, 2, 2, 2 };

	for (int i = 0; i < 4; i++) {
		struct shim_config c = { .seed = 14, .n_devices = 2 };
		struct pair_opts o = opts(2);
		uint64_t bytes, one = 12 * MIB + 4096;
		struct rj_error err;
		struct pair p;

		o.host = "192.0.2.2";
		o.data_hosts = hosts[i];
		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_create(&p, &o, 1, &err) && !pair_listen(&p, &err));
		bytes = shim_counts().registered_bytes;
		CHECK(bytes == n_expected[i] * one); /* the source's come with its first lane */
		CHECK(!pair_connect(&p, &err));
		bytes = shim_counts().registered_bytes - bytes;
		CHECK(bytes >= one && bytes < one + 65536);
		CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
		CHECK(!pair_end_lanes(&p));
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

/* Work requests wait until they are let go: the fence must wait as well. */
static void *release_later(void *arg)
{
	usleep(200000);
	*(atomic_bool *)arg = true;
	shim_pause(false);
	return NULL;
}

static bool fence_waits_for_placement(void)
{
	struct shim_config c = { .seed = 11, .reorder = true };
	struct pair_opts o = opts(1);
	struct rji_extent e = { 0, 1 << 20, 0 };
	atomic_bool released = false;
	struct rji_lane_stats st;
	struct rj_error err;
	pthread_t thread;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_pause(true);
	CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
	/* Posted is not sent. */
	OPS->stats(p.lane[0].source, &st);
	CHECK(st.sent_bytes == 0);
	CHECK(OPS->fence(p.lane[0].source, rji_now_ns() + 50 * RJI_NS_PER_MS, &err) ==
	      RJ_E_TIMEOUT);
	CHECK(err.code == RJ_E_TIMEOUT);
	pthread_create(&thread, NULL, release_later, &released);
	rji_error_init(&err);
	CHECK(!OPS->fence(p.lane[0].source, 0, &err));
	CHECK(released);
	CHECK(!memcmp(p.source_memory[0].host, p.destination_memory[0].host, e.len_bytes));
	pthread_join(thread, NULL);
	/* Drained before the fence that timed out was answered: the late answer confused nobody. */
	CHECK(!pair_send_all(&p, 2, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* More than there are receives, and than events are acknowledged at once; each waits, so that none piles up. */
static bool fences_go_on_for_ever(void)
{
	struct shim_config c = { .seed = 13, .reorder = true };
	struct pair_opts o = opts(1);
	struct rji_extent e = { 0, 4096, 0 };
	uint64_t start = rji_now_ns();
	struct rj_error err;
	struct pair p;

	/* A wake-up that was missed costs half of this. */
	o.peer_timeout_ms = 40000;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	for (int i = 0; i < 200; i++) {
		CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
		CHECK(!OPS->fence(p.lane[0].source, 0, &err));
	}
	CHECK(rji_now_ns() - start < 15 * RJI_NS_PER_S);
	CHECK(shim_counts().rnr == 0);
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool drain_waits_for_reads(void)
{
	struct shim_config c = { .seed = 12 };
	struct pair_opts o = opts(1);
	struct rji_extent e = { 4096, 65536, 1 };
	atomic_bool released = false;
	struct rji_lane_stats st;
	struct rj_error err;
	pthread_t thread;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_pause(true);
	CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
	pthread_create(&thread, NULL, release_later, &released);
	CHECK(!OPS->drain(p.lane[0].source, &err));
	CHECK(released);
	pthread_join(thread, NULL);
	OPS->stats(p.lane[0].source, &st);
	CHECK(st.sent_bytes == 65536);
	/* Closed without a fence: an abort, which the destination must not take for an end. */
	CHECK(pair_end_lanes(&p) == RJ_E_PEER_GONE);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool no_byte_changes_after_withdraw(void)
{
	for (uint64_t seed = 20; seed < 28; seed++) {
		struct shim_config c = { .seed = seed, .reorder = true };
		struct pair_opts o = opts(2);
		struct rj_error err;
		struct pair p;
		uint8_t *copy;
		int ret;

		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_open(&p, &o, seed, &err));
		for (uint32_t i = 0; i < 2; i++) {
			struct rji_extent e = { i * 2 * MIB, 2 * MIB, 0 };

			CHECK(!OPS->post(p.lane[i].source, &e, 1, &err));
		}
		usleep((useconds_t)seed * 10);
		OPS->withdraw(p.destination);
		copy = malloc(o.region_bytes);
		memcpy(copy, p.destination_memory[0].host, o.region_bytes);
		ret = pair_send_all(&p, seed, &err);
		CHECK(ret == RJ_E_LANE || ret == RJ_E_PEER_GONE);
		CHECK(!memcmp(copy, p.destination_memory[0].host, o.region_bytes));
		free(copy);
		CHECK(!pair_end_lanes(&p));
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

static bool no_lane_comes_after_withdraw(void)
{
	struct shim_config c = { .seed = 30 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err));
	OPS->withdraw(p.destination);
	p.o.deadline_ms = 300;
	CHECK(pair_connect(&p, &err) < 0);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* Should a queue pair not obey, the registrations go. */
static bool withdraw_is_certain(void)
{
	struct shim_config c = { .seed = 31 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;
	int ret;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_fail(SHIM_MODIFY_QP, 1);
	OPS->withdraw(p.destination);
	CHECK(shim_has_failed() && strstr(last_log, "does not stop"));
	ret = pair_send_all(&p, 1, &err);
	CHECK(ret == RJ_E_LANE && err.wc_status == IBV_WC_REM_ACCESS_ERR);
	CHECK(err.region == 0 && err.wc_vendor_err == 0x51);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool first_bad_completion_is_the_news(void)
{
	struct shim_config c = { .seed = 32 };
	struct rji_extent e[3] = { { 0, 4096, 0 }, { 8192, 4096, 1 }, { 65536, 8192, 0 } };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;
	int ret;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_fail(SHIM_EXECUTE, 2);
	CHECK(!OPS->post(p.lane[0].source, e, 3, &err));
	ret = OPS->fence(p.lane[0].source, 0, &err);
	CHECK(ret == RJ_E_LANE && err.code == ret && err.lane == 0);
	CHECK(err.region == 1 && err.offset_bytes == 8192);
	CHECK(err.wc_status == IBV_WC_FATAL_ERR && err.wc_vendor_err == 0x51);
	CHECK(strstr(err.text, "ram1"));
	/* And so it stays, with its story. */
	rji_error_init(&err);
	CHECK(OPS->post(p.lane[0].source, e, 1, &err) == ret && err.region == 1);
	rji_error_init(&err);
	CHECK(OPS->drain(p.lane[0].source, &err) == ret && err.offset_bytes == 8192);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool extents_are_checked(void)
{
	static const struct rji_extent bad[] = {
		{ 0, 4096, 2 },
		{ 0, 4096, UINT32_MAX },
		{ 6 * MIB, 4096, 0 },
		{ 6 * MIB - 4096, 8192, 0 },
		{ UINT64_MAX - 4095, 4096, 0 },
		{ 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct shim_config c = { .seed = 33 };
		struct pair_opts o = opts(1);
		struct rj_error err;
		struct pair p;

		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_open(&p, &o, 1, &err));
		CHECK(OPS->post(p.lane[0].source, &bad[i], 1, &err) == -EINVAL);
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

static bool silent_destination_is_noticed(void)
{
	struct shim_config c = { .seed = 34 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	uint64_t start;
	struct pair p;

	o.peer_timeout_ms = 1000;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_pause(true);
	start = rji_now_ns();
	CHECK(OPS->fence(p.lane[0].source, 0, &err) == RJ_E_PEER_GONE);
	CHECK(rji_now_ns() - start > 900 * RJI_NS_PER_MS);
	CHECK(rji_now_ns() - start < 10 * RJI_NS_PER_S);
	shim_pause(false);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool silent_source_is_noticed(void)
{
	struct shim_config c = { .seed = 35 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;

	o.peer_timeout_ms = 2000;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	/* Idle for longer than that, and its pings are acknowledged by the source's port: lives. */
	while (shim_counts().sends < 3)
		usleep(10000);
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	shim_pause(true); /* nothing acknowledges any more */
	pthread_join(p.lane[0].server, NULL);
	p.lane[0].serving = false;
	CHECK(p.lane[0].served == RJ_E_PEER_GONE);
	shim_pause(false);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool stop_ends_every_wait(void)
{
	struct shim_config c = { .seed = 36 };
	struct pair_opts o = opts(2);
	struct rji_extent e = { 0, 4096, 0 };
	struct rj_error err;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	shim_pause(true);
	rji_stop_set(&p.source_stop);
	CHECK(OPS->fence(p.lane[0].source, 0, &err) == -ECANCELED);
	CHECK(!OPS->post(p.lane[1].source, &e, 1, &err)); /* there is room: nothing to wait for */
	rji_error_init(&err);
	CHECK(OPS->drain(p.lane[1].source, &err) == -ECANCELED && err.code == -ECANCELED);
	shim_pause(false);
	rji_stop_set(&p.destination_stop);
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool discarded_chunk_can_be_sent_again(void)
{
	struct shim_config c = { .seed = 37, .max_mr_bytes = 1 * MIB };
	struct pair_opts o = opts(2);
	uint64_t offset = 1 * MIB + 4096, len = 4096;
	struct shim_counts before, unpinned;
	struct rj_error err;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	before = shim_counts();
	CHECK(!OPS->unpin(p.source, 0, &offset, &len, &err));
	CHECK(offset <= 1 * MIB + 4096 && offset + len >= 1 * MIB + 8192 && len <= 1 * MIB);
	unpinned = shim_counts();
	CHECK(before.registered_bytes - unpinned.registered_bytes == len);
	CHECK(!OPS->repin(p.source, 0, offset, len, &err));
	CHECK(shim_counts().registered_bytes == before.registered_bytes);
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	offset = 6 * MIB;
	len = 4096;
	CHECK(OPS->unpin(p.source, 0, &offset, &len, &err) == -EINVAL);
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* --- registration by and by --- */

static bool pages_arrive_while_memory_is_registered(void)
{
	for (uint64_t seed = 200; seed < 206; seed++) {
		struct shim_config c = { .seed = seed, .max_mr_bytes = 1 * MIB };
		struct pair_opts o = opts(1 + seed % 3);

		o.background = true;
		CHECK(transfer(&c, &o));
	}
	return true;
}

/* The least, with which every lane has a window at each end and no more, and some more than that. */
static bool pages_arrive_under_a_cap(void)
{
	for (uint64_t seed = 300; seed < (getenv("RJ_TEST_LONG") ? 400 : 316); seed++) {
		struct shim_config c = { .seed = seed, .reorder = seed % 2 };
		struct pair_opts o = opts(1 + seed % 4);
		uint64_t least = rji_rdma_least_cap(o.n_lanes);

		o.background = true;
		o.region_bytes = 9 * MIB;
		o.lazy_source = seed % 3 != 1;
		o.lazy_destination = seed % 3 != 2;
		o.source_cap_bytes = o.lazy_source ? least + seed % 5 * MIB : 0;
		o.destination_cap_bytes = o.lazy_destination ? least + seed % 7 * MIB : 0;
		CHECK(transfer(&c, &o));
	}
	return true;
}

static bool a_cap_too_small_is_told_before(void)
{
	struct shim_config c = { .seed = 61 };
	struct pair_opts o = opts(3);
	struct rj_error err;
	struct pair p;

	o.background = o.lazy_source = true;
	o.source_cap_bytes = rji_rdma_least_cap(3) - 1;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(pair_create(&p, &o, 1, &err) == RJ_E_MEMLOCK);
	CHECK(strstr(err.text, "6303744") && strstr(err.text, "--pin-cap"));
	pair_close(&p);
	o.lazy_source = false; /* all of it does not fit */
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(pair_listen(&p, &err) == RJ_E_MEMLOCK && strstr(err.text, "--register lazy"));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* What is discarded is not registered, comes back when it is needed, and what else there is goes on meanwhile. */
static bool lazy_windows_are_let_go_for_a_discard(void)
{
	struct shim_config c = { .seed = 63 };
	struct pair_opts o = opts(2);
	uint64_t offset = 3 * MIB, len = 4096;
	struct rji_extent there = { 3 * MIB, 4096, 0 }, elsewhere = { 0, 4096, 0 };
	struct rj_error err;
	uint64_t before;
	struct pair p;

	o.background = o.lazy_source = true;
	o.source_cap_bytes = 12 * MIB;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(!OPS->post(p.lane[0].source, &there, 1, &err));
	CHECK(!OPS->post(p.lane[0].source, &elsewhere, 1, &err));
	CHECK(!OPS->drain(p.lane[0].source, &err));
	before = p.source_pins.now_bytes;
	CHECK(!OPS->unpin(p.source, 0, &offset, &len, &err));
	CHECK(offset == 2 * MIB && len == 2 * MIB);
	CHECK(p.source_pins.now_bytes == before - len);
	CHECK(!OPS->post(p.lane[0].source, &elsewhere, 1, &err));
	CHECK(!OPS->drain(p.lane[0].source, &err));
	CHECK(!OPS->repin(p.source, 0, offset, len, &err));
	CHECK(p.source_pins.now_bytes == before - len); /* not before it is needed */
	pair_fill(&p, 2);
	CHECK(!pair_send_all(&p, 2, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static int hear(struct rji_transport *tp, int kind, uint32_t region, uint32_t window, uint32_t key,
		struct rj_error *err)
{
	struct rji_rdma_window_message m = { (enum rji_rdma_window_message_kind)kind, region, 0,
					     window, key };
	uint8_t bytes[RJI_RDMA_WINDOW_MESSAGE_BYTES];
	struct rji_cursor c;

	rji_error_init(err);
	rji_cursor_init(&c, bytes, sizeof(bytes));
	rji_rdma_put_window_message(&c, &m);
	return OPS->hear(tp, bytes, sizeof(bytes), err);
}

/* A source that lies cannot have more pinned than the cap, nor what is not there. */
static bool a_source_gets_no_more_than_the_cap(void)
{
	struct shim_config c = { .seed = 65 };
	struct pair_opts o = opts(2);
	struct rj_error err;
	struct pair p;

	o.background = o.lazy_destination = true;
	o.destination_cap_bytes = rji_rdma_least_cap(2);
	o.region_bytes = 16 * MIB;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 0, 0, &err) == RJ_E_PROTOCOL);
	CHECK(!pair_listen(&p, &err) && !pair_connect(&p, &err));
	/* Each of these would end a session. */
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 2, 0, 0, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 99, 0, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_DROP, 0, 3, 0, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_KEY, 0, 3, 7, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 3, 7, &err) == RJ_E_PROTOCOL);
	CHECK(!hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 3, 0, &err));
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 3, 0, &err) == RJ_E_PROTOCOL);
	CHECK(!hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 4, 0, &err));
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 5, 0, &err) == RJ_E_PROTOCOL);
	CHECK(strstr(err.text, "registrations"));
	pair_close(&p);
	CHECK(p.destination_pins.peak_bytes <= o.destination_cap_bytes);
	CHECK(shim_stop());
	return true;
}

static bool a_destination_tells_nothing_unasked(void)
{
	struct shim_config c = { .seed = 67 };
	struct pair_opts o = opts(2);
	struct rj_error err;
	struct pair p;

	o.background = o.lazy_destination = true;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(hear(p.source, RJI_RDMA_WINDOW_KEY, 0, 1, 7, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.source, RJI_RDMA_WINDOW_DROPPED, 0, 1, 0, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.source, RJI_RDMA_WINDOW_KEY, 0, 99, 7, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.source, RJI_RDMA_WINDOW_KEY, 9, 0, 7, &err) == RJ_E_PROTOCOL);
	CHECK(hear(p.source, RJI_RDMA_WINDOW_WANT, 0, 0, 0, &err) == RJ_E_PROTOCOL);
	CHECK(OPS->hear(p.source, "x", 1, &err) == RJ_E_PROTOCOL);
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(hear(p.source, RJI_RDMA_WINDOW_KEY, 0, 1, 7, &err) == RJ_E_PROTOCOL);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* Where everything is registered anyway, a window may be wanted before its turn, and comes once. */
static bool a_window_may_be_wanted_before_its_turn(void)
{
	struct shim_config c = { .seed = 69, .max_mr_bytes = 1 * MIB };
	struct pair_opts o = opts(2);
	struct rj_error err;
	struct pair p;

	o.background = true;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(!hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 3, 0, &err));
	CHECK(!hear(p.destination, RJI_RDMA_WINDOW_WANT, 0, 3, 0, &err));
	CHECK(hear(p.destination, RJI_RDMA_WINDOW_DROP, 0, 3, 0, &err) == RJ_E_PROTOCOL);
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(hear(p.source, RJI_RDMA_WINDOW_KEY, 0, 3, 7, &err) == RJ_E_PROTOCOL);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* Registering populates: what the guest never touched is not to be, until there is something to send. */
static bool empty_memory_is_registered_when_sent(void)
{
	struct shim_config c = { .seed = 45, .max_mr_bytes = 1 * MIB };
	struct pair_opts o = opts(2);
	struct rji_extent e = { 2 * MIB, 8192, 0 };
	struct shim_counts full, sparse;
	struct rj_error err;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!madvise((uint8_t *)p.source_memory[0].host + MIB, 4 * MIB, MADV_DONTNEED));
	CHECK(!pair_listen(&p, &err) && !pair_connect(&p, &err));
	sparse = shim_counts();
	memset((uint8_t *)p.destination_memory[0].host + 2 * MIB, 0xff, 8192);
	CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
	CHECK(shim_counts().registered_bytes == sparse.registered_bytes + 1 * MIB);
	CHECK(!OPS->fence(p.lane[0].source, 0, &err));
	CHECK(((uint8_t *)p.destination_memory[0].host)[2 * MIB + 8191] == 0);
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	full = shim_counts();
	CHECK(full.registered_bytes == sparse.registered_bytes + 4 * MIB);
	/* Given up again: not registered at repin, but at the next page. */
	e.offset_bytes = 3 * MIB;
	uint64_t offset = 3 * MIB, len = 4096;

	CHECK(!OPS->unpin(p.source, 0, &offset, &len, &err) && len == 1 * MIB);
	CHECK(!madvise((uint8_t *)p.source_memory[0].host + offset, len, MADV_DONTNEED));
	CHECK(!OPS->repin(p.source, 0, offset, len, &err));
	CHECK(shim_counts().registered_bytes == full.registered_bytes - 1 * MIB);
	CHECK(!OPS->post(p.lane[1].source, &e, 1, &err));
	CHECK(!OPS->fence(p.lane[1].source, 0, &err) && pair_equal(&p));
	/* A registration that comes late may fail as well. */
	CHECK(!OPS->unpin(p.source, 0, &offset, &len, &err));
	CHECK(!madvise((uint8_t *)p.source_memory[0].host + offset, len, MADV_DONTNEED));
	CHECK(!OPS->repin(p.source, 0, offset, len, &err));
	shim_fail(SHIM_REG_MR, 1);
	rji_error_init(&err);
	CHECK(OPS->post(p.lane[1].source, &e, 1, &err) == -ENOMEM && err.region == 0);
	CHECK(strstr(err.text, "ram0"));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* --- strangers --- */

struct knocking {
	struct pair *p;
	struct rji_admission *adm;
	bool ok;
	atomic_bool over;
};

static int knock(const struct pair *p, const struct rji_rdma_hello *h, int cut, uint8_t version,
		 enum rji_rdma_refusal *reason_p)
{
	uint8_t bytes[RJI_RDMA_HELLO_BYTES];
	uint8_t answer[196];
	size_t len = sizeof(answer);
	int type;

	rji_rdma_put_hello(h, bytes);
	bytes[4] = version;
	type = rdma_stranger_knock(p->addrs.addr[0], bytes, (uint8_t)(sizeof(bytes) - (size_t)cut),
				   answer, &len);
	*reason_p = rji_rdma_get_refusal(answer, len);
	return type;
}

static void *knock_thread(void *arg)
{
	struct knocking *k = arg;
	struct rji_rdma_hello good = { .lane = 0 }, h;
	enum rji_rdma_refusal reason;

	memcpy(good.session_id, k->adm->session_id, sizeof(good.session_id));
	memcpy(good.token, k->adm->token, sizeof(good.token));
	k->ok = true;
#define REFUSED(hello, cut, version, why)                                                          \
	do {                                                                                       \
		if (knock(k->p, hello, cut, version, &reason) != RDMA_CM_EVENT_REJECTED ||         \
		    reason != RJI_RDMA_REFUSED_##why) {                                            \
			printf("  %s: got %s\n", #why, rji_rdma_refusal_text(reason));             \
			k->ok = false;                                                             \
		}                                                                                  \
	} while (0)
	h = good;
	h.token[31] ^= 1;
	REFUSED(&h, 0, 1, TOKEN);
	h = good;
	h.session_id[0] ^= 1;
	REFUSED(&h, 0, 1, SESSION);
	h = good;
	h.lane = 2;
	REFUSED(&h, 0, 1, LANE);
	h.lane = 65535;
	REFUSED(&h, 0, 1, LANE);
	REFUSED(&good, 0, 2, VERSION);
	REFUSED(&good, 20, 1, TOKEN); /* padded with zeros, so the token is another */
	REFUSED(&good, 56, 1, GARBAGE);
#undef REFUSED
	k->over = true;
	return NULL;
}

static bool strangers_are_refused(void)
{
	struct shim_config c = { .seed = 38 };
	struct pair_opts o = opts(2);
	struct rji_lane *lanes[2];
	struct knocking k;
	struct rj_error err;
	pthread_t thread;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err));
	k = (struct knocking){ &p, &p.admission, false, false };
	n_logs = 0;
	pthread_create(&thread, NULL, knock_thread, &k);
	/* The acceptor waits through all of them, for lanes that do not come yet. */
	do {
		rji_error_init(&err);
		CHECK(OPS->accept(p.destination, &p.admission, rji_now_ns() + 500 * RJI_NS_PER_MS,
				  lanes, &err) == RJ_E_TIMEOUT);
	} while (!k.over);
	pthread_join(thread, NULL);
	CHECK(k.ok);
	CHECK(n_logs == 7);
	/* They have not spoilt it for those who belong here. */
	rji_error_init(&err);
	CHECK(!pair_connect(&p, &err));
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static void *connect_twice(void *arg)
{
	struct knocking *k = arg;
	struct rji_lane *lane[3] = { NULL, NULL, NULL };
	uint64_t deadline = rji_now_ns() + 5 * RJI_NS_PER_S;
	struct rj_error err;

	rji_error_init(&err);
	k->ok = !OPS->connect(k->p->source, 0, &k->p->addrs, k->adm, deadline, &lane[0], &err);
	k->ok = k->ok && OPS->connect(k->p->source, 0, &k->p->addrs, k->adm, deadline, &lane[1],
				      &err) == RJ_E_REFUSED;
	k->ok = k->ok && strstr(err.text, "already connected") && !lane[1];
	rji_error_init(&err);
	k->ok = k->ok &&
		!OPS->connect(k->p->source, 1, &k->p->addrs, k->adm, deadline, &lane[2], &err);
	k->p->lane[0].source = lane[0];
	k->p->lane[1].source = lane[2];
	return NULL;
}

static bool lane_connects_once(void)
{
	struct shim_config c = { .seed = 39 };
	struct pair_opts o = opts(2);
	struct rji_lane *lanes[2];
	struct knocking k;
	struct rj_error err;
	pthread_t thread;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err));
	k = (struct knocking){ &p, &p.admission, false, false };
	pthread_create(&thread, NULL, connect_twice, &k);
	CHECK(!OPS->accept(p.destination, &p.admission, rji_now_ns() + 5 * RJI_NS_PER_S, lanes,
			   &err));
	pthread_join(thread, NULL);
	CHECK(k.ok);
	OPS->close(&lanes[0]);
	OPS->close(&lanes[1]);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* Behind a queue pair that is connected, a peer may still say anything. */
static bool wrong_messages_end_the_lane(void)
{
	static const struct rji_rdma_message wrong[] = {
		{ .type = RJI_RDMA_FENCE, .seq = 0 },  { .type = RJI_RDMA_FENCE, .seq = 2 },
		{ .type = RJI_RDMA_ANSWER, .seq = 1 }, { .type = RJI_RDMA_PING, .seq = 0 },
		{ .type = RJI_RDMA_BYE, .seq = 1 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct shim_config c = { .seed = 40 + i };
		struct pair_opts o = opts(1);
		struct rj_error err;
		struct pair p;

		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_open(&p, &o, 1, &err));
		CHECK(!rji_rdma_send(rji_rdma_lane_of(p.lane[0].source), &wrong[i]));
		pthread_join(p.lane[0].server, NULL);
		p.lane[0].serving = false;
		CHECK(p.lane[0].served == RJ_E_PROTOCOL && p.lane[0].served_err.text[0]);
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

/* --- copies and zeros --- */

/* For lanes it is only whether, not how: messages say which pages are zero. */
static const struct rji_apply_ops agreed = { 0 };

static bool copies_arrive_instead_of_the_pages(void)
{
	struct shim_config c = { .seed = 70, .reorder = true };
	const struct rji_extent e[2] = { { 4 * MIB - 4096, 8192, 0 }, { 0, 1 * MIB, 1 } };
	struct pair_opts o = opts(1);
	const void *from[2];
	struct rj_error err;
	uint8_t *room;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	room = OPS->staging(p.lane[0].source, 2 * MIB);
	CHECK(room && OPS->staging(p.lane[0].source, 2 * MIB) == room);
	from[0] = room + MIB;
	from[1] = room;
	for (int round = 1; round < 20; round++) {
		const uint8_t *a = (uint8_t *)p.destination_memory[0].host + e[0].offset_bytes;
		const uint8_t *b = p.destination_memory[1].host;

		memset(room, round, MIB);
		memset(room + MIB, round + 100, 8192);
		CHECK(!OPS->post_staged(p.lane[0].source, e, from, 2, &err));
		CHECK(!OPS->drain(p.lane[0].source, &err));
		memset(room, 0xff, MIB + 8192); /* is read no more */
		CHECK(!OPS->fence(p.lane[0].source, 0, &err));
		for (uint64_t i = 0; i < MIB; i++)
			CHECK(b[i] == round);
		for (uint64_t i = 0; i < 8192; i++)
			CHECK(a[i] == round + 100);
	}
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool drain_waits_until_copies_are_read(void)
{
	const struct rji_extent e = { 4096, 65536, 1 };
	struct shim_config c = { .seed = 71 };
	struct pair_opts o = opts(1);
	atomic_bool released = false;
	struct rj_error err;
	const void *room;
	pthread_t thread;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	room = OPS->staging(p.lane[0].source, 65536);
	CHECK(room);
	shim_pause(true);
	CHECK(!OPS->post_staged(p.lane[0].source, &e, &room, 1, &err));
	pthread_create(&thread, NULL, release_later, &released);
	CHECK(!OPS->drain(p.lane[0].source, &err));
	CHECK(released);
	pthread_join(thread, NULL);
	CHECK(!OPS->fence(p.lane[0].source, 0, &err));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool room_for_copies_is_pinned_counted_and_given_back(void)
{
	struct shim_config c = { .seed = 72 };
	struct pair_opts o = opts(2);
	struct rj_error err;
	uint64_t before;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	before = p.source_pins.now_bytes;
	CHECK(OPS->staging(p.lane[0].source, MIB - 1));
	CHECK(p.source_pins.now_bytes == before + MIB);
	OPS->close(&p.lane[0].source);
	CHECK(p.source_pins.now_bytes == before - RJI_RDMA_CONTROL_BYTES);
	/* No memory for it, or none that may be pinned: no copies, then, and a lane as before. */
	shim_fail(SHIM_REG_MR, 1);
	CHECK(!OPS->staging(p.lane[1].source, MIB));
	CHECK(shim_has_failed());
	CHECK(p.source_pins.now_bytes == before - RJI_RDMA_CONTROL_BYTES);
	CHECK(!OPS->fence(p.lane[1].source, 0, &err));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool room_for_copies_is_not_taken_from_a_cap(void)
{
	struct shim_config c = { .seed = 73 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;

	o.background = o.lazy_source = o.lazy_destination = true;
	o.source_cap_bytes = o.destination_cap_bytes = 4ull << 30;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(!OPS->staging(p.lane[0].source, MIB));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

/* More of them than messages are on their way at once, among writes. */
static bool zeros_are_made_before_the_fence_is_answered(void)
{
	struct shim_config c = { .seed = 74, .reorder = true };
	struct pair_opts o = opts(1);
	struct rji_coded zeros[64];
	struct rj_error err;
	const uint8_t *there;
	struct pair p;

	o.apply = &agreed;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	there = p.destination_memory[1].host;
	for (uint32_t round = 0; round < 10; round++) {
		struct rji_extent e = { 5 * MIB, 4096, 1 };

		memset(p.destination_memory[1].host, 0x77, 4 * MIB);
		for (uint32_t i = 0; i < 64; i++) /* every second page, and a long one */
			zeros[i] = (struct rji_coded){
				.extent = { i * 8192ull, i == 63 ? 1 * MIB : 4096, 1 },
				.coding = RJI_CODING_ZEROS,
			};
		CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
		CHECK(!OPS->post_coded(p.lane[0].source, zeros, 64, &err));
		CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
		CHECK(!OPS->fence(p.lane[0].source, 0, &err));
		for (uint64_t i = 0; i < 4 * MIB; i++) {
			bool is_zero = i < 63 * 8192ull ? i / 4096 % 2 == 0
							: i < 63 * 8192ull + MIB;

			CHECK(there[i] == (is_zero ? 0 : 0x77));
		}
	}
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static uint64_t zeros_at(uint64_t page, uint64_t n_pages)
{
	return page | n_pages << RJI_RDMA_ZEROS_PAGE_BITS;
}

static bool zeros_that_are_not_allowed_end_the_lane(void)
{
	const uint64_t pages = 6 * MIB / 4096;
	const struct {
		uint32_t region;
		uint64_t seq;
		bool unagreed;
	} wrong[] = {
		{ 0, zeros_at(0, 0), false },
		{ 0, zeros_at(0, pages + 1), false },
		{ 0, zeros_at(pages, 1), false },
		{ 0, zeros_at(pages - 1, 2), false },
		{ 0, zeros_at((1ull << RJI_RDMA_ZEROS_PAGE_BITS) - 1, 1), false },
		{ 0, UINT64_MAX, false },
		{ 1, zeros_at(pages, 2), false },
		{ 2, zeros_at(0, 1), false },
		{ UINT32_MAX, zeros_at(0, 1), false },
		{ 0, zeros_at(0, 1), true },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct rji_rdma_message m = { RJI_RDMA_ZEROS, wrong[i].region, wrong[i].seq };
		struct shim_config c = { .seed = 80 + i };
		struct pair_opts o = opts(1);
		struct rj_error err;
		struct pair p;

		o.apply = wrong[i].unagreed ? NULL : &agreed;
		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_open(&p, &o, 1, &err));
		memset(p.destination_memory[0].host, 0x77, 6 * MIB);
		CHECK(!rji_rdma_send(rji_rdma_lane_of(p.lane[0].source), &m));
		pthread_join(p.lane[0].server, NULL);
		p.lane[0].serving = false;
		CHECK(p.lane[0].served == RJ_E_PROTOCOL && p.lane[0].served_err.text[0]);
		for (uint64_t k = 0; k < 6 * MIB; k += 4096)
			CHECK(((uint8_t *)p.destination_memory[0].host)[k] == 0x77);
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

static bool a_lane_codes_nothing_but_zeros(void)
{
	const struct rji_coded coded = { { 0, 4096, 0 }, RJI_CODING_ZSTD, 1, "a" };
	struct shim_config c = { .seed = 95 };
	struct pair_opts o = opts(1);
	struct rj_error err;
	struct pair p;

	CHECK(OPS->codings == 1u << RJI_CODING_ZEROS);
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(OPS->post_coded(p.lane[0].source, &coded, 1, &err) == -EINVAL);
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool wrong_answers_end_the_lane(void)
{
	static const struct rji_rdma_message wrong[] = {
		{ .type = RJI_RDMA_ANSWER, .seq = 1 },
		{ .type = RJI_RDMA_ANSWER, .seq = 0 },
		{ .type = RJI_RDMA_FENCE, .seq = 1 },
		{ .type = RJI_RDMA_BYE, .seq = 0 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct shim_config c = { .seed = 60 + i };
		struct rji_extent e = { 0, 4096, 0 };
		struct pair_opts o = opts(1);
		struct rj_error err;
		struct pair p;

		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_open(&p, &o, 1, &err));
		CHECK(rji_rdma_source_heard(rji_rdma_lane_of(p.lane[0].source), &wrong[i]) < 0);
		CHECK(OPS->post(p.lane[0].source, &e, 1, &err) == RJ_E_PROTOCOL && err.text[0]);
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

static bool forged_keys_reach_nothing(void)
{
	struct shim_config c = { .seed = 50 };
	struct pair_opts o = opts(1);
	struct rji_extent e = { 0, 4096, 0 };
	uint8_t zero[4096] = { 0 };
	struct rj_error err;
	struct pair p;

	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	rji_rdma_transport_of(p.source)->memory.region[0]->there[0].window[0].key ^= 1;
	CHECK(!OPS->post(p.lane[0].source, &e, 1, &err));
	CHECK(OPS->fence(p.lane[0].source, 0, &err) == RJ_E_LANE);
	CHECK(err.wc_status == IBV_WC_REM_ACCESS_ERR);
	CHECK(!memcmp(p.destination_memory[0].host, zero, sizeof(zero)));
	pthread_join(p.lane[0].server, NULL);
	p.lane[0].serving = false;
	CHECK(p.lane[0].served < 0); /* by the flush of its receives */
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool unreachable_addresses_are_told_apart(void)
{
	static const struct {
		const char *addr;
		int code;
		uint32_t deadline_ms;
	} cases[] = {
		{ "192.0.2.1:1", RJ_E_CONNECT, 10000 },
		{ "192.0.2.77:7471", RJ_E_CONNECT, 300 }, /* never answers */
		{ "198.51.100.1:7471", RJ_E_NO_RDMA, 10000 },
		{ "nonsense", RJ_E_CONNECT, 10000 },
		{ "[2001:db8::1]:x", RJ_E_CONNECT, 10000 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct shim_config c = { .seed = 51 };
		struct pair_opts o = opts(1);
		struct rji_addrs addrs = { .n = 1 };
		struct rji_lane *lane = NULL;
		struct rj_error err;
		struct pair p;
		int ret;

		shim_start(&c);
		rji_error_init(&err);
		CHECK(!pair_create(&p, &o, 1, &err));
		snprintf(addrs.addr[0], sizeof(addrs.addr[0]), "%s", cases[i].addr);
		ret = OPS->connect(p.source, 0, &addrs, &p.admission,
				   rji_now_ns() + cases[i].deadline_ms * RJI_NS_PER_MS, &lane,
				   &err);
		CHECK(ret == cases[i].code && err.code == ret && !lane);
		pair_close(&p);
		CHECK(shim_stop());
	}
	return true;
}

/* One address that never answers, one that does: the lanes of the first go by the second. */
static bool dead_rail_is_left_to_the_next(void)
{
	struct shim_config c = { .seed = 52 };
	struct pair_opts o = opts(2);
	struct rj_error err;
	struct pair p;

	o.deadline_ms = 4000; /* half of it for the dead one */
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err));
	p.addrs.n = 2;
	memcpy(p.addrs.addr[1], "192.0.2.77:7471", 16);
	CHECK(!pair_connect(&p, &err));
	CHECK(strstr(last_log, "trying the next"));
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool addresses_are_read_and_written(void)
{
	static const char *const good[] = { "10.0.9.1:7471", "[fd00::1]:1", "[fe80::1%lo]:65535" };
	static const char *const bad[] = {
		"",	"10.0.9.1",  "10.0.9.1:", "10.0.9.1:x",		"[fd00::1:7471",
		"[]:1", "host:7471", ":7471",	  "[fe80::1%nosuch]:1", "10.0.9.1:99999",
	};
	struct sockaddr_storage sa;
	char text[RJI_ADDR_BYTES];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CHECK(!rji_rdma_parse_address(good[i], &sa));
		rji_rdma_format_address((struct sockaddr *)&sa, text);
		CHECK(!strcmp(text, good[i]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(rji_rdma_parse_address(bad[i], &sa) == -EINVAL);
	return true;
}

static bool devices_are_chosen_by_name(void)
{
	struct shim_config c = { .seed = 53, .n_devices = 2 };
	struct rji_rdma_route route;
	struct rj_error err;

	CHECK(rji_rdma_device_allowed(NULL, "mlx5_0") && rji_rdma_device_allowed("", "mlx5_0"));
	CHECK(rji_rdma_device_allowed("mlx5_1,mlx5_0", "mlx5_0"));
	CHECK(!rji_rdma_device_allowed("mlx5_10", "mlx5_1"));
	CHECK(!rji_rdma_device_allowed("mlx5_1", "mlx5_10"));
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!rji_rdma_open_devices("shim1", &err));
	CHECK(rji_rdma_open_devices("shim0,shim2", &err) == -EINVAL && strstr(err.text, "shim2"));
	rji_error_init(&err);
	CHECK(!rji_rdma_route(NULL, "192.0.2.2", 1, 10000, &route, &err));
	CHECK(!strcmp(route.device, "shim1/1") && route.software &&
	      route.rate_bps == 100000000000ull);
	CHECK(!rji_rdma_route("shim0", "0.0.0.0", 1, 10000, &route, &err));
	CHECK(!strcmp(route.device, "shim0/1"));
	CHECK(rji_rdma_route("shim0", "192.0.2.2", 1, 10000, &route, &err) == RJ_E_NO_RDMA);
	rji_error_init(&err);
	CHECK(rji_rdma_route(NULL, "198.51.100.1", 1, 10000, &route, &err) == RJ_E_NO_RDMA);
	rji_error_init(&err);
	CHECK(rji_rdma_route(NULL, "192.0.2.77", 1, 200, &route, &err) == RJ_E_NO_RDMA);
	rji_error_init(&err);
	CHECK(rji_rdma_route("mlx5_0", "192.0.2.1", 1, 10000, &route, &err) == RJ_E_NO_RDMA);
	CHECK(shim_stop());
	return true;
}

static const struct test_case cases[] = {
#define CASE(name)                                                                                 \
	{                                                                                          \
#name, name                                                                        \
	}
	CASE(pages_arrive_by_one_to_four_lanes),
	CASE(pages_arrive_in_any_order),
	CASE(pages_arrive_through_small_registrations),
	CASE(pages_arrive_through_short_queues_and_messages),
	CASE(pages_arrive_where_lanes_spin),
	CASE(pages_arrive_by_ipv6),
	CASE(pages_arrive_by_two_devices),
	CASE(pages_arrive_by_the_second_of_two_devices),
	CASE(only_the_devices_that_matter_are_registered_with),
	CASE(fence_waits_for_placement),
	CASE(fences_go_on_for_ever),
	CASE(drain_waits_for_reads),
	CASE(no_byte_changes_after_withdraw),
	CASE(no_lane_comes_after_withdraw),
	CASE(withdraw_is_certain),
	CASE(first_bad_completion_is_the_news),
	CASE(extents_are_checked),
	CASE(silent_destination_is_noticed),
	CASE(silent_source_is_noticed),
	CASE(stop_ends_every_wait),
	CASE(discarded_chunk_can_be_sent_again),
	CASE(pages_arrive_while_memory_is_registered),
	CASE(pages_arrive_under_a_cap),
	CASE(a_cap_too_small_is_told_before),
	CASE(lazy_windows_are_let_go_for_a_discard),
	CASE(a_source_gets_no_more_than_the_cap),
	CASE(a_destination_tells_nothing_unasked),
	CASE(a_window_may_be_wanted_before_its_turn),
	CASE(empty_memory_is_registered_when_sent),
	CASE(strangers_are_refused),
	CASE(lane_connects_once),
	CASE(wrong_messages_end_the_lane),
	CASE(copies_arrive_instead_of_the_pages),
	CASE(drain_waits_until_copies_are_read),
	CASE(room_for_copies_is_pinned_counted_and_given_back),
	CASE(room_for_copies_is_not_taken_from_a_cap),
	CASE(zeros_are_made_before_the_fence_is_answered),
	CASE(zeros_that_are_not_allowed_end_the_lane),
	CASE(a_lane_codes_nothing_but_zeros),
	CASE(wrong_answers_end_the_lane),
	CASE(forged_keys_reach_nothing),
	CASE(unreachable_addresses_are_told_apart),
	CASE(dead_rail_is_left_to_the_next),
	CASE(addresses_are_read_and_written),
	CASE(devices_are_chosen_by_name),
#undef CASE
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cases_run(cases, sizeof(cases) / sizeof(cases[0]), 60, argc, argv);
}

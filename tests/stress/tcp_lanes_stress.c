/* SPDX-License-Identifier: BSD-2-Clause */
/* Both ends of the tcp transport in one process, a thread for each end of each lane. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/cases.h"
#include "tests/support/transport_pair.h"
#include "transport/socket.h"

static int listen_somewhere(void)
{
	struct rji_uri at = { .scheme = "tcp", .host = "127.0.0.1" };
	struct rj_error err;
	int fd;

	rji_error_init(&err);
	if (rji_socket_listen(&at, &fd, &err) < 0)
		abort();
	return fd;
}

static bool open_pair(struct pair *p, uint32_t n_lanes, uint64_t seed)
{
	struct pair_opts o = {
		.ops = &rji_tcp_transport,
		.host = "127.0.0.1",
		.n_lanes = n_lanes,
		.n_regions = 3,
		.region_bytes = (6u << 20) + 12288,
		.misalign = 8192,
		.peer_timeout_ms = 5000,
		.listen_fd = listen_somewhere(),
	};
	struct rj_error err;

	rji_error_init(&err);
	if (!pair_open(p, &o, seed, &err))
		return true;
	printf("  %s\n", err.text);
	return false;
}

static void close_pair(struct pair *p)
{
	int fd = p->o.listen_fd;

	pair_close(p);
	close(fd);
}

static bool moves_all(uint32_t n_lanes)
{
	struct rj_error err;
	struct pair p;

	rji_error_init(&err);
	CHECK(open_pair(&p, n_lanes, n_lanes));
	for (uint64_t round = 0; round < 3; round++) {
		if (round)
			pair_fill(&p, 100 + round);
		CHECK(pair_send_all(&p, n_lanes * 10 + round, &err) == 0);
		CHECK(pair_equal(&p));
	}
	CHECK(pair_end_lanes(&p) == 0);
	close_pair(&p);
	return true;
}

static bool one_lane_moves_all(void)
{
	return moves_all(1);
}

static bool two_lanes_move_all(void)
{
	return moves_all(2);
}

static bool three_lanes_move_all(void)
{
	return moves_all(3);
}

static bool four_lanes_move_all(void)
{
	return moves_all(4);
}

/* A source that will not stop sending until it cannot any more. */
struct flood {
	struct pair *p;
	pthread_t thread;
	_Atomic uint64_t n_posts;
	int ret;
	struct rj_error err;
};

static void *send_for_ever(void *arg)
{
	const struct rji_extent e = { 0, 2u << 20, 0 };
	struct flood *f = arg;
	uint64_t *first = f->p->source_memory[0].host;

	for (uint64_t i = 1; !f->ret; i++) {
		for (size_t word = 0; word < (2u << 20) / 8; word += 64)
			first[word] = i;
		f->ret = f->p->o.ops->post(f->p->lane[0].source, &e, 1, &f->err);
		atomic_fetch_add(&f->n_posts, 1);
	}
	return NULL;
}

static bool nothing_changes_after_withdraw(void)
{
	struct pair p;

	for (uint64_t turn = 0; turn < 8; turn++) {
		struct flood f = { .p = &p };
		char *before = malloc(2u << 20);

		rji_error_init(&f.err);
		CHECK(open_pair(&p, 1, turn));
		pthread_create(&f.thread, NULL, send_for_ever, &f);
		while (atomic_load(&f.n_posts) < turn)
			sched_yield();
		p.o.ops->withdraw(p.destination);
		pthread_join(p.lane[0].server, NULL);
		p.lane[0].serving = false;
		memcpy(before, p.destination_memory[0].host, 2u << 20);
		pthread_join(f.thread, NULL);
		CHECK(f.ret == RJ_E_LANE);
		p.o.ops->close(&p.lane[0].source);
		CHECK(!memcmp(before, p.destination_memory[0].host, 2u << 20));
		close_pair(&p);
		free(before);
	}
	return true;
}

static bool stop_ends_a_post_nobody_takes(void)
{
	struct flood f = { 0 };
	struct pair p;

	CHECK(open_pair(&p, 1, 1));
	/* The destination stops serving, but keeps the connection. */
	rji_stop_set(&p.destination_stop);
	pthread_join(p.lane[0].server, NULL);
	p.lane[0].serving = false;
	CHECK(p.lane[0].served == 0);
	f.p = &p;
	rji_error_init(&f.err);
	pthread_create(&f.thread, NULL, send_for_ever, &f);
	rji_stop_set(&p.source_stop);
	pthread_join(f.thread, NULL);
	CHECK(f.ret == -ECANCELED);
	close_pair(&p);
	return true;
}

static bool stats_count_what_left(void)
{
	struct rji_lane_stats st;
	struct rj_error err;
	struct pair p;

	rji_error_init(&err);
	CHECK(open_pair(&p, 1, 9));
	CHECK(pair_send_all(&p, 9, &err) == 0);
	p.o.ops->stats(p.lane[0].source, &st);
	CHECK(st.sent_bytes > 3ull * (6u << 20));
	CHECK(st.sent_bytes < 3ull * (6u << 20) * 11 / 10);
	close_pair(&p);
	return true;
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "one_lane_moves_all", one_lane_moves_all },
		{ "two_lanes_move_all", two_lanes_move_all },
		{ "three_lanes_move_all", three_lanes_move_all },
		{ "four_lanes_move_all", four_lanes_move_all },
		{ "nothing_changes_after_withdraw", nothing_changes_after_withdraw },
		{ "stop_ends_a_post_nobody_takes", stop_ends_a_post_nobody_takes },
		{ "stats_count_what_left", stats_count_what_left },
	};

	return cases_run(cases, sizeof(cases) / sizeof(*cases), 0, argc, argv);
}

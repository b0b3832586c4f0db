/* SPDX-License-Identifier: BSD-2-Clause */
/* Sender and receiver with all their threads, over tcp and null, in one process. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <ramjet/session.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "pagesender/receiver.h"
#include "pagesender/sender.h"
#include "tests/support/cases.h"
#include "tests/support/transport_pair.h"
#include "transport/socket.h"

#define REGION_BYTES (20u << 20)

struct world {
	struct pair p; /* transports and memory; its lanes are not used */
	struct rji_pageset set;
	struct rji_holds holds;
	struct rji_harvest harvest;
	struct rji_pace pace;
	struct rji_lane_totals totals;
	struct rji_sender *sender;
	struct rji_receiver *receiver;
	struct rji_lane *lanes[PAIR_MAX_LANES];
	struct rj_error err;
	int listen_fd, done_fd, failed_fd;
	int accepted;
};

/* --- a link that breaks: tcp, but for the lane and the post named --- */

static uint32_t breaks_mask; /* lanes that break at their next post */
static struct rji_lane *link_of[PAIR_MAX_LANES];

static int breaking_connect(struct rji_transport *tp, uint32_t lane, const struct rji_addrs *addrs,
			    const struct rji_admission *adm, uint64_t deadline_ns,
			    struct rji_lane **lane_p, struct rj_error *err)
{
	int ret = rji_tcp_transport.connect(tp, lane, addrs, adm, deadline_ns, lane_p, err);

	if (!ret)
		link_of[lane] = *lane_p;
	return ret;
}

static int breaking_post(struct rji_lane *link, const struct rji_extent *e, uint32_t n,
			 struct rj_error *err)
{
	for (uint32_t i = 0; i < PAIR_MAX_LANES; i++) {
		if (link_of[i] == link && breaks_mask >> i & 1)
			return rji_fail(err, RJ_E_LANE, "cable %u pulled", i);
	}
	return rji_tcp_transport.post(link, e, n, err);
}

/* --- bringing it up as sessions do --- */

static void *accept_lanes(void *arg)
{
	struct world *w = arg;
	struct rj_error err;

	rji_error_init(&err);
	w->accepted = w->p.o.ops->accept(w->p.destination, &w->p.admission,
					 rji_now_ns() + 10 * RJI_NS_PER_S, w->lanes, &err);
	return NULL;
}

static void wait_done(struct world *w)
{
	struct pollfd fd = { .fd = w->done_fd, .events = POLLIN };
	eventfd_t n;

	while (rji_sender_busy(w->sender)) {
		poll(&fd, 1, -1);
		eventfd_read(w->done_fd, &n);
	}
}

static void add_regions(struct world *w)
{
	for (uint32_t i = 0; i < w->p.o.n_regions; i++) {
		struct rj_region r;

		rj_region_init(&r);
		r.name = w->p.source_memory[i].name;
		r.host = w->p.source_memory[i].host;
		r.len_bytes = w->p.source_memory[i].len_bytes;
		rji_pageset_add(&w->set, &r);
	}
}

static bool open_world(struct world *w, const struct rji_transport_ops *ops, uint32_t n_lanes)
{
	struct rji_uri at = { .scheme = "tcp", .host = "127.0.0.1" };
	struct pair_opts po = { .ops = ops,
				.host = "127.0.0.1",
				.n_lanes = n_lanes,
				.n_regions = 2,
				.region_bytes = REGION_BYTES,
				.peer_timeout_ms = 5000 };
	struct rji_sender_opts so = { .ops = ops, .n_lanes = n_lanes };
	struct rji_receiver_opts ro = { .ops = ops, .n_lanes = n_lanes };
	pthread_t acceptor;

	memset(w, 0, sizeof(*w));
	rji_error_init(&w->err);
	CHECK(!rji_socket_listen(&at, &w->listen_fd, &w->err));
	po.listen_fd = w->listen_fd;
	CHECK(!pair_create(&w->p, &po, 5, &w->err));
	CHECK(!pair_listen(&w->p, &w->err));
	add_regions(w);
	CHECK(!rji_holds_init(&w->holds));
	CHECK(!rji_harvest_init(&w->harvest, &w->set, &w->holds));
	rji_pace_init(&w->pace, 0);
	w->done_fd = eventfd(0, EFD_NONBLOCK);
	w->failed_fd = eventfd(0, EFD_NONBLOCK);
	so.tp = w->p.source;
	so.stop = &w->p.source_stop;
	so.harvest = &w->harvest;
	so.holds = &w->holds;
	so.pace = &w->pace;
	so.totals = &w->totals;
	so.done_fd = w->done_fd;
	CHECK(!rji_sender_create(&so, &w->sender, &w->err));
	pthread_create(&acceptor, NULL, accept_lanes, w);
	rji_sender_connect(w->sender, &w->p.addrs, &w->p.admission,
			   rji_now_ns() + 10 * RJI_NS_PER_S);
	wait_done(w);
	pthread_join(acceptor, NULL);
	CHECK(!rji_sender_result(w->sender, NULL, &w->err));
	CHECK(!w->accepted);
	ro.tp = w->p.destination;
	ro.lanes = w->lanes;
	ro.failed_fd = w->failed_fd;
	CHECK(!rji_receiver_create(&ro, &w->receiver, &w->err));
	CHECK(!w->lanes[0]);
	return true;
}

static void close_world(struct world *w)
{
	rji_sender_destroy(&w->sender);
	rji_receiver_destroy(&w->receiver);
	pair_close(&w->p);
	rji_harvest_fini(&w->harvest);
	rji_pageset_fini(&w->set);
	rji_holds_fini(&w->holds);
	close(w->done_fd);
	close(w->failed_fd);
	close(w->listen_fd);
}

static int send_round(struct world *w, struct rji_sent *sent)
{
	struct rji_dirt dirt;
	int ret;

	if (rji_harvest_collect(&w->harvest, &dirt, &w->err) < 0)
		return -1;
	rji_harvest_begin_round(&w->harvest);
	rji_sender_round(w->sender);
	wait_done(w);
	ret = rji_sender_result(w->sender, sent, &w->err);
	if (!ret)
		rji_harvest_fenced(&w->harvest);
	return ret;
}

/* --- cases --- */

static bool bulk_arrives_over(const struct rji_transport_ops *ops, uint32_t n_lanes)
{
	uint64_t guest_bytes = 2 * REGION_BYTES + 4096;
	struct rji_sent sent;
	static struct world w;

	CHECK(open_world(&w, ops, n_lanes));
	rji_pageset_all_pending(&w.set);
	CHECK(send_round(&w, &sent) == 0);
	CHECK(sent.bytes == guest_bytes);
	CHECK(sent.pages == guest_bytes / 4096);
	CHECK(w.totals.pages == sent.pages);
	CHECK(w.totals.sent_bytes >= guest_bytes);
	CHECK(!ops->moves_data || pair_equal(&w.p));
	CHECK(send_round(&w, &sent) == 0);
	CHECK(sent.pages == 0);
	CHECK(rji_receiver_result(w.receiver, &w.err) == 0);
	CHECK(w.totals.cpu_ns > 0);
	close_world(&w);
	return true;
}

static bool tcp_one_lane(void)
{
	return bulk_arrives_over(&rji_tcp_transport, 1);
}

static bool tcp_four_lanes(void)
{
	return bulk_arrives_over(&rji_tcp_transport, 4);
}

static bool null_four_lanes(void)
{
	return bulk_arrives_over(&rji_null_transport, 4);
}

/* Pages change, and are marked, while rounds go on; TSan does not look at guest memory. */
struct writer {
	struct world *w;
	pthread_t thread;
	atomic_bool quit;
	uint64_t n;
};

__attribute__((no_sanitize("thread"))) static void write_word(void *p, uint64_t v)
{
	*(volatile uint64_t *)p = v;
}

static void *write_pages(void *arg)
{
	struct writer *wr = arg;
	uint64_t random = 4711;

	while (!atomic_load(&wr->quit)) {
		uint64_t offset = pair_random(&random) % (REGION_BYTES / 8) * 8;
		uint32_t region = random >> 62 & 1;

		write_word((char *)wr->w->p.source_memory[region].host + offset, random);
		rji_pageset_mark(&wr->w->set, region, offset, 8);
		wr->n++;
	}
	return NULL;
}

static bool what_is_written_meanwhile_arrives(void)
{
	static struct world w;
	struct writer wr = { .w = &w };
	struct rji_sent sent;

	CHECK(open_world(&w, &rji_tcp_transport, 3));
	rji_pageset_all_pending(&w.set);
	pthread_create(&wr.thread, NULL, write_pages, &wr);
	for (int i = 0; i < 10; i++)
		CHECK(send_round(&w, &sent) == 0);
	atomic_store(&wr.quit, true);
	pthread_join(wr.thread, NULL);
	CHECK(send_round(&w, &sent) == 0);
	CHECK(pair_equal(&w.p));
	close_world(&w);
	return wr.n > 0;
}

static struct rji_transport_ops breaking;

static bool open_breaking(struct world *w, uint32_t n_lanes)
{
	breaking = rji_tcp_transport;
	breaking.connect = breaking_connect;
	breaking.post = breaking_post;
	breaks_mask = 0;
	return open_world(w, &breaking, n_lanes);
}

static uint64_t pending_pages(const struct world *w)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < w->set.n_regions; i++)
		n += rji_bitmap_weight(w->set.region[i].pending, w->set.region[i].n_words);
	return n;
}

static bool failure_is_told_once_with_its_cause(void)
{
	static struct world w;
	struct rj_error again;

	CHECK(open_breaking(&w, 4));
	rji_pageset_all_pending(&w.set);
	breaks_mask = 0xf; /* whoever comes first; one lane may have nothing to post */
	CHECK(send_round(&w, NULL) == RJ_E_LANE);
	CHECK(rji_sender_failed(w.sender));
	CHECK(!strncmp(w.err.text, "cable ", 6));
	CHECK(w.err.lane < 4 && w.err.text[6] == (char)('0' + w.err.lane));
	rji_error_init(&again);
	CHECK(rji_sender_result(w.sender, NULL, &again) == RJ_E_LANE);
	CHECK(!strcmp(again.text, w.err.text));
	rji_pageset_unfenced_to_pending(&w.set);
	CHECK(pending_pages(&w) == (2 * REGION_BYTES + 4096) / 4096);
	close_world(&w);
	return true;
}

/* Those which were only told to stop are not the news. */
static bool one_lane_failing_stops_the_others_quietly(void)
{
	static struct world w;

	for (uint32_t lane = 0; lane < 3; lane++) {
		CHECK(open_breaking(&w, 3));
		breaks_mask = 1u << lane;
		rji_pace_set(&w.pace, 200u << 20); /* so that it gets its share of spans */
		rji_pageset_all_pending(&w.set);
		while (send_round(&w, NULL) == 0)
			rji_pageset_all_pending(&w.set);
		CHECK(w.err.code == RJ_E_LANE);
		CHECK(w.err.lane == lane);
		CHECK(w.harvest.abort);
		CHECK(!strcmp(w.err.text, lane == 0   ? "cable 0 pulled"
					  : lane == 1 ? "cable 1 pulled"
						      : "cable 2 pulled"));
		rji_error_init(&w.err);
		CHECK(send_round(&w, NULL) == RJ_E_LANE); /* it stays failed */
		close_world(&w);
	}
	return true;
}

static bool lost_destination_fails_an_idle_sender(void)
{
	static struct world w;
	struct pollfd fd;

	CHECK(open_world(&w, &rji_tcp_transport, 2));
	rji_receiver_destroy(&w.receiver);
	fd = (struct pollfd){ .fd = w.done_fd, .events = POLLIN };
	while (!rji_sender_failed(w.sender))
		CHECK(poll(&fd, 1, 10000) == 1);
	CHECK(!rji_sender_busy(w.sender));
	close_world(&w);
	return true;
}

static bool lost_source_fails_the_receiver(void)
{
	static struct world w;
	struct pollfd fd;
	struct rj_error err;

	CHECK(open_world(&w, &rji_tcp_transport, 2));
	rji_stop_set(&w.p.source_stop); /* no goodbye */
	rji_sender_destroy(&w.sender);
	fd = (struct pollfd){ .fd = w.failed_fd, .events = POLLIN };
	CHECK(poll(&fd, 1, 10000) == 1);
	rji_error_init(&err);
	CHECK(rji_receiver_result(w.receiver, &err) == RJ_E_LANE);
	CHECK(strstr(err.text, "closed by the peer"));
	close_world(&w);
	return true;
}

static bool destroying_a_busy_sender_ends_it(void)
{
	static struct world w;

	CHECK(open_world(&w, &rji_tcp_transport, 3));
	rji_pace_set(&w.pace, 1000); /* for hours */
	rji_pageset_all_pending(&w.set);
	rji_harvest_begin_round(&w.harvest);
	rji_sender_round(w.sender);
	CHECK(rji_sender_busy(w.sender));
	rji_sender_destroy(&w.sender);
	CHECK(!w.sender);
	close_world(&w);
	return true;
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "tcp_one_lane", tcp_one_lane },
		{ "tcp_four_lanes", tcp_four_lanes },
		{ "null_four_lanes", null_four_lanes },
		{ "what_is_written_meanwhile_arrives", what_is_written_meanwhile_arrives },
		{ "failure_is_told_once_with_its_cause", failure_is_told_once_with_its_cause },
		{ "one_lane_failing_stops_the_others_quietly",
		  one_lane_failing_stops_the_others_quietly },
		{ "lost_destination_fails_an_idle_sender", lost_destination_fails_an_idle_sender },
		{ "lost_source_fails_the_receiver", lost_source_fails_the_receiver },
		{ "destroying_a_busy_sender_ends_it", destroying_a_busy_sender_ends_it },
	};

	return cases_run(cases, sizeof(cases) / sizeof(*cases), 0, argc, argv);
}

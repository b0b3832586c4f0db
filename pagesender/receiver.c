/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/receiver.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/clock.h"

struct server {
	struct rji_receiver *receiver;
	struct rji_lane *lane;
	pthread_t thread;
	bool started;
	struct rj_error err;
	_Atomic int result; /* released after err is written */
	_Atomic uint64_t cpu_ns;
};

struct rji_receiver {
	struct rji_receiver_opts o;
	uint64_t gone_sent_bytes, gone_cpu_ns; /* of lanes that were dropped */
	struct server servers[];
};

static void *serve_thread(void *arg)
{
	struct server *server = arg;
	struct rji_receiver *r = server->receiver;
	int ret;

	rji_thread_give_way(r->o.host);
	ret = r->o.ops->serve(server->lane, &server->err);

	atomic_store_explicit(&server->cpu_ns, rji_thread_cpu_ns(), memory_order_relaxed);
	if (ret < 0 && r->o.ops->cut)
		r->o.ops->cut(server->lane); /* or the source waits for room that nobody makes */
	atomic_store_explicit(&server->result, ret, memory_order_release);
	if (ret < 0)
		eventfd_write(r->o.failed_fd, 1);
	return NULL;
}

static int start_server(struct rji_receiver *r, uint32_t i, struct rji_lane *lane,
			struct rj_error *err)
{
	const struct rji_lane_place *place = r->o.placement ? &r->o.placement->lane[i] : NULL;
	struct server *server = &r->servers[i];
	char role[24];
	int ret;

	*server = (struct server){ .receiver = r, .lane = lane };
	rji_error_init(&server->err);
	snprintf(role, sizeof(role), "rj-recv-%u", i);
	ret = rji_thread_start_on(r->o.host, role, place && place->narrowed ? &place->cpus : NULL,
				  serve_thread, server, &server->thread);
	server->started = !ret;
	return ret < 0 ? rji_fail_sys(err, ret, -ret, "cannot start a receiver thread") : 0;
}

int rji_receiver_adopt(struct rji_receiver *r, struct rji_lane **lanes, struct rj_error *err)
{
	int ret = 0;

	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		if (r->servers[i].lane)
			continue;
		if (ret < 0)
			r->o.ops->close(&lanes[i]);
		else
			ret = start_server(r, i, lanes[i], err);
		lanes[i] = NULL;
	}
	return ret;
}

int rji_receiver_create(const struct rji_receiver_opts *o, struct rji_receiver **r_p,
			struct rj_error *err)
{
	struct rji_receiver *r = calloc(1, sizeof(*r) + o->n_lanes * sizeof(r->servers[0]));
	int ret;

	if (!r) {
		for (uint32_t i = 0; i < o->n_lanes; i++)
			o->ops->close(&o->lanes[i]);
		return rji_fail(err, -ENOMEM, "no memory for %u lanes", o->n_lanes);
	}
	r->o = *o;
	ret = rji_receiver_adopt(r, o->lanes, err);
	if (ret < 0) {
		rji_receiver_destroy(&r);
		return ret;
	}
	*r_p = r;
	return 0;
}

uint64_t rji_receiver_lanes(const struct rji_receiver *r, struct rji_lane **lanes)
{
	uint64_t there = 0;

	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		lanes[i] = r->servers[i].lane;
		if (lanes[i])
			there |= 1ull << i;
	}
	return there;
}

static uint64_t server_cpu_ns(const struct server *server)
{
	uint64_t ended = atomic_load_explicit(&server->cpu_ns, memory_order_relaxed);
	clockid_t clock;

	if (!ended && server->started && !pthread_getcpuclockid(server->thread, &clock))
		ended = rji_clock_ns(clock);
	return ended;
}

static uint64_t server_sent_bytes(const struct server *server)
{
	struct rji_lane_stats st = { 0 };

	if (server->lane)
		server->receiver->o.ops->stats(server->lane, &st);
	return st.sent_bytes;
}

void rji_receiver_drop(struct rji_receiver *r, uint64_t lanes)
{
	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		struct server *server = &r->servers[i];

		if (!(lanes >> i & 1) || !server->lane)
			continue;
		r->o.ops->cut(server->lane);
		pthread_join(server->thread, NULL);
		r->gone_cpu_ns += server_cpu_ns(server);
		r->gone_sent_bytes += server_sent_bytes(server);
		r->o.ops->close(&server->lane);
		server->started = false;
		atomic_store_explicit(&server->cpu_ns, 0, memory_order_relaxed);
		atomic_store_explicit(&server->result, 0, memory_order_relaxed);
	}
}

int rji_receiver_result(const struct rji_receiver *r, struct rj_error *err)
{
	const struct server *found = NULL;
	int ret = 0;

	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		int result = atomic_load_explicit(&r->servers[i].result, memory_order_acquire);

		if (result < 0 && (!found || ret == RJ_E_LANE)) {
			found = &r->servers[i];
			ret = result;
		}
	}
	if (found && !err->code)
		*err = found->err;
	return ret;
}

uint64_t rji_receiver_cpu_ns(const struct rji_receiver *r)
{
	uint64_t ns = r->gone_cpu_ns;

	for (uint32_t i = 0; i < r->o.n_lanes; i++)
		ns += server_cpu_ns(&r->servers[i]);
	return ns;
}

uint64_t rji_receiver_sent_bytes(const struct rji_receiver *r)
{
	uint64_t bytes = r->gone_sent_bytes;

	for (uint32_t i = 0; i < r->o.n_lanes; i++)
		bytes += server_sent_bytes(&r->servers[i]);
	return bytes;
}

void rji_receiver_destroy(struct rji_receiver **r_p)
{
	struct rji_receiver *r = *r_p;

	if (!r)
		return;
	r->o.ops->withdraw(r->o.tp);
	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		if (r->servers[i].started)
			pthread_join(r->servers[i].thread, NULL);
	}
	for (uint32_t i = 0; i < r->o.n_lanes; i++)
		r->o.ops->close(&r->servers[i].lane);
	free(r);
	*r_p = NULL;
}

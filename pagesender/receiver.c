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
	struct server servers[];
};

static void *serve_thread(void *arg)
{
	struct server *server = arg;
	struct rji_receiver *r = server->receiver;
	int ret = r->o.ops->serve(server->lane, &server->err);

	atomic_store_explicit(&server->cpu_ns, rji_thread_cpu_ns(), memory_order_relaxed);
	atomic_store_explicit(&server->result, ret, memory_order_release);
	if (ret < 0)
		eventfd_write(r->o.failed_fd, 1);
	return NULL;
}

int rji_receiver_create(const struct rji_receiver_opts *o, struct rji_receiver **r_p,
			struct rj_error *err)
{
	struct rji_receiver *r = calloc(1, sizeof(*r) + o->n_lanes * sizeof(r->servers[0]));
	int ret = 0;

	if (!r) {
		for (uint32_t i = 0; i < o->n_lanes; i++)
			o->ops->close(&o->lanes[i]);
		return rji_fail(err, -ENOMEM, "no memory for %u lanes", o->n_lanes);
	}
	r->o = *o;
	for (uint32_t i = 0; i < o->n_lanes; i++) {
		r->servers[i].receiver = r;
		r->servers[i].lane = o->lanes[i];
		o->lanes[i] = NULL;
		rji_error_init(&r->servers[i].err);
	}
	for (uint32_t i = 0; !ret && i < o->n_lanes; i++) {
		const struct rji_lane_place *place = o->placement ? &o->placement->lane[i] : NULL;
		char role[24];

		snprintf(role, sizeof(role), "rj-recv-%u", i);
		ret = rji_thread_start_on(o->host, role,
					  place && place->narrowed ? &place->cpus : NULL,
					  serve_thread, &r->servers[i], &r->servers[i].thread);
		r->servers[i].started = !ret;
	}
	if (ret < 0) {
		rji_receiver_destroy(&r);
		return rji_fail_sys(err, ret, -ret, "cannot start a receiver thread");
	}
	*r_p = r;
	return 0;
}

int rji_receiver_result(const struct rji_receiver *r, struct rj_error *err)
{
	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		int ret = atomic_load_explicit(&r->servers[i].result, memory_order_acquire);

		if (ret < 0) {
			if (!err->code)
				*err = r->servers[i].err;
			return ret;
		}
	}
	return 0;
}

uint64_t rji_receiver_cpu_ns(const struct rji_receiver *r)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		const struct server *server = &r->servers[i];
		uint64_t ended = atomic_load_explicit(&server->cpu_ns, memory_order_relaxed);
		clockid_t clock;

		if (!ended && server->started && !pthread_getcpuclockid(server->thread, &clock))
			ended = rji_clock_ns(clock);
		ns += ended;
	}
	return ns;
}

uint64_t rji_receiver_sent_bytes(const struct rji_receiver *r)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < r->o.n_lanes; i++) {
		struct rji_lane_stats st;

		r->o.ops->stats(r->servers[i].lane, &st);
		bytes += st.sent_bytes;
	}
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

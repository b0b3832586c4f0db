/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rollback for real: a virtual machine that runs, over TCP. What the stopped guest waits for comes too late, be it a
 * lane that stalls or a destination that loads for too long: it goes on at the source, with its memory intact, and the
 * same session has it arrive later.
 *
 * How long it stood is printed. With RJ_TEST_LONG set it is judged too: max_downtime and 50 ms more.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/guest/guest.h"
#include "migration/session_impl.h"
#include "tests/support/fault_transport.h"
#include "tests/support/guest_checks.h"

#define SIZE (64ul << 20)
#define MAX_DOWNTIME_MS 200u
#define PEER_TIMEOUT_MS 3000u
#define LEEWAY_MS 50u

/* What is late, once, after the guest has stopped. */
struct lateness {
	const char *name;
	enum sim_op op; /* a lane's call that stalls; SIM_OP_NONE: loading does */
};

struct run {
	const struct lateness *late;
	struct guest *source, *destination;
	struct rj_session *from, *to;
	struct sim_faulty faulty;
	uint64_t paused_ns, stood_ns; /* of the switchover that was rolled back */
	uint32_t n_pauses, n_resumes, n_loads;
	enum rj_outcome runs;
};

static struct rji_transport_ops stalling_tcp;

static void sleep_ms(uint32_t ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* --- the source's VMM --- */

static int on_pause(void *arg, struct rj_session *s)
{
	struct run *r = arg;

	(void)s;
	if (r->n_pauses++)
		return guest_pause(r->source);
	r->paused_ns = rji_now_ns();
	atomic_store(&r->faulty.n_calls, 0);
	r->faulty.fault.nth = 1;
	return guest_pause(r->source);
}

static int on_save(void *arg, struct rj_session *s)
{
	struct run *r = arg;

	return guest_save(r->source, s);
}

/* It counts as running when its counter has grown. */
static int on_rollback(void *arg, struct rj_session *s, int run)
{
	struct run *r = arg;
	uint64_t counter = guest_counter(r->source);

	(void)s;
	CHECK(run);
	CHECK(guest_run(r->source) == 0);
	while (guest_counter(r->source) == counter)
		sleep_ms(1);
	if (r->n_resumes++)
		return 0;
	r->stood_ns = rji_now_ns() - r->paused_ns;
	guest_pause(r->source);
	CHECK(guest_check(r->source, why, sizeof(why)) == 0);
	return guest_run(r->source);
}

static void on_event(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct run *r = arg;

	(void)s;
	if (ev->type == RJ_EV_DONE)
		r->runs = ev->u.done.runs;
}

static const struct rj_hooks source_hooks = {
	.size = sizeof(source_hooks),
	.pause = on_pause,
	.save = on_save,
	.resume = on_rollback,
	.event = on_event,
};

/* --- the destination's --- */

static int on_setup(void *arg, struct rj_session *s, const void *blob, size_t len_bytes)
{
	struct run *r = arg;
	struct guest_opts o;

	(void)s;
	CHECK(guest_understand(blob, len_bytes, &o, why, sizeof(why)) == 0);
	CHECK(guest_create_empty(&o, &r->destination, why, sizeof(why)) == 0);
	return 0;
}

static int on_region(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct run *r = arg;
	struct rj_region region;

	(void)ev;
	guest_region(r->destination, 0, &region);
	return rj_add_region(s, &region, NULL);
}

static int on_load(void *arg, struct rj_session *s)
{
	struct run *r = arg;

	if (!r->n_loads++ && r->late->op == SIM_OP_NONE)
		sleep_ms(2 * MAX_DOWNTIME_MS);
	return guest_load(r->destination, s, why, sizeof(why));
}

static int on_reset(void *arg, struct rj_session *s)
{
	(void)arg;
	(void)s;
	return 0;
}

/* Both stand still here: the source's has stopped for good. */
static int on_arrival(void *arg, struct rj_session *s, int run)
{
	struct run *r = arg;
	struct rj_region a, b;

	(void)s;
	CHECK(run);
	guest_region(r->source, 0, &a);
	guest_region(r->destination, 0, &b);
	CHECK(a.len_bytes == b.len_bytes && memcmp(a.host, b.host, a.len_bytes) == 0);
	CHECK(guest_check(r->destination, why, sizeof(why)) == 0);
	return guest_run(r->destination);
}

static const struct rj_hooks destination_hooks = {
	.size = sizeof(destination_hooks),
	.setup = on_setup,
	.region = on_region,
	.load = on_load,
	.resume = on_arrival,
	.reset = on_reset,
};

static void run_to_its_end(struct rj_session *s, const struct rj_hooks *hooks, struct run *r)
{
	int ret = rj_run(s, hooks, r);
	struct rj_error e = { .size = sizeof(e) };

	if (ret < 0) {
		rj_error_detail(s, &e);
		snprintf(why, sizeof(why), "%s", e.text[0] ? e.text : rj_strerror(ret));
	}
	CHECK(ret == 0);
}

static void *receive(void *arg)
{
	struct run *r = arg;

	run_to_its_end(r->to, &destination_hooks, r);
	return NULL;
}

/* --- one migration --- */

static void set_options(struct rj_opts *o, const char *uri)
{
	rj_opts_init(o);
	o->uri = uri;
	o->max_downtime_ms = MAX_DOWNTIME_MS;
	o->peer_timeout_ms = PEER_TIMEOUT_MS;
}

static void open_both(struct run *r, struct rj_env *env)
{
	struct rj_opts o;
	char uri[128];
	uint8_t blob[1024];
	int len;

	set_options(&o, "tcp://127.0.0.1:0");
	CHECK(rj_destination_open(env, &o, &r->to) == 0);
	CHECK(rj_start(r->to) == 0);
	CHECK(rj_local_uri(r->to, uri, sizeof(uri)) >= 0);
	set_options(&o, uri);
	o.n_lanes = 2;
	CHECK(rj_source_open(env, &o, &r->from) == 0);
	r->faulty.inner = &rji_tcp_transport;
	r->faulty.fault = (struct sim_fault){ .op = r->late->op, .nth = UINT32_MAX, .stall = true };
	rji_session_use_transport(r->from, &stalling_tcp, &r->faulty);
	len = guest_describe(r->source, blob, sizeof(blob));
	CHECK(len > 0 && rj_set_setup_blob(r->from, blob, (size_t)len) == 0);
	CHECK(guest_attach(r->source, r->from, why, sizeof(why)) == 0);
}

static void judge(const struct run *r)
{
	struct rj_stats st = { .size = sizeof(st) };
	double stood_ms = (double)r->stood_ns / 1e6;

	rj_stats(r->from, &st);
	printf("%s: the guest stood for %.1f ms of %u; %u rolled back, then arrived after %.1f ms\n",
	       r->late->name, stood_ms, MAX_DOWNTIME_MS, st.rollbacks,
	       (double)st.downtime_ns / 1e6);
	CHECK(r->runs == RJ_RUNS_AT_DESTINATION);
	CHECK(r->n_resumes >= 1 && st.rollbacks == r->n_resumes);
	CHECK(atomic_load(&r->faulty.fired) == (r->late->op != SIM_OP_NONE));
	CHECK(r->late->op != SIM_OP_NONE || r->n_loads > 1);
	/* A stalled lane is given up only after this, so it tells the order, not the speed. */
	CHECK(stood_ms < PEER_TIMEOUT_MS / 2.0);
	CHECK(!getenv("RJ_TEST_LONG") || stood_ms <= MAX_DOWNTIME_MS + LEEWAY_MS);
}

static void migrate(struct rj_env *env, enum guest_kind kind, const struct lateness *late)
{
	struct guest_opts o = { .kind = kind, .size_bytes = SIZE, .seed = 11 };
	struct run r = { .late = late };
	pthread_t thread;

	CHECK(guest_parse_workload("uniform:50M", &o.workload, why, sizeof(why)) == 0);
	CHECK(guest_create(&o, &r.source, why, sizeof(why)) == 0);
	open_both(&r, env);
	CHECK(guest_run(r.source) == 0);
	CHECK(pthread_create(&thread, NULL, receive, &r) == 0);
	run_to_its_end(r.from, &source_hooks, &r);
	CHECK(pthread_join(thread, NULL) == 0);
	judge(&r);
	guest_pause(r.destination);
	guest_detach(r.source);
	rj_close(&r.from);
	rj_close(&r.to);
	guest_destroy(&r.source);
	guest_destroy(&r.destination);
}

int main(void)
{
	static const struct lateness late[] = {
		{ "a lane stalls while it sends", SIM_OP_POST },
		{ "a lane stalls at the fence", SIM_OP_FENCE },
		{ "loading takes too long", SIM_OP_NONE },
	};
	enum guest_kind kind = access("/dev/kvm", R_OK | W_OK) ? GUEST_SYNTHETIC : GUEST_KVM;
	struct rj_env *env = NULL;

	setvbuf(stdout, NULL, _IOLBF, 0);
	stalling_tcp = sim_fault_transport;
	stalling_tcp.name = rji_tcp_transport.name; /* the destination's is the plain one */
	CHECK(rj_env_open(NULL, &env) == 0);
	for (size_t i = 0; i < sizeof(late) / sizeof(*late); i++)
		migrate(env, kind, &late[i]);
	rj_env_close(&env);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/registrar.h"

#include <errno.h>
#include <numaif.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "rdma/rdma.h"
#include "tests/support/cases.h"
#include "tests/support/transport_pair.h"
#include "tests/support/verbs_shim/shim.h"

/*
 * Which thread registers what, on a machine of two nodes that is made up of two CPUs of this one: the kernel's word of where memory
 * lies is ours, and every registration passes through on_registration() in its own thread.
 */

#define MIB (1ull << 20)
#define REGION_BYTES (48 * MIB)
#define HUGE_BYTES (2 * MIB)
#define OTHER_NODE_MS 10000 /* a node without a thread is a failure, not a hang */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const struct rji_topology *t;
	const struct pair *p;
	uint64_t queries;
	bool untouched;		 /* the kernel knows no page */
	bool both;		 /* each end waits until a thread of each node is at work */
	uint32_t left[2][2];	 /* windows not begun, by end and node of the memory */
	uint32_t begun[2][2][2]; /* by end, node of the thread, node of the memory */
	uint32_t elsewhere;	 /* by threads that are not bound to a node */
	uint64_t made_bytes, made_most_bytes; /* at the destination: in all, by one call */
	uint32_t strayed; /* not near, though there were more near ones than can be under way */
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* 0: source, 1: destination, -1: other memory. */
static int end_of(const void *at, uint64_t *offset_p)
{
	const struct rji_memory *m[] = { &seen.p->source_memory[0],
					 &seen.p->destination_memory[0] };

	for (int i = 0; i < 2; i++) {
		*offset_p = (uint64_t)((const uint8_t *)at - (const uint8_t *)m[i]->host);
		if ((uintptr_t)at >= (uintptr_t)m[i]->host && *offset_p < m[i]->len_bytes)
			return i;
	}
	return -1;
}

/* The upper half, which comes later, is on node 0. */
static int node_at(uint64_t offset)
{
	return offset < REGION_BYTES / 2;
}

/* In place of the kernel's. */
long move_pages(int pid, unsigned long count, void **pages, const int *nodes, int *status,
		int flags)
{
	uint64_t offset;

	(void)pid;
	(void)nodes;
	(void)flags;
	pthread_mutex_lock(&seen.lock);
	seen.queries++;
	for (unsigned long i = 0; i < count; i++)
		status[i] = seen.untouched || end_of(pages[i], &offset) < 0 ? -ENOENT
									    : node_at(offset);
	pthread_mutex_unlock(&seen.lock);
	return 0;
}

/* The kernel's, seen on its way. */
int madvise(void *at, size_t len_bytes, int advice)
{
	uint64_t offset;

	pthread_mutex_lock(&seen.lock);
	if (seen.p && end_of(at, &offset) == 1) {
		seen.made_bytes += len_bytes;
		if (len_bytes > seen.made_most_bytes)
			seen.made_most_bytes = len_bytes;
	}
	pthread_mutex_unlock(&seen.lock);
	return (int)syscall(SYS_madvise, at, len_bytes, advice);
}

static int node_of_thread(void)
{
	struct rji_cpus cpus;

	if (rji_cpus_of_thread(&cpus))
		return -1;
	for (int i = 0; i < 2; i++)
		if (rji_cpus_equal(&cpus, &seen.t->node[i].cpus))
			return i;
	return -1;
}

static bool is_at_work(int end, int node)
{
	return seen.begun[end][node][0] + seen.begun[end][node][1];
}

static void await_other(int end, int node)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += OTHER_NODE_MS / 1000;
	while (seen.both && !is_at_work(end, !node) &&
	       pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0)
		;
}

static void on_registration(const void *at, size_t len_bytes)
{
	int node = node_of_thread();
	uint64_t offset;
	int end;

	(void)len_bytes;
	pthread_mutex_lock(&seen.lock);
	end = end_of(at, &offset);
	if (end >= 0)
		seen.left[end][node_at(offset)]--;
	if (end >= 0 && node >= 0) {
		seen.begun[end][node][node_at(offset)]++;
		/* Others may have been taken by threads that are on their way to here. */
		seen.strayed += node_at(offset) != node &&
				seen.left[end][node] >= RJI_RDMA_REGISTRARS;
		pthread_cond_broadcast(&seen.changed);
		await_other(end, node);
	} else if (end >= 0) {
		seen.elsewhere++;
	}
	pthread_cond_broadcast(&seen.changed);
	pthread_mutex_unlock(&seen.lock);
}

/* Before lanes are at work, since what they wait for goes before what is near. */
static void await_all(void)
{
	pthread_mutex_lock(&seen.lock);
	while (seen.left[0][0] || seen.left[0][1] || seen.left[1][0] || seen.left[1][1])
		pthread_cond_wait(&seen.changed, &seen.lock);
	pthread_mutex_unlock(&seen.lock);
}

/* Two nodes of a CPU each. NULL: this machine lets us have one only. */
static struct rji_topology *two_nodes(void)
{
	struct rji_topology *t = calloc(1, sizeof(*t));
	struct rji_cpus cpus;
	uint32_t cpu = 0;

	rji_cpus_of_thread(&cpus);
	t->n_nodes = 2;
	for (uint32_t i = 0; i < 2; i++) {
		cpu = rji_cpus_next(&cpus, cpu);
		if (cpu == RJI_MAX_CPUS) {
			free(t);
			return NULL;
		}
		t->node[i].os_index = i;
		t->node[i].memory_bytes = 1;
		rji_cpus_add(&t->node[i].cpus, cpu);
		rji_cpus_add(&t->allowed, cpu++);
	}
	return t;
}

/* All of a guest, registered at both ends by threads of theirs; everything arrives. */
static bool register_in_windows(const struct rji_topology *t, const struct rji_topology *told,
				const struct rji_host *host, uint64_t window_bytes)
{
	struct shim_config c = { .seed = 71,
				 .max_mr_bytes = window_bytes,
				 .on_registration = on_registration };
	struct pair_opts o = {
		.ops = &rji_rdma_transport,
		.host = "192.0.2.1",
		.n_lanes = 2,
		.n_regions = 1,
		.region_bytes = REGION_BYTES,
		.peer_timeout_ms = 2000,
		.background = true,
		.topology = told,
		.log = host,
	};
	struct rj_error err;
	struct pair p;

	for (int end = 0; end < 2; end++)
		for (int node = 0; node < 2; node++)
			seen.left[end][node] = (uint32_t)(REGION_BYTES / 2 / window_bytes);
	seen.t = t;
	seen.p = &p;
	shim_start(&c);
	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err) && !pair_connect(&p, &err));
	await_all();
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	CHECK(shim_stop());
	return true;
}

static bool register_guest(const struct rji_topology *t, const struct rji_topology *told,
			   const struct rji_host *host)
{
	return register_in_windows(t, told, host, 1 * MIB);
}

static bool threads_of_each_node_take_near_windows(void)
{
	struct rji_topology *t = two_nodes();

	seen.both = true;
	CHECK(register_guest(t, t, NULL));
	for (int end = 0; end < 2; end++)
		CHECK(seen.begun[end][0][0] && seen.begun[end][1][1]);
	CHECK(!seen.elsewhere && !seen.strayed);
	free(t);
	return true;
}

static bool threads_stay_on_the_cpus_of_the_session(void)
{
	struct rji_topology *t = two_nodes();
	struct rji_host host = { 0 };

	host.cpus = &t->node[1].cpus;
	CHECK(register_guest(t, t, &host));
	for (int end = 0; end < 2; end++)
		CHECK(seen.begun[end][1][0] && seen.begun[end][1][1] && !is_at_work(end, 0));
	CHECK(!seen.elsewhere);
	CHECK(!seen.queries); /* one node is no choice */
	free(t);
	return true;
}

static bool nothing_is_bound_where_there_is_one_node(void)
{
	struct rji_topology *t = two_nodes(), one;

	one = *t;
	one.n_nodes = 1;
	one.node[0].cpus = one.allowed;
	CHECK(register_guest(t, &one, NULL));
	CHECK(seen.elsewhere == 2 * REGION_BYTES / MIB && !seen.queries);
	free(t);
	return true;
}

/* What nobody touched is anybody's. */
static bool memory_that_was_never_touched_is_registered_too(void)
{
	struct rji_topology *t = two_nodes();

	seen.untouched = true;
	CHECK(register_guest(t, t, NULL));
	CHECK(seen.queries && !seen.elsewhere);
	free(t);
	return true;
}

/* Whoever has to change the process's map of memory meanwhile waits for a piece, not for a window. */
static bool pages_are_made_a_huge_page_at_a_time(void)
{
	struct rji_topology *t = two_nodes();

	CHECK(register_in_windows(t, NULL, NULL, 8 * MIB));
	CHECK(seen.made_bytes == REGION_BYTES && seen.made_most_bytes <= HUGE_BYTES);
	free(t);
	return true;
}

static const struct test_case cases[] = {
	{ "threads_of_each_node_take_near_windows", threads_of_each_node_take_near_windows },
	{ "threads_stay_on_the_cpus_of_the_session", threads_stay_on_the_cpus_of_the_session },
	{ "nothing_is_bound_where_there_is_one_node", nothing_is_bound_where_there_is_one_node },
	{ "memory_that_was_never_touched_is_registered_too",
	  memory_that_was_never_touched_is_registered_too },
	{ "pages_are_made_a_huge_page_at_a_time", pages_are_made_a_huge_page_at_a_time },
};

int main(int argc, char **argv)
{
	struct rji_topology *t = two_nodes();

	if (!t) {
		printf("skipped: two CPUs are needed to make up two nodes\n");
		return 77;
	}
	free(t);
	return cases_run(cases, sizeof(cases) / sizeof(cases[0]), 60, argc, argv);
}

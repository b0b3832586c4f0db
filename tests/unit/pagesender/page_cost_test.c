/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the data path does a page: no allocation, no lock, no system call. One lane sends thousands of single pages and
 * these are counted, in its thread only, and compared with the number of batches.
 *
 * malloc() and its like and pthread_mutex_lock() are this program's own, which count and pass on. System calls are counted
 * by the parent, which traces the child that sends. Over verbs, what the stand-in for the device does inside a call is not
 * the lane's; the calls are counted.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "pagesender/apply.h"
#include "pagesender/lane.h"
#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"
#include "tests/support/cases.h"
#include "tests/support/transport_pair.h"
#include "tests/support/verbs_shim/shim.h"
#include "transport/socket.h"

#define REGION_BYTES (128ull << 20)
#define N_PAGES (REGION_BYTES / 4096 / 2) /* every second one is dirty */
#define N_BATCHES (N_PAGES / RJI_BATCH_EXTENTS)

/* --- counting; the parent sees it too --- */

static struct counts {
	bool on;
	uint64_t allocations, locks, calls, doorbells, polls;
} * counts;

static __thread bool is_lane; /* the thread that is counted */
static __thread int inside;   /* in what is not the lane's */

static bool counted(void)
{
	return counts && is_lane && counts->on && !inside;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
	if (counted())
		counts->allocations++;
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	if (counted())
		counts->allocations++;
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	if (counted())
		counts->allocations++;
	return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	if (counted())
		counts->allocations++;
	return __libc_memalign(align, n);
}

static int (*real_lock)(pthread_mutex_t *m);

int pthread_mutex_lock(pthread_mutex_t *m)
{
	if (!real_lock)
		*(void **)&real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	if (counted())
		counts->locks++;
	return real_lock(m);
}

/* --- the device's part, when there is a stand-in for it --- */

static int (*real_post)(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
static int (*real_post_recv)(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
static int (*real_poll)(struct ibv_cq *cq, int n, struct ibv_wc *wc);

static int device_post(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	int ret;

	if (counted())
		counts->doorbells++;
	inside++;
	ret = real_post(qp, wr, bad);
	inside--;
	return ret;
}

static int device_poll(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	int ret;

	if (counted())
		counts->polls++;
	inside++;
	ret = real_poll(cq, n, wc);
	inside--;
	return ret;
}

static int device_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	int ret;

	inside++;
	ret = real_post_recv(qp, wr, bad);
	inside--;
	return ret;
}

static void watch_device(struct rji_lane *lane)
{
	struct ibv_context *ctx = rji_rdma_lane_of(lane)->qp->context;

	real_post = ctx->ops.post_send;
	real_poll = ctx->ops.poll_cq;
	real_post_recv = ctx->ops.post_recv;
	ctx->ops.post_send = device_post;
	ctx->ops.post_recv = device_post_recv;
	ctx->ops.poll_cq = device_poll;
}

/* --- a round of one lane, in this thread --- */

struct world {
	struct pair p;
	struct rji_pageset set;
	struct rji_holds holds;
	struct rji_harvest harvest;
	struct rji_pace pace;
	struct rji_lane_totals totals;
	struct rji_free_hints hints;
	struct rji_filters filters;
	struct rji_lane_sender lane;
};

/* Filters of the lanes to come. */
static uint32_t filters_on;

static void open_filters(struct world *w)
{
	const struct rji_filters_opts o = { .on = filters_on, .can_clear = true };

	rji_free_hints_init(&w->hints, &w->set, true);
	if (rji_filters_init(&w->filters, &w->set, &w->hints, &o) < 0 ||
	    rji_lane_filter_init(&w->lane.filter, &w->filters, w->p.o.ops, w->lane.link) < 0)
		abort();
	w->lane.filters = true;
}

/* As on a slow link: every page is copied, hashed, kept and compressed. */
static void slow_link(struct rji_lane_filter *lf)
{
	lf->send_ns = 1ull << 30;
	lf->shrink = (struct rji_shrink){ .on = true, .wait = 1u << 30, .plain_ns = 1ull << 40 };
}

/* A third of the pages changes somewhat, a third becomes zero, a third stays. */
static void write_pages(struct world *w, int round)
{
	uint8_t *memory = w->p.source_memory[0].host;

	for (uint64_t i = 0; i < 2 * N_PAGES; i += 2) {
		if (i % 3 == 0)
			memory[i * 4096 + 100] ^= (uint8_t)(1 + round);
		else if (i % 3 == 1)
			memset(memory + i * 4096, 0, 4096);
	}
}

static void open_lane(struct world *w)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = w->p.source_memory[0].name;
	r.host = w->p.source_memory[0].host;
	r.len_bytes = w->p.source_memory[0].len_bytes;
	rji_pageset_add(&w->set, &r);
	rji_holds_init(&w->holds);
	rji_harvest_init(&w->harvest, &w->set, &w->holds);
	rji_pace_init(&w->pace, 0);
	w->lane = (struct rji_lane_sender){ .ops = w->p.o.ops,
					    .link = w->p.lane[0].source,
					    .extent_max_bytes = RJI_EXTENT_MAX_BYTES,
					    .harvest = &w->harvest,
					    .holds = &w->holds,
					    .pace = &w->pace,
					    .stop = &w->p.source_stop,
					    .totals = &w->totals };
	rji_error_init(&w->lane.err);
	if (filters_on)
		open_filters(w);
}

static void close_world(struct world *w)
{
	if (w->lane.filters) {
		rji_lane_filter_fini(&w->lane.filter);
		rji_filters_fini(&w->filters);
		rji_free_hints_fini(&w->hints);
	}
	pair_close(&w->p);
	rji_harvest_fini(&w->harvest);
	rji_pageset_fini(&w->set);
	rji_holds_fini(&w->holds);
}

/* Once uncounted, for what is made at first use; then counted. */
static bool send_counted(struct world *w)
{
	for (int round = 0; round < 2; round++) {
		int ret;

		for (uint64_t i = 0; i < 2 * N_PAGES; i += 2)
			rji_pageset_pend(&w->set.region[0], i, 1);
		if (w->lane.filters) {
			slow_link(&w->lane.filter);
			write_pages(w, round);
		}
		rji_harvest_begin_round(&w->harvest);
		*counts = (struct counts){ .on = round == 1 };
		ret = rji_lane_send_round(&w->lane);
		counts->on = false;
		rji_harvest_fenced(&w->harvest);
		CHECK(ret == 0);
		CHECK(w->lane.round.pages == N_PAGES);
	}
	printf("  %llu pages in %llu batches: %llu allocations, %llu locks, %llu system calls, "
	       "%llu doorbells, %llu polls\n",
	       N_PAGES, N_BATCHES, (unsigned long long)counts->allocations,
	       (unsigned long long)counts->locks, (unsigned long long)counts->calls,
	       (unsigned long long)counts->doorbells, (unsigned long long)counts->polls);
	return true;
}

static bool open_world(struct world *w, const struct rji_transport_ops *ops, const char *host,
		       int listen_fd)
{
	struct pair_opts o = { .ops = ops,
			       .host = host,
			       .n_lanes = 1,
			       .n_regions = 1,
			       .region_bytes = REGION_BYTES,
			       .peer_timeout_ms = 20000,
			       .apply = &rji_apply,
			       .listen_fd = listen_fd };
	struct rj_error err;

	rji_error_init(&err);
	is_lane = true;
	memset(w, 0, sizeof(*w));
	CHECK(pair_open(&w->p, &o, 7, &err) == 0);
	open_lane(w);
	return true;
}

/* --- cases --- */

static struct world w;

static bool null_lane(void)
{
	CHECK(open_world(&w, &rji_null_transport, "", 0));
	CHECK(send_counted(&w));
	close_world(&w);
	CHECK(counts->allocations == 0);
	CHECK(counts->locks <= 4); /* entering and leaving the round */
	CHECK(counts->calls <= 4);
	return true;
}

static bool tcp_lane_of(uint64_t least_calls)
{
	struct rji_uri at = { .scheme = "tcp", .host = "127.0.0.1" };
	struct rj_error err;
	int fd;

	rji_error_init(&err);
	CHECK(!rji_socket_listen(&at, &fd, &err));
	CHECK(open_world(&w, &rji_tcp_transport, "127.0.0.1", fd));
	CHECK(send_counted(&w));
	close_world(&w);
	CHECK(counts->allocations == 0);
	CHECK(counts->locks <= 4);
	CHECK(counts->calls >= least_calls);	/* sees them at all */
	CHECK(counts->calls <= 16 * N_BATCHES); /* a full socket is waited for, and gone on with */
	return true;
}

static bool tcp_lane(void)
{
	return tcp_lane_of(N_BATCHES);
}

/* What filters do to a page costs time only. */
static bool null_lane_with_filters(void)
{
	filters_on = RJ_FILTER_ALL & ~(uint32_t)RJ_FILTER_HOLE;
	CHECK(open_world(&w, &rji_null_transport, "", 0));
	CHECK(send_counted(&w));
	/* All that is done to a page was done. */
	CHECK(w.filters.kinds[RJI_KIND_ZERO] > N_PAGES / 4);
	CHECK(w.filters.kinds[RJI_KIND_SAME] > N_PAGES / 4);
	CHECK(w.filters.kinds[RJI_KIND_DELTA] > N_PAGES / 4);
	CHECK(w.filters.figures[5].applied > N_PAGES / 4); /* compressed, or tried */
	close_world(&w);
	CHECK(counts->allocations == 0);
	CHECK(counts->locks <= 4);
	CHECK(counts->calls <= 4);
	return true;
}

static bool tcp_lane_with_filters(void)
{
	filters_on = RJ_FILTER_ALL & ~(uint32_t)RJ_FILTER_HOLE;
	return tcp_lane_of(1);
}

static bool rdma_lane(void)
{
	const struct shim_config c = { .seed = 3, .hardware = true };

	shim_start(&c);
	CHECK(open_world(&w, &rji_rdma_transport, "192.0.2.1", 0));
	watch_device(w.p.lane[0].source);
	CHECK(send_counted(&w));
	close_world(&w);
	CHECK(counts->allocations == 0);
	CHECK(counts->doorbells >= N_PAGES / RJI_RDMA_SQ_DEPTH);
	CHECK(counts->doorbells <= N_PAGES / 16);
	CHECK(counts->locks <= 2 * counts->doorbells); /* events of the stand-in */
	CHECK(counts->calls <= 8 * counts->doorbells); /* sleeping until there is room */
	return true;
}

/* What this test is there to find: it is found. */
static int wasteful_post(struct rji_lane *lane, const struct rji_extent *e, uint32_t n,
			 struct rj_error *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	for (uint32_t i = 0; i < n; i++) {
		void *volatile p = malloc(16);

		free(p);
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
		syscall(SYS_getppid);
	}
	return rji_null_transport.post(lane, e, n, err);
}

static bool counters_see_one_of_each_a_page(void)
{
	struct rji_transport_ops ops = rji_null_transport;

	ops.post = wasteful_post;
	CHECK(open_world(&w, &ops, "", 0));
	CHECK(send_counted(&w));
	close_world(&w);
	CHECK(counts->allocations == N_PAGES);
	CHECK(counts->locks >= N_PAGES && counts->locks <= N_PAGES + 4);
	CHECK(counts->calls >= N_PAGES && counts->calls <= N_PAGES + 4);
	return true;
}

static const struct test_case cases[] = {
	{ "counters_see_one_of_each_a_page", counters_see_one_of_each_a_page },
	{ "null_lane", null_lane },
	{ "null_lane_with_filters", null_lane_with_filters },
	{ "tcp_lane", tcp_lane },
	{ "tcp_lane_with_filters", tcp_lane_with_filters },
	{ "rdma_lane", rdma_lane },
};

/* --- the parent --- */

/* Every call makes the child stop twice: on its way in and on its way out. */
static bool trace(pid_t child)
{
	bool in = false;
	int status;

	for (;;) {
		int signal = 0;

		if (waitpid(child, &status, 0) < 0)
			return false;
		if (WIFEXITED(status) || WIFSIGNALED(status))
			return WIFEXITED(status) && WEXITSTATUS(status) == 0;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			in = !in;
			if (in && counts->on)
				counts->calls++;
		} else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
			signal = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, child, 0, signal);
	}
}

static bool run_traced(const struct test_case *t)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		bool ok;

		alarm(60);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		ok = t->run();
		fflush(stdout);
		_exit(ok ? 0 : 1);
	}
	if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) {
		printf("  cannot trace a child here\n");
		return false;
	}
	ptrace(PTRACE_SYSCALL, child, 0, 0);
	return trace(child);
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0;

	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (counts == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool ok;

		if (!case_wanted(cases[i].name, argc, argv))
			continue;
		ok = run_traced(&cases[i]);
		printf("%-8s%s\n", ok ? "ok" : "FAILED", cases[i].name);
		passed += ok;
		failed += !ok;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? 1 : 0;
}

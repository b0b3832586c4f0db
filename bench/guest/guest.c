/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/guest/guest_impl.h"
#include "bench/guest/kvm.h"

#define TAG_GUEST 1u

static const struct guest_ops *ops_of(enum guest_kind kind)
{
	static const struct guest_ops *const all[] = {
		[GUEST_KVM] = &guest_kvm_ops,
		[GUEST_SYNTHETIC] = &guest_synthetic_ops,
		[GUEST_MARKED] = &guest_marked_ops,
	};

	return all[kind];
}

/* --- memory that comes lazily, or never --- */

/* Where the thread goes that touched a page which was taken away. */
static _Thread_local sigjmp_buf *lost;

static void on_lost_page(int number)
{
	if (lost)
		siglongjmp(*lost, 1);
	signal(number, SIG_DFL); /* a fault of the program's own: again, and for good */
}

static void catch_lost_pages(void)
{
	struct sigaction sa = { .sa_handler = on_lost_page };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGSEGV, &sa, NULL);
}

static int lazy_tick(void *arg, struct ticker *t, uint64_t n_pages)
{
	struct guest_ticker *gt = arg;
	sigjmp_buf here;
	int ret;

	if (sigsetjmp(here, 1)) {
		/* What it had locked stays so: it will not run any more. */
		lost = NULL;
		snprintf(gt->g->broken, sizeof(gt->g->broken), "a page that it needs never came");
		return -EFAULT;
	}
	lost = &here;
	ret = gt->g->ops->tick(arg, t, n_pages);
	lost = NULL;
	return ret;
}

static uint64_t share_of_rate(const struct guest *g, uint64_t bytes_per_s, uint32_t ticker)
{
	return (bytes_per_s / GUEST_PAGE_BYTES + ticker) / g->ops->n_tickers;
}

static int start_tickers(struct guest *g, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < g->ops->n_tickers; i++) {
		struct guest_ticker *gt = &g->tickers[i];
		char name[16];
		int ret;

		gt->g = g;
		gt->number = i;
		guest_writes_init(&gt->writes, &g->o, i, g->ops->n_tickers);
		gt->t.tick = g->o.lazy ? lazy_tick : g->ops->tick;
		gt->t.arg = gt;
		gt->t.rate_pages_per_s = share_of_rate(g, g->o.workload.rate_bytes_per_s, i);
		snprintf(name, sizeof(name), "%s-%u", g->ops->ticker_name, i);
		ret = ticker_init(&gt->t, name);
		if (ret) {
			snprintf(why, why_bytes, "cannot start a guest's thread: %s",
				 strerrordesc_np(-ret));
			return ret;
		}
		g->n_tickers++;
	}
	return 0;
}

static int create(const struct guest_opts *o, bool empty, struct guest **g_p, char *why,
		  size_t why_bytes)
{
	int ret = guest_opts_check(o, why, why_bytes);
	struct guest *g;

	if (ret)
		return ret;
	g = calloc(1, sizeof(*g));
	if (!g) {
		snprintf(why, why_bytes, "no memory");
		return -ENOMEM;
	}
	g->o = *o;
	g->ops = ops_of(o->kind);
	g->untouched = empty;
	g->mem.fd = -1;
	pthread_rwlock_init(&g->marking, NULL);
	if (o->lazy)
		catch_lost_pages();
	ret = g->ops->create(g, empty, why, why_bytes);
	if (!ret && o->kind != GUEST_MARKED)
		guest_hints_init(g, empty);
	if (!ret && empty && o->prefault)
		ret = guest_memory_populate(&g->mem, why, why_bytes);
	if (!ret)
		ret = start_tickers(g, why, why_bytes);
	if (!ret)
		ret = guest_hints_start(g, why, why_bytes);
	if (ret) {
		guest_destroy(&g);
		return ret;
	}
	*g_p = g;
	return 0;
}

int guest_create(const struct guest_opts *o, struct guest **g_p, char *why, size_t why_bytes)
{
	return create(o, false, g_p, why, why_bytes);
}

int guest_create_empty(const struct guest_opts *o, struct guest **g_p, char *why, size_t why_bytes)
{
	return create(o, true, g_p, why, why_bytes);
}

void guest_destroy(struct guest **g_p)
{
	struct guest *g = *g_p;

	if (!g)
		return;
	*g_p = NULL;
	guest_hints_fini(g);
	for (uint32_t i = 0; i < g->n_tickers; i++)
		ticker_fini(&g->tickers[i].t);
	rj_tracker_destroy(&g->tracker);
	g->ops->destroy(g);
	guest_memory_free(&g->mem);
	pthread_rwlock_destroy(&g->marking);
	free(g);
}

uint32_t guest_n_regions(const struct guest *g)
{
	return g->n_regions;
}

void guest_region(const struct guest *g, uint32_t i, struct rj_region *r)
{
	const struct guest_region *gr = &g->regions[i];

	*r = (struct rj_region){
		.size = sizeof(*r),
		.name = gr->name,
		.host = g->mem.host + gr->offset,
		.len_bytes = gr->len_bytes,
		.gpa = gr->gpa,
		.page_bytes = GUEST_PAGE_BYTES,
		.flags = (g->untouched ? RJ_REGION_ZEROED : 0u) |
			 (g->tracked_by_marks ? RJ_REGION_MARKED : 0u),
		.fd = g->mem.fd,
		.fd_offset_bytes = g->mem.fd < 0 ? 0 : gr->offset,
	};
}

void guest_mark(struct guest *g, uint64_t offset, uint64_t len_bytes)
{
	if (!g->session)
		return;
	for (uint32_t i = 0; i < g->n_regions; i++) {
		const struct guest_region *gr = &g->regions[i];

		if (offset >= gr->offset && offset - gr->offset < gr->len_bytes)
			rj_mark_dirty(g->session, gr->number, offset - gr->offset, len_bytes);
	}
}

static void set_session(struct guest *g, struct rj_session *s)
{
	pthread_rwlock_wrlock(&g->marking);
	g->session = s;
	guest_hints_forget(g);
	pthread_rwlock_unlock(&g->marking);
}

static int say_failed(int ret, const char *what, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s: %s", what, rj_strerror(ret));
	return ret;
}

int guest_attach(struct guest *g, struct rj_session *s, char *why, size_t why_bytes)
{
	struct rj_region r;
	int ret = 0;

	if (!s) {
		guest_detach(g);
		return 0;
	}
	if (!g->tracker && !g->tracked_by_marks) {
		ret = g->ops->track(g, why, why_bytes);
		if (ret < 0)
			return ret;
		g->tracked_by_marks = !g->tracker;
	}
	for (uint32_t i = 0; i < g->n_regions; i++) {
		guest_region(g, i, &r);
		ret = rj_add_region(s, &r, &g->regions[i].number);
		if (ret < 0)
			return say_failed(ret, "guest RAM cannot be added", why, why_bytes);
	}
	if (g->tracker)
		ret = rj_add_tracker(s, g->tracker);
	if (ret < 0)
		return say_failed(ret, "the guest's dirty tracker cannot be added", why, why_bytes);
	set_session(g, s);
	return 0;
}

void guest_detach(struct guest *g)
{
	set_session(g, NULL);
}

struct rj_tracker *guest_tracker(struct guest *g, char *why, size_t why_bytes)
{
	if (!g->tracker && g->ops->track(g, why, why_bytes) < 0)
		return NULL;
	return g->tracker;
}

const char *guest_tracking(const struct guest *g)
{
	if (g->o.kind == GUEST_KVM)
		return kvm_tracking(g);
	return g->tracker ? "userfaultfd write-protection" : "rj_mark_dirty()";
}

int guest_run(struct guest *g)
{
	int ret = guest_hints_run(g);

	g->untouched = false;
	for (uint32_t i = 0; i < g->n_tickers && !ret; i++)
		ret = ticker_run(&g->tickers[i].t);
	if (ret)
		guest_pause(g);
	return ret;
}

int guest_pause(struct guest *g)
{
	bool was = false;

	for (uint32_t i = 0; i < g->n_tickers; i++)
		ticker_ask_stop(&g->tickers[i].t);
	for (uint32_t i = 0; i < g->n_tickers; i++)
		was |= ticker_pause(&g->tickers[i].t);
	guest_hints_pause(g);
	return was ? RJ_WAS_RUNNING : RJ_WAS_PAUSED;
}

void guest_throttle(struct guest *g, uint32_t percent)
{
	for (uint32_t i = 0; i < g->n_tickers; i++)
		atomic_store_explicit(&g->tickers[i].t.throttle_percent,
				      percent < 100 ? percent : 99,
				      memory_order_relaxed); /* by the next tick */
}

void guest_set_rate(struct guest *g, uint64_t bytes_per_s)
{
	for (uint32_t i = 0; i < g->n_tickers; i++)
		atomic_store_explicit(&g->tickers[i].t.rate_pages_per_s,
				      share_of_rate(g, bytes_per_s, i),
				      memory_order_relaxed); /* by the next tick */
}

int guest_save(struct guest *g, struct rj_session *s)
{
	uint64_t counter = htole64(guest_counter(g));
	struct guest_state st;
	int ret;

	guest_state_init(&st);
	guest_state_put(&st, TAG_GUEST, &counter, sizeof(counter));
	guest_device_save(g, &st);
	guest_hints_save(g, &st);
	ret = g->ops->save(g, &st);
	if (!ret)
		ret = guest_state_write(&st, (uint16_t)g->o.kind, s);
	guest_state_fini(&st);
	return ret;
}

static int load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	uint64_t counter;
	int ret = guest_state_take(st, TAG_GUEST, &counter, sizeof(counter), why, why_bytes);

	if (!ret)
		ret = guest_device_load(g, st, why, why_bytes);
	if (!ret)
		ret = guest_hints_load(g, st, why, why_bytes);
	if (!ret)
		ret = g->ops->load(g, st, why, why_bytes);
	if (!ret)
		atomic_store(&g->counter, le64toh(counter));
	return ret;
}

int guest_load(struct guest *g, struct rj_session *s, char *why, size_t why_bytes)
{
	struct guest_state st = { 0 };
	int ret = guest_state_read(&st, (uint16_t)g->o.kind, s, why, why_bytes);

	g->untouched = false;
	if (!ret)
		ret = load(g, &st, why, why_bytes);
	guest_state_fini(&st);
	return ret;
}

uint64_t guest_counter(const struct guest *g)
{
	return atomic_load_explicit(&g->counter, memory_order_relaxed); /* a figure, nothing else */
}

int guest_check(const struct guest *g, char *why, size_t why_bytes)
{
	int ret;

	if (g->broken[0]) {
		snprintf(why, why_bytes, "%s", g->broken);
		return -EIO;
	}
	ret = g->ops->check(g, why, why_bytes);
	return ret ? ret : guest_hints_check(g, why, why_bytes);
}

void guest_beats(const struct guest *g, struct guest_beats *b)
{
	const struct beats *all[GUEST_MAX_TICKERS];

	for (uint32_t i = 0; i < g->n_tickers; i++)
		all[i] = &g->tickers[i].t.beats;
	beats_sum(all, g->n_tickers, b);
}

void guest_restart_beats(struct guest *g)
{
	for (uint32_t i = 0; i < g->n_tickers; i++)
		memset(&g->tickers[i].t.beats, 0, sizeof(g->tickers[i].t.beats));
}

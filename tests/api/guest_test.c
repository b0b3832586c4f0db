/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/guest/guest.h"
#include "tests/support/fake_session.h"
#include "tests/support/guest_checks.h"

/* The guests on their own: no session moves them, this file does. */

#define FREE_FIRST (16ul << 20)
#define FREE_BYTES (24ul << 20)
#define FREE_BLOCKS 16u

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void run_for(struct guest *g, unsigned int ms)
{
	uint64_t start;

	CHECK(guest_run(g) == 0);
	usleep(ms * 1000);
	start = now_ns();
	CHECK(guest_pause(g) == RJ_WAS_RUNNING);
	CHECK(guest_pause(g) == RJ_WAS_PAUSED);
	printf("  pause took %.2f ms\n", (double)(now_ns() - start) / 1e6);
}

static void save(struct guest *g)
{
	uint64_t start = now_ns();

	fake.len_bytes = fake.pos = 0;
	CHECK(guest_save(g, fake_session()) == 0);
	printf("  save: %zu bytes in %.2f ms\n", fake.len_bytes, (double)(now_ns() - start) / 1e6);
}

static int load(struct guest *g)
{
	fake.pos = 0;
	return guest_load(g, fake_session(), why, sizeof(why));
}

/* As rj_set_setup_blob() and RJ_RQ_SETUP would carry it. */
static struct guest *make_destination(const struct guest *source)
{
	struct guest_opts o;
	struct guest *g;
	uint8_t blob[256];
	int len = guest_describe(source, blob, sizeof(blob));

	CHECK(len > 0);
	CHECK(guest_understand(blob, (size_t)len, &o, why, sizeof(why)) == 0);
	CHECK(guest_create_empty(&o, &g, why, sizeof(why)) == 0);
	return g;
}

static void copy_memory(const struct guest *to, const struct guest *from)
{
	struct rj_region a, b;

	CHECK(guest_n_regions(to) == guest_n_regions(from));
	for (uint32_t i = 0; i < guest_n_regions(from); i++) {
		guest_region(from, i, &a);
		guest_region(to, i, &b);
		CHECK(strcmp(a.name, b.name) == 0 && a.len_bytes == b.len_bytes);
		CHECK(b.flags & RJ_REGION_ZEROED);
		memcpy(b.host, a.host, a.len_bytes);
	}
}

static bool is_marked(uint64_t page)
{
	return fake.marks[page / 64] >> page % 64 & 1;
}

static char *page_at(const struct guest *g, uint64_t page)
{
	struct rj_region r;

	guest_region(g, 0, &r);
	return (char *)r.host + page * 4096;
}

/* With its older content, or with none, the page must be missed. */
static void check_loss(const struct guest *g, const char *old, uint64_t page)
{
	char content[4096];

	memcpy(content, page_at(g, page), 4096);
	CHECK(memcmp(content, old, 4096) != 0);
	memcpy(page_at(g, page), old, 4096);
	CHECK(guest_check(g, why, sizeof(why)) == -EIO);
	printf("  found: %s\n", why);
	memset(page_at(g, page), 0, 4096);
	CHECK(guest_check(g, why, sizeof(why)) == -EIO);
	memcpy(page_at(g, page), content, 4096);
	CHECK(guest_check(g, why, sizeof(why)) == 0);
}

static void check_damaged_states(struct guest *g)
{
	uint8_t good[sizeof(fake.state)];
	size_t len = fake.len_bytes;

	memcpy(good, fake.state, len);
	for (fake.len_bytes = 0; fake.len_bytes < len; fake.len_bytes += 7)
		CHECK(load(g) == -EINVAL);
	fake.len_bytes = len + 1;
	CHECK(load(g) == -EINVAL);
	fake.len_bytes = len;
	for (size_t i = 0; i < 24; i++) {
		fake.state[i] ^= 0x40;
		CHECK(load(g) == -EINVAL);
		fake.state[i] ^= 0x40;
	}
	fake.len_bytes = sizeof(fake.state);
	CHECK(load(g) == -EINVAL);
	fake.len_bytes = len;
	memcpy(fake.state, good, len);
}

/* The first page of [from, to) that is not as it was; 0: none. */
static uint64_t first_written(const struct guest *now, const char *old, uint64_t from, uint64_t to)
{
	for (uint64_t p = from; p < to; p++)
		if (memcmp(page_at(now, p), old + p * 4096, 4096) != 0)
			return p;
	return 0;
}

static struct guest *make_source(enum guest_kind kind, const char *workload, uint64_t size_bytes,
				 bool broken)
{
	struct guest_opts o = {
		.kind = kind, .size_bytes = size_bytes, .seed = 42, .break_device_tracking = broken
	};
	struct guest *g = NULL;
	int ret;

	CHECK(guest_parse_workload(workload, &o.workload, why, sizeof(why)) == 0);
	ret = guest_create(&o, &g, why, sizeof(why));
	if (ret && kind == GUEST_KVM && access("/dev/kvm", R_OK | W_OK)) {
		CHECK(strstr(why, "--guest synthetic"));
		printf("  %s\n", why);
		return NULL;
	}
	CHECK(ret == 0);
	fake_session_reset();
	CHECK(guest_attach(g, fake_session(), why, sizeof(why)) == 0);
	CHECK(fake.n_regions == guest_n_regions(g));
	printf("  tracked by %s\n", guest_tracking(g));
	return g;
}

static void print_beats(const struct guest *g, unsigned int ms)
{
	struct guest_beats b;

	guest_beats(g, &b);
	CHECK(b.n > 0 && b.gap_p99_ns <= b.gap_max_ns);
	printf("  %lu beats in %u ms, gap max %.2f ms, p99 %.2f ms\n", b.n, ms,
	       (double)b.gap_max_ns / 1e6, (double)b.gap_p99_ns / 1e6);
}

static void move(enum guest_kind kind, const char *workload, uint64_t size_bytes)
{
	struct guest *a, *b;
	uint64_t counter, page;
	char *old;

	printf("%d %s\n", (int)kind, workload);
	a = make_source(kind, workload, size_bytes, false);
	if (!a)
		return;
	CHECK(guest_check(a, why, sizeof(why)) == 0);
	run_for(a, 100);
	CHECK(guest_check(a, why, sizeof(why)) == 0);
	old = malloc(size_bytes);
	memcpy(old, page_at(a, 0), size_bytes);
	run_for(a, 300);
	print_beats(a, 400);
	counter = guest_counter(a);
	CHECK(counter > 20);
	CHECK(fake.n_marks > 0);
	save(a);
	CHECK(guest_check(a, why, sizeof(why)) == 0);

	b = make_destination(a);
	copy_memory(b, a);
	CHECK(load(b) == 0);
	CHECK(guest_check(b, why, sizeof(why)) == 0);
	CHECK(guest_counter(b) == counter);
	page = first_written(a, old, 512, size_bytes / 4096);
	CHECK(strcmp(workload, "idle") == 0 || strcmp(workload, "same:20M") == 0 || page);
	if (page)
		check_loss(b, old + page * 4096, page);
	page = first_written(a, old, 0x100, 0x200); /* the device's buffers */
	CHECK(page && is_marked(page));
	check_loss(b, old + page * 4096, page);
	page = first_written(a, old, 0x80, 0x81); /* its status */
	CHECK(page && is_marked(page));
	check_loss(b, old + page * 4096, page);
	if (kind == GUEST_KVM)
		check_loss(b, old + 4096, 1);

	CHECK(guest_pause(b) == RJ_WAS_PAUSED);
	run_for(b, 100);
	CHECK(guest_counter(b) > counter + 5);
	CHECK(guest_check(b, why, sizeof(why)) == 0);
	/* The source could go on as well, as after a rollback, and be saved again. */
	run_for(a, 50);
	CHECK(guest_counter(a) > counter);
	CHECK(guest_check(a, why, sizeof(why)) == 0);
	save(a);
	CHECK(guest_check(a, why, sizeof(why)) == 0);
	guest_destroy(&b);
	b = make_destination(a);
	check_damaged_states(b);
	guest_destroy(&b);
	guest_detach(a);
	guest_destroy(&a);
	free(old);
}

/* Another workload's state must not be loaded. */
static void refuse_other_workload(void)
{
	struct guest *a = make_source(GUEST_KVM, "hot:1M:10M", 16 << 20, false), *b;

	if (!a)
		return;
	run_for(a, 20);
	save(a);
	b = make_source(GUEST_KVM, "hot:2M:10M", 16 << 20, false);
	fake.len_bytes = 0;
	save(a);
	CHECK(load(b) == -EINVAL);
	printf("  %s\n", why);
	guest_destroy(&a);
	guest_destroy(&b);
}

static void broken_device(enum guest_kind kind)
{
	struct guest *g = make_source(kind, "idle", 16 << 20, true);

	if (!g)
		return;
	run_for(g, 50);
	save(g);
	CHECK(fake.n_marks == 0);
	guest_destroy(&g);
}

/* Memory that this machine does not have. */
static void move_marked(void)
{
	struct guest *a = make_source(GUEST_MARKED, "uniform:1G", 1ull << 38, false), *b;
	uint64_t counter;

	run_for(a, 200);
	print_beats(a, 200);
	printf("  %.0f MB/s marked\n", (double)fake.n_marks * 4096 / 0.2 / 1e6);
	counter = guest_counter(a);
	save(a);
	b = make_destination(a);
	CHECK(load(b) == 0);
	CHECK(guest_check(b, why, sizeof(why)) == 0);
	CHECK(guest_counter(b) == counter);
	run_for(b, 50);
	CHECK(guest_counter(b) > counter);
	guest_destroy(&a);
	guest_destroy(&b);
}

static void too_big(void)
{
	struct guest_opts o = { .kind = GUEST_SYNTHETIC, .size_bytes = 1ull << 42 };
	struct guest *g = NULL;

	CHECK(guest_create(&o, &g, why, sizeof(why)) == -ENOMEM);
	CHECK(!g && strstr(why, "does not fit"));
	printf("%s\n", why);
	o.size_bytes = 4096;
	CHECK(guest_create(&o, &g, why, sizeof(why)) == -EINVAL);
	printf("%s\n", why);
}

/* What the guest's VMM tells the session. */
static struct {
	const struct guest *g;
	enum guest_hinting hints;
	uint64_t n, pages, told_at_once, taken_meanwhile;
} told;

/* Slow now and then, for the guest to take the page meanwhile, if it does not wait. */
static int mark_free(uint32_t region, uint64_t offset, uint64_t len_bytes, uint64_t generation)
{
	const volatile uint64_t *words = (uint64_t *)(page_at(told.g, 0) + offset);
	uint64_t was = words[0];

	CHECK(region == 0 && offset >= FREE_FIRST && offset + len_bytes <= FREE_FIRST + FREE_BYTES);
	CHECK(told.hints == GUEST_HINTS_REPORTING ? generation == RJ_FREE_REPORTED
						  : generation && generation == fake.generation);
	if (++told.n % 16 == 0)
		usleep(2000);
	told.pages += len_bytes / 4096;
	told.told_at_once += len_bytes > 4096;
	told.taken_meanwhile += words[0] != was;
	return (int)(len_bytes / 4096);
}

/* Free pages may hold zeros or anything older there, and nothing else; pages in use may not. */
static void check_free_contents(struct guest *b)
{
	uint64_t first = FREE_FIRST / 4096, end = first + FREE_BYTES / 4096, n = 0, in_use = 0;
	char other[4096];

	memset(other, 0x5a, sizeof(other));
	for (uint64_t p = first; p < end; p++) {
		char content[4096];
		bool is_free = guest_page_is_free(b, p);

		memcpy(content, page_at(b, p), 4096);
		if (is_free ? n++ % 500 : in_use++ % 20)
			continue;
		memcpy(page_at(b, p), other, 4096);
		CHECK(guest_check(b, why, sizeof(why)) == -EIO);
		memset(page_at(b, p), 0, 4096);
		CHECK(guest_check(b, why, sizeof(why)) == (is_free ? 0 : -EIO));
		if (!is_free)
			memcpy(page_at(b, p), content, 4096);
	}
	printf("  %lu pages free, %lu in use\n", n, in_use);
}

static void move_free(enum guest_kind kind, enum guest_hinting hints)
{
	struct guest_opts o = {
		.kind = kind,
		.size_bytes = 64 << 20,
		.workload = { WORKLOAD_UNIFORM, 20 << 20, 0, 0 },
		.seed = 5,
		.used_bytes = FREE_FIRST,
		.free_bytes = FREE_BYTES,
		.zero_bytes = 8 << 20,
		.reuse_bytes_per_s = 40 << 20,
		.hints = hints,
	};
	struct guest_free_figures ff;
	struct guest *a = NULL, *b;

	printf("%d free, hints %d\n", (int)kind, (int)hints);
	if (guest_create(&o, &a, why, sizeof(why)) < 0) {
		CHECK(kind == GUEST_KVM && access("/dev/kvm", R_OK | W_OK));
		return;
	}
	fake_session_reset();
	CHECK(guest_attach(a, fake_session(), why, sizeof(why)) == 0);
	memset(&told, 0, sizeof(told));
	told.g = a;
	told.hints = hints;
	fake.mark_free = mark_free;
	run_for(a, 100); /* it takes and frees pages, and nobody has asked yet */
	CHECK(hints == GUEST_HINTS_REPORTING || !told.n);
	guest_ask_hints(a);
	run_for(a, 500);
	for (int i = 0; hints == GUEST_HINTS_BALLOON && !told.taken_meanwhile && i < 200; i++)
		run_for(a, 100); /* a busy machine may take its time to show that */
	CHECK(guest_check(a, why, sizeof(why)) == 0);
	guest_free_figures(a, &ff);
	printf("  %lu hints of %lu pages, %lu told, %lu of several pages, %lu taken meanwhile\n",
	       ff.n_hints, ff.hinted_pages, told.n, told.told_at_once, told.taken_meanwhile);
	CHECK(ff.n_hints > 200 && ff.taken_pages == told.pages && !ff.refused_hints);
	CHECK(hints == GUEST_HINTS_NONE ? !told.n : told.told_at_once >= FREE_BLOCKS);
	CHECK((hints == GUEST_HINTS_BALLOON) == (told.taken_meanwhile > 0));
	CHECK(is_marked(0x90)); /* the VMM's words there */
	save(a);
	b = make_destination(a);
	copy_memory(b, a);
	CHECK(load(b) == 0);
	CHECK(guest_check(b, why, sizeof(why)) == 0);
	if (hints != GUEST_HINTS_NONE)
		check_free_contents(b);
	else
		CHECK(!guest_page_is_free(b, FREE_FIRST / 4096 + 1));
	run_for(b, 100);
	CHECK(guest_check(b, why, sizeof(why)) == 0);
	guest_free_figures(b, &ff);
	CHECK(ff.n_hints > 0 && !ff.taken_pages);
	guest_destroy(&b);
	guest_detach(a);
	guest_destroy(&a);
}

int main(void)
{
	static const enum guest_kind kinds[] = { GUEST_SYNTHETIC, GUEST_KVM };
	static const char *const workloads[] = { "idle",	 "uniform:50M", "hot:4M:20M",
						 "sweep:50M",	 "same:20M",	"aba:50M",
						 "sparse:64:20M" };

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t k = 0; k < 2; k++) {
		for (size_t w = 0; w < sizeof(workloads) / sizeof(*workloads); w++)
			move(kinds[k], workloads[w], 64 << 20);
		broken_device(kinds[k]);
		for (enum guest_hinting h = GUEST_HINTS_NONE; h < N_GUEST_HINTS; h++)
			move_free(kinds[k], h);
	}
	refuse_other_workload();
	move_marked();
	too_big();
	return 0;
}

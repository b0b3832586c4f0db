/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "migration/session_impl.h"
#include "pagesender/dirty/tracker_impl.h"

#define PAGE 4096u

static struct rj_env *env;
static struct rj_session *s;
static struct rj_error err;

static void set_up(void)
{
	struct rj_opts o;

	rj_opts_init(&o);
	o.uri = "tcp://127.0.0.1:1";
	cr_assert_eq(rj_env_open(NULL, &env), 0);
	cr_assert_eq(rj_source_open(env, &o, &s), 0);
	rji_error_init(&err);
}

static void tear_down(void)
{
	rj_close(&s);
	rj_env_close(&env);
}

TestSuite(preflight, .init = set_up, .fini = tear_down);

static void add(const char *name, void *host, uint64_t len_bytes, uint32_t flags)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = name;
	r.host = host;
	r.len_bytes = len_bytes;
	r.flags = flags;
	cr_assert_eq(rj_add_region(s, &r, NULL), 0);
}

static uint8_t *map(size_t n_pages, int prot, int flags, int fd)
{
	uint8_t *p = mmap(NULL, n_pages * PAGE, prot, flags, fd, 0);

	cr_assert_neq(p, MAP_FAILED);
	return p;
}

static uint8_t *map_anon(size_t n_pages)
{
	return map(n_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void expect_refused(int code, const char *text)
{
	int ret = rji_preflight(s, &err);

	cr_assert_eq(ret, code, "%d %s", ret, err.text);
	cr_assert_not_null(strstr(err.text, text), "%s", err.text);
}

Test(preflight, kinds_of_memory_that_can_be_tracked)
{
	char path[] = "/tmp/rj-preflight-XXXXXX";
	int memfd = memfd_create("guest ram", 0), file = mkstemp(path);

	unlink(path);
	cr_assert_eq(ftruncate(memfd, 4 * PAGE), 0);
	cr_assert_eq(ftruncate(file, 4 * PAGE), 0);
	add("anonymous", map_anon(4), 4 * PAGE, RJ_REGION_MARKED);
	add("shared", map(4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1), 4 * PAGE,
	    RJ_REGION_MARKED);
	add("memfd", map(4, PROT_READ | PROT_WRITE, MAP_SHARED, memfd), 4 * PAGE, RJ_REGION_MARKED);
	add("file", map(4, PROT_READ | PROT_WRITE, MAP_SHARED, file), 4 * PAGE, RJ_REGION_MARKED);
	add("read-only", map(4, PROT_READ, MAP_PRIVATE, file), 4 * PAGE, RJ_REGION_MARKED);
	cr_assert_eq(rji_preflight(s, &err), 0, "%s", err.text);
}

Test(preflight, region_of_several_mappings)
{
	uint8_t *p = map_anon(6);
	int memfd = memfd_create("x", 0);

	cr_assert_eq(ftruncate(memfd, 2 * PAGE), 0);
	mmap(p + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0);
	add("mixed", p, 6 * PAGE, RJ_REGION_MARKED);
	cr_assert_eq(rji_preflight(s, &err), 0, "%s", err.text);
}

Test(preflight, hole_is_named_with_its_address)
{
	uint8_t *p = map_anon(6);
	char at[40];

	add("holed", p, 6 * PAGE, RJ_REGION_MARKED);
	munmap(p + 3 * PAGE, PAGE);
	snprintf(at, sizeof(at), "'holed' is not mapped at 0x%lx", (unsigned long)p + 3 * PAGE);
	expect_refused(RJ_E_REGION, at);
}

Test(preflight, missing_end_is_found)
{
	uint8_t *p = map_anon(6);

	add("short", p, 6 * PAGE, RJ_REGION_MARKED);
	munmap(p + 5 * PAGE, PAGE);
	expect_refused(RJ_E_REGION, "'short' is not mapped");
}

Test(preflight, missing_start_is_found)
{
	uint8_t *p = map_anon(6);

	add("headless", p, 6 * PAGE, RJ_REGION_MARKED);
	munmap(p, PAGE);
	expect_refused(RJ_E_REGION, "'headless' is not mapped");
}

Test(preflight, memory_that_cannot_be_read_is_refused)
{
	uint8_t *p = map_anon(6);

	mprotect(p + 4 * PAGE, PAGE, PROT_NONE);
	add("secret", p, 6 * PAGE, RJ_REGION_MARKED);
	expect_refused(RJ_E_REGION, "'secret' is not readable");
}

/* The vDSO is the one mapping of no plain memory that every process has. */
Test(preflight, mapping_that_is_no_plain_memory_is_named)
{
	void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);

	if (!vdso)
		cr_skip_test("no vDSO");
	add("rom", vdso, PAGE, RJ_REGION_MARKED);
	expect_refused(RJ_E_UNTRACKED, "region 'rom' maps '[vdso]'");
}

static int attached;

static int attach(void *t, uint32_t region, const struct rj_region *r, char *why, size_t why_bytes)
{
	attached++;
	if (t && !strcmp(r->name, t))
		return 1;
	if (!strcmp(r->name, "refused"))
		return snprintf(why, why_bytes, "it is made of cheese"), -ENOTSUP;
	return strcmp(r->name, "silent") ? 0 : -ENOTSUP;
}

static int start(void *t)
{
	return 0;
}

static int collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	return 0;
}

static const struct rj_tracker_ops ops = { .size = sizeof(ops),
					   .name = "tape",
					   .attach = attach,
					   .start = start,
					   .collect = collect };

static struct rj_tracker *add_tracker(const char *covers)
{
	struct rj_tracker *t;

	cr_assert_eq(rj_tracker_create(&ops, (void *)(uintptr_t)covers, &t), 0);
	cr_assert_eq(rj_add_tracker(s, t), 0);
	return t;
}

Test(preflight, region_nobody_tracks_is_named_with_the_ways_out)
{
	struct rj_tracker *t = add_tracker("a");

	add("a", map_anon(1), PAGE, 0);
	add("b", map_anon(1), PAGE, 0);
	expect_refused(RJ_E_UNTRACKED, "nobody tracks the writes to region 'b'");
	cr_assert_not_null(strstr(err.text, "RJ_REGION_MARKED"));
	rj_tracker_destroy(&t);
}

Test(preflight, every_tracker_that_covers_a_region_is_kept)
{
	struct rj_tracker *a = add_tracker("a"), *b = add_tracker("b"), *a2 = add_tracker("a");

	add("a", map_anon(1), PAGE, 0);
	add("b", map_anon(1), PAGE, 0);
	cr_assert_eq(rji_preflight(s, &err), 0, "%s", err.text);
	cr_assert_eq(attached, 6, "each is asked about each");
	cr_assert_eq(s->set.region[0].n_trackers, 2);
	cr_assert_eq(s->set.region[1].n_trackers, 1);
	cr_assert_eq(s->set.region[1].trackers[0].ops, &b->ops);
	rj_tracker_destroy(&a);
	rj_tracker_destroy(&b);
	rj_tracker_destroy(&a2);
}

Test(preflight, tracker_that_should_but_cannot_says_why)
{
	struct rj_tracker *t = add_tracker("a");

	add("refused", map_anon(1), PAGE, RJ_REGION_MARKED);
	expect_refused(RJ_E_UNTRACKED,
		       "the tracker 'tape' cannot track region 'refused': it is made of cheese");
	rj_tracker_destroy(&t);
}

Test(preflight, tracker_that_gives_no_reason_is_refused_by_its_code)
{
	struct rj_tracker *t = add_tracker("a");

	add("silent", map_anon(1), PAGE, RJ_REGION_MARKED);
	expect_refused(RJ_E_UNTRACKED, rj_strerror(-ENOTSUP));
	rj_tracker_destroy(&t);
}

/* A refused start may be tried again when what was missing is there. */
Test(preflight, second_try_attaches_trackers_once)
{
	struct rj_tracker *t[16];

	for (int i = 0; i < 16; i++)
		t[i] = add_tracker("a");
	add("a", map_anon(1), PAGE, 0);
	add("b", map_anon(1), PAGE, 0);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(rj_start(s), RJ_E_UNTRACKED);
		cr_assert_eq(s->set.region[0].n_trackers, 16);
	}
	for (int i = 0; i < 16; i++)
		rj_tracker_destroy(&t[i]);
}

Test(preflight, blocker_is_the_reason)
{
	char reason[] = "the GPU cannot be migrated";

	add("a", map_anon(1), PAGE, RJ_REGION_MARKED);
	cr_assert_eq(rj_add_blocker(s, NULL), -EINVAL);
	cr_assert_eq(rj_add_blocker(s, "first"), 0);
	cr_assert_eq(rj_add_blocker(s, reason), 0);
	memset(reason, 'x', 3);
	cr_assert_eq(rj_start(s), RJ_E_UNTRACKED);
	err.size = sizeof(err);
	cr_assert_eq(rj_error_detail(s, &err), 0);
	cr_assert_str_eq(err.text, "the GPU cannot be migrated");
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include <criterion/criterion.h>

#include "pagesender/dirty/tracker_impl.h"

static int destroyed;

static int attach(void *t, uint32_t region, const struct rj_region *r, char *why, size_t why_bytes)
{
	return 1;
}

static int start(void *t)
{
	return 0;
}

static int collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	return 0;
}

static void destroy(void *t)
{
	destroyed++;
}

static const struct rj_tracker_ops good = {
	.size = sizeof(good),
	.attach = attach,
	.start = start,
	.collect = collect,
	.destroy = destroy,
};

Test(tracker, copies_its_ops)
{
	struct rj_tracker_ops ops = good;
	struct rj_tracker *t = NULL;

	cr_assert_eq(rj_tracker_create(&ops, &ops, &t), 0);
	ops.collect = NULL;
	cr_assert_eq(t->ops.collect, collect);
	cr_assert_eq(t->t, &ops);
	cr_assert_not_null(t->ops.name);
	rj_tracker_destroy(&t);
	rj_tracker_destroy(&t);
	cr_assert_null(t);
	cr_assert_eq(destroyed, 1);
}

Test(tracker, refuses_incomplete_ops)
{
	struct rj_tracker_ops bad[4] = { good, good, good, good };
	struct rj_tracker *t = NULL;

	bad[0].attach = NULL;
	bad[1].start = NULL;
	bad[2].collect = NULL;
	bad[3].size = 8;
	for (int i = 0; i < 4; i++)
		cr_assert_eq(rj_tracker_create(&bad[i], NULL, &t), -EINVAL);
	cr_assert_null(t);
	rj_tracker_destroy(NULL);
}

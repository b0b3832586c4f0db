/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "base/bitmap.h"
#include "numa/residency.h"
#include "pagesender/pageset.h"

static struct rji_pageset set;

static struct rji_pageset_region *add(const char *name, uint64_t len_bytes, uint32_t page_bytes)
{
	struct rj_region r;

	rj_region_init(&r);
	r.name = name;
	r.host = (void *)0x40000000; /* never touched here */
	r.len_bytes = len_bytes;
	r.page_bytes = page_bytes;
	cr_assert_eq(rji_pageset_add(&set, &r), 0);
	return &set.region[set.n_regions - 1];
}

static void fini(void)
{
	rji_pageset_fini(&set);
}

TestSuite(pageset, .fini = fini);

static const struct {
	uint64_t len_bytes;
	uint32_t page_bytes;
	uint64_t n_pages, n_words, span_pages, window_pages;
} sizes[] = {
	{ 4096, 4096, 1, 1, 512, 16384 },
	{ 65 * 4096, 4096, 65, 2, 512, 16384 },
	{ 1ull << 30, 4096, 1 << 18, 1 << 12, 512, 16384 },
	{ 1ull << 30, 65536, 1 << 14, 1 << 8, 64, 1024 },
	{ 1ull << 30, 2 << 20, 512, 8, 64, 64 },
	{ 8ull << 30, 1 << 30, 8, 1, 64, 64 },
};

Test(pageset, spans_and_windows_are_whole_words_for_every_page_size)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		const struct rji_pageset_region *r =
			add("r", sizes[i].len_bytes, sizes[i].page_bytes);

		cr_assert_eq(r->n_pages, sizes[i].n_pages);
		cr_assert_eq(r->n_words, sizes[i].n_words);
		cr_assert_eq(r->span_pages, sizes[i].span_pages);
		cr_assert_eq(r->window_pages, sizes[i].window_pages);
		cr_assert_eq(r->span_pages % 64, 0);
		cr_assert_eq(r->window_pages % r->span_pages, 0);
	}
}

Test(pageset, sums_are_those_of_the_regions)
{
	add("a", 1 << 20, 4096);
	add("b", 4 << 20, 2 << 20);
	cr_assert_eq(set.guest_bytes, 5 << 20);
	cr_assert_eq(rji_pageset_metadata_bytes(&set), 3 * (4 + 1) * 8 + 3 * 2);
	cr_assert_str_eq(set.region[1].name, "b");
}

Test(pageset, all_pending_has_no_page_past_the_end)
{
	const struct rji_pageset_region *r = add("a", 70 * 4096, 4096);

	cr_assert_eq(rji_bitmap_weight(r->pending, r->n_words), 0);
	rji_pageset_all_pending(&set);
	cr_assert_eq(rji_bitmap_weight(r->pending, r->n_words), 70);
	cr_assert_not(rji_bitmap_test(r->pending, 70));
}

Test(pageset, unfenced_joins_pending)
{
	struct rji_pageset_region *a = add("a", 128 * 4096, 4096), *b = add("b", 4096, 4096);

	a->pending[0] = 0x0f;
	a->unfenced[0] = 0x3c;
	a->unfenced[1] = 1;
	b->unfenced[0] = 1;
	rji_pageset_unfenced_to_pending(&set);
	cr_assert_eq(a->pending[0], 0x3f);
	cr_assert_eq(a->pending[1], 1);
	cr_assert_eq(b->pending[0], 1);
	cr_assert_eq(a->unfenced[0] | a->unfenced[1] | b->unfenced[0], 0);
}

Test(pageset, bytes_are_counted_by_node_and_the_last_span_is_short)
{
	uint64_t len = (5ull << 20) + 4096, node_bytes[RJI_MAX_NODES];
	uint8_t *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rji_topology *t = NULL;
	struct rji_pageset_region *r;
	uint64_t before;

	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_eq(madvise(mem, len, MADV_NOHUGEPAGE), 0);
	cr_assert_eq(rji_topology_create(NULL, &t, NULL), 0);
	r = add("a", len, 4096);
	r->host = (char *)mem;
	before = rji_pageset_metadata_bytes(&set);
	mem[0] = mem[4ull << 20] = 1; /* the first span and the last, of 1 MiB and a page */
	cr_assert_eq(rji_pageset_locate(&set, t, node_bytes), 0);
	cr_assert_eq(rji_pageset_metadata_bytes(&set), before + 3);
	cr_assert_eq(r->span_node[1], RJI_NODE_UNKNOWN);
	if (r->span_node[0] != RJI_NODE_UNKNOWN) { /* else the kernel may not be asked here */
		uint64_t sum = 0;

		for (uint32_t i = 0; i < RJI_MAX_NODES; i++)
			sum += node_bytes[i];
		cr_assert_eq(sum, (3ull << 20) + 4096);
	}
	cr_assert_eq(rji_pageset_locate(&set, t, node_bytes), 0, "again");
	munmap(mem, len);
	rji_topology_destroy(&t);
}

/* What rj_mark_dirty() says, and which pages of ten it marks: [first, end). */
static const struct {
	uint32_t region;
	uint64_t offset, len;
	int ret;
	uint64_t first, end;
} marks[] = {
	{ 0, 0, 0, 0, 0, 0 },
	{ 0, 0, 1, 0, 0, 1 },
	{ 0, 4095, 1, 0, 0, 1 },
	{ 0, 4095, 2, 0, 0, 2 },
	{ 0, 4096, 4096, 0, 1, 2 },
	{ 0, 1, 4096, 0, 0, 2 },
	{ 0, 0, 40960, 0, 0, 10 },
	{ 0, 40959, 1, 0, 9, 10 },
	{ 0, 40960, 0, 0, 0, 0 },
	{ 0, 40960, 1, -EINVAL, 0, 0 },
	{ 0, 0, 40961, -EINVAL, 0, 0 },
	{ 0, 40961, 0, -EINVAL, 0, 0 },
	{ 0, UINT64_MAX, 1, -EINVAL, 0, 0 },
	{ 0, 4096, UINT64_MAX, -EINVAL, 0, 0 },
	{ 0, UINT64_MAX, UINT64_MAX, -EINVAL, 0, 0 },
	{ 1, 0, 1, -EINVAL, 0, 0 },
	{ UINT32_MAX, 0, 1, -EINVAL, 0, 0 },
};

Test(pageset, partial_pages_count_whole_and_nothing_outside_is_marked)
{
	struct rji_pageset_region *r = add("a", 10 * 4096, 4096);

	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
		uint64_t expected = 0;

		for (uint64_t p = marks[i].first; p < marks[i].end; p++)
			expected |= 1ull << p;
		r->marked[0] = 0;
		cr_assert_eq(rji_pageset_mark(&set, marks[i].region, marks[i].offset, marks[i].len),
			     marks[i].ret, "%zu", i);
		cr_assert_eq(r->marked[0], expected, "%zu", i);
	}
}

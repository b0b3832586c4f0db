/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "numa/residency.h"

#define SPAN (2ull << 20)
#define BASE ((uint8_t *)0x7f0000000000)

static struct rji_topology *topo;

static void init(void)
{
	cr_assert_eq(rji_topology_create("numa:3(indexes=0,4,2) pu:1", &topo, NULL), 0);
}

static void fini(void)
{
	rji_topology_destroy(&topo);
}

TestSuite(residency, .init = init, .fini = fini);

/* A kernel that answers by span number. */
struct kernel {
	uint64_t n_asked, n_calls, most;
	int ret;
	uint64_t fail_from; /* spans answered before ret is returned */
};

static int answer(void *arg, unsigned long n, void **pages, int *status)
{
	static const int by_turn[] = { 0, 4, 2, -ENOENT, -EFAULT, 7, -EBUSY };
	struct kernel *k = arg;

	k->n_calls++;
	k->most = n > k->most ? n : k->most;
	if (k->ret && k->n_asked >= k->fail_from)
		return k->ret;
	for (unsigned long i = 0; i < n; i++) {
		uint64_t span = (uint64_t)((uint8_t *)pages[i] - BASE) / SPAN;

		cr_assert_eq((uint64_t)((uint8_t *)pages[i] - BASE) % SPAN, 0);
		cr_assert_eq(span, k->n_asked++, "each span once, in order");
		status[i] = by_turn[span % 7];
	}
	return 0;
}

static void expect_span(uint64_t span, uint8_t node)
{
	int place = span % 7 == 0   ? rji_topology_node(topo, 0)
		    : span % 7 == 1 ? rji_topology_node(topo, 4)
		    : span % 7 == 2 ? rji_topology_node(topo, 2)
				    : (int)RJI_NODE_UNKNOWN;

	cr_assert_eq(node, place, "span %lu: %u", span, node);
}

Test(residency, spans_are_asked_in_slices_and_named_by_place)
{
	static const uint64_t sizes[] = { 1, 7, 1023, 1024, 1025, 5000 };
	uint8_t nodes[5001];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct kernel k = { 0 };
		uint64_t n = sizes[i], known = 0;
		int64_t ret;

		memset(nodes, 0x55, sizeof(nodes));
		/* The last span may be cut off. */
		ret = rji_residency_ask_by(answer, &k, topo, BASE, n * SPAN - 4096, SPAN, nodes);
		for (uint64_t s = 0; s < n; s++) {
			expect_span(s, nodes[s]);
			known += nodes[s] != RJI_NODE_UNKNOWN;
		}
		cr_assert_eq(ret, (int64_t)known);
		cr_assert_eq(nodes[n], 0x55);
		cr_assert_eq(k.n_asked, n);
		cr_assert_leq(k.most, 1024);
	}
}

Test(residency, a_kernel_that_does_not_tell_is_asked_once)
{
	static const int errors[] = { -ENOSYS, -EPERM };
	uint8_t nodes[3000];

	for (int i = 0; i < 2; i++) {
		struct kernel k = { .ret = errors[i] };

		memset(nodes, 0, sizeof(nodes));
		cr_assert_eq(rji_residency_ask_by(answer, &k, topo, BASE, 3000 * SPAN, SPAN, nodes),
			     errors[i]);
		cr_assert_eq(k.n_calls, 1);
		for (int s = 0; s < 3000; s++)
			cr_assert_eq(nodes[s], RJI_NODE_UNKNOWN);
	}
}

Test(residency, a_slice_of_untouched_memory_is_unknown_and_no_error)
{
	struct kernel k = { .ret = -ENOENT, .fail_from = 1024 };
	uint8_t nodes[2048];

	cr_assert_eq(rji_residency_ask_by(answer, &k, topo, BASE, 2048 * SPAN, SPAN, nodes), 440);
	for (int s = 1024; s < 2048; s++)
		cr_assert_eq(nodes[s], RJI_NODE_UNKNOWN);
}

/* This machine's kernel: only what was touched is known, and asking touches nothing. */
Test(residency, asking_faults_nothing_in)
{
	struct rji_topology *here = NULL;
	unsigned char in_memory[16 * 512];
	uint8_t nodes[16];
	uint8_t *mem = mmap(NULL, 16 * SPAN, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int64_t known;

	cr_assert_neq(mem, MAP_FAILED);
	madvise(mem, 16 * SPAN, MADV_NOHUGEPAGE);
	cr_assert_eq(rji_topology_create(NULL, &here, NULL), 0);
	mem[3 * SPAN] = 1;
	mem[7 * SPAN] = 1;
	known = rji_residency_ask(here, mem, 16 * SPAN, SPAN, nodes);
	if (known == -ENOSYS || known == -EPERM) {
		cr_assert_eq(nodes[3], RJI_NODE_UNKNOWN); /* a sandbox: nothing more to see */
		goto out;
	}
	cr_assert_eq(known, 2);
	for (int s = 0; s < 16; s++)
		cr_assert_eq(nodes[s] < here->n_nodes, s == 3 || s == 7, "span %d: %u", s,
			     nodes[s]);
	cr_assert_eq(mincore(mem, 16 * SPAN, in_memory), 0);
	for (size_t p = 0; p < sizeof(in_memory); p++)
		cr_assert_eq(in_memory[p] & 1, p == 3 * 512 || p == 7 * 512, "page %zu", p);
out:
	munmap(mem, 16 * SPAN);
	rji_topology_destroy(&here);
}

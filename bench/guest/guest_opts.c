/* SPDX-License-Identifier: BSD-2-Clause */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/units.h"
#include "bench/guest/guest_impl.h"

#define SIZE_MIN_BYTES (16ull << 20)
#define SPARSE_MAX_BYTES (512ull << 30) /* of a kvm guest that fills nothing */
#define RATE_MAX (1ull << 40)

static int refuse(char *why, size_t why_bytes, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(char *why, size_t why_bytes, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_bytes, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int check_workload(const struct guest_workload *w, char *why, size_t why_bytes)
{
	if (w->kind >= N_WORKLOADS)
		return refuse(why, why_bytes, "unknown kind of workload");
	if (w->kind == WORKLOAD_IDLE ? w->rate_bytes_per_s != 0 : !w->rate_bytes_per_s)
		return refuse(why, why_bytes,
			      "a workload's rate must not be 0; for none, take idle");
	if (w->rate_bytes_per_s > RATE_MAX)
		return refuse(why, why_bytes, "a workload's rate may be 1T at most");
	if (w->kind == WORKLOAD_HOT ? w->hot_bytes < GUEST_PAGE_BYTES : w->hot_bytes != 0)
		return refuse(why, why_bytes, "a hot area has 4K at least");
	if (w->kind == WORKLOAD_SPARSE
		    ? w->change_bytes < 8 || w->change_bytes > GUEST_PAGE_BYTES ||
			      w->change_bytes & (w->change_bytes - 1)
		    : w->change_bytes != 0)
		return refuse(
			why, why_bytes,
			"a sparse workload changes 8 to 4096 bytes of a page, a power of two");
	return 0;
}

int guest_parse_workload(const char *text, struct guest_workload *w, char *why, size_t why_bytes)
{
	static const struct {
		const char *name;
		enum workload_kind kind;
		bool bytes, rate;
	} kinds[] = {
		{ "idle", WORKLOAD_IDLE, false, false },
		{ "uniform", WORKLOAD_UNIFORM, false, true },
		{ "hot", WORKLOAD_HOT, true, true },
		{ "sweep", WORKLOAD_SWEEP, false, true },
		{ "same", WORKLOAD_SAME, false, true },
		{ "aba", WORKLOAD_ABA, false, true },
		{ "sparse", WORKLOAD_SPARSE, true, true },
	};
	uint64_t bytes = 0;
	struct guest_workload v = { 0 };
	size_t len = strcspn(text, ":"), i = 0;
	const char *p = text + len;
	int ret;

	while (i < N_WORKLOADS &&
	       (strlen(kinds[i].name) != len || strncmp(kinds[i].name, text, len) != 0))
		i++;
	if (i == N_WORKLOADS)
		goto bad;
	v.kind = kinds[i].kind;
	if (kinds[i].bytes && (*p++ != ':' || units_take(&p, &bytes) < 0))
		goto bad;
	if (v.kind == WORKLOAD_SPARSE)
		v.change_bytes = bytes <= UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
	else
		v.hot_bytes = bytes;
	if (kinds[i].rate && (*p++ != ':' || units_take(&p, &v.rate_bytes_per_s) < 0))
		goto bad;
	if (*p)
		goto bad;
	ret = check_workload(&v, why, why_bytes);
	if (!ret)
		*w = v;
	return ret;
bad:
	return refuse(why, why_bytes,
		      "workload \"%s\" is none of idle, uniform:RATE, hot:BYTES:RATE, sweep:RATE, "
		      "same:RATE, aba:RATE, sparse:BYTES:RATE (such as uniform:100M)",
		      text);
}

#define NODE_MAX 63u

int guest_parse_nodes(const char *text, struct guest_nodes *nodes, char *why, size_t why_bytes)
{
	struct guest_nodes v = { 0 };
	const char *p = text;

	for (;;) {
		char *end;
		unsigned long number = strtoul(p, &end, 10);

		if (*p < '0' || *p > '9' || number > NODE_MAX || v.n == sizeof(v.number))
			break;
		v.number[v.n++] = (uint8_t)number;
		if (!*end) {
			*nodes = v;
			return 0;
		}
		if (*end != ',')
			break;
		p = end + 1;
	}
	return refuse(why, why_bytes, "memory nodes \"%s\" are no list of at most %zu such as 0,1",
		      text, sizeof(v.number));
}

static const struct guest_ops *const kinds_ops[] = { &guest_kvm_ops, &guest_synthetic_ops,
						     &guest_marked_ops };

#define USED_MIN_BYTES (4ull << 20)
#define FREE_MIN_BYTES (64ull << 10)
#define REUSE_MAX (1ull << 30)

static int check_areas(const struct guest_opts *o, char *why, size_t why_bytes)
{
	uint64_t most = o->size_bytes - (o->used_bytes ? o->used_bytes : USED_MIN_BYTES);

	if (!o->used_bytes && !o->free_bytes && !o->zero_bytes && !o->hints &&
	    !o->reuse_bytes_per_s)
		return 0;
	if (o->kind == GUEST_MARKED || o->fill_none)
		return refuse(why, why_bytes,
			      "what a guest uses, has free or zero needs memory that is there");
	if (o->used_bytes && o->used_bytes < USED_MIN_BYTES)
		return refuse(why, why_bytes, "a guest uses 4M at least");
	if ((o->free_bytes | o->zero_bytes) % GUEST_PAGE_BYTES || o->free_bytes > most ||
	    o->zero_bytes > most - o->free_bytes)
		return refuse(
			why, why_bytes,
			"what is free and what is zero, in whole pages, leave no 4M of the guest");
	if (o->hints >= N_GUEST_HINTS)
		return refuse(why, why_bytes, "unknown kind of hints");
	if (!o->free_bytes && (o->hints || o->reuse_bytes_per_s))
		return refuse(why, why_bytes, "hints are about free memory: there is none");
	if (o->free_bytes && o->free_bytes < FREE_MIN_BYTES)
		return refuse(why, why_bytes, "free memory is 64K at least");
	if (o->reuse_bytes_per_s > REUSE_MAX)
		return refuse(why, why_bytes,
			      "free memory may be used again at 1G a second at most");
	return 0;
}

int guest_opts_check(const struct guest_opts *o, char *why, size_t why_bytes)
{
	const struct guest_ops *ops;
	uint64_t max;

	if (o->kind > GUEST_MARKED)
		return refuse(why, why_bytes, "unknown kind of guest");
	ops = kinds_ops[o->kind];
	if (o->prefault && o->kind == GUEST_MARKED)
		return refuse(why, why_bytes, "a marked guest has no memory to prefault");
	if (o->fill_none && (o->kind != GUEST_KVM || o->fill_all || o->fill_text || o->prefault))
		return refuse(why, why_bytes, "only a kvm guest can have memory that is not there");
	if (o->fill_none && o->workload.kind == WORKLOAD_UNIFORM)
		return refuse(
			why, why_bytes,
			"memory that is not there cannot be written all over: take a hot workload");
	if (o->memory == GUEST_MEMORY_HUGETLB && (o->size_bytes % (2u << 20) || o->fill_none))
		return refuse(why, why_bytes, "a guest in huge pages has a multiple of 2M");
	if (o->size_bytes % GUEST_PAGE_BYTES)
		return refuse(why, why_bytes, "a guest's size is a multiple of 4K");
	max = o->fill_none ? SPARSE_MAX_BYTES : ops->size_max_bytes;
	if (o->size_bytes < SIZE_MIN_BYTES || o->size_bytes > max)
		return refuse(why, why_bytes, "a %s guest has 16M to %" PRIu64 "G of memory",
			      ops->name, max >> 30);
	if (o->used_bytes > o->size_bytes || o->used_bytes & ((1u << 20) - 1))
		return refuse(why, why_bytes,
			      "what a guest uses is no more than its size, in whole MiB");
	if (check_areas(o, why, why_bytes) < 0)
		return -EINVAL;
	return check_workload(&o->workload, why, why_bytes);
}

/*
 * The set-up blob, little-endian:
 *
 *   magic u32 | version u16 | kind u8 | workload u8 | flags u32 | used u32, MiB
 *   size u64 | rate u64 | hot u64 | seed u64 | free u64 | zero u64 | reuse u64
 *   change u32 | hints u32
 */
#define BLOB_MAGIC 0x47424a52u /* "RJBG" */
#define BLOB_VERSION 2
#define BLOB_BYTES 80u
#define BLOB_BREAK_DEVICE 1u
#define BLOB_FILL_ALL 2u
#define BLOB_FILL_NONE 4u
#define BLOB_FILL_TEXT 8u
#define BLOB_FLAGS (BLOB_BREAK_DEVICE | BLOB_FILL_ALL | BLOB_FILL_NONE | BLOB_FILL_TEXT)

struct blob {
	uint32_t magic;
	uint16_t version;
	uint8_t kind, workload;
	uint32_t flags, used;
	uint64_t size, rate, hot, seed, free_bytes, zero, reuse;
	uint32_t change, hints;
};

_Static_assert(sizeof(struct blob) == BLOB_BYTES, "no padding");

int guest_describe(const struct guest *g, void *blob, size_t blob_bytes)
{
	struct blob b = {
		.magic = htole32(BLOB_MAGIC),
		.version = htole16(BLOB_VERSION),
		.kind = (uint8_t)g->o.kind,
		.workload = (uint8_t)g->o.workload.kind,
		.flags = htole32((g->o.break_device_tracking ? BLOB_BREAK_DEVICE : 0) |
				 (g->o.fill_all ? BLOB_FILL_ALL : 0) |
				 (g->o.fill_none ? BLOB_FILL_NONE : 0) |
				 (g->o.fill_text ? BLOB_FILL_TEXT : 0)),
		.used = htole32((uint32_t)(g->o.used_bytes >> 20)),
		.size = htole64(g->o.size_bytes),
		.rate = htole64(g->o.workload.rate_bytes_per_s),
		.hot = htole64(g->o.workload.hot_bytes),
		.seed = htole64(g->o.seed),
		.free_bytes = htole64(g->o.free_bytes),
		.zero = htole64(g->o.zero_bytes),
		.reuse = htole64(g->o.reuse_bytes_per_s),
		.change = htole32(g->o.workload.change_bytes),
		.hints = htole32((uint32_t)g->o.hints),
	};

	if (blob_bytes < sizeof(b))
		return -ENOSPC;
	memcpy(blob, &b, sizeof(b));
	return (int)sizeof(b);
}

int guest_understand(const void *blob, size_t len_bytes, struct guest_opts *o, char *why,
		     size_t why_bytes)
{
	struct guest_opts v = { 0 };
	struct blob b;
	int ret;

	if (len_bytes < 6)
		return refuse(why, why_bytes, "the description of the guest is cut off");
	memcpy(&b, blob, len_bytes < sizeof(b) ? len_bytes : sizeof(b));
	if (le32toh(b.magic) != BLOB_MAGIC)
		return refuse(why, why_bytes, "the other end did not describe a bench guest");
	if (le16toh(b.version) != BLOB_VERSION)
		return refuse(
			why, why_bytes,
			"the other end describes guests by version %u, this one by %d: use the "
			"same build on both ends",
			le16toh(b.version), BLOB_VERSION);
	if (len_bytes != sizeof(b) || le32toh(b.flags) & ~BLOB_FLAGS)
		return refuse(why, why_bytes, "the description of the guest is damaged");
	v.kind = (enum guest_kind)b.kind;
	v.size_bytes = le64toh(b.size);
	v.workload.kind = (enum workload_kind)b.workload;
	v.workload.rate_bytes_per_s = le64toh(b.rate);
	v.workload.hot_bytes = le64toh(b.hot);
	v.seed = le64toh(b.seed);
	v.break_device_tracking = le32toh(b.flags) & BLOB_BREAK_DEVICE;
	v.used_bytes = (uint64_t)le32toh(b.used) << 20;
	v.fill_all = le32toh(b.flags) & BLOB_FILL_ALL;
	v.fill_none = le32toh(b.flags) & BLOB_FILL_NONE;
	v.fill_text = le32toh(b.flags) & BLOB_FILL_TEXT;
	v.free_bytes = le64toh(b.free_bytes);
	v.zero_bytes = le64toh(b.zero);
	v.reuse_bytes_per_s = le64toh(b.reuse);
	v.workload.change_bytes = le32toh(b.change);
	v.hints = (enum guest_hinting)le32toh(b.hints);
	ret = guest_opts_check(&v, why, why_bytes);
	if (!ret)
		*o = v;
	return ret;
}

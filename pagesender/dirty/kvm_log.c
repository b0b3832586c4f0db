/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/kvm_log.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"

/*
 * KVM's dirty log (Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG),
 * read in two steps:
 *
 *   collect   KVM_GET_DIRTY_LOG copies the bitmap of a whole slot and, with manual protection,
 *             clears nothing.
 *   rearm     KVM_CLEAR_DIRTY_LOG clears the bits it is given and write-protects those pages (or
 *             clears their D bits) again.
 *
 * A slot maps a part of a region, so that bits shift on their way:
 *
 *   region   |0 ......... first_page ............. first_page + n_pages ...|
 *   slot                  |0 ...................... n_pages|
 *
 * Several slots may show the same pages to the guest (aliases): all of them are asked and all are
 * re-armed.
 *
 * Threads. collect and rearm of one region never run together, so each slot has one bitmap for
 * collect to copy into; several rearms may run at once, so they carry theirs on the stack. KVM
 * serialises CLEAR calls by itself (slots_lock).
 *
 * With KVM_DIRTY_LOG_INITIALLY_SET the log starts as all ones and nothing is write-protected: start
 * costs next to nothing and the pages get protected window by window as they are first re-armed.
 */

#define PAGE_BYTES 4096ull
#define NO_REGION UINT32_MAX
/* Pages a CLEAR call covers at most, which bounds the stack; a call costs the guest a TLB flush. */
#define CLEAR_PAGES (64u * 1024)

struct log_slot {
	struct rj_kvm_slot s;
	uint32_t region;     /* NO_REGION until attach found one */
	uint64_t first_page; /* of the region */
	uint64_t n_pages;
	uint64_t *bits; /* what KVM_GET_DIRTY_LOG copied */
	bool logging;
};

struct kvm_log {
	rji_kvm_ioctl kvm;
	int vm_fd;
	uint64_t protect; /* KVM_DIRTY_LOG_ flags for KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	uint32_t n_slots;
	struct log_slot slots[];
};

static int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

/* n (1 to 64) bits from any position; reads no word that none of them is in. */
static uint64_t load_bits(const uint64_t *map, uint64_t bit, unsigned int n)
{
	unsigned int shift = bit % RJI_WORD_BITS;
	uint64_t v = map[bit / RJI_WORD_BITS] >> shift;

	if (shift && shift + n > RJI_WORD_BITS)
		v |= map[bit / RJI_WORD_BITS + 1] << (RJI_WORD_BITS - shift);
	return v & rji_word_mask(0, n);
}

/* dst[dst_bit...] |= src[src_bit...], n bits. Whether any was set. */
static bool or_bits(uint64_t *dst, uint64_t dst_bit, const uint64_t *src, uint64_t src_bit,
		    uint64_t n)
{
	uint64_t any = 0;

	while (n) {
		unsigned int shift = dst_bit % RJI_WORD_BITS;
		unsigned int step = RJI_WORD_BITS - shift;
		uint64_t v;

		if (step > n)
			step = (unsigned int)n;
		v = load_bits(src, src_bit, step);
		any |= v;
		if (v)
			dst[dst_bit / RJI_WORD_BITS] |= v << shift;
		dst_bit += step;
		src_bit += step;
		n -= step;
	}
	return any;
}

/* The pages of a slot that lie in [first_page, first_page + n_pages) of a region. False: none. */
static bool intersect(const struct log_slot *ls, uint32_t region, uint64_t first_page,
		      uint64_t n_pages, uint64_t *from_p, uint64_t *to_p)
{
	uint64_t from = first_page > ls->first_page ? first_page : ls->first_page;
	uint64_t end = first_page + n_pages, slot_end = ls->first_page + ls->n_pages;
	uint64_t to = end < slot_end ? end : slot_end;

	if (ls->region != region || from >= to)
		return false;
	*from_p = from - ls->first_page;
	*to_p = to - ls->first_page;
	return true;
}

static int attach_slot(struct log_slot *ls, uint32_t region, const struct rj_region *r, char *why,
		       size_t why_bytes)
{
	uintptr_t start = (uintptr_t)ls->s.host, end = start + ls->s.len_bytes;
	uintptr_t r_start = (uintptr_t)r->host, r_end = r_start + r->len_bytes;

	if (ls->region == region) /* of a session before this one */
		ls->region = NO_REGION;
	if (end <= r_start || start >= r_end)
		return 0;
	if (start < r_start || end > r_end) {
		snprintf(
			why, why_bytes,
			"KVM slot %u reaches past the end of region %s: add its memory as one region",
			ls->s.slot, r->name);
		return -EINVAL;
	}
	if (r->page_bytes != PAGE_BYTES) {
		snprintf(why, why_bytes, "KVM logs pages of 4096 bytes, region %s has %u: set 4096",
			 r->name, r->page_bytes);
		return -EINVAL;
	}
	if (!ls->bits)
		ls->bits = rji_bitmap_alloc(ls->n_pages);
	if (!ls->bits) {
		snprintf(why, why_bytes, "no memory for the dirty bitmap of KVM slot %u",
			 ls->s.slot);
		return -ENOMEM;
	}
	ls->region = region;
	ls->first_page = (start - r_start) / PAGE_BYTES;
	return 1;
}

static int log_attach(void *t, uint32_t region, const struct rj_region *r, char *why,
		      size_t why_bytes)
{
	struct kvm_log *log = t;
	int covered = 0;

	for (uint32_t i = 0; i < log->n_slots; i++) {
		int ret = attach_slot(&log->slots[i], region, r, why, why_bytes);

		if (ret < 0)
			return ret;
		covered |= ret;
	}
	return covered;
}

static int set_logging(struct kvm_log *log, struct log_slot *ls, bool on)
{
	struct kvm_userspace_memory_region m = {
		.slot = ls->s.slot,
		.flags = ls->s.flags | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = ls->s.gpa,
		.memory_size = ls->s.len_bytes,
		.userspace_addr = (uintptr_t)ls->s.host,
	};
	int ret = log->kvm(log->vm_fd, KVM_SET_USER_MEMORY_REGION, &m);

	if (ret < 0)
		return ret;
	ls->logging = on;
	return 0;
}

static int log_stop(void *t)
{
	struct kvm_log *log = t;
	int ret = 0;

	for (uint32_t i = 0; i < log->n_slots; i++) {
		int one = log->slots[i].logging ? set_logging(log, &log->slots[i], false) : 0;

		ret = ret ? ret : one;
	}
	return ret;
}

/* The capability stays enabled after stop: KVM does not tell whether it had been before. */
static int log_start(void *t)
{
	struct kvm_log *log = t;
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { log->protect },
	};
	int ret = log->kvm(log->vm_fd, KVM_ENABLE_CAP, &cap);

	for (uint32_t i = 0; i < log->n_slots && ret >= 0; i++)
		if (log->slots[i].region != NO_REGION)
			ret = set_logging(log, &log->slots[i], true);
	if (ret < 0)
		log_stop(log);
	return ret < 0 ? ret : 0;
}

static int log_collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		       uint64_t *bits)
{
	struct kvm_log *log = t;
	uint64_t from, to;

	for (uint32_t i = 0; i < log->n_slots; i++) {
		struct log_slot *ls = &log->slots[i];
		struct kvm_dirty_log get = { .slot = ls->s.slot, .dirty_bitmap = ls->bits };
		int ret;

		if (!intersect(ls, region, first_page, n_pages, &from, &to))
			continue;
		ret = log->kvm(log->vm_fd, KVM_GET_DIRTY_LOG, &get);
		if (ret < 0)
			return ret;
		or_bits(bits, ls->first_page + from - first_page, ls->bits, from, to - from);
	}
	return 0;
}

/*
 * Pages [from, to) of a slot, as far as their bits are set. KVM wants the first page and the number
 * to be multiples of 64, but for the slot's last pages; what is added for that has its bits 0.
 */
static int clear_range(struct kvm_log *log, struct log_slot *ls, uint64_t from, uint64_t to,
		       const uint64_t *bits, uint64_t bit)
{
	uint64_t map[CLEAR_PAGES / RJI_WORD_BITS];
	uint64_t first = from & ~(uint64_t)(RJI_WORD_BITS - 1);
	uint64_t end = rji_bitmap_words(to) * RJI_WORD_BITS;
	struct kvm_clear_dirty_log clear = { .slot = ls->s.slot, .first_page = first };

	if (end > ls->n_pages)
		end = ls->n_pages;
	memset(map, 0, rji_bitmap_words(end - first) * sizeof(*map));
	if (!or_bits(map, from - first, bits, bit, to - from))
		return 0;
	clear.num_pages = (uint32_t)(end - first);
	clear.dirty_bitmap = map;
	return log->kvm(log->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear);
}

static int log_rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		     uint64_t *bits)
{
	struct kvm_log *log = t;
	uint64_t from, to;

	for (uint32_t i = 0; i < log->n_slots; i++) {
		struct log_slot *ls = &log->slots[i];

		if (!intersect(ls, region, first_page, n_pages, &from, &to))
			continue;
		while (from < to) {
			uint64_t end = (from / CLEAR_PAGES + 1) * CLEAR_PAGES;
			uint64_t bit = ls->first_page + from - first_page;
			int ret;

			if (end > to)
				end = to;
			ret = clear_range(log, ls, from, end, bits, bit);
			if (ret < 0)
				return ret;
			from = end;
		}
	}
	return 0;
}

static void log_destroy(void *t)
{
	struct kvm_log *log = t;

	log_stop(log);
	for (uint32_t i = 0; i < log->n_slots; i++)
		rji_bitmap_free(log->slots[i].bits, log->slots[i].n_pages);
	free(log);
}

static const struct rj_tracker_ops log_ops = {
	.size = sizeof(log_ops),
	.name = "kvm dirty log",
	.attach = log_attach,
	.start = log_start,
	.stop = log_stop,
	.collect = log_collect,
	.rearm = log_rearm,
	.destroy = log_destroy,
};

static bool slot_valid(const struct rj_kvm_slot *s)
{
	uint64_t all = s->gpa | s->len_bytes | (uintptr_t)s->host;

	return s->host && s->len_bytes && all % PAGE_BYTES == 0 && s->gpa + s->len_bytes > s->gpa &&
	       (uintptr_t)s->host + s->len_bytes > (uintptr_t)s->host;
}

/*
 * What this KVM offers, as KVM_DIRTY_LOG_ flags. With the dirty ring enabled, KVM_GET_DIRTY_LOG
 * says ENXIO before it looks at the slot; without it, ENOENT as long as the slot's log is off.
 */
static int probe(rji_kvm_ioctl kvm, int vm_fd, uint32_t slot, uint64_t *protect_p)
{
	struct kvm_dirty_log get = { .slot = slot };
	int flags = kvm(vm_fd, KVM_CHECK_EXTENSION,
			(void *)(uintptr_t)KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	if (flags < 0)
		return flags;
	if (!(flags & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
		return -ENOTSUP;
	if (kvm(vm_fd, KVM_GET_DIRTY_LOG, &get) == -ENXIO)
		return -EBUSY;
	*protect_p = (uint64_t)flags &
		     (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	return 0;
}

int rji_kvm_log_create(rji_kvm_ioctl kvm, int vm_fd, const struct rj_kvm_slot *slots,
		       uint32_t n_slots, struct rj_tracker **tracker_p)
{
	struct kvm_log *log;
	uint64_t protect;
	int ret;

	if (!slots || !n_slots || !tracker_p)
		return -EINVAL;
	for (uint32_t i = 0; i < n_slots; i++)
		if (!slot_valid(&slots[i]))
			return -EINVAL;
	ret = probe(kvm, vm_fd, slots[0].slot, &protect);
	if (ret < 0)
		return ret;
	log = calloc(1, sizeof(*log) + n_slots * sizeof(log->slots[0]));
	if (!log)
		return -ENOMEM;
	log->kvm = kvm;
	log->vm_fd = vm_fd;
	log->protect = protect;
	log->n_slots = n_slots;
	for (uint32_t i = 0; i < n_slots; i++) {
		log->slots[i].s = slots[i];
		log->slots[i].region = NO_REGION;
		log->slots[i].n_pages = slots[i].len_bytes / PAGE_BYTES;
	}
	ret = rj_tracker_create(&log_ops, log, tracker_p);
	if (ret < 0)
		free(log);
	return ret;
}

int rj_kvm_log_create(int vm_fd, const struct rj_kvm_slot *slots, uint32_t n_slots,
		      struct rj_tracker **tracker_p)
{
	return rji_kvm_log_create(kvm_ioctl, vm_fd, slots, n_slots, tracker_p);
}

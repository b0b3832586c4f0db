/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/kvm_log.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

/*
 * Pages a CLEAR call covers at most: vCPUs that fault wait for KVM's mmu_lock meanwhile, and the call costs the guest a
 * TLB flush.
 */
#define CLEAR_PAGES 1024u

struct log_slot {
	struct rji_kvm_slot k;
	uint64_t *bits; /* what KVM_GET_DIRTY_LOG copied */
};

struct kvm_log {
	rji_kvm_ioctl kvm;
	int vm_fd;
	uint64_t protect; /* KVM_DIRTY_LOG_ flags for KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	uint32_t n_slots;
	struct log_slot slots[];
};

static int attach_slot(struct log_slot *ls, uint32_t region, const struct rj_region *r, char *why,
		       size_t why_bytes)
{
	int ret = rji_kvm_slot_attach(&ls->k, region, r, why, why_bytes);

	if (ret <= 0 || ls->bits)
		return ret;
	ls->bits = rji_bitmap_alloc(ls->k.n_pages);
	if (ls->bits) { /* there when the first collect comes; only a wish where the kernel is old */
		madvise(ls->bits, rji_bitmap_words(ls->k.n_pages) * sizeof(*ls->bits),
			MADV_POPULATE_WRITE);
		return ret;
	}
	ls->k.region = RJI_KVM_NO_REGION;
	snprintf(why, why_bytes, "no memory for the dirty bitmap of KVM slot %u", ls->k.s.slot);
	return -ENOMEM;
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

static int log_stop(void *t)
{
	struct kvm_log *log = t;
	int ret = 0;

	for (uint32_t i = 0; i < log->n_slots; i++) {
		int one = rji_kvm_slot_log(log->kvm, log->vm_fd, &log->slots[i].k, false);

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
		ret = rji_kvm_slot_log(log->kvm, log->vm_fd, &log->slots[i].k, true);
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
		struct kvm_dirty_log get = { .slot = ls->k.s.slot, .dirty_bitmap = ls->bits };
		int ret;

		if (!rji_kvm_slot_range(&ls->k, region, first_page, n_pages, &from, &to))
			continue;
		ret = log->kvm(log->vm_fd, KVM_GET_DIRTY_LOG, &get);
		if (ret < 0)
			return ret;
		rji_bitmap_or_range(bits, ls->k.first_page + from - first_page, ls->bits, from,
				    to - from);
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
	struct kvm_clear_dirty_log clear = { .slot = ls->k.s.slot, .first_page = first };

	if (end > ls->k.n_pages)
		end = ls->k.n_pages;
	memset(map, 0, rji_bitmap_words(end - first) * sizeof(*map));
	if (!rji_bitmap_or_range(map, from - first, bits, bit, to - from))
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

		if (!rji_kvm_slot_range(&ls->k, region, first_page, n_pages, &from, &to))
			continue;
		while (from < to) {
			uint64_t end = (from / CLEAR_PAGES + 1) * CLEAR_PAGES;
			uint64_t bit = ls->k.first_page + from - first_page;
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
		rji_bitmap_free(log->slots[i].bits, log->slots[i].k.n_pages);
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
		if (!rji_kvm_slot_valid(&slots[i]))
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
	for (uint32_t i = 0; i < n_slots; i++)
		rji_kvm_slot_init(&log->slots[i].k, &slots[i]);
	ret = rj_tracker_create(&log_ops, log, tracker_p);
	if (ret < 0)
		free(log);
	return ret;
}

int rj_kvm_log_create(int vm_fd, const struct rj_kvm_slot *slots, uint32_t n_slots,
		      struct rj_tracker **tracker_p)
{
	return rji_kvm_log_create(rji_kvm_ioctl_really, vm_fd, slots, n_slots, tracker_p);
}

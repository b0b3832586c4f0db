/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_KVM_SLOT_H
#define RJI_PAGESENDER_DIRTY_KVM_SLOT_H

#include <stdbool.h>

#include <ramjet/tracker.h>

/* What KVM's log and KVM's ring have in common: slots, and where their pages lie in a region. */

/* ioctl() on a KVM descriptor: >= 0, or -errno. The seam at which tests put a KVM of their own. */
typedef int (*rji_kvm_ioctl)(int fd, unsigned long request, void *arg);

int rji_kvm_ioctl_really(int fd, unsigned long request, void *arg);

#define RJI_KVM_PAGE_BYTES 4096ull
#define RJI_KVM_NO_REGION UINT32_MAX

struct rji_kvm_slot {
	struct rj_kvm_slot s;
	uint32_t region;     /* RJI_KVM_NO_REGION until attach found one */
	uint64_t first_page; /* of the region */
	uint64_t n_pages;
	bool logging;
};

bool rji_kvm_slot_valid(const struct rj_kvm_slot *s);
void rji_kvm_slot_init(struct rji_kvm_slot *ks, const struct rj_kvm_slot *s);

/* 1: it lies in the region; 0: it does not; -EINVAL with why: it should, but cannot be tracked. */
int rji_kvm_slot_attach(struct rji_kvm_slot *ks, uint32_t region, const struct rj_region *r,
			char *why, size_t why_bytes);

/* Turn KVM_MEM_LOG_DIRTY_PAGES on or off, unless it is or the slot is in no region. */
int rji_kvm_slot_log(rji_kvm_ioctl kvm, int vm_fd, struct rji_kvm_slot *ks, bool on);

/* The pages of a slot that lie in [first_page, first_page + n_pages) of a region. False: none. */
bool rji_kvm_slot_range(const struct rji_kvm_slot *ks, uint32_t region, uint64_t first_page,
			uint64_t n_pages, uint64_t *from_p, uint64_t *to_p);

#endif

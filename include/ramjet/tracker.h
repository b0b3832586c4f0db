/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_TRACKER_H
#define RAMJET_TRACKER_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/error.h>
#include <ramjet/region.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A dirty tracker knows which pages were written. A region has any number of them and a page is
 * clean only if all say so; rj_mark_dirty() is one more, always there. Trackers work in two steps,
 * so that a page written several times before it is sent is sent once, and no write is lost:
 *
 *   collect   tells what is dirty and forgets nothing;
 *   rearm     forgets exactly the bits given and tracks those pages anew. The library reads the
 *             pages afterwards.
 *
 * A bitmap holds one bit per page of the region's page_bytes, page first_page in bit 0 of word 0
 * (little-endian words of 64 bits); first_page is a multiple of 64.
 */
struct rj_tracker;

struct rj_tracker_ops {
	size_t size;
	const char *name; /* for messages: "kvm dirty log" */

	/*
	 * Will this tracker see the writes it is responsible for in this region? Called before
	 * start, once for each region. 1: yes, these writers are covered. 0: the region is none of
	 * its business. Negative: it should, but cannot; a one line reason goes to why. A region
	 * for which no tracker says 1 needs RJ_REGION_MARKED, else the start is refused.
	 */
	int (*attach)(void *t, uint32_t region, const struct rj_region *r, char *why,
		      size_t why_bytes);

	/*
	 * Start and stop tracking. From start on every write is reported; pages may start out as
	 * dirty.
	 */
	int (*start)(void *t);
	int (*stop)(void *t);

	/*
	 * OR the dirty pages of [first_page, first_page + n_pages) into bits. Clears nothing in the
	 * tracker. One call at a time for a region, never at the same time as rearm.
	 */
	int (*collect)(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		       uint64_t *bits);

	/*
	 * Track the pages set in bits anew. May set further bits for pages that it found dirty and
	 * re-armed in the same step: these are sent too. Called by several lanes at once for ranges
	 * that do not overlap; it may not take long (10 ms at the most), since vCPUs may wait for
	 * it. May be NULL where collect re-arms what it reports.
	 */
	int (*rearm)(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		     uint64_t *bits);

	/* Release t; NULL: nothing to release. */
	void (*destroy)(void *t);
};

/*
 * Make a tracker out of a VMM's own functions. ops is copied. -EINVAL: attach, start or collect
 * missing.
 */
RJ_API int rj_tracker_create(const struct rj_tracker_ops *ops, void *t,
			     struct rj_tracker **tracker_p);

/* A tracker may be destroyed once every session it was added to is closed. NULL is fine. */
RJ_API void rj_tracker_destroy(struct rj_tracker **tracker_p);

/* A KVM memory slot and the part of a region it maps. */
struct rj_kvm_slot {
	uint32_t slot;	/* as in KVM_SET_USER_MEMORY_REGION, address space in the upper 16
			 * bits */
	uint32_t flags; /* the slot's KVM_MEM_ flags while its log is off */
	uint64_t gpa;	/* guest-physical address */
	uint64_t len_bytes;
	void *host; /* userspace_addr; the region is found by it */
};

/*
 * KVM's dirty log, with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 and KVM_DIRTY_LOG_INITIALLY_SET where the
 * kernel has it: what vCPUs write. It does not see stores by the VMM itself, vhost, vhost-user or
 * VFIO (Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG): announce these by
 * rj_mark_dirty().
 *
 * start turns the log of each slot on by KVM_SET_USER_MEMORY_REGION with KVM_MEM_LOG_DIRTY_PAGES,
 * stop turns it off. While the tracker runs, the VMM must not change these slots. vm_fd stays the
 * caller's and must outlive the tracker. Regions need page_bytes 4096.
 *
 * Return 0; -EINVAL for no or unaligned slots; -ENOTSUP where KVM lacks KVM_CLEAR_DIRTY_LOG (Linux
 * 5.0); -EBUSY where the VMM has enabled the dirty ring, which shuts the log off; -ENOMEM.
 */
RJ_API int rj_kvm_log_create(int vm_fd, const struct rj_kvm_slot *slots, uint32_t n_slots,
			     struct rj_tracker **tracker_p);

/*
 * userfaultfd write-protection in asynchronous mode, read by PAGEMAP_SCAN (Linux 6.7): every store
 * through this process's page tables and, by the MMU notifiers, by the vCPUs of this process. It
 * does not see writes through another mapping (vhost-user) nor DMA into pinned pages. Anonymous
 * memory needs UFFD_FEATURE_WP_UNPOPULATED.
 *
 * Return 0; -ENOTSUP where the kernel lacks any of that; -EPERM where userfaultfd is not allowed
 * (run as root, or set vm.unprivileged_userfaultfd to 1); -ENOMEM.
 */
RJ_API int rj_uffd_wp_create(struct rj_tracker **tracker_p);

#ifdef __cplusplus
}
#endif
#endif

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
 * KVM's dirty ring: the same writers as the log sees, but each vCPU tells the pages itself, so that
 * nothing is proportional to the size of the guest. What KVM stores without a running vCPU is in no
 * ring (api.rst, KVM_CAP_DIRTY_LOG_RING): announce it by rj_mark_dirty(). Where KVM keeps a bitmap
 * for that (KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, arm64), and it is enabled, this tracker is refused.
 *
 * The VMM enables the ring itself, once, for KVM wants that before the first vCPU is created; it
 * shuts KVM_GET_DIRTY_LOG off for good:
 *
 *   struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { 65536 * 16 } };
 *   ioctl(vm_fd, KVM_ENABLE_CAP, &cap);
 *
 * args[0] is in bytes, 16 for a page, a power of two, at most what KVM_CHECK_EXTENSION returns. For
 * each vCPU call rj_kvm_ring_add_vcpu() before rj_start(), for one that is added later before it
 * runs: writes of a vCPU that was forgotten are lost. Never KVM_DIRTY_LOG_INITIALLY_SET; start
 * turns it off. While the tracker exists nobody else may collect from the rings or call
 * KVM_RESET_DIRTY_RINGS; entries of slots that were not given to it are dropped. Otherwise as
 * rj_kvm_log_create(), except that slots are logged from start on with all pages clean: pages
 * written before are the bulk round's.
 *
 * Where KVM emulates instructions of the guest that store to its RAM, it makes an entry for each word, checks for
 * room too rarely (Linux 6.18), and a ring overflows. What its vCPU wrote is not known then: the
 * session fails with RJ_E_TRACKER, EOVERFLOW, and so does each later one with this tracker. KVM emulates a guest's
 * kernel where it works without hardware virtualization: use rj_kvm_log_create() there.
 *
 * Return 0; -EINVAL for no or unaligned slots; -ENOTSUP where KVM has no dirty ring (Linux 5.11) or
 * the kernel no MADV_POPULATE_READ (5.14); -ENXIO where the ring is not enabled, or enabled with
 * its bitmap; -ENOMEM.
 */
RJ_API int rj_kvm_ring_create(int vm_fd, const struct rj_kvm_slot *slots, uint32_t n_slots,
			      struct rj_tracker **tracker_p);

/*
 * Map a vCPU's ring. vcpu_fd stays the caller's and must outlive the tracker. Any thread, while that
 * vCPU does not run.
 *
 * Return 0; -EINVAL for another kind of tracker; -EEXIST: it has this one; -EBUSY: somebody else
 * collected from this ring and did not reset it; -ENXIO: the vCPU has no ring; -ENOTSUP as above;
 * -ENOMEM and what mmap() says.
 */
RJ_API int rj_kvm_ring_add_vcpu(struct rj_tracker *t, int vcpu_fd);

/*
 * A vCPU left KVM_RUN with KVM_EXIT_DIRTY_RING_FULL: make room, then run it again. To be called by
 * its thread, at any time until the tracker is destroyed, also when the VM is about to pause, and
 * without locks that answering RJ_RQ_PAUSE needs. It waits for other threads only while they
 * collect some thousand entries or reset them: milliseconds.
 *
 * Return 0; -EINVAL for a vCPU that was not added; what KVM_RESET_DIRTY_RINGS says; -EIO where
 * somebody else resets the rings; -EOVERFLOW where there is nothing that could make room: KVM's
 * count of the entries is wrong after the ring has overflowed, and the vCPU will not run again.
 */
RJ_API int rj_kvm_ring_full(struct rj_tracker *t, int vcpu_fd);

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

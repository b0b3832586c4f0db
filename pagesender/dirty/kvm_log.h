/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_KVM_LOG_H
#define RJI_PAGESENDER_DIRTY_KVM_LOG_H

#include <ramjet/tracker.h>

/* ioctl() on a KVM descriptor: >= 0, or -errno. The seam at which tests put a KVM of their own. */
typedef int (*rji_kvm_ioctl)(int fd, unsigned long request, void *arg);

/* rj_kvm_log_create() with another KVM. */
int rji_kvm_log_create(rji_kvm_ioctl kvm, int vm_fd, const struct rj_kvm_slot *slots,
		       uint32_t n_slots, struct rj_tracker **tracker_p);

#endif

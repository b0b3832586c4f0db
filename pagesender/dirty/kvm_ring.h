/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_DIRTY_KVM_RING_H
#define RJI_PAGESENDER_DIRTY_KVM_RING_H

#include "pagesender/dirty/kvm_slot.h"

/* rj_kvm_ring_create() with another KVM. */
int rji_kvm_ring_create(rji_kvm_ioctl kvm, int vm_fd, const struct rj_kvm_slot *slots,
			uint32_t n_slots, struct rj_tracker **tracker_p);

#endif

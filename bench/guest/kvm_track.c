/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/guest/guest_impl.h"
#include "bench/guest/kvm.h"

/* KVM's two ways to tell what its vCPUs write. The ring is enabled before the vCPU is made. */

#define RING_PAGES 65536u /* the most that KVM makes */

int kvm_track_prepare(struct guest *g, char *why, size_t why_bytes)
{
	struct kvm_guest *k = g->priv;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING };
	int ret;

	if (g->o.tracker != GUEST_TRACKER_RING)
		return 0;
	cap.args[0] =
		sizeof(struct kvm_dirty_gfn) * (g->o.ring_pages ? g->o.ring_pages : RING_PAGES);
	ret = kvm_guest_ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap);
	if (ret < 0)
		snprintf(why, why_bytes,
			 "this KVM makes no dirty ring of %u pages (%s): use --tracker log",
			 (unsigned int)(cap.args[0] / sizeof(struct kvm_dirty_gfn)),
			 strerrordesc_np(-ret));
	return ret;
}

static uint32_t fill_slots(const struct guest *g, struct rj_kvm_slot *slots)
{
	for (uint32_t i = 0; i < g->n_regions; i++)
		slots[i] = (struct rj_kvm_slot){
			.slot = i,
			.gpa = g->regions[i].gpa,
			.len_bytes = g->regions[i].len_bytes,
			.host = g->mem.host + g->regions[i].offset,
		};
	return g->n_regions;
}

int kvm_track(struct guest *g, char *why, size_t why_bytes)
{
	struct kvm_guest *k = g->priv;
	struct rj_kvm_slot slots[GUEST_MAX_REGIONS];
	uint32_t n = fill_slots(g, slots);
	int ret;

	if (g->o.tracker == GUEST_TRACKER_RING) {
		ret = rj_kvm_ring_create(k->vm_fd, slots, n, &g->tracker);
		if (!ret)
			ret = rj_kvm_ring_add_vcpu(g->tracker, k->vcpu_fd);
	} else {
		ret = rj_kvm_log_create(k->vm_fd, slots, n, &g->tracker);
	}
	if (ret < 0)
		snprintf(why, why_bytes, "%s cannot be used: %s", kvm_tracking(g),
			 rj_strerror(ret));
	return ret;
}

const char *kvm_tracking(const struct guest *g)
{
	return g->o.tracker == GUEST_TRACKER_RING ? "kvm dirty ring" : "kvm dirty log";
}

int kvm_track_full(struct guest *g)
{
	struct kvm_guest *k = g->priv;

	return rj_kvm_ring_full(g->tracker, k->vcpu_fd);
}

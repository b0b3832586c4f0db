/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_KVM_H
#define BENCH_GUEST_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest;
struct guest_state;

/* The virtual machine of a KVM guest: priv of struct guest. */
struct kvm_guest {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	size_t run_bytes;
	bool at_tick;	/* stopped in its read of PAYLOAD_PORT_TICK, which is not answered yet */
	uint32_t chunk; /* pages it is given at once, so that it comes back soon */
	uint32_t xsave_bytes; /* 0: KVM_GET_XSAVE is not there, the FPU is taken instead */
	struct kvm_regs regs; /* as of the last pause with save, load or check */
};

/* ioctl() on one of its descriptors: >= 0, or -errno. */
int kvm_guest_ioctl(int fd, unsigned long request, void *arg);

/* Let the answer to the pending read reach the registers, without running the guest. 0 or -errno.
 */
int kvm_guest_complete(struct kvm_guest *k);

/* kvm_track.c: between making the VM and its vCPU; g->tracker; its name; make room in the ring. */
int kvm_track_prepare(struct guest *g, char *why, size_t why_bytes);
int kvm_track(struct guest *g, char *why, size_t why_bytes);
const char *kvm_tracking(const struct guest *g);
int kvm_track_full(struct guest *g);

/* kvm_state.c: all of a vCPU's state. Paused. */
int kvm_state_save(struct kvm_guest *k, struct guest_state *st);
/* Everything is read and found right before any of it is set. */
int kvm_state_load(struct kvm_guest *k, struct guest_state *st, char *why, size_t why_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/guest/guest_state.h"
#include "bench/guest/kvm.h"

/*
 * A vCPU's state as KVM's own structures, a section each, set in the order of the table. CPUID came
 * before (kvm.c); XCRs come before XSAVE, which says what it may hold.
 */

#define TAG_XSAVE 48u
#define TAG_MSRS 49u

static const struct part {
	uint32_t tag;
	uint32_t bytes;
	unsigned long get, set;
	const char *name;
} parts[] = {
	{ 32, sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS, "sregs" },
	{ 33, sizeof(struct kvm_regs), KVM_GET_REGS, KVM_SET_REGS, "regs" },
	{ 34, sizeof(struct kvm_fpu), KVM_GET_FPU, KVM_SET_FPU, "fpu" },
	{ 35, sizeof(struct kvm_xcrs), KVM_GET_XCRS, KVM_SET_XCRS, "xcrs" },
	{ 36, sizeof(struct kvm_debugregs), KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, "debugregs" },
	{ 37, sizeof(struct kvm_mp_state), KVM_GET_MP_STATE, KVM_SET_MP_STATE, "mp_state" },
	{ 38, sizeof(struct kvm_vcpu_events), KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, "events" },
};

#define N_PARTS (sizeof(parts) / sizeof(parts[0]))
#define PART_REGS 1
#define PART_MAX_BYTES 1024u

/* What the payload could come to depend on; those a KVM does not have are left out. */
static const uint32_t msrs[] = {
	0x10,	    /* TSC */
	0x174,	    /* SYSENTER_CS */
	0x175,	    /* SYSENTER_ESP */
	0x176,	    /* SYSENTER_EIP */
	0x1a0,	    /* MISC_ENABLE */
	0x277,	    /* PAT */
	0x2ff,	    /* MTRRdefType */
	0xc0000081, /* STAR */
	0xc0000082, /* LSTAR */
	0xc0000083, /* CSTAR */
	0xc0000084, /* SFMASK */
	0xc0000102, /* KERNEL_GS_BASE */
	0xc0000103, /* TSC_AUX */
};

#define N_MSRS (sizeof(msrs) / sizeof(msrs[0]))

/* KVM's calls take lists; one at a time tells which it was. Whether it worked. */
static bool msr_ioctl(struct kvm_guest *k, unsigned long request, struct kvm_msr_entry *entry)
{
	union {
		struct kvm_msrs list;
		uint8_t bytes[sizeof(struct kvm_msrs) + sizeof(*entry)];
	} one = { .list.nmsrs = 1 };

	one.list.entries[0] = *entry;
	if (kvm_guest_ioctl(k->vcpu_fd, request, &one) != 1)
		return false;
	*entry = one.list.entries[0];
	return true;
}

/* There is one entry for each MSR; index 0: this KVM does not have it. */
static void get_msrs(struct kvm_guest *k, struct kvm_msr_entry *entries)
{
	for (size_t i = 0; i < N_MSRS; i++) {
		entries[i] = (struct kvm_msr_entry){ .index = msrs[i] };
		if (!msr_ioctl(k, KVM_GET_MSRS, &entries[i]))
			entries[i].index = 0;
	}
}

static int set_msrs(struct kvm_guest *k, struct kvm_msr_entry *entries, char *why, size_t why_bytes)
{
	for (size_t i = 0; i < N_MSRS; i++) {
		if (entries[i].index && !msr_ioctl(k, KVM_SET_MSRS, &entries[i])) {
			snprintf(why, why_bytes, "KVM refuses MSR 0x%x of the guest", msrs[i]);
			return -EINVAL;
		}
	}
	return 0;
}

/* KVM_GET_XSAVE2 fills xsave_bytes, KVM_GET_XSAVE the 4096 of struct kvm_xsave. */
static int get_xsave(struct kvm_guest *k, void *p)
{
	return kvm_guest_ioctl(
		k->vcpu_fd,
		k->xsave_bytes > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, p);
}

static int save_xsave(struct kvm_guest *k, struct guest_state *st)
{
	void *p = k->xsave_bytes ? calloc(1, k->xsave_bytes) : NULL;
	int ret;

	if (!p)
		return k->xsave_bytes ? -ENOMEM : 0;
	ret = get_xsave(k, p);
	if (ret >= 0)
		guest_state_put(st, TAG_XSAVE, p, k->xsave_bytes);
	free(p);
	return ret;
}

int kvm_state_save(struct kvm_guest *k, struct guest_state *st)
{
	struct kvm_msr_entry entries[N_MSRS];
	uint8_t buf[PART_MAX_BYTES];
	int ret = kvm_guest_complete(k);

	for (size_t i = 0; i < N_PARTS && ret >= 0; i++) {
		memset(buf, 0, sizeof(buf));
		ret = kvm_guest_ioctl(k->vcpu_fd, parts[i].get, buf);
		if (ret >= 0)
			guest_state_put(st, parts[i].tag, buf, parts[i].bytes);
	}
	if (ret >= 0)
		ret = save_xsave(k, st);
	if (ret < 0)
		return ret;
	get_msrs(k, entries);
	guest_state_put(st, TAG_MSRS, entries, sizeof(entries));
	return 0;
}

/* What was read and not yet set. */
struct loaded {
	uint8_t parts[N_PARTS][PART_MAX_BYTES];
	struct kvm_msr_entry msrs[N_MSRS];
	uint8_t xsave[];
};

static int take(struct kvm_guest *k, struct guest_state *st, struct loaded *l, char *why,
		size_t why_bytes)
{
	int ret = 0;

	for (size_t i = 0; i < N_PARTS && !ret; i++)
		ret = guest_state_take(st, parts[i].tag, l->parts[i], parts[i].bytes, why,
				       why_bytes);
	if (!ret)
		ret = guest_state_take(st, TAG_MSRS, l->msrs, sizeof(l->msrs), why, why_bytes);
	if (!ret && k->xsave_bytes)
		ret = guest_state_take(st, TAG_XSAVE, l->xsave, k->xsave_bytes, why, why_bytes);
	if (!ret)
		ret = guest_state_taken(st, why, why_bytes);
	for (size_t i = 0; i < N_MSRS && !ret; i++)
		if (l->msrs[i].index && l->msrs[i].index != msrs[i]) {
			snprintf(why, why_bytes, "device state refused: MSR 0x%x is not expected",
				 l->msrs[i].index);
			ret = -EINVAL;
		}
	return ret;
}

static int set_part(struct kvm_guest *k, size_t i, void *p, char *why, size_t why_bytes)
{
	int ret = kvm_guest_ioctl(k->vcpu_fd, parts[i].set, p);

	if (ret < 0)
		snprintf(why, why_bytes, "KVM refuses the guest's %s: %s", parts[i].name,
			 strerrordesc_np(-ret));
	return ret;
}

/* XSAVE holds what the FPU part does and more, so it comes after it. */
static int set_xsave(struct kvm_guest *k, struct loaded *l, char *why, size_t why_bytes)
{
	int ret = k->xsave_bytes ? kvm_guest_ioctl(k->vcpu_fd, KVM_SET_XSAVE, l->xsave) : 0;

	if (ret < 0)
		snprintf(why, why_bytes, "KVM refuses the guest's xsave: %s",
			 strerrordesc_np(-ret));
	return ret;
}

static int apply(struct kvm_guest *k, struct loaded *l, char *why, size_t why_bytes)
{
	int ret = 0;

	for (size_t i = 0; i < N_PARTS && ret >= 0; i++)
		ret = set_part(k, i, l->parts[i], why, why_bytes);
	if (ret >= 0)
		ret = set_xsave(k, l, why, why_bytes);
	if (ret >= 0)
		ret = set_msrs(k, l->msrs, why, why_bytes);
	if (ret < 0)
		return ret;
	memcpy(&k->regs, l->parts[PART_REGS], sizeof(k->regs));
	k->at_tick = false;
	return 0;
}

int kvm_state_load(struct kvm_guest *k, struct guest_state *st, char *why, size_t why_bytes)
{
	struct loaded *l = calloc(1, sizeof(*l) + k->xsave_bytes);
	int ret;

	if (!l) {
		snprintf(why, why_bytes, "no memory");
		return -ENOMEM;
	}
	ret = take(k, st, l, why, why_bytes);
	if (!ret)
		ret = apply(k, l, why, why_bytes);
	free(l);
	return ret;
}

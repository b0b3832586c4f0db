/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/kvm_slot.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

int rji_kvm_ioctl_really(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

bool rji_kvm_slot_valid(const struct rj_kvm_slot *s)
{
	uint64_t all = s->gpa | s->len_bytes | (uintptr_t)s->host;

	return s->host && s->len_bytes && all % RJI_KVM_PAGE_BYTES == 0 &&
	       s->gpa + s->len_bytes > s->gpa &&
	       (uintptr_t)s->host + s->len_bytes > (uintptr_t)s->host;
}

void rji_kvm_slot_init(struct rji_kvm_slot *ks, const struct rj_kvm_slot *s)
{
	*ks = (struct rji_kvm_slot){
		.s = *s,
		.region = RJI_KVM_NO_REGION,
		.n_pages = s->len_bytes / RJI_KVM_PAGE_BYTES,
	};
}

int rji_kvm_slot_attach(struct rji_kvm_slot *ks, uint32_t region, const struct rj_region *r,
			char *why, size_t why_bytes)
{
	uintptr_t start = (uintptr_t)ks->s.host, end = start + ks->s.len_bytes;
	uintptr_t r_start = (uintptr_t)r->host, r_end = r_start + r->len_bytes;

	if (ks->region == region) /* of a session before this one */
		ks->region = RJI_KVM_NO_REGION;
	if (end <= r_start || start >= r_end)
		return 0;
	if (start < r_start || end > r_end) {
		snprintf(
			why, why_bytes,
			"KVM slot %u reaches past the end of region %s: add its memory as one region",
			ks->s.slot, r->name);
		return -EINVAL;
	}
	if (r->page_bytes != RJI_KVM_PAGE_BYTES) {
		snprintf(why, why_bytes, "KVM logs pages of 4096 bytes, region %s has %u: set 4096",
			 r->name, r->page_bytes);
		return -EINVAL;
	}
	ks->region = region;
	ks->first_page = (start - r_start) / RJI_KVM_PAGE_BYTES;
	return 1;
}

int rji_kvm_slot_log(rji_kvm_ioctl kvm, int vm_fd, struct rji_kvm_slot *ks, bool on)
{
	struct kvm_userspace_memory_region m = {
		.slot = ks->s.slot,
		.flags = ks->s.flags | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = ks->s.gpa,
		.memory_size = ks->s.len_bytes,
		.userspace_addr = (uintptr_t)ks->s.host,
	};
	int ret;

	if (ks->logging == on || (on && ks->region == RJI_KVM_NO_REGION))
		return 0;
	ret = kvm(vm_fd, KVM_SET_USER_MEMORY_REGION, &m);
	if (ret < 0)
		return ret;
	ks->logging = on;
	return 0;
}

bool rji_kvm_slot_range(const struct rji_kvm_slot *ks, uint32_t region, uint64_t first_page,
			uint64_t n_pages, uint64_t *from_p, uint64_t *to_p)
{
	uint64_t from = first_page > ks->first_page ? first_page : ks->first_page;
	uint64_t end = first_page + n_pages, slot_end = ks->first_page + ks->n_pages;
	uint64_t to = end < slot_end ? end : slot_end;

	if (ks->region != region || from >= to)
		return false;
	*from_p = from - ks->first_page;
	*to_p = to - ks->first_page;
	return true;
}

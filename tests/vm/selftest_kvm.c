/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Does KVM work in the test machine, dirty log and all? Part of tests/vm/selftest; uses nothing of the library.
 *
 * A guest in real mode stores to a few pages and halts; the log must then name exactly those pages, and none after it was
 * cleared. In the first round it may name the page of the code too: KVM calls dirty what it maps writable, be it for
 * a read. Prints what it found; returns 0, or 1 with the step that failed.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { PAGE = 4096, N_PAGES = 64, CODE_PAGE = 1 };

static const unsigned char code[] = {
	0xa2, 0x10, 0x20, /* mov %al, (0x2010): page 2 */
	0xa2, 0x00, 0x50, /* mov %al, (0x5000): page 5 */
	0xa2, 0xff, 0x9f, /* mov %al, (0x9fff): page 9 */
	0xf4,		  /* hlt */
};
static const uint64_t expected = 1ull << 2 | 1ull << 5 | 1ull << 9;

static int check(int result, const char *step)
{
	if (result < 0) {
		perror(step);
		exit(1);
	}
	return result;
}

static int run_to_halt(int vcpu, const struct kvm_run *run)
{
	check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason == KVM_EXIT_HLT)
		return 0;
	fprintf(stderr, "exit reason %u, not a halt\n", run->exit_reason);
	return -1;
}

int main(void)
{
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "open /dev/kvm");
	int protect = check(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
			    "protect2");
	int ring = check(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING), "ring");
	int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	int run_size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run =
		mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	unsigned char *ram = mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	struct kvm_userspace_memory_region slot = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.memory_size = N_PAGES * PAGE,
		.userspace_addr = (uintptr_t)ram,
	};
	uint64_t dirty = 0;
	struct kvm_dirty_log get = { .dirty_bitmap = &dirty };
	struct kvm_clear_dirty_log clear = { .num_pages = N_PAGES, .dirty_bitmap = &dirty };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE_PAGE * PAGE, .rflags = 2 };

	printf("manual protect %d, dirty ring %d\n", protect, ring);
	if (run == MAP_FAILED || ram == MAP_FAILED)
		check(-1, "mmap");
	memcpy(ram + CODE_PAGE * PAGE, code, sizeof(code));
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	check(ioctl(vm, KVM_ENABLE_CAP, &cap), "enable manual protect");
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");

	for (int round = 0; round < 2; round++) {
		check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
		check(run_to_halt(vcpu, run), "guest");
		check(ioctl(vm, KVM_GET_DIRTY_LOG, &get), "KVM_GET_DIRTY_LOG");
		printf("round %d: dirty 0x%llx\n", round, (unsigned long long)dirty);
		if (round == 0)
			dirty &= ~(1ull << CODE_PAGE);
		if (dirty != expected)
			return fprintf(stderr, "expected 0x%llx\n", (unsigned long long)expected),
			       1;
		dirty = ~0ull;
		check(ioctl(vm, KVM_CLEAR_DIRTY_LOG, &clear), "KVM_CLEAR_DIRTY_LOG");
		check(ioctl(vm, KVM_GET_DIRTY_LOG, &get), "KVM_GET_DIRTY_LOG");
		if (dirty)
			return fprintf(stderr, "cleared, yet dirty 0x%llx\n",
				       (unsigned long long)dirty),
			       1;
	}
	return protect > 0 ? 0 : 1;
}

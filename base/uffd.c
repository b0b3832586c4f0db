/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bitmap.h"

/*
 * Newer than Debian 12's headers (Linux 6.1). From include/uapi/linux/userfaultfd.h and
 * include/uapi/linux/fs.h of Linux 6.7; Documentation/admin-guide/mm/pagemap.rst and
 * userfaultfd.rst describe them.
 */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#ifndef PAGEMAP_SCAN
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};

struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN (1 << 1)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#endif

#define FEATURES                                                                                   \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |                        \
	 UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC)

/* Ranges fetched by one PAGEMAP_SCAN call: 12 KiB of stack. */
#define N_RANGES 512

/*
 * Without privilege the plain call is refused (vm.unprivileged_userfaultfd), but /dev/userfaultfd
 * may be given to us, and UFFD_USER_MODE_ONLY is always allowed. That restricts faults that are
 * handed to us, of which the asynchronous mode has none.
 */
static int open_userfaultfd(void)
{
	int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = (int)syscall(SYS_userfaultfd, flags);
	int dev, err;

	if (fd >= 0)
		return fd;
	err = errno;
	if (err != EPERM)
		return -err;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, flags);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	return fd < 0 ? -EPERM : fd;
}

static int uffd_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : ret;
}

/* Does the kernel have PAGEMAP_SCAN? Asked about a page that is surely there. */
static int probe_scan(int pagemap_fd)
{
	uintptr_t page = (uintptr_t)&pagemap_fd & ~(uintptr_t)4095;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = page,
		.end = page + 4096,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret = uffd_ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	return ret == -ENOTTY || ret == -EINVAL ? -ENOTSUP : ret < 0 ? ret : 0;
}

int rji_uffd_open(struct rji_uffd *u)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	int fd = open_userfaultfd(), pagemap_fd, ret;

	if (fd < 0)
		return fd == -ENOSYS ? -ENOTSUP : fd;
	/* EINVAL: an unknown feature was asked for. */
	ret = uffd_ioctl(fd, UFFDIO_API, &api);
	if (ret == -EINVAL || (ret >= 0 && (api.features & FEATURES) != FEATURES))
		ret = -ENOTSUP;
	if (ret < 0)
		goto close_fd;
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap_fd < 0) {
		ret = errno == EACCES ? -EPERM : -errno;
		goto close_fd;
	}
	ret = probe_scan(pagemap_fd);
	if (ret < 0)
		goto close_pagemap;
	u->fd = fd;
	u->pagemap_fd = pagemap_fd;
	return 0;
close_pagemap:
	close(pagemap_fd);
close_fd:
	close(fd);
	return ret;
}

void rji_uffd_close(struct rji_uffd *u)
{
	close(u->fd);
	close(u->pagemap_fd);
	u->fd = u->pagemap_fd = -1;
}

int rji_uffd_register(const struct rji_uffd *u, void *p, size_t len_bytes)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)p, .len = len_bytes },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return uffd_ioctl(u->fd, UFFDIO_REGISTER, &reg);
}

int rji_uffd_unregister(const struct rji_uffd *u, void *p, size_t len_bytes)
{
	struct uffdio_range range = { .start = (uintptr_t)p, .len = len_bytes };

	return uffd_ioctl(u->fd, UFFDIO_UNREGISTER, &range);
}

int rji_uffd_protect(const struct rji_uffd *u, void *p, size_t len_bytes)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)p, .len = len_bytes },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return uffd_ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp);
}

/*
 * category_mask and return_mask of PAGE_IS_WRITTEN alone make the kernel count a page table entry
 * that is empty as written (pagemap_scan_pmd_entry() in fs/proc/task_mmu.c). That is wanted: the
 * entry of a written page of shared memory becomes empty when the page is swapped out.
 */
int rji_uffd_scan(const struct rji_uffd *u, void *base, uint32_t page_bytes, uint64_t first_page,
		  uint64_t n_pages, uint64_t *bits, bool protect)
{
	struct page_region ranges[N_RANGES];
	uintptr_t start = (uintptr_t)base + first_page * page_bytes;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_CHECK_WPASYNC | (protect ? PM_SCAN_WP_MATCHING : 0),
		.start = start,
		.end = start + n_pages * page_bytes,
		.vec = (uintptr_t)ranges,
		.vec_len = N_RANGES,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	while (arg.start < arg.end) {
		int n = uffd_ioctl(u->pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			uint64_t from = (ranges[i].start - start) / page_bytes;
			uint64_t to = (ranges[i].end - start + page_bytes - 1) / page_bytes;

			rji_bitmap_set_range(bits, from, to - from);
		}
		arg.start = arg.walk_end;
	}
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/uffd_missing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define WANTED (1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE)

static int try_open(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev;

	if (fd >= 0 || errno != EPERM)
		return fd < 0 ? -errno : fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -EPERM;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(dev);
	return fd < 0 ? -EPERM : fd;
}

int rji_missing_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = try_open();

	if (fd < 0)
		return fd == -ENOSYS ? -ENOTSUP : fd;
	if (ioctl(fd, UFFDIO_API, &api) < 0 || !(api.features & UFFD_FEATURE_MISSING_SHMEM)) {
		close(fd);
		return -ENOTSUP;
	}
	return fd;
}

int rji_missing_watch(int fd, void *p, size_t len_bytes)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)p, .len = len_bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(fd, UFFDIO_REGISTER, &reg) < 0) /* EINVAL: of a file, or nothing */
		return errno == EINVAL ? -ENOTSUP : -errno;
	if ((reg.ioctls & WANTED) == WANTED)
		return 0;
	rji_missing_unwatch(fd, p, len_bytes); /* hugetlbfs, which has larger pages only */
	return -ENOTSUP;
}

int rji_missing_unwatch(int fd, void *p, size_t len_bytes)
{
	struct uffdio_range range = { .start = (uintptr_t)p, .len = len_bytes };

	return ioctl(fd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}

int rji_missing_next(int fd, void **page_p)
{
	struct uffd_msg msg;

	for (;;) {
		ssize_t n = read(fd, &msg, sizeof(msg));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n != sizeof(msg))
			return -EIO;
		if (msg.event != UFFD_EVENT_PAGEFAULT) /* no other was asked for */
			continue;
		*page_p = (void *)(uintptr_t)(msg.arg.pagefault.address & ~4095ull);
		return 1;
	}
}

/* The kernel may stop after some of it, while somebody changes the mappings. */
int rji_missing_place(int fd, void *to, const void *from, size_t len_bytes)
{
	while (len_bytes) {
		struct uffdio_copy copy = { .dst = (uintptr_t)to,
					    .src = (uintptr_t)from,
					    .len = len_bytes };
		int ret = ioctl(fd, UFFDIO_COPY, &copy) < 0 ? -errno : 0;

		if (ret && copy.copy <= 0 && ret != -EAGAIN && ret != -EINTR)
			return ret;
		if (copy.copy <= 0)
			continue;
		to = (char *)to + copy.copy;
		from = (const char *)from + copy.copy;
		len_bytes -= (size_t)copy.copy;
	}
	return 0;
}

int rji_missing_place_zeros(int fd, void *to, size_t len_bytes)
{
	while (len_bytes) {
		struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)to,
							   .len = len_bytes } };
		int ret = ioctl(fd, UFFDIO_ZEROPAGE, &zero) < 0 ? -errno : 0;

		if (ret && zero.zeropage <= 0 && ret != -EAGAIN && ret != -EINTR)
			return ret;
		if (zero.zeropage <= 0)
			continue;
		to = (char *)to + zero.zeropage;
		len_bytes -= (size_t)zero.zeropage;
	}
	return 0;
}

int rji_missing_wake(int fd, void *p, size_t len_bytes)
{
	struct uffdio_range range = { .start = (uintptr_t)p, .len = len_bytes };

	return ioctl(fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

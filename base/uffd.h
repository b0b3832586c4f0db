/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_UFFD_H
#define RJI_BASE_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * userfaultfd's write-protection in asynchronous mode: the first write to a protected page takes
 * the protection off and goes on; nobody is asked. Which pages lost theirs is read by PAGEMAP_SCAN.
 * All of it needs Linux 6.7.
 *
 * fd is the userfaultfd, pagemap_fd is /proc/self/pagemap. Calls for different ranges may run at
 * the same time.
 */
struct rji_uffd {
	int fd;
	int pagemap_fd;
};

/* 0; -ENOTSUP: the kernel lacks a part of it; -EPERM: not allowed; -errno. Opens nothing on
 * failure. */
int rji_uffd_open(struct rji_uffd *u);
void rji_uffd_close(struct rji_uffd *u);

/* Watch a range, nothing in it being protected yet; and let go of it. Aligned to the pages that map
 * it. 0 or -errno. */
int rji_uffd_register(const struct rji_uffd *u, void *p, size_t len_bytes);
int rji_uffd_unregister(const struct rji_uffd *u, void *p, size_t len_bytes);

/* Protect a range, also where nothing is mapped yet. 0 or -errno. */
int rji_uffd_protect(const struct rji_uffd *u, void *p, size_t len_bytes);

/*
 * Set the bits of the pages in [first_page, first_page + n_pages) of base that are not protected;
 * with protect, protect each of them in the same step. Bit 0 of bits is first_page. 0; -EPERM: some
 * of the range is not watched (any more); -errno.
 */
int rji_uffd_scan(const struct rji_uffd *u, void *base, uint32_t page_bytes, uint64_t first_page,
		  uint64_t n_pages, uint64_t *bits, bool protect);

#endif

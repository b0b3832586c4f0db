/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_UFFD_MISSING_H
#define RJI_BASE_UFFD_MISSING_H

#include <stddef.h>
#include <stdint.h>

/*
 * userfaultfd for memory that is not there yet: who touches a missing page of a watched range waits until
 * somebody places it, or lets go of the range. The kernel waits too (a vCPU in KVM_RUN, a read() into guest memory),
 * so that a descriptor for user mode only will not do. fd is the userfaultfd; all calls but open and close may
 * run at the same time.
 *
 * Only what is touched by the watched addresses waits: another mapping of the same memory is not seen.
 */

/* A descriptor for reading without blocking; -EPERM: not allowed; -ENOTSUP: not in this kernel; -errno. */
int rji_missing_open(void);

/*
 * Watch a range of which no page is there, and let go of it: who waits in it goes on. -ENOTSUP: this kind
 * of memory cannot be given page by page.
 */
int rji_missing_watch(int fd, void *p, size_t len_bytes);
int rji_missing_unwatch(int fd, void *p, size_t len_bytes);

/* The next page that somebody waits for. 1, 0: none now, or -errno. */
int rji_missing_next(int fd, void **page_p);

/* Whole pages. -EEXIST: one of them is there; -ENOENT: it is not watched; -errno. */
int rji_missing_place(int fd, void *to, const void *from, size_t len_bytes);
int rji_missing_place_zeros(int fd, void *to, size_t len_bytes);
/* Who waits looks again. */
int rji_missing_wake(int fd, void *p, size_t len_bytes);

#endif

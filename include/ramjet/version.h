/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_VERSION_H
#define RAMJET_VERSION_H

#include <stdint.h>

#include <ramjet/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The only place with these numbers: the build reads them from here. */
#define RJ_VERSION_MAJOR 0
#define RJ_VERSION_MINOR 1
#define RJ_VERSION_PATCH 0

/* One number that grows with each release: 0x00MMmmpp. */
#define RJ_VERSION                                                                                 \
	(((uint32_t)RJ_VERSION_MAJOR << 16) | ((uint32_t)RJ_VERSION_MINOR << 8) |                  \
	 (uint32_t)RJ_VERSION_PATCH)

/*
 * Tell the version of the library that is running, in the form of RJ_VERSION, which is the
 * version compiled against. Callable from any thread at any time; never blocks, never fails.
 */
RJ_API uint32_t rj_version(void);

#ifdef __cplusplus
}
#endif

#endif /* RAMJET_VERSION_H */

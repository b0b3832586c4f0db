/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_EXPORT_H
#define RAMJET_EXPORT_H

/*
 * RJ_API marks each line of the public headers that the shared library exports. What is not
 * marked cannot be linked against, and may change at any time.
 */
#ifndef RJ_API
#define RJ_API __attribute__((visibility("default")))
#endif

#endif /* RAMJET_EXPORT_H */

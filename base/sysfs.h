/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_SYSFS_H
#define RJI_BASE_SYSFS_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The small files of /sys and /proc. Each function takes the root of the file system ("" for this machine's own; tests
 * give a made-up tree) and the path below it as a format.
 */
#define RJI_SYSFS_PATH 512

/* The first line, without its newline, cut to fit. 0 or -errno; buf is "" then. */
int rji_sysfs_text(const char *root, char *buf, size_t buf_bytes, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The number that the file begins with, decimal or 0x…; otherwise where there is none. */
int64_t rji_sysfs_number(const char *root, int64_t otherwise, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The last part of what a symbolic link says: "0000:3b:00.0". 0 or -errno; buf is "" then. */
int rji_sysfs_link(const char *root, char *buf, size_t buf_bytes, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

bool rji_sysfs_exists(const char *root, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The names in a directory, sorted ("eth2" before "eth10"), but those that begin with a dot. A count, free(*list_p) with each; or -errno. */
int rji_sysfs_names(const char *root, struct dirent ***list_p, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void rji_sysfs_names_free(struct dirent **list, int n);

/* The choice in brackets of "always [madvise] never". "" where there is none. */
void rji_sysfs_chosen(const char *text, char *buf, size_t buf_bytes);

#endif

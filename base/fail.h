/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_FAIL_H
#define RJI_BASE_FAIL_H

#include <errno.h>

#include <ramjet/error.h>

/*
 * Errors carry their whole story in a struct rj_error that the caller passes down. The function
 * that decides that something failed fills it, once, with rji_fail(): a one-line text that names
 * the thing and says what to do. Those above only hand the code on.
 */

/* An empty one. */
void rji_error_init(struct rj_error *err);

/*
 * Record a failure and return code, so that a leaf can `return rji_fail(err, RJ_E_URI, "…")`. The
 * first failure is the news: a second one into the same struct is not recorded. err may be NULL.
 */
int rji_fail(struct rj_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same for a failed system call: sys_errno is recorded, and its text appended after ": ". code
 * 0 stands for -sys_errno.
 */
int rji_fail_sys(struct rj_error *err, int code, int sys_errno, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif

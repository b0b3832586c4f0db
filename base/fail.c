/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/fail.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *rj_strerror(int code)
{
#define RJ_ERROR_CASE(name, value, text)                                                           \
	if (code == (value))                                                                       \
		return text;
	RJ_ERROR_LIST(RJ_ERROR_CASE)
#undef RJ_ERROR_CASE
	if (code >= 0)
		return "success";
	const char *text = code == INT_MIN ? NULL : strerrordesc_np(-code);

	return text ? text : "unknown error";
}

void rji_error_init(struct rj_error *err)
{
	memset(err, 0, sizeof(*err));
	err->size = sizeof(*err);
	err->lane = UINT32_MAX;
	err->region = UINT32_MAX;
}

int rji_fail(struct rj_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err || err->code)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

int rji_fail_sys(struct rj_error *err, int code, int sys_errno, const char *fmt, ...)
{
	const char *cause = strerrordesc_np(sys_errno);
	size_t used;
	va_list ap;

	if (!code)
		code = -sys_errno;
	if (!err || err->code)
		return code;
	err->code = code;
	err->sys_errno = sys_errno;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s",
		 cause ? cause : "unknown error");
	return code;
}

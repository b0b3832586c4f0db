/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "base/fail.h"

Test(fail, first_failure_is_the_news)
{
	struct rj_error err;

	rji_error_init(&err);
	cr_assert_eq(rji_fail(&err, RJ_E_LANE, "lane %d", 3), RJ_E_LANE);
	cr_assert_eq(rji_fail(&err, RJ_E_TIMEOUT, "later"), RJ_E_TIMEOUT, "the code is handed on");
	cr_assert_eq(rji_fail_sys(&err, 0, EPIPE, "later still"), -EPIPE);
	cr_assert_eq(err.code, RJ_E_LANE);
	cr_assert_eq(err.sys_errno, 0);
	cr_assert_str_eq(err.text, "lane 3");
}

Test(fail, fresh_error_names_no_lane_and_no_region)
{
	struct rj_error err;

	memset(&err, 0xff, sizeof(err));
	rji_error_init(&err);
	cr_assert_eq(err.size, sizeof(err));
	cr_assert_eq(err.code, 0);
	cr_assert_eq(err.lane, UINT32_MAX);
	cr_assert_eq(err.region, UINT32_MAX);
	cr_assert_str_eq(err.text, "");
}

Test(fail, system_calls_append_their_cause)
{
	struct rj_error err;

	rji_error_init(&err);
	cr_assert_eq(rji_fail_sys(&err, 0, ENOENT, "cannot open %s", "/x"), -ENOENT);
	cr_assert_eq(err.code, -ENOENT);
	cr_assert_eq(err.sys_errno, ENOENT);
	cr_assert_str_eq(err.text, "cannot open /x: No such file or directory");

	rji_error_init(&err);
	cr_assert_eq(rji_fail_sys(&err, RJ_E_CONNECT, ECONNREFUSED, "no"), RJ_E_CONNECT);
	cr_assert_eq(err.code, RJ_E_CONNECT);
	cr_assert_eq(err.sys_errno, ECONNREFUSED);

	rji_error_init(&err);
	rji_fail_sys(&err, RJ_E_CONNECT, 99999, "odd");
	cr_assert_str_eq(err.text, "odd: unknown error");
}

Test(fail, nowhere_to_record_is_fine)
{
	cr_assert_eq(rji_fail(NULL, RJ_E_URI, "x"), RJ_E_URI);
	cr_assert_eq(rji_fail_sys(NULL, 0, EIO, "x"), -EIO);
}

Test(fail, long_texts_are_cut_and_end_in_a_nul)
{
	char text[2 * RJ_ERROR_TEXT_BYTES];
	struct rj_error err;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	rji_error_init(&err);
	rji_fail_sys(&err, 0, EIO, "%s", text);
	cr_assert_eq(strlen(err.text), RJ_ERROR_TEXT_BYTES - 1);
}

Test(fail, every_code_has_a_text_of_its_own)
{
#define CODE(name, value, text) name,
	static const int codes[] = { RJ_ERROR_LIST(CODE) };
#undef CODE
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		cr_assert_lt(codes[i], -1000);
		cr_assert_str_neq(rj_strerror(codes[i]), "unknown error");
		for (size_t k = 0; k < i; k++) {
			cr_assert_neq(codes[i], codes[k]);
			cr_assert_str_neq(rj_strerror(codes[i]), rj_strerror(codes[k]));
		}
	}
}

Test(fail, strerror_knows_errno_counts_and_nonsense)
{
	cr_assert_str_eq(rj_strerror(0), "success");
	cr_assert_str_eq(rj_strerror(17), "success");
	cr_assert_str_eq(rj_strerror(-EINVAL), "Invalid argument");
	cr_assert_str_eq(rj_strerror(-5000), "unknown error");
	cr_assert_not_null(rj_strerror(INT32_MIN));
}

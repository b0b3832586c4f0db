/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/cpus.h"

static struct rji_cpus cpus_of(const char *list)
{
	struct rji_cpus cpus;

	cr_assert_eq(rji_cpus_parse(list, &cpus), 0, "%s", list);
	return cpus;
}

static const char *text_of(const struct rji_cpus *cpus)
{
	static char text[128];

	cr_assert_eq(rji_cpus_format(cpus, text, sizeof(text)), strlen(text));
	return text;
}

Test(cpus, lists_are_read_and_written_as_the_kernel_does)
{
	static const struct {
		const char *list, *written;
		uint32_t n;
	} good[] = {
		{ "0", "0", 1 },       { "0-3,8", "0-3,8", 5 },	     { "8,0-3", "0-3,8", 5 },
		{ "1,2,3", "1-3", 3 }, { "0-1,1-2", "0-2", 3 },	     { "63-64", "63-64", 2 },
		{ "4095", "4095", 1 }, { "0-4095", "0-4095", 4096 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct rji_cpus cpus = cpus_of(good[i].list);

		cr_assert_eq(rji_cpus_weight(&cpus), good[i].n, "%s", good[i].list);
		cr_assert_str_eq(text_of(&cpus), good[i].written);
	}
}

Test(cpus, a_bad_list_is_refused_and_leaves_the_set_untouched)
{
	static const char *const bad[] = { "",	  ",",	   "0,",   ",0",  "-1", "3-1",
					   "0-",  "0--1",  "a",	   "0 ",  " 0", "+1",
					   "0;1", "0-3-5", "1,,2", "0x1", "1-a" };
	static const char *const large[] = { "4096", "0-4096", "99999999999999999999" };
	struct rji_cpus cpus = cpus_of("7");

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_assert_eq(rji_cpus_parse(bad[i], &cpus), -EINVAL, "'%s'", bad[i]);
	for (size_t i = 0; i < sizeof(large) / sizeof(*large); i++)
		cr_assert_eq(rji_cpus_parse(large[i], &cpus), -ERANGE, "'%s'", large[i]);
	cr_assert_str_eq(text_of(&cpus), "7");
}

Test(cpus, text_that_does_not_fit_says_so_and_stays_inside)
{
	struct rji_cpus cpus = cpus_of("0,2,4,6,8,10,12,14,16-20");

	for (size_t n = 1; n < 40; n++) {
		char text[48];
		size_t len;

		memset(text, '#', sizeof(text));
		len = rji_cpus_format(&cpus, text, n);
		cr_assert_lt(len, n);
		cr_assert_eq(strlen(text), len);
		cr_assert_eq(text[n], '#');
		if (n > 8 && n < 26)
			cr_assert_str_eq(text + len - 3, "...", "%zu: %s", n, text);
	}
	cr_assert_eq(rji_cpus_format(&cpus, NULL, 0), 0);
}

Test(cpus, sets_are_combined)
{
	struct rji_cpus a = cpus_of("0-7,64-71"), b = cpus_of("4-67"), none = { 0 }, r;

	r = rji_cpus_and(&a, &b);
	cr_assert_str_eq(text_of(&r), "4-7,64-67");
	r = rji_cpus_without(&a, &b);
	cr_assert_str_eq(text_of(&r), "0-3,68-71");
	cr_assert(rji_cpus_is_empty(&none));
	cr_assert_not(rji_cpus_is_empty(&a));
	cr_assert_str_eq(text_of(&none), "");
	cr_assert(rji_cpus_has(&a, 71));
	cr_assert_not(rji_cpus_has(&a, 72));
	cr_assert_not(rji_cpus_has(&a, RJI_MAX_CPUS));
	cr_assert_eq(rji_cpus_next(&a, 8), 64);
	cr_assert_eq(rji_cpus_next(&a, 72), RJI_MAX_CPUS);
}

Test(cpus, a_thread_is_bound_to_one_cpu_and_no_other)
{
	struct rji_cpus may, one = { 0 }, now, foreign = { 0 };

	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	rji_cpus_add(&one, rji_cpus_next(&may, 0));
	cr_assert_eq(rji_cpus_bind(&one), 0);
	cr_assert_eq(rji_cpus_of_thread(&now), 0);
	cr_assert(rji_cpus_equal(&now, &one));
	rji_cpus_add(&foreign, RJI_MAX_CPUS - 1);
	cr_assert_eq(rji_cpus_bind(&foreign), -EINVAL);
	cr_assert_eq(rji_cpus_of_thread(&now), 0);
	cr_assert(rji_cpus_equal(&now, &one));
}

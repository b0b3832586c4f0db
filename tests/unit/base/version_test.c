/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include <ramjet/version.h>

Test(version, running_version_is_the_one_compiled_against)
{
	cr_assert_eq(rj_version(), RJ_VERSION);
}

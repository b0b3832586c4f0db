/* SPDX-License-Identifier: BSD-2-Clause */
#include <ramjet/version.h>

uint32_t rj_version(void)
{
	return RJ_VERSION;
}

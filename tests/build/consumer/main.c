/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include <ramjet/version.h>

int main(void)
{
	printf("ramjet %u.%u.%u\n", rj_version() >> 16, (rj_version() >> 8) & 0xff,
	       rj_version() & 0xff);
	return rj_version() == RJ_VERSION ? 0 : 1;
}

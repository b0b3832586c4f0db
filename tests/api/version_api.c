/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include <ramjet/version.h>

int main(void)
{
	if (rj_version() != RJ_VERSION) {
		fprintf(stderr, "library 0x%x, headers 0x%x\n", rj_version(), RJ_VERSION);
		return 1;
	}
	return 0;
}

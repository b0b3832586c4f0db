/* SPDX-License-Identifier: BSD-2-Clause */
/* seeds_sim [FIRST [COUNT]]: whole migrations where nothing is in the way but chance. Each must arrive, each byte right. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/sim_migration.h"

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1,
		 n = argc > 2 ? strtoull(argv[2], NULL, 0) : 20;
	int bad = 0;

	for (uint64_t seed = first; seed < first + n; seed++) {
		struct sim_plan plan;
		char *text;

		sim_plan_init(&plan, seed);
		text = sim_try(&plan, RJ_RUNS_AT_DESTINATION, false, NULL);
		if (text)
			fprintf(stderr, "%s\n", text);
		bad += !!text;
		free(text);
	}
	printf("%llu passed, %d failed\n", (unsigned long long)n - bad, bad);
	return !!bad;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_CASES_H
#define RJ_TESTS_CASES_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Test programs with a main() of their own: a table of cases, of which those are run whose names begin with one of the
 * arguments, all without arguments. Prints a line for each and "N passed, N failed".
 */

struct test_case {
	const char *name;
	bool (*run)(void);
};

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("  %s:%d: not true: %s\n", __FILE__, __LINE__, #condition);         \
			return false;                                                              \
		}                                                                                  \
	} while (0)

static inline bool case_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strncmp(name, argv[i], strlen(argv[i])))
			return true;
	return argc <= 1;
}

/* In a process of its own: limits it lowers stay there, and a crash or a hang is one failure. */
static inline bool case_run_apart(const struct test_case *t, unsigned int limit_s)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		bool ok;

		alarm(limit_s);
		ok = t->run();
		fflush(stdout);
		_exit(ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

/* limit_s 0: in this process. Return what main() returns. */
static inline int cases_run(const struct test_case *t, size_t n, unsigned int limit_s, int argc,
			    char **argv)
{
	int passed = 0, failed = 0;

	for (size_t i = 0; i < n; i++) {
		bool ok;

		if (!case_wanted(t[i].name, argc, argv))
			continue;
		ok = limit_s ? case_run_apart(&t[i], limit_s) : t[i].run();
		printf("%-8s%s\n", ok ? "ok" : "FAILED", t[i].name);
		fflush(stdout);
		passed += ok;
		failed += !ok;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? 1 : 0;
}

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_COMMON_OPTIONS_H
#define BENCH_COMMON_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Command line options as a table: one line each, which is also the line of --help. Long options only; --help and
 * --version are always there.
 */
enum option_kind {
	OPTION_FLAG,   /* bool *, set to true */
	OPTION_TEXT,   /* const char ** */
	OPTION_NUMBER, /* uint32_t *, from min to max */
	OPTION_BYTES,  /* uint64_t *, with K, M, G, T */
	OPTION_CHOICE, /* const char **, one of choices, "a|b|c" */
};

struct bench_option {
	const char *name; /* without the dashes */
	enum option_kind kind;
	void *value;
	const char *argument; /* shown in --help; OPTION_CHOICE: the choices */
	const char *help;     /* NULL: not shown (for tests) */
	uint32_t min, max;    /* OPTION_NUMBER */
};

/* One line of the table each. */
#define BENCH_FLAG(name_, value_, help_)                                                           \
	{                                                                                          \
		.name = name_, .kind = OPTION_FLAG, .value = value_, .help = help_                 \
	}
#define BENCH_TEXT(name_, value_, argument_, help_)                                                \
	{                                                                                          \
		.name = name_, .kind = OPTION_TEXT, .value = value_, .argument = argument_,        \
		.help = help_                                                                      \
	}
#define BENCH_BYTES(name_, value_, argument_, help_)                                               \
	{                                                                                          \
		.name = name_, .kind = OPTION_BYTES, .value = value_, .argument = argument_,       \
		.help = help_                                                                      \
	}
#define BENCH_CHOICE(name_, value_, choices_, help_)                                               \
	{                                                                                          \
		.name = name_, .kind = OPTION_CHOICE, .value = value_, .argument = choices_,       \
		.help = help_                                                                      \
	}
#define BENCH_NUMBER(name_, value_, argument_, min_, max_, help_)                                  \
	{                                                                                          \
		.name = name_, .kind = OPTION_NUMBER, .value = value_, .argument = argument_,      \
		.help = help_, .min = min_, .max = max_                                            \
	}

struct bench_program {
	const char *name;
	const char *summary; /* a sentence or two, for --help */
	const char *example; /* lines at the end of --help */
	const struct bench_option *options;
	size_t n_options;
	const char *operand; /* "[URI]": one word that is not an option; NULL: none is taken */
	const char **operand_value; /* left alone without it */
};

/* What main() returns for a usage error. */
#define BENCH_EXIT_USAGE 2

/*
 * Parse. 0: go on. 1: --help or --version was printed, exit with 0. -EINVAL: a usage error, with a one-line why that names
 * the option and says what is expected.
 */
int options_parse(const struct bench_program *p, int argc, char **argv, char *why,
		  size_t why_bytes);

#endif

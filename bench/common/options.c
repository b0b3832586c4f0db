/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/common/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ramjet/version.h>

#include "bench/common/units.h"

#define MAX_OPTIONS 48

static void print_help(const struct bench_program *p)
{
	printf("Usage: %s [OPTION]...%s%s\n%s\n\n", p->name, p->operand ? " " : "",
	       p->operand ? p->operand : "", p->summary);
	for (size_t i = 0; i < p->n_options; i++) {
		const struct bench_option *o = &p->options[i];
		char left[80];

		if (!o->help)
			continue;
		snprintf(left, sizeof(left), "--%s %s", o->name, o->argument ? o->argument : "");
		if (strlen(left) > 28)
			printf("  %s\n  %-28s  %s\n", left, "", o->help);
		else
			printf("  %-28s  %s\n", left, o->help);
	}
	printf("  %-28s  %s\n  %-28s  %s\n", "--help", "show this", "--version",
	       "show the version");
	printf("\nSizes and rates: K, M, G, T are powers of 1024.\n%s",
	       p->example ? p->example : "");
}

static bool is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	while (*choices) {
		size_t n = strcspn(choices, "|");

		if (n == len && !memcmp(choices, text, n))
			return true;
		choices += n + (choices[n] == '|');
	}
	return false;
}

static int store_number(const struct bench_option *o, const char *text, char *why, size_t why_bytes)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v < o->min || v > o->max) {
		snprintf(why, why_bytes, "--%s %s: write a number from %u to %u", o->name, text,
			 o->min, o->max);
		return -EINVAL;
	}
	*(uint32_t *)o->value = (uint32_t)v;
	return 0;
}

static int store(const struct bench_option *o, const char *text, char *why, size_t why_bytes)
{
	switch (o->kind) {
	case OPTION_FLAG: *(bool *)o->value = true; return 0;
	case OPTION_CHOICE:
		if (!is_choice(o->argument, text)) {
			snprintf(why, why_bytes, "--%s %s: write one of %s", o->name, text,
				 o->argument);
			return -EINVAL;
		}
		*(const char **)o->value = text;
		return 0;
	case OPTION_TEXT: *(const char **)o->value = text; return 0;
	case OPTION_NUMBER: return store_number(o, text, why, why_bytes);
	case OPTION_BYTES:
		if (units_parse(text, o->value) < 0) {
			snprintf(why, why_bytes, "--%s %s: write a size such as 512M or 4G",
				 o->name, text);
			return -EINVAL;
		}
		return 0;
	}
	return -EINVAL;
}

int options_parse(const struct bench_program *p, int argc, char **argv, char *why, size_t why_bytes)
{
	struct option table[MAX_OPTIONS + 3] = { 0 };
	int which, help = (int)p->n_options, version = help + 1;

	for (size_t i = 0; i < p->n_options && i < MAX_OPTIONS; i++)
		table[i] = (struct option){ p->options[i].name,
					    p->options[i].kind == OPTION_FLAG ? no_argument
									      : required_argument,
					    NULL, (int)i };
	table[help] = (struct option){ "help", no_argument, NULL, help };
	table[version] = (struct option){ "version", no_argument, NULL, version };
	opterr = 0;
	optind = 1;
	while ((which = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (which == help) {
			print_help(p);
			return 1;
		}
		if (which == version) {
			printf("%s %d.%d.%d\n", p->name, RJ_VERSION_MAJOR, RJ_VERSION_MINOR,
			       RJ_VERSION_PATCH);
			return 1;
		}
		if (which == '?') {
			snprintf(why, why_bytes,
				 "%s: unknown, or its value is missing; see %s --help",
				 argv[optind - 1], p->name);
			return -EINVAL;
		}
		if (store(&p->options[which], optarg, why, why_bytes) < 0)
			return -EINVAL;
	}
	if (p->operand && optind < argc)
		*p->operand_value = argv[optind++];
	if (optind < argc) {
		snprintf(why, why_bytes, "%s: not an option; see %s --help", argv[optind], p->name);
		return -EINVAL;
	}
	return 0;
}

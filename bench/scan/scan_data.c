/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <ramjet/error.h>

#include "bench/common/units.h"
#include "bench/scan/scan.h"

/* Pages that are the same on each run: made of their number and a seed. */

#define HUGE_BYTES (2ull << 20)

const char *const scan_kind_names[SCAN_KINDS] = { "zero", "random", "text", "process" };
const char *const scan_change_names[SCAN_CHANGES] = { "few", "half", "all" };

static uint64_t next(uint64_t *state) /* splitmix64 */
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* In whole huge pages, or in none. */
static uint8_t *map(size_t bytes, bool huge)
{
	uint8_t *p = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t head;

	if (p == MAP_FAILED)
		return NULL;
	head = (size_t)(-(uintptr_t)p & (HUGE_BYTES - 1));
	if (head)
		munmap(p, head);
	munmap(p + head + bytes, HUGE_BYTES - head);
	p += head;
	madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(p, 1, bytes); /* memory of its own, not the kernel's page of zeros */
	return p;
}

int scan_data_create(struct scan_data *d, const struct scan_opts *o, char *why, size_t why_bytes)
{
	bool huge = !strcmp(o->memory, "huge");

	memset(d, 0, sizeof(*d));
	d->map_bytes = (o->size_bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
	d->n_pages = d->max_pages = o->size_bytes / SCAN_PAGE_BYTES;
	d->now = map(d->map_bytes, huge);
	d->old = map(d->map_bytes, huge);
	d->scratch = map(d->map_bytes, huge);
	d->code = map(d->map_bytes, huge);
	d->code_bytes = calloc(d->n_pages, sizeof(*d->code_bytes));
	if (d->now && d->old && d->scratch && d->code && d->code_bytes)
		return 0;
	snprintf(why, why_bytes, "no memory for four times %s: try a smaller --size",
		 UNITS_BYTES(o->size_bytes));
	scan_data_destroy(d);
	return -ENOMEM;
}

void scan_data_destroy(struct scan_data *d)
{
	uint8_t *const all[] = { d->now, d->old, d->scratch, d->code };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (all[i])
			munmap(all[i], d->map_bytes);
	}
	free(d->code_bytes);
	memset(d, 0, sizeof(*d));
}

static void fill_random(uint8_t *p, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t v = next(&seed);

		memcpy(p + i, &v, sizeof(v));
	}
}

/* Words, the first ones more often, and numbers between them: as logs and sources are. */
static void fill_text(uint8_t *p, size_t bytes, uint64_t seed)
{
	static const char *const words[] = {
		"the",	    "of",      "to",	  "and",     "a",	"in",	    "is",
		"page",	    "guest",   "memory",  "that",    "for",	"it",	    "as",
		"was",	    "with",    "be",	  "on",	     "not",	"by",	    "are",
		"this",	    "from",    "at",	  "which",   "have",	"all",	    "return",
		"error",    "struct",  "const",	  "static",  "if",	"else",	    "while",
		"include",  "network", "kernel",  "address", "length",	"buffer",   "request",
		"started",  "stopped", "warning", "info",    "debug",	"thread",   "process",
		"session",  "channel", "timeout", "client",  "server",	"location", "message",
		"total",    "version", "between", "without", "through", "system",   "device",
		"register",
	};
	size_t at = 0;

	while (at < bytes) {
		uint64_t r = next(&seed);
		uint32_t a = (uint32_t)(r & 63), b = (uint32_t)(r >> 6 & 63);
		char word[24];
		int n;

		if ((r >> 12 & 15) == 0)
			n = snprintf(word, sizeof(word), "%u ", (unsigned int)(r >> 32 & 0xffff));
		else
			n = snprintf(word, sizeof(word), "%s%s", words[a < b ? a : b],
				     (r >> 16 & 15) == 0 ? ",\n" : " ");
		for (int i = 0; i < n && at < bytes; i++)
			p[at++] = (uint8_t)word[i];
	}
}

static void fill(uint8_t *p, size_t bytes, enum scan_kind kind, uint64_t seed)
{
	if (kind == SCAN_TEXT_LIKE)
		fill_text(p, bytes, seed);
	else if (kind == SCAN_RANDOM)
		fill_random(p, bytes, seed);
	else
		memset(p, 0, bytes);
}

void scan_data_fill(struct scan_data *d, enum scan_kind kind)
{
	d->n_pages = d->max_pages;
	for (uint64_t i = 0; i < d->n_pages; i++)
		fill(d->old + i * SCAN_PAGE_BYTES, SCAN_PAGE_BYTES, kind, i);
	memcpy(d->now, d->old, d->n_pages * SCAN_PAGE_BYTES);
}

/* Zeros change into something else, random bytes into others, and text into other text. */
void scan_data_change(struct scan_data *d, enum scan_kind kind, enum scan_change change)
{
	enum scan_kind into = kind == SCAN_ZERO ? SCAN_RANDOM : kind;

	memcpy(d->now, d->old, d->n_pages * SCAN_PAGE_BYTES);
	for (uint64_t i = 0; i < d->n_pages; i++) {
		uint8_t *page = d->now + i * SCAN_PAGE_BYTES;
		uint64_t seed = i + (1ull << 40);

		if (change == SCAN_ALL)
			fill(page, SCAN_PAGE_BYTES, into, seed);
		else if (change == SCAN_HALF)
			fill(page + SCAN_PAGE_BYTES / 4, SCAN_PAGE_BYTES / 2, into, seed);
		for (int n = 0; n < 8 && change == SCAN_FEW; n++)
			page[next(&seed) % SCAN_PAGE_BYTES] ^= 0x55;
	}
}

void scan_data_only_changed(struct scan_data *d)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < d->n_pages; i++) {
		size_t from = i * SCAN_PAGE_BYTES, to = n * SCAN_PAGE_BYTES;

		if (!memcmp(d->old + from, d->now + from, SCAN_PAGE_BYTES))
			continue;
		memmove(d->old + to, d->old + from, SCAN_PAGE_BYTES);
		memmove(d->now + to, d->now + from, SCAN_PAGE_BYTES);
		n++;
	}
	d->n_pages = n;
}

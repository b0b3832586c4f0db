/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_pattern.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Unless asked for all of it, the filling leaves the last of this many 2 MiB blocks alone, so that a
 * guest has zero pages and holes, too. */
#define FILL_BLOCKS 16u
#define BLOCK_PAGES 512u

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	return x * GUEST_MIX_2;
}

void guest_areas_init(struct guest_areas *a, const struct guest_opts *o)
{
	uint64_t rest = o->size_bytes - o->free_bytes - o->zero_bytes;

	a->work_end = (o->used_bytes ? o->used_bytes : rest) / GUEST_PAGE_BYTES;
	a->free_end = a->work_end + o->free_bytes / GUEST_PAGE_BYTES;
	a->zero_end = a->free_end + o->zero_bytes / GUEST_PAGE_BYTES;
}

void guest_writes_init(struct guest_writes *gw, const struct guest_opts *o, uint32_t i, uint32_t n)
{
	struct guest_areas a;
	uint64_t area;

	guest_areas_init(&a, o);
	area = a.work_end * GUEST_PAGE_BYTES - GUEST_LOW_BYTES;
	if (o->workload.kind == WORKLOAD_HOT && o->workload.hot_bytes < area)
		area = o->workload.hot_bytes;
	*gw = (struct guest_writes){
		.sweep = o->workload.kind == WORKLOAD_SWEEP,
		.seed = o->seed + i,
		.first = GUEST_LOW_BYTES / GUEST_PAGE_BYTES + i,
		.step = n,
		.n_pages = (area / GUEST_PAGE_BYTES + n - 1 - i) / n,
	};
}

/* payload.S does the same. */
uint64_t guest_page_of(const struct guest_writes *gw, uint64_t s)
{
	uint64_t i;

	if (gw->sweep)
		i = (s - 1) % gw->n_pages;
	else
		i = (uint64_t)(((unsigned __int128)mix(gw->seed + s * GUEST_MIX_1) * gw->n_pages) >>
			       64);
	return gw->first + i * gw->step;
}

static uint64_t word_of(uint64_t base, uint32_t i)
{
	return mix(base + i * GUEST_MIX_1);
}

static uint64_t base_of(uint64_t seed, uint64_t number)
{
	return mix(mix(seed + 1) + number * GUEST_MIX_1);
}

AS_GUESTS_DO void guest_page_fill(uint64_t *words, uint64_t seed, uint64_t number,
				  uint64_t first_word)
{
	uint64_t base = base_of(seed, number);

	words[0] = first_word;
	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		words[i] = word_of(base, i);
}

bool guest_page_is(const uint64_t *words, uint64_t seed, uint64_t number, uint64_t first_word)
{
	uint64_t base = base_of(seed, number), differs = words[0] ^ first_word;

	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		differs |= words[i] ^ word_of(base, i);
	return !differs;
}

/*
 * Text of 128 words, of which few are frequent, and numbers in between: zstd makes 0.43 of a page of it at
 * level 1, and 0.45 to 0.54 of pages of this project's documents.
 */
static uint64_t text_word(uint64_t r)
{
	static const char heads[32][5] = {
		"inte", "comp", "stat", "requ", "conn", "addr", "file", "user",
		"time", "memo", "page", "ever", "othe", "wher", "some", "thin",
		"work", "name", "peop", "over", "unde", "form", "back", "call",
		"valu", "read", "writ", "line", "erro", "syst", "proc", "sess",
	};
	static const char tails[4][5] = { "ing ", "ion ", "ed, ", "er. " };
	uint64_t a = r >> 57, b = r >> 50 & 127, i = a < b ? a : b;
	char text[8];
	uint64_t word;

	if (r % 3) {
		memcpy(text, heads[i >> 2], 4);
		memcpy(text + 4, tails[i & 3], 4);
	} else {
		r >>= 24;
		for (uint32_t k = 0; k < 7; k++, r /= 10)
			text[k] = (char)('0' + r % 10);
		text[7] = ' ';
	}
	memcpy(&word, text, sizeof(word));
	return word;
}

void guest_filling(uint64_t *words, const struct guest_opts *o, uint64_t page)
{
	uint64_t base = base_of(o->seed, page);

	if (!o->fill_text) {
		guest_page_fill(words, o->seed, page, 0);
		return;
	}
	words[0] = 0;
	for (uint32_t i = 1; i < GUEST_PAGE_WORDS; i++)
		words[i] = text_word(word_of(base, i));
}

uint64_t guest_own_number(const struct guest_opts *o, uint64_t use)
{
	return mix(mix(o->seed + GUEST_MIX_2) + use * GUEST_MIX_1);
}

bool guest_is_filled(const struct guest_opts *o, const struct guest_areas *a, uint64_t page)
{
	if (page >= a->work_end)
		return page < a->free_end;
	return o->fill_all || page / BLOCK_PAGES % FILL_BLOCKS != FILL_BLOCKS - 1;
}

/* What the newest write to a page has left in it; 0: there was none that shows. */
struct expected {
	const struct guest_opts *o;
	struct guest_areas areas;
	uint32_t step; /* words between those that a write changes */
	uint64_t *left;
};

static bool is_expected(const struct expected *e, const uint64_t *words, uint64_t page)
{
	uint64_t want[GUEST_PAGE_WORDS] = { 0 }, left = e->left[page];

	if (guest_is_filled(e->o, &e->areas, page))
		guest_filling(want, e->o, page);
	for (uint32_t i = 0; left && i < GUEST_PAGE_WORDS; i += e->step)
		want[i] = left;
	return !memcmp(words, want, sizeof(want));
}

static int say_bad(const uint64_t *words, uint64_t page, uint64_t want, char *why, size_t why_bytes)
{
	if (words[0] < want)
		snprintf(why, why_bytes,
			 "page %" PRIu64 " is stale or lost: it holds write %" PRIu64
			 ", the guest's newest to it was %" PRIu64,
			 page, words[0], want);
	else
		snprintf(why, why_bytes,
			 "page %" PRIu64 " is not what the guest left: first word %" PRIu64
			 ", expected %" PRIu64,
			 page, words[0], want);
	return -EIO;
}

static int check_pages(const struct expected *e, const uint64_t *ram, char *why, size_t why_bytes)
{
	uint64_t n_pages = e->o->size_bytes / GUEST_PAGE_BYTES;

	for (uint64_t p = GUEST_LOW_BYTES / GUEST_PAGE_BYTES; p < n_pages; p++) {
		const uint64_t *words = ram + p * GUEST_PAGE_WORDS;
		bool is_free = p >= e->areas.work_end && p < e->areas.free_end;

		if (!is_free && !is_expected(e, words, p))
			return say_bad(words, p, e->left[p], why, why_bytes);
	}
	return 0;
}

/* A sweep's past rounds need not be walked through. */
static uint64_t first_of_interest(const struct guest_writes *gw, uint64_t done)
{
	return gw->sweep && done > gw->n_pages ? done - gw->n_pages + 1 : 1;
}

static void note_writes(struct expected *e, const struct guest_writes *gw, uint64_t done)
{
	bool toggles = e->o->workload.kind == WORKLOAD_ABA;

	for (uint64_t s = first_of_interest(gw, done); s <= done; s++) {
		uint64_t *left = &e->left[guest_page_of(gw, s)];

		*left = toggles ? *left ^ GUEST_MIX_1 : s;
	}
}

static uint32_t words_between(const struct guest_workload *w)
{
	return w->kind == WORKLOAD_SPARSE ? (uint32_t)(GUEST_PAGE_BYTES / w->change_bytes)
					  : GUEST_PAGE_WORDS;
}

int guest_check_writes(const struct guest_opts *o, const void *ram, const struct guest_writes *gw,
		       const uint64_t *done, uint32_t n, char *why, size_t why_bytes)
{
	size_t bytes = o->size_bytes / GUEST_PAGE_BYTES * sizeof(uint64_t);
	struct expected e = { .o = o, .step = words_between(&o->workload) };
	int ret;

	e.left = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (e.left == MAP_FAILED) {
		snprintf(why, why_bytes, "no memory for checking %zu bytes of records", bytes);
		return -ENOMEM;
	}
	guest_areas_init(&e.areas, o);
	for (uint32_t i = 0; i < n && o->workload.kind != WORKLOAD_SAME; i++)
		note_writes(&e, &gw[i], done[i]);
	ret = check_pages(&e, ram, why, why_bytes);
	munmap(e.left, bytes);
	return ret;
}

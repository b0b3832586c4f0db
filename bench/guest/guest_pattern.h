/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_PATTERN_H
#define BENCH_GUEST_GUEST_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/guest/guest.h"

/*
 * The ordered record of what a guest wrote. It is not stored anywhere: write number s (1, 2, …) of
 * a writer goes to page guest_page_of(s), and puts s into its first word. So whoever knows how many
 * writes there were knows what each page must hold, to the byte: the filling of the page's creation
 * and the number of the newest write to it. A page that got lost or stayed old cannot hide.
 *
 * WORKLOAD_SPARSE puts s into several words at equal distances. WORKLOAD_ABA toggles the first word
 * between 0 and GUEST_MIX_1: of its writes only the number to each page can be told. WORKLOAD_SAME's
 * leave no trace at all.
 */

#define GUEST_PAGE_BYTES ((uint64_t)4096)
#define GUEST_PAGE_WORDS 512u
/* RAM below this is not written by the workload: payload, page tables, device. */
#define GUEST_LOW_BYTES (2ull << 20)

#define GUEST_MIX_1 0x9e3779b97f4a7c15ull
#define GUEST_MIX_2 0xbf58476d1ce4e5b9ull

/*
 * Of a function that writes guest RAM, as guests and their devices do: it races with the lanes, which read
 * RAM to send it. What is written is marked dirty and sent again, so TSan need not look.
 */
#define AS_GUESTS_DO __attribute__((no_sanitize("thread")))

/*
 * What RAM is used for, in pages: [0, work_end) the guest uses, of which its workload writes all above
 * GUEST_LOW_BYTES; up to free_end is free (guest_free.h); up to zero_end there are zeros that were
 * written; the rest was never touched.
 */
struct guest_areas {
	uint64_t work_end, free_end, zero_end;
};

void guest_areas_init(struct guest_areas *a, const struct guest_opts *o);

/* One writer's share of the pages: first, first + step, …, n_pages of them. */
struct guest_writes {
	bool sweep;
	uint64_t seed;
	uint64_t first, step, n_pages;
};

/* The share of writer i of n. */
void guest_writes_init(struct guest_writes *gw, const struct guest_opts *o, uint32_t i, uint32_t n);

/* The page (of RAM) that write s goes to, s > 0. */
uint64_t guest_page_of(const struct guest_writes *gw, uint64_t s);

/* Fill the pages above GUEST_LOW_BYTES as they are before the first write. 0 or -errno. */
int guest_fill(void *ram, const struct guest_opts *o);

/* Is the page filled at first? What with: words 1 to the last; word 0 is 0. */
bool guest_is_filled(const struct guest_opts *o, const struct guest_areas *a, uint64_t page);
void guest_filling(uint64_t *words, const struct guest_opts *o, uint64_t page);

/* A number that only this guest has, for each use. */
uint64_t guest_own_number(const struct guest_opts *o, uint64_t use);

/* A page as the filling, and the device with a seed of its own, make it; the first word is given.
 */
void guest_page_fill(uint64_t *words, uint64_t seed, uint64_t number, uint64_t first_word);
bool guest_page_is(const uint64_t *words, uint64_t seed, uint64_t number, uint64_t first_word);

/* n writers that made done[i] writes each: does all RAM above GUEST_LOW_BYTES, but for the free area,
 * hold what it must? 0; -EIO with why; -ENOMEM. */
int guest_check_writes(const struct guest_opts *o, const void *ram, const struct guest_writes *gw,
		       const uint64_t *done, uint32_t n, char *why, size_t why_bytes);

#endif

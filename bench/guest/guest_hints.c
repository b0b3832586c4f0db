/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_hints.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/guest/guest_impl.h"

#define TAG_HINTS 3u

_Static_assert(GUEST_HINT_NUMBERS + GUEST_TURNING_MAX * 8 <= GUEST_LOW_BYTES, "low RAM");

static uint64_t *words_at(const struct guest *g, uint64_t offset)
{
	return (uint64_t *)(g->mem.host + offset);
}

static uint64_t get(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE); /* pairs with put() of the other side */
}

static void put(uint64_t *word, uint64_t v)
{
	__atomic_store_n(word, v,
			 __ATOMIC_RELEASE); /* what was written before it is seen with it */
}

void guest_hints_init(struct guest *g, bool empty)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t *control = words_at(g, GUEST_CONTROL);

	guest_free_init(&g->hints.area, &g->o);
	if (empty || !f->n)
		return;
	control[HINT_TOLD] = f->n_blocks;
	control[HINT_N_BLOCKS] = f->n_blocks;
	control[HINT_BLOCK] = f->block;
	control[HINT_N_PAGES] = f->n;
	control[HINT_FIRST] = f->first;
	control[HINT_N_TURNING] = f->n_turning;
	control[HINT_KEY] = f->key;
	words_at(g, GUEST_HINT_VMM)[HINT_WAIT] = g->o.hints == GUEST_HINTS_REPORTING;
}

/* --- the VMM's side --- */

/* It stores by the mapping that no userfaultfd watches, where there are two. */
static uint64_t *vmm_words(const struct guest *g, uint64_t offset)
{
	return (uint64_t *)(g->dev.ram + offset);
}

static int give_up(struct guest *g, uint64_t page, uint64_t n)
{
	snprintf(g->broken, sizeof(g->broken),
		 "the guest's hint of %" PRIu64 " free pages at page %" PRIu64 " is nonsense", n,
		 page);
	return -EIO;
}

/* One region's part of a hint. */
static void tell_part(struct guest *g, const struct guest_region *r, uint64_t start, uint64_t end)
{
	uint64_t r_end = r->offset + r->len_bytes;
	int ret;

	start = start > r->offset ? start : r->offset;
	end = end < r_end ? end : r_end;
	if (start >= end)
		return;
	ret = rj_mark_free(g->session, r->number, start - r->offset, end - start,
			   g->hints.generation);
	if (ret < 0)
		atomic_fetch_add(&g->hints.refused_hints, 1);
	else
		atomic_fetch_add(&g->hints.taken_pages, (uint64_t)ret);
}

/* A page of another round may have been written since it was hinted, without a trace. */
static bool is_told(const struct guest *g, uint64_t round)
{
	if (!g->session || g->o.hints == GUEST_HINTS_NONE)
		return false;
	return g->o.hints == GUEST_HINTS_REPORTING || (round && round == g->hints.round);
}

static int take_hint(struct guest *g, const uint64_t *hint)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t page = hint[0] & UINT32_MAX, n = hint[0] >> 32;

	if (page < f->first || !n || page - f->first >= f->n || n > f->first + f->n - page)
		return give_up(g, page, n);
	atomic_fetch_add(&g->hints.n_hints, 1);
	atomic_fetch_add(&g->hints.hinted_pages, n);
	if (!is_told(g, hint[1]))
		return 0;
	for (uint32_t i = 0; i < g->n_regions; i++)
		tell_part(g, &g->regions[i], page * GUEST_PAGE_BYTES,
			  (page + n) * GUEST_PAGE_BYTES);
	return 0;
}

static int take_hints(struct guest *g, const struct ticker *t)
{
	uint64_t *vmm = vmm_words(g, GUEST_HINT_VMM), acked = vmm[HINT_ACKED];
	uint64_t hints = get(&vmm_words(g, GUEST_CONTROL)[HINT_HINTS]);
	int ret = hints - acked > GUEST_HINTS_N ? give_up(g, 0, hints - acked) : 0;

	if (hints == acked)
		return 0;
	for (; !ret && acked != hints && !ticker_must_stop(t); acked++)
		ret = take_hint(g, vmm_words(g, GUEST_HINT_RING) + acked % GUEST_HINTS_N * 2);
	put(&vmm[HINT_ACKED], acked);
	guest_mark(g, GUEST_HINT_VMM, GUEST_PAGE_BYTES);
	return ret;
}

/* Asked for before the session sends: later. */
static void begin_round(struct guest *g)
{
	uint64_t *vmm = vmm_words(g, GUEST_HINT_VMM), generation = RJ_FREE_REPORTED;
	int ret = 0;

	if (g->o.hints == GUEST_HINTS_BALLOON)
		ret = rj_free_begin(g->session, &generation);
	if (ret == RJ_E_STATE)
		return;
	atomic_store(&g->hints.asked, false);
	if (ret < 0)
		return;
	g->hints.generation = generation;
	g->hints.round = vmm[HINT_VMM_ROUND] + 1;
	put(&vmm[HINT_VMM_ROUND], g->hints.round);
	guest_mark(g, GUEST_HINT_VMM, GUEST_PAGE_BYTES);
}

static int vmm_tick(void *arg, struct ticker *t, uint64_t n_pages)
{
	struct guest *g = arg;
	int ret;

	pthread_rwlock_rdlock(&g->marking);
	if (g->session && g->o.hints != GUEST_HINTS_NONE && atomic_load(&g->hints.asked))
		begin_round(g);
	ret = take_hints(g, t);
	pthread_rwlock_unlock(&g->marking);
	return ret;
}

int guest_hints_start(struct guest *g, char *why, size_t why_bytes)
{
	int ret;

	if (!g->hints.area.n)
		return 0;
	g->hints.vmm.tick = vmm_tick;
	g->hints.vmm.arg = g;
	ret = ticker_init(&g->hints.vmm, "vmm-hints");
	g->hints.has_thread = !ret;
	if (ret)
		snprintf(why, why_bytes, "cannot start a guest's thread: %s",
			 strerrordesc_np(-ret));
	return ret;
}

void guest_hints_fini(struct guest *g)
{
	if (g->hints.has_thread)
		ticker_fini(&g->hints.vmm);
	g->hints.has_thread = false;
}

void guest_hints_forget(struct guest *g)
{
	g->hints.round = 0;
	g->hints.generation = RJ_FREE_REPORTED;
	atomic_store(&g->hints.asked, false);
}

int guest_hints_run(struct guest *g)
{
	g->hints.loaded = false;
	return g->hints.has_thread ? ticker_run(&g->hints.vmm) : 0;
}

void guest_hints_pause(struct guest *g)
{
	if (g->hints.has_thread)
		ticker_pause(&g->hints.vmm);
}

void guest_ask_hints(struct guest *g)
{
	atomic_store(&g->hints.asked, true);
}

/* --- the guest's side --- */

uint32_t guest_hints_of_tick(struct guest *g)
{
	struct guest_hints *h = &g->hints;
	uint64_t n;

	if (!h->area.n)
		return 0;
	h->fraction += g->o.reuse_bytes_per_s / GUEST_PAGE_BYTES;
	n = h->fraction / 1000;
	h->fraction %= 1000;
	return (uint32_t)n; /* REUSE_MAX is small enough */
}

static bool has_room(const struct guest *g)
{
	return words_at(g, GUEST_CONTROL)[HINT_HINTS] -
		       get(&words_at(g, GUEST_HINT_VMM)[HINT_ACKED]) <
	       GUEST_HINTS_N;
}

AS_GUESTS_DO static void hint(struct guest *g, uint64_t page, uint64_t n)
{
	uint64_t *control = words_at(g, GUEST_CONTROL);
	uint64_t *ring = words_at(g, GUEST_HINT_RING) + control[HINT_HINTS] % GUEST_HINTS_N * 2;

	ring[0] = page | n << 32;
	ring[1] = get(&words_at(g, GUEST_HINT_VMM)[HINT_VMM_ROUND]);
	put(&control[HINT_HINTS], control[HINT_HINTS] + 1);
}

AS_GUESTS_DO static void take_one(struct guest *g)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t *control = words_at(g, GUEST_CONTROL), *vmm = words_at(g, GUEST_HINT_VMM);
	uint64_t k = control[HINT_TAKEN] & (f->n_turning - 1), page = f->first + k * f->block;
	volatile uint64_t *words = words_at(g, page * GUEST_PAGE_BYTES);

	if (control[HINT_FREED] == control[HINT_TAKEN])
		return;
	if (vmm[HINT_WAIT] && get(&vmm[HINT_ACKED]) < words_at(g, GUEST_HINT_NUMBERS)[k])
		return;
	control[HINT_TAKEN]++;
	for (uint32_t i = 0; i < GUEST_PAGE_WORDS; i++)
		words[i] = f->key + control[HINT_TAKEN];
	if (g->tracked_by_marks)
		guest_mark(g, page * GUEST_PAGE_BYTES, GUEST_PAGE_BYTES);
}

AS_GUESTS_DO static void free_some(struct guest *g)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t *control = words_at(g, GUEST_CONTROL);
	uint64_t target = guest_free_target(f, control[HINT_TAKEN]);

	while (control[HINT_FREED] - control[HINT_TAKEN] < target && has_room(g)) {
		uint64_t k = control[HINT_FREED]++ & (f->n_turning - 1);

		hint(g, f->first + k * f->block, 1);
		words_at(g, GUEST_HINT_NUMBERS)[k] = control[HINT_HINTS];
	}
}

AS_GUESTS_DO static void tell_some(struct guest *g)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t *control = words_at(g, GUEST_CONTROL);
	uint64_t round = get(&words_at(g, GUEST_HINT_VMM)[HINT_VMM_ROUND]);

	if (round != control[HINT_ROUND]) {
		control[HINT_ROUND] = round;
		control[HINT_TOLD] = 0;
	}
	for (uint32_t i = 0; i < GUEST_HINTS_PER_TICK && control[HINT_TOLD] < f->n_blocks; i++) {
		uint64_t at = control[HINT_TOLD] * f->block;
		uint64_t n = f->n - at < f->block ? f->n - at : f->block;
		uint64_t turning = control[HINT_TOLD] < f->n_turning;

		if (!has_room(g))
			return;
		control[HINT_TOLD]++;
		if (n > turning)
			hint(g, f->first + at + turning, n - turning);
	}
}

AS_GUESTS_DO void guest_hints_tick(struct guest *g, uint32_t n_take)
{
	while (n_take--) {
		take_one(g);
		free_some(g);
	}
	tell_some(g);
	if (!g->tracked_by_marks)
		return;
	guest_mark(g, GUEST_CONTROL, GUEST_PAGE_BYTES);
	guest_mark(g, GUEST_HINT_RING, GUEST_PAGE_BYTES);
	guest_mark(g, GUEST_HINT_NUMBERS, GUEST_PAGE_BYTES);
}

/* --- what travels, and what is looked at --- */

static void take_counts(const struct guest *g, uint64_t *counts)
{
	memcpy(counts, words_at(g, GUEST_CONTROL) + HINT_TAKEN, 5 * sizeof(*counts));
	memcpy(counts + 5, words_at(g, GUEST_HINT_VMM), 2 * sizeof(*counts));
}

void guest_hints_save(const struct guest *g, struct guest_state *st)
{
	uint64_t counts[HINT_COUNTS];

	if (!g->hints.area.n)
		return;
	take_counts(g, counts);
	for (uint32_t i = 0; i < HINT_COUNTS; i++)
		counts[i] = htole64(counts[i]);
	guest_state_put(st, TAG_HINTS, counts, sizeof(counts));
}

int guest_hints_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	uint64_t counts[HINT_COUNTS];
	int ret;

	if (!g->hints.area.n)
		return 0;
	ret = guest_state_take(st, TAG_HINTS, counts, sizeof(counts), why, why_bytes);
	for (uint32_t i = 0; i < HINT_COUNTS && !ret; i++)
		g->hints.counts[i] = le64toh(counts[i]);
	g->hints.loaded = !ret;
	return ret;
}

bool guest_page_is_free(const struct guest *g, uint64_t page)
{
	const uint64_t *control = words_at(g, GUEST_CONTROL);

	return g->hints.area.n && g->o.hints != GUEST_HINTS_NONE &&
	       guest_free_is(&g->hints.area, control[HINT_FREED], control[HINT_TAKEN], page);
}

void guest_free_figures(const struct guest *g, struct guest_free_figures *f)
{
	const struct guest_hints *h = &g->hints;
	const uint64_t *control = words_at(g, GUEST_CONTROL);

	*f = (struct guest_free_figures){
		.n_hints = h->n_hints,
		.hinted_pages = h->hinted_pages,
		.taken_pages = h->taken_pages,
		.refused_hints = h->refused_hints,
	};
	if (h->area.n)
		f->free_pages = guest_free_n(&h->area, control[HINT_FREED], control[HINT_TAKEN]);
}

static enum guest_content content_of(const struct guest *g, uint64_t page)
{
	return guest_free_content(&g->hints.area, &g->o, words_at(g, GUEST_CONTROL)[HINT_TAKEN],
				  page, words_at(g, page * GUEST_PAGE_BYTES));
}

uint64_t guest_free_zero_pages(const struct guest *g)
{
	const struct guest_free *f = &g->hints.area;
	uint64_t n = 0;

	for (uint64_t p = f->first; p < f->first + f->n; p++)
		n += guest_page_is_free(g, p) && content_of(g, p) == GUEST_CONTENT_ZERO;
	return n;
}

static int check_contents(const struct guest *g, char *why, size_t why_bytes)
{
	const struct guest_free *f = &g->hints.area;

	for (uint64_t p = f->first; p < f->first + f->n; p++) {
		enum guest_content content = content_of(g, p);
		bool is_free = guest_page_is_free(g, p);

		if (content == GUEST_CONTENT_NEWEST || (is_free && content != GUEST_CONTENT_WRONG))
			continue;
		snprintf(why, why_bytes,
			 "page %" PRIu64
			 ", %s, is not what the guest left%s: first word 0x%" PRIx64,
			 p, is_free ? "free" : "in use after it was free",
			 is_free ? " and nothing it ever had there" : "",
			 *words_at(g, p * GUEST_PAGE_BYTES));
		return -EIO;
	}
	return 0;
}

int guest_hints_check(const struct guest *g, char *why, size_t why_bytes)
{
	const uint64_t *control = words_at(g, GUEST_CONTROL);
	uint64_t counts[HINT_COUNTS];

	if (!g->hints.area.n)
		return 0;
	take_counts(g, counts);
	if ((g->hints.loaded && memcmp(counts, g->hints.counts, sizeof(counts)) != 0) ||
	    control[HINT_FREED] - control[HINT_TAKEN] > g->hints.area.n_turning) {
		snprintf(why, why_bytes,
			 "page 1 or 144, where hints are counted, is stale or lost: %" PRIu64
			 " pages freed, %" PRIu64 " taken",
			 control[HINT_FREED], control[HINT_TAKEN]);
		return -EIO;
	}
	return check_contents(g, why, why_bytes);
}

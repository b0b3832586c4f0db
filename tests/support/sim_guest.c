/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_guest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"

#define HOT_UNITS 8
#define SIM_GARBAGE 0xbad00bad00bad00bull
#define SIM_CONTENT_B 0xb0b0b0b0b0b0b0b0ull

struct sim_guest *sim_guest_create_empty(uint64_t seed)
{
	struct sim_guest *g = calloc(1, sizeof(*g));

	assert(g);
	pthread_rwlock_init(&g->gate, NULL);
	pthread_mutex_init(&g->step_lock, NULL);
	g->random = sim_split(seed, 1);
	return g;
}

static void *map_memory(struct sim_region *r)
{
	int flags = r->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	uintptr_t base, host;

	/* Room to align, then the memory itself into it. */
	r->map_bytes = r->len_bytes + r->page_bytes;
	r->map = mmap(NULL, r->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(r->map != MAP_FAILED);
	base = (uintptr_t)r->map;
	host = (base + r->page_bytes - 1) / r->page_bytes * r->page_bytes;
	return mmap((char *)r->map + (host - base), r->len_bytes, PROT_READ | PROT_WRITE,
		    flags | MAP_FIXED, r->fd, 0);
}

static void log_init(struct sim_log *log, uint64_t n_pages)
{
	log->dirty = calloc(rji_bitmap_words(n_pages), sizeof(uint64_t));
	log->armed = calloc(rji_bitmap_words(n_pages), sizeof(uint64_t));
	assert(log->dirty && log->armed);
}

struct sim_region *sim_guest_add_region(struct sim_guest *g, const char *name, uint64_t len_bytes,
					uint32_t page_bytes, uint32_t flags, bool as_file,
					bool garbage)
{
	struct sim_region *r = &g->region[g->n_regions++];

	assert(g->n_regions <= SIM_MAX_REGIONS);
	snprintf(r->name, sizeof(r->name), "%s", name);
	r->len_bytes = len_bytes;
	r->page_bytes = page_bytes;
	r->flags = flags;
	r->n_pages = len_bytes / page_bytes;
	r->n_units = len_bytes / SIM_UNIT_BYTES;
	r->fd = as_file ? memfd_create("sim", MFD_CLOEXEC) : -1;
	assert(!as_file || (r->fd >= 0 && !ftruncate(r->fd, (off_t)len_bytes)));
	r->words = map_memory(r);
	assert(r->words != MAP_FAILED);
	pthread_mutex_init(&r->lock, NULL);
	log_init(&r->vcpu, r->n_pages);
	log_init(&r->io, r->n_pages);
	r->floor = calloc(r->n_units, sizeof(*r->floor));
	r->ceiling = calloc(r->n_units, sizeof(*r->ceiling));
	r->freed = calloc(r->n_pages, sizeof(*r->freed));
	assert(r->floor && r->ceiling && r->freed);
	for (uint64_t u = 0; garbage && u < r->n_units; u++)
		atomic_store_explicit(&r->words[u * SIM_UNIT_WORDS + SIM_UNIT_WORDS - 1],
				      SIM_GARBAGE, memory_order_relaxed);
	return r;
}

static void run_a_little(struct sim_guest *g)
{
	g->running = true;
	atomic_store(&g->budget, INT64_MAX);
	sim_guest_step(g, 200);
	atomic_store(&g->budget, 0);
}

struct sim_guest *sim_guest_create(uint64_t seed)
{
	static const uint32_t page_sizes[] = { 4096, 4096, 4096, 16384, 65536 };
	struct sim_guest *g = sim_guest_create_empty(seed);
	struct sim_random r = sim_split(seed, 2);
	uint32_t n = 1 + (uint32_t)sim_below(&r, 4);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t page = page_sizes[sim_below(&r, 5)];
		uint64_t units = sim_chance(&r, 70) ? 16 + sim_below(&r, 200)
						    : 500 + sim_below(&r, 1000);
		uint64_t len = (units * SIM_UNIT_BYTES + page - 1) / page * page;
		char name[32];

		snprintf(name, sizeof(name), "ram%u", i);
		sim_guest_add_region(g, name, len, page, sim_chance(&r, 15) ? RJ_REGION_MARKED : 0,
				     sim_chance(&r, 25), false);
	}
	g->hot_percent = (uint32_t)sim_below(&r, 101);
	run_a_little(g);
	return g;
}

struct sim_guest *sim_guest_create_of(uint64_t seed, uint32_t n_pages)
{
	struct sim_guest *g = sim_guest_create_empty(seed);

	sim_guest_add_region(g, "ram0", (uint64_t)n_pages * SIM_UNIT_BYTES, SIM_UNIT_BYTES, 0,
			     false, false);
	run_a_little(g);
	return g;
}

void sim_guest_destroy(struct sim_guest **g_p)
{
	struct sim_guest *g = *g_p;

	if (!g)
		return;
	for (uint32_t i = 0; i < g->n_regions; i++) {
		struct sim_region *r = &g->region[i];

		munmap(r->map, r->map_bytes);
		if (r->fd >= 0)
			close(r->fd);
		pthread_mutex_destroy(&r->lock);
		free(r->vcpu.dirty);
		free(r->vcpu.armed);
		free(r->io.dirty);
		free(r->io.armed);
		free(r->floor);
		free(r->ceiling);
		free(r->freed);
	}
	pthread_rwlock_destroy(&g->gate);
	pthread_mutex_destroy(&g->step_lock);
	free(g);
	*g_p = NULL;
}

struct sim_region *sim_guest_find(struct sim_guest *g, const char *name)
{
	for (uint32_t i = 0; i < g->n_regions; i++) {
		if (!strcmp(g->region[i].name, name))
			return &g->region[i];
	}
	return NULL;
}

int sim_guest_attach(struct sim_guest *g, struct rj_session *s, bool give)
{
	int ret = 0;

	for (uint32_t i = 0; give && !ret && i < g->n_regions; i++) {
		struct sim_region *r = &g->region[i];
		struct rj_region desc;

		rj_region_init(&desc);
		desc.name = r->name;
		desc.host = (void *)r->words;
		desc.len_bytes = r->len_bytes;
		desc.page_bytes = r->page_bytes;
		desc.flags = r->flags;
		desc.fd = r->fd;
		ret = rj_add_region(s, &desc, &r->number);
	}
	pthread_rwlock_wrlock(&g->gate);
	g->session = s;
	pthread_rwlock_unlock(&g->gate);
	return ret;
}

void sim_guest_detach(struct sim_guest *g)
{
	pthread_rwlock_wrlock(&g->gate);
	g->session = NULL;
	pthread_rwlock_unlock(&g->gate);
}

static bool set_running(struct sim_guest *g, bool running)
{
	bool was;

	pthread_rwlock_wrlock(&g->gate);
	was = g->running;
	g->running = running;
	pthread_rwlock_unlock(&g->gate);
	return was;
}

bool sim_guest_pause(struct sim_guest *g)
{
	return set_running(g, false);
}

void sim_guest_resume(struct sim_guest *g)
{
	set_running(g, true);
}

bool sim_guest_is_running(struct sim_guest *g)
{
	bool running;

	pthread_rwlock_rdlock(&g->gate);
	running = g->running;
	pthread_rwlock_unlock(&g->gate);
	return running;
}

/* The first write since the page was armed leaves a trace. */
static void trace(struct sim_log *log, uint64_t page)
{
	uint64_t bit = 1ull << page % 64;

	if (log->on && log->armed[page / 64] & bit) {
		log->armed[page / 64] &= ~bit;
		log->dirty[page / 64] |= bit;
	}
}

static uint64_t load(const struct sim_region *r, uint64_t word)
{
	return atomic_load_explicit(&r->words[word], memory_order_relaxed);
}

/* The next generation. With the region's lock held. */
static void advance(struct sim_region *r, uint64_t unit)
{
	uint64_t was = load(r, unit * SIM_UNIT_WORDS);

	if (was < r->floor[unit])
		was = r->floor[unit];
	atomic_store_explicit(&r->words[unit * SIM_UNIT_WORDS], was + 1, memory_order_relaxed);
}

static void set_word(struct sim_region *r, uint64_t word, uint64_t value)
{
	atomic_store_explicit(&r->words[word], value, memory_order_relaxed);
}

/*
 * A write that leaves the unit as it was, makes it zero, or goes back and forth between two contents, which
 * differ in the generation and one word. With the lock held.
 */
static void store_return(struct sim_region *r, uint64_t unit, uint64_t value)
{
	uint64_t first = unit * SIM_UNIT_WORDS, was = load(r, first);
	bool b = load(r, first + 7) == SIM_CONTENT_B;

	if (was > r->ceiling[unit])
		r->ceiling[unit] = was;
	switch (value % 8) {
	case 0: break;
	case 1:
		if (was > r->floor[unit])
			r->floor[unit] = was;
		for (uint32_t i = 0; i < SIM_UNIT_WORDS; i++)
			set_word(r, first + i, 0);
		break;
	default:
		set_word(r, first + 7, b ? 0 : SIM_CONTENT_B);
		set_word(r, first, b ? was - 1 : was + 1);
	}
	was = load(r, first);
	if (was > r->ceiling[unit])
		r->ceiling[unit] = was;
}

/* With the gate held. */
static void store(struct sim_guest *g, struct sim_region *r, uint64_t unit, enum sim_writer by,
		  uint64_t value)
{
	uint64_t page = unit * SIM_UNIT_BYTES / r->page_bytes;
	sim_word *words = r->words + unit * SIM_UNIT_WORDS;

	if (r->flags & RJ_REGION_MARKED)
		by = SIM_DEVICE;
	pthread_mutex_lock(&r->lock);
	if (r->freed[page] == SIM_GIVING_UP) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	r->freed[page] = SIM_IN_USE;
	if (by == SIM_VCPU)
		trace(&r->vcpu, page);
	if (by == SIM_IO)
		trace(&r->io, page);
	/*
	 * The body first: who sees the generation in a copy that is cut short would see the body.
	 */
	if (g->return_percent && value / 8 % 100 < g->return_percent) {
		store_return(r, unit, value);
	} else {
		atomic_store_explicit(&words[8 + value % (SIM_UNIT_WORDS - 8)], value,
				      memory_order_relaxed);
		advance(r, unit);
	}
	pthread_mutex_unlock(&r->lock);
	if (by == SIM_DEVICE && g->session)
		rj_mark_dirty(g->session, r->number, unit * SIM_UNIT_BYTES + value % 100, 8);
	atomic_fetch_add_explicit(&g->n_writes, 1, memory_order_relaxed);
}

void sim_guest_write(struct sim_guest *g, uint32_t region, uint64_t unit, enum sim_writer by,
		     uint64_t value)
{
	pthread_rwlock_rdlock(&g->gate);
	if (g->running)
		store(g, &g->region[region], unit, by, value);
	pthread_rwlock_unlock(&g->gate);
}

static void store_somewhere(struct sim_guest *g)
{
	struct sim_region *r = &g->region[sim_below(&g->random, g->n_regions)];
	bool hot = sim_chance(&g->random, g->hot_percent);
	uint64_t unit =
		sim_below(&g->random, hot && r->n_units > HOT_UNITS ? HOT_UNITS : r->n_units);
	uint64_t kind = sim_below(&g->random, 10);

	if (g->free_percent && g->n_given_up && sim_chance(&g->random, 40)) {
		uint64_t n = g->n_given_up < SIM_MAX_HINTS ? g->n_given_up : SIM_MAX_HINTS;
		const struct sim_hint *h = &g->given_up[sim_below(&g->random, n)];

		r = &g->region[h->region];
		unit = h->page * (r->page_bytes / SIM_UNIT_BYTES);
	}
	store(g, r, unit,
	      kind < 6	 ? SIM_VCPU
	      : kind < 8 ? SIM_IO
			 : SIM_DEVICE,
	      sim_next(&g->random));
}

void sim_guest_step(struct sim_guest *g, uint32_t n)
{
	if (pthread_mutex_trylock(&g->step_lock))
		return;
	pthread_rwlock_rdlock(&g->gate);
	while (n-- && g->running &&
	       atomic_fetch_sub_explicit(&g->budget, 1, memory_order_relaxed) > 0)
		store_somewhere(g);
	pthread_rwlock_unlock(&g->gate);
	pthread_mutex_unlock(&g->step_lock);
}

static void give_up(struct sim_guest *g, uint32_t region, uint64_t page)
{
	struct sim_region *r = &g->region[region];
	bool taken;

	pthread_mutex_lock(&r->lock);
	taken = r->freed[page] != SIM_IN_USE;
	if (!taken)
		r->freed[page] = g->balloon ? SIM_FREED : SIM_GIVING_UP;
	pthread_mutex_unlock(&r->lock);
	if (taken)
		return;
	g->given_up[g->n_given_up++ % SIM_MAX_HINTS] = (struct sim_hint){ region, page, 0 };
	if (g->balloon) {
		if (g->generation && g->n_hints < SIM_MAX_HINTS)
			g->hint[g->n_hints++] = (struct sim_hint){ region, page, g->generation };
		return;
	}
	rj_mark_free(g->session, r->number, page * r->page_bytes, r->page_bytes, RJ_FREE_REPORTED);
	pthread_mutex_lock(&r->lock);
	r->freed[page] = SIM_FREED;
	pthread_mutex_unlock(&r->lock);
}

/* One of those under way, in no order. The VMM may have asked anew meanwhile. */
static void hand_in(struct sim_guest *g)
{
	uint32_t which = (uint32_t)sim_below(&g->random, g->n_hints);
	struct sim_hint h = g->hint[which];
	const struct sim_region *r = &g->region[h.region];

	g->hint[which] = g->hint[--g->n_hints];
	rj_mark_free(g->session, r->number, h.page * r->page_bytes, r->page_bytes, h.generation);
}

void sim_guest_free_step(struct sim_guest *g)
{
	uint32_t region;

	if (!g->free_percent || pthread_mutex_trylock(&g->step_lock))
		return;
	pthread_rwlock_rdlock(&g->gate);
	if (g->running && g->session && sim_chance(&g->random, g->free_percent)) {
		if (g->balloon && sim_chance(&g->random, g->generation ? 1 : 50))
			rj_free_begin(g->session, &g->generation);
		if (g->n_hints && sim_chance(&g->random, 50)) {
			hand_in(g);
		} else {
			region = (uint32_t)sim_below(&g->random, g->n_regions);
			give_up(g, region, sim_below(&g->random, g->region[region].n_pages));
		}
	}
	pthread_rwlock_unlock(&g->gate);
	pthread_mutex_unlock(&g->step_lock);
}

void sim_guest_dirty_by_save(struct sim_guest *g, uint32_t n)
{
	pthread_mutex_lock(&g->step_lock);
	pthread_rwlock_rdlock(&g->gate);
	while (n--)
		store_somewhere(g);
	pthread_rwlock_unlock(&g->gate);
	pthread_mutex_unlock(&g->step_lock);
}

/* The generations go on after the punch; writers wait. */
static int punch_file(struct sim_region *r, uint64_t unit, uint64_t n_units, bool touch)
{
	int ret;

	pthread_mutex_lock(&r->lock);
	for (uint64_t u = unit; u < unit + n_units; u++) {
		if (load(r, u * SIM_UNIT_WORDS) > r->floor[u])
			r->floor[u] = load(r, u * SIM_UNIT_WORDS);
	}
	ret = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(unit * SIM_UNIT_BYTES), (off_t)(n_units * SIM_UNIT_BYTES));
	for (uint64_t u = unit; touch && u < unit + n_units; u++)
		advance(r, u);
	pthread_mutex_unlock(&r->lock);
	return ret < 0 ? -errno : 0;
}

int sim_guest_punch(struct sim_guest *g, uint32_t region, uint64_t unit, uint64_t n_units,
		    bool touch,
		    void (*punched)(void *arg, uint32_t number, uint64_t offset, uint64_t len),
		    void *arg)
{
	struct sim_region *r = &g->region[region];
	uint64_t offset = unit * SIM_UNIT_BYTES, len = n_units * SIM_UNIT_BYTES;
	int ret = 0;

	assert(r->fd >= 0 && unit + n_units <= r->n_units);
	pthread_rwlock_rdlock(&g->gate);
	if (g->running && g->session) {
		ret = rj_discard_begin(g->session, r->number, offset, len);
		if (!ret) {
			punched(arg, r->number, offset, len);
			ret = punch_file(r, unit, n_units, touch);
		}
		if (!ret)
			ret = rj_discard_end(g->session, r->number, offset, len);
	}
	pthread_rwlock_unlock(&g->gate);
	return ret;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Nothing of anybody else's: zeros, or something that this guest had there once. */
static bool is_of_guest(const struct sim_region *a, const struct sim_region *b, uint64_t unit)
{
	uint64_t first = unit * SIM_UNIT_WORDS, generation = load(b, first);
	uint64_t most = max_u64(load(a, first), max_u64(a->ceiling[unit], a->floor[unit]));

	return generation <= most && load(b, first + SIM_UNIT_WORDS - 1) != SIM_GARBAGE;
}

static bool region_equal(const struct sim_region *a, const struct sim_region *b, char *text,
			 size_t text_bytes)
{
	for (uint64_t w = 0; w < a->len_bytes / 8; w++) {
		uint64_t unit = w / SIM_UNIT_WORDS, ga, gb;

		if (load(a, w) == load(b, w))
			continue;
		if (a->freed[unit * SIM_UNIT_BYTES / a->page_bytes] && is_of_guest(a, b, unit))
			continue;
		ga = load(a, unit * SIM_UNIT_WORDS);
		gb = load(b, unit * SIM_UNIT_WORDS);
		snprintf(text, text_bytes,
			 "region '%s' unit %" PRIu64 " of %" PRIu64
			 " (page size %u): generation %" PRIu64 " at the source, %" PRIu64
			 " at the destination: %s",
			 a->name, unit, a->n_units, a->page_bytes, ga, gb,
			 gb == 0   ? "never arrived"
			 : gb < ga ? "stale"
				   : "torn or foreign");
		return false;
	}
	return true;
}

bool sim_guest_equal(struct sim_guest *source, struct sim_guest *destination, char *text,
		     size_t text_bytes)
{
	for (uint32_t i = 0; i < source->n_regions; i++) {
		const struct sim_region *a = &source->region[i];
		const struct sim_region *b = sim_guest_find(destination, a->name);

		if (!b || a->len_bytes != b->len_bytes) {
			snprintf(text, text_bytes, "region '%s' is not there", a->name);
			return false;
		}
		if (!region_equal(a, b, text, text_bytes))
			return false;
	}
	return true;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sim_world.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void sim_world_blame(struct sim_world *w, const char *fmt, ...)
{
	va_list ap;

	if (w->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w->violation, sizeof(w->violation), fmt, ap);
	va_end(ap);
}

bool sim_world_violation(struct sim_world *w, char *text, size_t text_bytes)
{
	bool any;

	pthread_mutex_lock(&w->lock);
	any = w->violation[0];
	if (any)
		snprintf(text, text_bytes, "%s", w->violation);
	pthread_mutex_unlock(&w->lock);
	return any;
}

void sim_world_wait(struct sim_world *w)
{
	uint64_t at = rji_now_ns() + 10 * RJI_NS_PER_MS;
	struct timespec until = { .tv_sec = (time_t)(at / RJI_NS_PER_S),
				  .tv_nsec = (long)(at % RJI_NS_PER_S) };

	pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

static bool is_up(const struct sim_link *l)
{
	return l->connected && l->accepted && !l->cut && !l->dead;
}

static void forget_piece(struct sim_world *w, struct sim_piece *p)
{
	for (uint32_t i = 0; w->source.in_flight[p->region] && i < p->n_units; i++)
		w->source.in_flight[p->region][p->first_unit + i]--;
	free(p->data);
	p->data = NULL;
}

void sim_link_clear(struct sim_world *w, struct sim_link *l)
{
	for (uint32_t i = 0; i < l->n_read; i++)
		forget_piece(w, &l->read[i]);
	for (uint32_t i = 0; i < l->n_posted; i++)
		forget_piece(w, &l->posted[i]);
	l->n_posted = l->n_read = 0;
	pthread_cond_broadcast(&w->changed);
}

void sim_link_orphan(struct sim_world *w, uint32_t link)
{
	struct sim_link *l = &w->link[link];

	for (uint32_t i = 0; i < l->n_read; i++) {
		if (w->n_orphans == w->max_orphans) {
			w->max_orphans = 2 * w->max_orphans + 64;
			w->orphans = realloc(w->orphans, w->max_orphans * sizeof(*w->orphans));
			assert(w->orphans);
		}
		w->orphans[w->n_orphans++] = (struct sim_orphan){ l->read[i], link };
	}
	l->n_read = 0;
	pthread_cond_broadcast(&w->work);
}

void sim_link_bury(struct sim_world *w, uint32_t link)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < w->n_orphans; i++) {
		if (w->orphans[i].link == link)
			forget_piece(w, &w->orphans[i].piece);
		else
			w->orphans[kept++] = w->orphans[i];
	}
	w->n_orphans = kept;
}

/* --- the two halves of a transfer; with the lock held --- */

static sim_word *unit_words(const struct rji_memory *m, uint64_t unit)
{
	return (sim_word *)m->host + unit * SIM_UNIT_WORDS;
}

static void read_unit(struct sim_world *w, uint32_t region, uint64_t unit, uint64_t *to)
{
	struct sim_end_memory *src = &w->source;
	sim_word *words = unit_words(&src->table.region[region], unit);
	const uint64_t *orphan = src->orphan[region][unit];

	if (!src->pinned[region][unit])
		sim_world_blame(w,
				"unit %" PRIu64
				" of region %u was read while it was not registered",
				unit, region);
	if (orphan) {
		memcpy(to, orphan, SIM_UNIT_BYTES);
		return;
	}
	for (uint32_t i = 0; i < SIM_UNIT_WORDS; i++)
		to[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
}

static void read_piece(struct sim_world *w, struct sim_link *l, uint32_t which)
{
	struct sim_piece p = l->posted[which];

	l->posted[which] = l->posted[--l->n_posted];
	if (p.coded.coding) {
		l->read[l->n_read++] = p;
		return;
	}
	p.data = malloc((size_t)p.n_units * SIM_UNIT_BYTES);
	assert(p.data);
	for (uint32_t i = 0; i < p.n_units && !p.from; i++)
		read_unit(w, p.region, p.first_unit + i, p.data + i * SIM_UNIT_WORDS);
	if (p.from)
		memcpy(p.data, p.from, (size_t)p.n_units * SIM_UNIT_BYTES);
	l->read[l->n_read++] = p;
}

static bool may_place(struct sim_world *w, const struct sim_piece *p)
{
	const struct rji_memory_table *t = &w->destination.table;

	if (w->withdrawn)
		return false;
	if (p->region >= t->n ||
	    (p->first_unit + p->n_units) * SIM_UNIT_BYTES > t->region[p->region].len_bytes) {
		sim_world_blame(w, "a write beyond region %u", p->region);
		return false;
	}
	if (w->imported_key[p->region] != w->destination.key[p->region]) {
		sim_world_blame(w, "a write to region %u with a wrong key", p->region);
		return false;
	}
	return true;
}

static void place_unit(struct sim_world *w, const struct sim_piece *p, uint32_t i)
{
	const uint64_t *from = p->data + i * SIM_UNIT_WORDS;
	sim_word *words = unit_words(&w->destination.table.region[p->region], p->first_unit + i);
	uint64_t there = atomic_load_explicit(&words[0], memory_order_relaxed);

	if (there > from[0] && from[0] /* 0: a hole was punched */ &&
	    !(w->guest && w->guest->return_percent))
		sim_world_blame(w,
				"unit %" PRIu64 " of region %u: generation %" PRIu64
				" placed over %" PRIu64,
				p->first_unit + i, p->region, from[0], there);
	for (uint32_t k = 0; k < SIM_UNIT_WORDS; k++)
		atomic_store_explicit(&words[k], from[k], memory_order_relaxed);
	if (w->source.in_flight[p->region]) /* else the source is gone */
		w->source.in_flight[p->region][p->first_unit + i]--;
}

static void apply(struct sim_world *w, const struct sim_piece *p)
{
	char *host = w->destination.table.region[p->region].host;
	struct rj_error err;

	rji_error_init(&err);
	if (!w->apply)
		sim_world_blame(w, "a coded change that was not agreed on");
	else if (w->apply->apply(w->applying, p->coded.coding, p->data, p->coded.len_bytes,
				 host + p->first_unit * SIM_UNIT_BYTES, p->n_units * SIM_UNIT_BYTES,
				 &err) < 0)
		sim_world_blame(w, "%s", err.text);
	for (uint32_t i = 0; w->source.in_flight[p->region] && i < p->n_units; i++)
		w->source.in_flight[p->region][p->first_unit + i]--;
}

static void place(struct sim_world *w, struct sim_piece *p)
{
	if (p->coded.coding && may_place(w, p)) {
		apply(w, p);
		w->n_placed++;
	} else if (may_place(w, p)) {
		for (uint32_t i = 0; i < p->n_units; i++)
			place_unit(w, p, i);
		w->n_placed++;
	}
	free(p->data);
}

static void place_piece(struct sim_world *w, struct sim_link *l, uint32_t which)
{
	struct sim_piece p = l->read[which];

	l->read[which] = l->read[--l->n_read];
	place(w, &p);
}

/* They take their time. False: there is none. */
static bool place_orphan(struct sim_world *w)
{
	uint32_t which;
	struct sim_piece p;

	if (!w->n_orphans)
		return false;
	which = (uint32_t)sim_below(&w->random, w->n_orphans);
	if (!sim_chance(&w->random, 20))
		return true;
	p = w->orphans[which].piece;
	w->orphans[which] = w->orphans[--w->n_orphans];
	place(w, &p);
	w->n_late++;
	return true;
}

/* --- the wire thread --- */

/* With something on the lane: does nobody wait for it? */
static bool may_rest(const struct sim_world *w, const struct sim_link *l)
{
	return w->lazy && l->fences_asked == l->fences_answered && !w->n_draining &&
	       l->n_posted + l->n_read < w->queue_pieces;
}

/* Do one thing on this lane. False: there is nothing to do. */
static bool turn(struct sim_world *w, struct sim_link *l)
{
	uint32_t n = l->n_posted + l->n_read;
	uint64_t which = sim_below(&w->random, n);

	if (!is_up(l) || (n && may_rest(w, l)))
		return false;
	if (!n) {
		if (l->fences_asked == l->fences_answered || !l->serving)
			return false;
		l->fences_answered = l->fences_asked;
	} else if (which < l->n_posted) {
		read_piece(w, l, (uint32_t)which);
	} else {
		place_piece(w, l, (uint32_t)which - l->n_posted);
	}
	pthread_cond_broadcast(&w->changed);
	return true;
}

/* Some lane gets a turn. False: all is quiet. */
static bool any_turn(struct sim_world *w)
{
	uint32_t first = (uint32_t)sim_below(&w->random, w->n_links);

	if (w->stalled)
		return false;
	if (sim_chance(&w->random, 30) && place_orphan(w))
		return true;
	for (uint32_t i = 0; i < w->n_links; i++) {
		struct sim_link *l = &w->link[(first + i) % w->n_links];

		if (l->frozen) {
			l->frozen--;
			return true;
		}
		if (turn(w, l)) {
			if (sim_chance(&w->random, 1))
				l->frozen = (uint32_t)sim_below(&w->random, 50);
			return true;
		}
	}
	return place_orphan(w);
}

static void cut(struct sim_world *w, uint32_t link)
{
	w->link[link].cut = true;
	pthread_cond_broadcast(&w->changed);
	pthread_cond_broadcast(&w->work);
}

static void *wire_thread(void *arg)
{
	struct sim_world *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->quit) {
		bool moved = any_turn(w);
		bool guest = w->guest && moved && sim_chance(&w->random, w->guest_percent);

		if (w->cut_after && w->n_placed >= w->cut_after && w->n_links) {
			w->cut_after = 0;
			cut(w, w->cut_link % w->n_links);
		}
		if (!moved) {
			pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		if (guest)
			sim_guest_step(w->guest, 1);
		if (w->guest)
			sim_guest_free_step(w->guest);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* --- for tests --- */

struct sim_world *sim_world_create(uint64_t seed, struct sim_guest *guest)
{
	struct sim_world *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;
	int ret;

	assert(w);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->work, &attr);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	w->random = sim_split(seed, 3);
	w->guest = guest;
	w->guest_percent = (uint32_t)sim_below(&w->random, 60);
	w->queue_pieces = 64 + (uint32_t)sim_below(&w->random, 1000);
	ret = pthread_create(&w->wire, NULL, wire_thread, w);
	assert(!ret);
	return w;
}

void sim_world_destroy(struct sim_world **w_p)
{
	struct sim_world *w = *w_p;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->quit = true;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->wire, NULL);
	for (uint32_t i = 0; i < RJ_MAX_LANES; i++) {
		sim_link_clear(w, &w->link[i]);
		sim_link_bury(w, i);
		free(w->link[i].posted);
		free(w->link[i].read);
	}
	free(w->orphans);
	if (w->applying)
		w->apply->destroy(&w->applying);
	sim_end_memory_free(&w->source);
	sim_end_memory_free(&w->destination);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	*w_p = NULL;
}

void sim_world_cut(struct sim_world *w, uint32_t link)
{
	pthread_mutex_lock(&w->lock);
	cut(w, link);
	pthread_mutex_unlock(&w->lock);
}

void sim_world_cut_all(struct sim_world *w)
{
	for (uint32_t i = 0; i < RJ_MAX_LANES; i++)
		sim_world_cut(w, i);
}

void sim_world_stall(struct sim_world *w, bool stalled)
{
	pthread_mutex_lock(&w->lock);
	w->stalled = stalled;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
}

bool sim_world_is_withdrawn(struct sim_world *w)
{
	bool withdrawn;

	pthread_mutex_lock(&w->lock);
	withdrawn = w->withdrawn;
	for (uint32_t i = 0; i < w->n_links; i++)
		withdrawn &= !w->link[i].serving;
	pthread_mutex_unlock(&w->lock);
	return withdrawn;
}

bool sim_world_in_flight(struct sim_world *w)
{
	bool any = false;

	pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < w->n_links; i++)
		any |= is_up(&w->link[i]) && (w->link[i].n_posted || w->link[i].n_read);
	pthread_mutex_unlock(&w->lock);
	return any;
}

void sim_world_await_placed(struct sim_world *w, uint64_t n)
{
	pthread_mutex_lock(&w->lock);
	while (w->n_placed < n && !w->withdrawn)
		sim_world_wait(w);
	pthread_mutex_unlock(&w->lock);
}

void sim_world_await_full(struct sim_world *w, uint32_t link)
{
	struct sim_link *l = &w->link[link];

	pthread_mutex_lock(&w->lock);
	while (l->n_posted + l->n_read < w->queue_pieces && !l->cut && !l->dead)
		sim_world_wait(w);
	pthread_mutex_unlock(&w->lock);
}

void sim_world_make_room(struct sim_world *w, uint32_t n_pieces)
{
	assert(n_pieces <= SIM_MAX_PIECES);
	pthread_mutex_lock(&w->lock);
	w->queue_pieces = n_pieces;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

void sim_world_await_read(struct sim_world *w)
{
	uint32_t n_posted;

	pthread_mutex_lock(&w->lock);
	do {
		n_posted = 0;
		for (uint32_t i = 0; i < w->n_links; i++)
			n_posted += w->link[i].n_posted;
		if (n_posted)
			sim_world_wait(w);
	} while (n_posted);
	pthread_mutex_unlock(&w->lock);
}

bool sim_world_is_draining(struct sim_world *w)
{
	bool draining;

	pthread_mutex_lock(&w->lock);
	draining = w->n_draining;
	pthread_mutex_unlock(&w->lock);
	return draining;
}

void sim_world_punch(struct sim_world *w, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes)
{
	struct sim_end_memory *src = &w->source;
	uint64_t first = offset_bytes / SIM_UNIT_BYTES,
		 end = (offset_bytes + len_bytes) / SIM_UNIT_BYTES;

	pthread_mutex_lock(&w->lock);
	for (uint64_t u = first; region < src->table.n && u < end; u++) {
		if (!src->pinned[region][u] || src->orphan[region][u])
			continue;
		src->orphan[region][u] = malloc(SIM_UNIT_BYTES);
		assert(src->orphan[region][u]);
		for (uint32_t i = 0; i < SIM_UNIT_WORDS; i++)
			((uint64_t *)src->orphan[region][u])[i] =
				atomic_load_explicit(&unit_words(&src->table.region[region], u)[i],
						     memory_order_relaxed);
	}
	pthread_mutex_unlock(&w->lock);
}

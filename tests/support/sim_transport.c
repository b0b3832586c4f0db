/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transport's functions over a simulated world; see sim_world.h for what happens in between.
 * Both ends are in one process and find each other through the world that is their argument.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/support/sim_world.h"

struct end {
	struct sim_world *world;
	bool is_destination;
	struct rji_stop *stop;
	uint32_t peer_timeout_ms;
};

struct lane {
	void *staged;
	struct end *end;
	struct sim_link *link;
	uint32_t number;
};

static struct end *to_end(struct rji_transport *tp)
{
	return (struct end *)tp;
}

static struct lane *to_lane(struct rji_lane *lane)
{
	return (struct lane *)lane;
}

static struct sim_end_memory *memory_of(struct end *end)
{
	return end->is_destination ? &end->world->destination : &end->world->source;
}

static int sim_create(const struct rji_transport_opts *o, struct rj_error *err,
		      struct rji_transport **tp_p)
{
	struct end *end = calloc(1, sizeof(*end));

	if (!end)
		return rji_fail(err, -ENOMEM, "no memory for the sim transport");
	end->world = ((struct sim_end *)o->arg)->world;
	end->is_destination = o->is_destination;
	end->stop = o->stop;
	end->peer_timeout_ms = o->peer_timeout_ms;
	if (o->apply) {
		int ret = 0;

		pthread_mutex_lock(&end->world->lock);
		end->world->apply = o->apply;
		if (!end->world->applying)
			ret = o->apply->create(&end->world->applying);
		pthread_mutex_unlock(&end->world->lock);
		if (ret < 0) {
			free(end);
			return rji_fail(err, -ENOMEM, "no memory to apply");
		}
	}
	*tp_p = (struct rji_transport *)end;
	return 0;
}

/* --- memory --- */

static void free_orphans(struct sim_end_memory *m, uint32_t region, uint64_t first, uint64_t end)
{
	for (uint64_t u = first; u < end; u++) {
		free(m->orphan[region][u]);
		m->orphan[region][u] = NULL;
	}
}

static uint64_t n_units(const struct sim_end_memory *m, uint32_t region)
{
	return m->table.region[region].len_bytes / SIM_UNIT_BYTES;
}

void sim_end_memory_free(struct sim_end_memory *m)
{
	for (uint32_t i = 0; i < m->table.n; i++) {
		free_orphans(m, i, 0, n_units(m, i));
		free(m->orphan[i]);
		free(m->pinned[i]);
		free(m->in_flight[i]);
	}
	memset(m, 0, sizeof(*m));
}

static int sim_reg(struct rji_transport *tp, const struct rji_memory *rm, _Atomic uint64_t *done,
		   struct rj_error *err)
{
	struct end *end = to_end(tp);
	struct sim_end_memory *m = memory_of(end);
	uint64_t n = rm->len_bytes / SIM_UNIT_BYTES;

	if (rm->region >= SIM_MAX_REGIONS)
		return rji_fail(err, -ENOSPC, "too many regions for the sim transport");
	pthread_mutex_lock(&end->world->lock);
	rji_memory_add(&m->table, rm);
	m->pinned[rm->region] = malloc(n);
	m->orphan[rm->region] = calloc(n, sizeof(void *));
	m->in_flight[rm->region] = calloc(n, sizeof(uint16_t));
	assert(m->pinned[rm->region] && m->orphan[rm->region] && m->in_flight[rm->region]);
	memset(m->pinned[rm->region], 1, n);
	m->key[rm->region] = sim_next(&end->world->random);
	pthread_mutex_unlock(&end->world->lock);
	atomic_fetch_add_explicit(done, rm->len_bytes, memory_order_relaxed);
	return 0;
}

static void sim_dereg_all(struct rji_transport *tp)
{
	struct end *end = to_end(tp);

	pthread_mutex_lock(&end->world->lock);
	sim_end_memory_free(memory_of(end));
	pthread_mutex_unlock(&end->world->lock);
}

static void sim_destroy(struct rji_transport **tp_p)
{
	if (!*tp_p)
		return;
	sim_dereg_all(*tp_p);
	free(*tp_p);
	*tp_p = NULL;
}

/* Registrations are of 16 units: more than asked for goes. */
static int sim_unpin(struct rji_transport *tp, uint32_t region, uint64_t *offset_bytes,
		     uint64_t *len_bytes, struct rj_error *err)
{
	const uint64_t grain = 16 * SIM_UNIT_BYTES;
	struct end *end = to_end(tp);
	struct sim_end_memory *m = memory_of(end);
	uint64_t first = *offset_bytes / grain * grain;
	uint64_t last = (*offset_bytes + *len_bytes + grain - 1) / grain * grain;

	(void)err;
	pthread_mutex_lock(&end->world->lock);
	if (last > m->table.region[region].len_bytes)
		last = m->table.region[region].len_bytes;
	for (uint64_t u = first / SIM_UNIT_BYTES; u < last / SIM_UNIT_BYTES; u++)
		m->pinned[region][u] = 0;
	free_orphans(m, region, first / SIM_UNIT_BYTES, last / SIM_UNIT_BYTES);
	pthread_mutex_unlock(&end->world->lock);
	*offset_bytes = first;
	*len_bytes = last - first;
	return 0;
}

static int sim_repin(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes, struct rj_error *err)
{
	struct end *end = to_end(tp);
	struct sim_end_memory *m = memory_of(end);

	(void)err;
	pthread_mutex_lock(&end->world->lock);
	for (uint64_t u = offset_bytes / SIM_UNIT_BYTES;
	     u < (offset_bytes + len_bytes) / SIM_UNIT_BYTES; u++)
		m->pinned[region][u] = 1;
	pthread_mutex_unlock(&end->world->lock);
	return 0;
}

static int sim_export_keys(struct rji_transport *tp, uint32_t region, void *buf, size_t buf_bytes,
			   struct rj_error *err)
{
	struct end *end = to_end(tp);

	if (buf_bytes < sizeof(uint64_t))
		return rji_fail(err, -ENOSPC, "no room for a key");
	memcpy(buf, &memory_of(end)->key[region], sizeof(uint64_t));
	return sizeof(uint64_t);
}

static int sim_import_keys(struct rji_transport *tp, uint32_t region, const void *keys,
			   size_t len_bytes, struct rj_error *err)
{
	struct end *end = to_end(tp);

	if (len_bytes != sizeof(uint64_t) || region >= SIM_MAX_REGIONS)
		return rji_fail(err, RJ_E_PROTOCOL, "a key of %zu bytes", len_bytes);
	pthread_mutex_lock(&end->world->lock);
	memcpy(&end->world->imported_key[region], keys, sizeof(uint64_t));
	pthread_mutex_unlock(&end->world->lock);
	return 0;
}

/* --- lanes --- */

static int sim_listen(struct rji_transport *tp, const struct rji_listen *l, struct rji_addrs *addrs,
		      struct rj_error *err)
{
	(void)tp;
	(void)l;
	(void)err;
	memset(addrs, 0, sizeof(*addrs));
	return 0;
}

static struct lane *make_lane(struct end *end, uint32_t number)
{
	struct lane *lane = calloc(1, sizeof(*lane));

	assert(lane);
	lane->end = end;
	lane->number = number;
	lane->link = &end->world->link[number];
	return lane;
}

static bool all_connected(const struct sim_world *w, const struct rji_admission *adm)
{
	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		if (!w->link[i].connected)
			return false;
	}
	return !memcmp(adm->token, w->admitted.token, sizeof(adm->token));
}

static int sim_accept(struct rji_transport *tp, const struct rji_admission *adm,
		      uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	struct end *end = to_end(tp);
	struct sim_world *w = end->world;
	int ret = 0;

	pthread_mutex_lock(&w->lock);
	while (!ret && !all_connected(w, adm)) {
		if (rji_stop_is_set(end->stop))
			ret = -ECANCELED;
		else if (rji_now_ns() >= deadline_ns)
			ret = rji_fail(err, RJ_E_LANE, "not all lanes connected in time");
		else
			sim_world_wait(w);
	}
	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		if (adm->there >> i & 1)
			continue;
		lanes[i] = NULL;
		if (ret < 0)
			continue;
		lanes[i] = (struct rji_lane *)make_lane(end, i);
		w->link[i].accepted = true;
	}
	w->n_links = adm->n_lanes;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	return ret;
}

/* A link that is new, or replaces one whose both ends are gone. */
static void revive(struct sim_link *l)
{
	if (!l->posted)
		l->posted = calloc(SIM_MAX_PIECES, sizeof(struct sim_piece));
	if (!l->read)
		l->read = calloc(SIM_MAX_PIECES, sizeof(struct sim_piece));
	l->cut = l->over = l->dead = l->sunk = l->accepted = false;
	l->fences_asked = l->fences_answered = 0;
	atomic_store(&l->sent_bytes, 0);
}

static int sim_connect(struct rji_transport *tp, uint32_t number, const struct rji_addrs *addrs,
		       const struct rji_admission *adm, uint64_t deadline_ns,
		       struct rji_lane **lane_p, struct rj_error *err)
{
	struct end *end = to_end(tp);
	struct sim_world *w = end->world;
	struct lane *lane = make_lane(end, number);

	(void)addrs;
	(void)deadline_ns;
	(void)err;
	pthread_mutex_lock(&w->lock);
	w->admitted = *adm;
	revive(lane->link);
	assert(lane->link->posted && lane->link->read);
	lane->link->connected = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	*lane_p = (struct rji_lane *)lane;
	return 0;
}

static int sim_serve(struct rji_lane *lane_, struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	struct sim_world *w = lane->end->world;
	struct sim_link *l = lane->link;
	int ret = 0;

	pthread_mutex_lock(&w->lock);
	l->serving = true;
	pthread_cond_broadcast(&w->work);
	while (!l->over && !w->withdrawn && !rji_stop_is_set(lane->end->stop) && !ret) {
		if (l->cut || l->dead)
			ret = rji_fail(err, RJ_E_LANE, "lane %u broke", lane->number);
		else
			sim_world_wait(w);
	}
	l->serving = false;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

static void sim_withdraw(struct rji_transport *tp)
{
	struct sim_world *w = to_end(tp)->world;

	pthread_mutex_lock(&w->lock);
	w->withdrawn = true;
	for (uint32_t i = 0; i < w->n_links; i++)
		w->link[i].dead = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Is the lane still of use? With the lock held. */
static int check(const struct lane *lane, uint64_t deadline_ns, const char *doing,
		 struct rj_error *err)
{
	if (rji_stop_is_set(lane->end->stop))
		return -ECANCELED;
	if (lane->link->cut || lane->link->dead)
		return rji_fail(err, RJ_E_LANE, "lane %u broke while %s", lane->number, doing);
	if (deadline_ns && rji_now_ns() >= deadline_ns)
		return rji_fail(err, RJ_E_LANE, "lane %u: no answer in time while %s", lane->number,
				doing);
	return 0;
}

/* With the lock held. */
static int post_piece(struct lane *lane, const struct sim_piece *p, struct rj_error *err)
{
	struct sim_world *w = lane->end->world;
	struct sim_link *l = lane->link;
	int ret;

	while (!(ret = check(lane, 0, "posting", err)) &&
	       l->n_posted + l->n_read >= w->queue_pieces)
		sim_world_wait(w);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < p->n_units; i++) {
		if (w->source.in_flight[p->region][p->first_unit + i]++)
			sim_world_blame(w, "unit %" PRIu64 " of region %u is in flight twice",
					p->first_unit + i, p->region);
	}
	l->posted[l->n_posted++] = *p;
	atomic_fetch_add_explicit(&l->sent_bytes, (uint64_t)p->n_units * SIM_UNIT_BYTES,
				  memory_order_relaxed);
	pthread_cond_signal(&w->work);
	return 0;
}

static int check_extent(const struct sim_world *w, const struct rji_extent *e, struct rj_error *err)
{
	if (e->region < w->source.table.n &&
	    (e->offset_bytes + e->len_bytes) / SIM_UNIT_BYTES <= n_units(&w->source, e->region))
		return 0;
	return rji_fail(err, RJ_E_LANE, "an extent beyond region %u", e->region);
}

/* from NULL: from guest memory. */
static int post_extent(struct lane *lane, const struct rji_extent *e, const uint64_t *from,
		       struct rj_error *err)
{
	struct sim_world *w = lane->end->world;
	uint64_t unit = e->offset_bytes / SIM_UNIT_BYTES,
		 end = unit + e->len_bytes / SIM_UNIT_BYTES;
	int ret = check_extent(w, e, err);

	while (!ret && unit < end) {
		uint64_t n = 1 + sim_below(&w->random, SIM_PIECE_UNITS);
		struct sim_piece p = { .region = e->region,
				       .first_unit = unit,
				       .from = from,
				       .n_units = (uint32_t)(n < end - unit ? n : end - unit) };

		ret = post_piece(lane, &p, err);
		from = from ? from + p.n_units * SIM_UNIT_WORDS : NULL;
		unit += p.n_units;
	}
	return ret;
}

static int sim_post(struct rji_lane *lane_, const struct rji_extent *e, uint32_t n,
		    struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	int ret = 0;

	pthread_mutex_lock(&lane->end->world->lock);
	for (uint32_t i = 0; !ret && i < n; i++)
		ret = post_extent(lane, &e[i], NULL, err);
	pthread_mutex_unlock(&lane->end->world->lock);
	return ret;
}

static void *sim_staging(struct rji_lane *lane_, size_t len_bytes)
{
	struct lane *lane = to_lane(lane_);

	if (!lane->staged)
		lane->staged = malloc(len_bytes);
	return lane->staged;
}

static int sim_post_staged(struct rji_lane *lane_, const struct rji_extent *e,
			   const void *const *from, uint32_t n, struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	int ret = 0;

	pthread_mutex_lock(&lane->end->world->lock);
	for (uint32_t i = 0; !ret && i < n; i++)
		ret = post_extent(lane, &e[i], from[i], err);
	pthread_mutex_unlock(&lane->end->world->lock);
	return ret;
}

static int post_change(struct lane *lane, const struct rji_coded *c, struct rj_error *err)
{
	struct sim_piece p = { .region = c->extent.region,
			       .first_unit = c->extent.offset_bytes / SIM_UNIT_BYTES,
			       .n_units = c->extent.len_bytes / SIM_UNIT_BYTES,
			       .coded = *c };
	int ret = check_extent(lane->end->world, &c->extent, err);

	if (ret < 0)
		return ret;
	p.data = malloc(c->len_bytes + 1);
	assert(p.data);
	if (c->len_bytes)
		memcpy(p.data, c->bytes, c->len_bytes);
	p.coded.bytes = NULL;
	ret = post_piece(lane, &p, err);
	if (ret < 0)
		free(p.data);
	return ret;
}

static int sim_post_coded(struct rji_lane *lane_, const struct rji_coded *c, uint32_t n,
			  struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	int ret = 0;

	pthread_mutex_lock(&lane->end->world->lock);
	for (uint32_t i = 0; !ret && i < n; i++)
		ret = post_change(lane, &c[i], err);
	pthread_mutex_unlock(&lane->end->world->lock);
	return ret;
}

static int sim_drain(struct rji_lane *lane_, struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	struct sim_world *w = lane->end->world;
	int ret;

	pthread_mutex_lock(&w->lock);
	w->n_draining++;
	pthread_cond_signal(&w->work);
	while (!(ret = check(lane, 0, "draining", err)) && lane->link->n_posted)
		sim_world_wait(w);
	w->n_draining--;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

static int sim_fence(struct rji_lane *lane_, uint64_t deadline_ns, struct rj_error *err)
{
	struct lane *lane = to_lane(lane_);
	struct sim_world *w = lane->end->world;
	uint64_t number;
	int ret;

	if (!deadline_ns)
		deadline_ns = rji_now_ns() + lane->end->peer_timeout_ms * RJI_NS_PER_MS;
	pthread_mutex_lock(&w->lock);
	number = ++lane->link->fences_asked;
	pthread_cond_signal(&w->work);
	while (!(ret = check(lane, deadline_ns, "fencing", err)) &&
	       lane->link->fences_answered < number)
		sim_world_wait(w);
	pthread_mutex_unlock(&w->lock);
	return ret;
}

static void sim_stats(const struct rji_lane *lane, struct rji_lane_stats *st)
{
	st->sent_bytes = atomic_load_explicit(&((const struct lane *)lane)->link->sent_bytes,
					      memory_order_relaxed);
}

/* By the destination: nothing comes down any more. */
static void sim_cut(struct rji_lane *lane_)
{
	struct lane *lane = to_lane(lane_);
	struct sim_world *w = lane->end->world;

	pthread_mutex_lock(&w->lock);
	lane->link->dead = true;
	if (lane->end->is_destination) {
		lane->link->sunk = true;
		sim_link_bury(w, lane->number);
	}
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static void sim_close(struct rji_lane **lane_p)
{
	struct lane *lane = to_lane(*lane_p);
	struct sim_world *w;

	if (!lane)
		return;
	w = lane->end->world;
	pthread_mutex_lock(&w->lock);
	if (!lane->end->is_destination && !lane->link->n_posted && !lane->link->n_read &&
	    !rji_stop_is_set(lane->end->stop))
		lane->link->over = true;
	else
		lane->link->dead = true;
	if (lane->end->is_destination) {
		lane->link->accepted = false;
		sim_link_bury(w, lane->number);
	} else {
		lane->link->connected = false;
		if (lane->link->accepted && !lane->link->sunk && !w->withdrawn)
			sim_link_orphan(w, lane->number);
		sim_link_clear(w, lane->link);
	}
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	free(lane->staged);
	free(lane);
	*lane_p = NULL;
}

const struct rji_transport_ops sim_transport = {
	.name = "sim",
	.moves_data = true,
	.create = sim_create,
	.destroy = sim_destroy,
	.reg = sim_reg,
	.dereg_all = sim_dereg_all,
	.unpin = sim_unpin,
	.repin = sim_repin,
	.export_keys = sim_export_keys,
	.import_keys = sim_import_keys,
	.listen = sim_listen,
	.accept = sim_accept,
	.serve = sim_serve,
	.withdraw = sim_withdraw,
	.connect = sim_connect,
	.post = sim_post,
	.staging = sim_staging,
	.post_staged = sim_post_staged,
	.codings = 1u << RJI_CODING_ZEROS | 1u << RJI_CODING_XBZRLE | 1u << RJI_CODING_ZSTD,
	.post_coded = sim_post_coded,
	.drain = sim_drain,
	.fence = sim_fence,
	.cut = sim_cut,
	.stats = sim_stats,
	.close = sim_close,
};

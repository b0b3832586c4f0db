/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>

#include "rdma/key_table.h"
#include "rdma/rdma_transport.h"
#include "rdma/window_message.h"

/*
 * Keys, and what both sides say of windows.
 *
 *   source                                   destination
 *                              ◄── table     which windows there are, and how many bytes may be registered
 *   WANT 7                     ──►           registers, if that keeps it within its cap
 *                              ◄── KEY 7
 *   writes … all have completed
 *   DROP 7                     ──►           deregisters
 *                              ◄── DROPPED 7
 *   only now there is room for another WANT
 *
 * The source decides what goes, because only it knows that none of its requests is in a window: a request has completed when the
 * destination's port has acknowledged all of it, and a port executes none twice. So no key goes while a write under way
 * needs it, without the destination asking. That the pages are in memory is still said by nothing but the lane's fence, behind all
 * its writes.
 *
 * A source that wants more than fits, or a window it has, or drops one that it has not, breaks the protocol and the session ends: it
 * cannot make the destination pin more than its cap. One that writes to a window it has dropped breaks its own lane. A
 * destination that tells wrong keys spoils its own guest.
 *
 * Where the destination registers everything it tells keys unasked as they come; WANT then says which a lane waits for or will soon.
 */

static uint32_t exported_index(const struct rji_rdma_transport *tp, uint32_t device)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < device; i++)
		n += tp->device[i].attached;
	return n;
}

int rji_rdma_export_keys(struct rji_transport *base, uint32_t region, void *buf, size_t buf_bytes,
			 struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = rji_rdma_region(&tp->memory, region);
	struct rji_rdma_window_pool *pool = &tp->memory.here;
	enum rji_rdma_key_mode mode = tp->lazy	       ? RJI_RDMA_KEYS_ON_DEMAND
				      : tp->background ? RJI_RDMA_KEYS_COME
						       : RJI_RDMA_KEYS_COMPLETE;
	uint32_t device[RJI_RDMA_MAX_DEVICES];
	uint32_t n = 0;
	int ret;

	if (!r)
		return rji_fail(err, -EINVAL, "there is no region %u", region);
	for (uint32_t i = 0; i < tp->n_devices; i++)
		if (tp->device[i].attached)
			device[n++] = i;
	pthread_mutex_lock(&pool->lock);
	ret = rji_rdma_put_keys(r, device, n, mode, buf, buf_bytes);
	for (uint32_t i = 0; ret >= 0 && mode != RJI_RDMA_KEYS_COMPLETE && i < n; i++)
		r->here[device[i]].told = true; /* what comes from now on is not in the table */
	pthread_mutex_unlock(&pool->lock);
	if (ret < 0)
		return rji_fail(err, ret, "the keys of region \"%s\" need more than %zu bytes",
				r->name, buf_bytes);
	return ret;
}

int rji_rdma_import_keys(struct rji_transport *base, uint32_t region, const void *keys,
			 size_t len_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_region *r = rji_rdma_region(&tp->memory, region);
	int ret;

	if (!r)
		return rji_fail(err, -EINVAL, "there is no region %u", region);
	ret = rji_rdma_get_keys(r, &tp->memory.there, tp->n_lanes, keys, len_bytes);
	if (!ret)
		return 0;
	if (err)
		err->region = region;
	if (ret == RJ_E_MEMLOCK)
		return rji_fail(
			err, ret,
			"the destination pins too little at once for %u lanes: allow it more (--pin-cap there), or use fewer lanes",
			tp->n_lanes);
	return rji_fail(err, ret, "the destination's keys of region \"%s\" (%zu bytes): %s",
			r->name, len_bytes, rj_strerror(ret));
}

/* --- saying --- */

static void put(struct rji_cursor *c, const struct rji_rdma_window *w, uint32_t device,
		enum rji_rdma_window_message_kind kind, uint32_t key)
{
	struct rji_rdma_window_message m = {
		.kind = kind,
		.region = w->table->region,
		.device = device,
		.window = rji_rdma_window_index(w),
		.key = key,
	};

	rji_rdma_put_window_message(c, &m);
}

/* With the lock of there. */
static bool say_wish(struct rji_rdma_transport *tp, struct rji_cursor *c)
{
	struct rji_rdma_window *w = rji_rdma_windows_todo(&tp->memory.there, 0);

	if (!w)
		return false;
	put(c, w, w->table->device,
	    w->state == RJI_RDMA_WINDOW_COMING ? RJI_RDMA_WINDOW_WANT : RJI_RDMA_WINDOW_DROP, 0);
	return true;
}

/* With the lock of here. */
static bool say_news(struct rji_rdma_transport *tp, struct rji_cursor *c)
{
	struct rji_rdma_window *w = rji_rdma_windows_told(&tp->memory.here);
	uint32_t key;

	if (!w)
		return false;
	key = atomic_load_explicit(&w->key, memory_order_relaxed);
	put(c, w, exported_index(tp, w->table->device),
	    key ? RJI_RDMA_WINDOW_KEY : RJI_RDMA_WINDOW_DROPPED, key);
	return true;
}

static int failure_of(struct rji_rdma_window_pool *pool, struct rj_error *err)
{
	int ret;

	pthread_mutex_lock(&pool->lock);
	ret = pool->failure.code;
	if (ret && err && !err->code)
		*err = pool->failure;
	pthread_mutex_unlock(&pool->lock);
	return ret;
}

int rji_rdma_say(struct rji_transport *base, void *buf, size_t buf_bytes, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_window_pool *pool = tp->is_destination ? &tp->memory.here
							       : &tp->memory.there;
	bool (*say_one)(struct rji_rdma_transport *, struct rji_cursor *) =
		tp->is_destination ? say_news : say_wish;
	int ret = failure_of(&tp->memory.here, err);
	struct rji_cursor c;

	if (ret)
		return ret;
	rji_cursor_init(&c, buf, buf_bytes);
	pthread_mutex_lock(&pool->lock);
	while (buf_bytes - c.pos >= RJI_RDMA_WINDOW_MESSAGE_BYTES && say_one(tp, &c))
		;
	pthread_mutex_unlock(&pool->lock);
	return (int)c.pos;
}

/* --- hearing --- */

static struct rji_rdma_window *window_of(struct rji_rdma_window_table *t, uint32_t window)
{
	return t->window && window < t->n ? &t->window[window] : NULL;
}

static struct rji_rdma_window *wanted(struct rji_rdma_transport *tp, struct rji_rdma_region *r,
				      const struct rji_rdma_window_message *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; r && i < tp->n_devices; i++)
		if (tp->device[i].attached && n++ == m->device)
			return r->here[i].told ? window_of(&r->here[i], m->window) : NULL;
	return NULL;
}

static bool destination_hears(struct rji_rdma_transport *tp, struct rji_rdma_region *r,
			      const struct rji_rdma_window_message *m)
{
	struct rji_rdma_window *w = wanted(tp, r, m);

	if (!w)
		return false;
	if (!tp->lazy) { /* it comes anyway: now rather than in its turn */
		rji_rdma_windows_demand(w);
		return m->kind == RJI_RDMA_WINDOW_WANT;
	}
	if (m->kind == RJI_RDMA_WINDOW_WANT)
		return rji_rdma_windows_bring(w);
	return m->kind == RJI_RDMA_WINDOW_DROP && rji_rdma_windows_drop(w);
}

static bool source_hears(struct rji_rdma_region *r, const struct rji_rdma_window_message *m)
{
	struct rji_rdma_window *w =
		r && m->device < r->n_there ? window_of(&r->there[m->device], m->window) : NULL;

	/* Unasked, also while we are about to ask. */
	if (w && w->table->unasked && m->kind == RJI_RDMA_WINDOW_KEY)
		return rji_rdma_windows_came_by_itself(w, m->key);
	/* While it stands in a list, we have not said what this would answer. */
	if (!w || w->list != RJI_RDMA_LIST_NONE)
		return false;
	if (m->kind == RJI_RDMA_WINDOW_KEY && w->state == RJI_RDMA_WINDOW_COMING) {
		rji_rdma_windows_came(w, m->key);
		return true;
	}
	if (m->kind != RJI_RDMA_WINDOW_DROPPED || w->state != RJI_RDMA_WINDOW_LEAVING)
		return false;
	rji_rdma_windows_gone(w);
	return true;
}

/* Regions may still be on their way in, in another thread. */
static struct rji_rdma_region *known(struct rji_rdma_transport *tp, uint32_t id)
{
	struct rji_rdma_region *r;

	pthread_mutex_lock(&tp->memory.here.lock);
	r = rji_rdma_region(&tp->memory, id);
	pthread_mutex_unlock(&tp->memory.here.lock);
	return r;
}

static bool hear_one(struct rji_rdma_transport *tp, const struct rji_rdma_window_message *m)
{
	struct rji_rdma_window_pool *pool = tp->is_destination ? &tp->memory.here
							       : &tp->memory.there;
	struct rji_rdma_region *r = known(tp, m->region);
	bool good;

	pthread_mutex_lock(&pool->lock);
	good = tp->is_destination ? destination_hears(tp, r, m) : source_hears(r, m);
	pthread_mutex_unlock(&pool->lock);
	return good;
}

int rji_rdma_hear(struct rji_transport *base, const void *bytes, size_t len_bytes,
		  struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_rdma_window_message m;
	struct rji_cursor c;
	bool good = true;

	rji_cursor_init_const(&c, bytes, len_bytes);
	while (good && !rji_cursor_done(&c))
		good = rji_rdma_get_window_message(&c, &m) && hear_one(tp, &m);
	if (good)
		return 0;
	return rji_fail(err, RJ_E_PROTOCOL, "what the peer says of registrations makes no sense");
}

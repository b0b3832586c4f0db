/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transport that moves nothing: lanes take extents, count them and forget them, and answer
 * their own fences. What a migration over it costs is what everything but the data path costs.
 */
#include "transport/transport.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct null_transport {
	struct rji_stop *stop;
};

struct null_lane {
	struct rji_stop *stop;
	_Atomic uint64_t sent_bytes;
	_Atomic uint64_t requests;
	_Atomic uint64_t posts;
	void *staged;
};

static int null_create(const struct rji_transport_opts *o, struct rj_error *err,
		       struct rji_transport **tp_p)
{
	struct null_transport *tp = calloc(1, sizeof(*tp));

	if (!tp)
		return rji_fail(err, -ENOMEM, "no memory for the null transport");
	tp->stop = o->stop;
	*tp_p = (struct rji_transport *)tp;
	return 0;
}

static void null_destroy(struct rji_transport **tp_p)
{
	free(*tp_p);
	*tp_p = NULL;
}

static int null_reg(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		    struct rj_error *err)
{
	(void)tp;
	(void)err;
	atomic_fetch_add_explicit(done, m->len_bytes, memory_order_relaxed);
	return 0;
}

static void null_dereg_all(struct rji_transport *tp)
{
	(void)tp;
}

static int null_listen(struct rji_transport *tp, const struct rji_listen *l,
		       struct rji_addrs *addrs, struct rj_error *err)
{
	(void)tp;
	(void)l;
	(void)err;
	memset(addrs, 0, sizeof(*addrs));
	return 0;
}

static int make_lane(struct rji_transport *tp, struct rji_lane **lane_p, struct rj_error *err)
{
	struct null_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return rji_fail(err, -ENOMEM, "no memory for a lane");
	lane->stop = ((struct null_transport *)tp)->stop;
	*lane_p = (struct rji_lane *)lane;
	return 0;
}

static void null_close(struct rji_lane **lane_p)
{
	if (*lane_p)
		free(((struct null_lane *)*lane_p)->staged);
	free(*lane_p);
	*lane_p = NULL;
}

static int null_accept(struct rji_transport *tp, const struct rji_admission *adm,
		       uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	(void)deadline_ns;
	memset(lanes, 0, adm->n_lanes * sizeof(*lanes));
	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		int ret = make_lane(tp, &lanes[i], err);

		if (ret < 0) {
			while (i--)
				null_close(&lanes[i]);
			return ret;
		}
	}
	return 0;
}

/* There is nothing to serve. */
static int null_serve(struct rji_lane *lane, struct rj_error *err)
{
	(void)lane;
	(void)err;
	return 0;
}

static void null_withdraw(struct rji_transport *tp)
{
	(void)tp;
}

static int null_connect(struct rji_transport *tp, uint32_t number, const struct rji_addrs *addrs,
			const struct rji_admission *adm, uint64_t deadline_ns,
			struct rji_lane **lane_p, struct rj_error *err)
{
	(void)number;
	(void)addrs;
	(void)adm;
	(void)deadline_ns;
	return make_lane(tp, lane_p, err);
}

static void count(_Atomic uint64_t *total, uint64_t n)
{
	/* one writer */
	atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static int null_post(struct rji_lane *lane_, const struct rji_extent *e, uint32_t n,
		     struct rj_error *err)
{
	struct null_lane *lane = (struct null_lane *)lane_;
	uint64_t bytes = 0;

	(void)err;
	for (uint32_t i = 0; i < n; i++)
		bytes += e[i].len_bytes;
	count(&lane->sent_bytes, bytes);
	count(&lane->requests, n);
	count(&lane->posts, 1);
	return rji_stop_is_set(lane->stop) ? -ECANCELED : 0;
}

static void *null_staging(struct rji_lane *lane_, size_t len_bytes)
{
	struct null_lane *lane = (struct null_lane *)lane_;

	if (!lane->staged)
		lane->staged = malloc(len_bytes);
	return lane->staged;
}

static int null_post_staged(struct rji_lane *lane, const struct rji_extent *e,
			    const void *const *from, uint32_t n, struct rj_error *err)
{
	(void)from;
	return null_post(lane, e, n, err);
}

static int null_post_coded(struct rji_lane *lane_, const struct rji_coded *c, uint32_t n,
			   struct rj_error *err)
{
	struct null_lane *lane = (struct null_lane *)lane_;

	(void)c;
	(void)err;
	count(&lane->requests, n);
	count(&lane->posts, 1);
	return rji_stop_is_set(lane->stop) ? -ECANCELED : 0;
}

static int null_drain(struct rji_lane *lane, struct rj_error *err)
{
	(void)lane;
	(void)err;
	return 0;
}

static int null_fence(struct rji_lane *lane, uint64_t deadline_ns, struct rj_error *err)
{
	(void)lane;
	(void)deadline_ns;
	(void)err;
	return 0;
}

static void null_stats(const struct rji_lane *lane, struct rji_lane_stats *st)
{
	const struct null_lane *null = (const struct null_lane *)lane;

	*st = (struct rji_lane_stats){
		.sent_bytes = atomic_load_explicit(&null->sent_bytes, memory_order_relaxed),
		.requests = atomic_load_explicit(&null->requests, memory_order_relaxed),
		.posts = atomic_load_explicit(&null->posts, memory_order_relaxed),
	};
}

const struct rji_transport_ops rji_null_transport = {
	.name = "null",
	.moves_data = false,
	.create = null_create,
	.destroy = null_destroy,
	.reg = null_reg,
	.dereg_all = null_dereg_all,
	.listen = null_listen,
	.accept = null_accept,
	.serve = null_serve,
	.withdraw = null_withdraw,
	.connect = null_connect,
	.post = null_post,
	.staging = null_staging,
	.post_staged = null_post_staged,
	.codings = 1u << RJI_CODING_ZEROS,
	.post_coded = null_post_coded,
	.drain = null_drain,
	.fence = null_fence,
	.stats = null_stats,
	.close = null_close,
};

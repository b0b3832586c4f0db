/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"

#define DEFAULT_PEER_TIMEOUT_MS 5000

/*
 * Which devices get the guest's memory before anyone knows where a lane will go? A destination must hand out its keys before
 * the first lane comes: those of the addresses it was told, else all that are allowed. A source with several waits for
 * the first lane, since pinning a guest for a port that is not used costs as much as for one that is.
 */
static int attach_early(struct rji_rdma_transport *tp, const char *data_hosts, struct rj_error *err)
{
	uint32_t all = (1u << tp->n_devices) - 1;
	uint32_t wanted = all;
	int ret = 0;

	if (tp->n_devices > 1)
		wanted = tp->is_destination ? rji_rdma_devices_at(tp, data_hosts) : 0;
	if (tp->is_destination && !wanted) {
		wanted = all;
		rji_log(tp->host, RJ_LOG_INFO,
			"rdma: memory is registered with each of %u devices; name those that matter",
			tp->n_devices);
	}
	for (uint32_t i = 0; !ret && i < tp->n_devices; i++)
		if (wanted >> i & 1)
			ret = rji_rdma_attach(tp, i, err);
	return ret;
}

static int init(struct rji_rdma_transport *tp, const struct rji_transport_opts *o,
		struct rj_error *err)
{
	int ret;

	tp->host = o->host;
	tp->stop = o->stop;
	tp->is_destination = o->is_destination;
	tp->gid_index = o->gid_index;
	tp->traffic_class = o->traffic_class;
	tp->peer_timeout_ms = o->peer_timeout_ms ? o->peer_timeout_ms : DEFAULT_PEER_TIMEOUT_MS;
	tp->zeros = o->apply;
	tp->lazy = o->lazy;
	tp->background = o->background;
	tp->pin_cap_bytes = o->pin_cap_bytes;
	tp->n_lanes = o->n_lanes;
	tp->pins = o->pins;
	tp->wake_fd = o->background ? o->wake_fd : -1;
	tp->memory.there.todo_fd = tp->wake_fd;
	tp->memory.there.ready_bytes = tp->pins ? &tp->pins->there_bytes : NULL;
	rji_rdma_registrar_place(tp, o->topology);
	if (o->is_destination && o->lazy && !o->background)
		return rji_fail(
			err, RJ_E_VERSION,
			"the source's library does not know of lazy registration: register all at this side (--register all)");
	ret = rji_rdma_plan_windows(tp, err);
	if (!ret)
		ret = rji_rdma_devices(o->devices, tp->device, err);
	if (ret < 0)
		return ret;
	tp->n_devices = (uint32_t)ret;
	return attach_early(tp, o->data_hosts, err);
}

static void destroy(struct rji_transport **base_p)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(*base_p);

	if (!tp)
		return;
	rji_rdma_unlisten(tp);
	rji_rdma_dereg_all(*base_p);
	rji_rdma_registrar_stop(tp);
	rji_rdma_detach_all(tp);
	rji_rdma_window_pool_fini(&tp->memory.here);
	rji_rdma_window_pool_fini(&tp->memory.there);
	pthread_mutex_destroy(&tp->lock);
	rji_stop_fini(&tp->withdrawn);
	free(tp);
	*base_p = NULL;
}

static int create(const struct rji_transport_opts *o, struct rj_error *err,
		  struct rji_transport **tp_p)
{
	struct rji_rdma_transport *tp;
	struct rji_transport *base;
	int ret;

	if (o->n_lane_fds)
		return rji_fail(err, -EINVAL, "rdma lanes cannot be handed in as descriptors");
	tp = calloc(1, sizeof(*tp));
	if (!tp)
		return rji_fail(err, -ENOMEM, "no memory for the rdma transport");
	ret = rji_stop_init(&tp->withdrawn);
	if (ret) {
		free(tp);
		return rji_fail_sys(err, 0, -ret, "eventfd");
	}
	pthread_mutex_init(&tp->lock, NULL);
	rji_rdma_window_pool_init(&tp->memory.here);
	rji_rdma_window_pool_init(&tp->memory.there);
	base = (struct rji_transport *)(void *)tp;
	ret = init(tp, o, err);
	if (ret) {
		destroy(&base);
		return ret;
	}
	*tp_p = base;
	return 0;
}

static void stats(const struct rji_lane *base, struct rji_lane_stats *st)
{
	const struct rji_rdma_lane *lane = (const void *)base;

	*st = (struct rji_lane_stats){
		.sent_bytes = atomic_load_explicit(&lane->sent_bytes, memory_order_relaxed),
		.requests = atomic_load_explicit(&lane->requests, memory_order_relaxed),
		.posts = atomic_load_explicit(&lane->posts, memory_order_relaxed),
		.polls = atomic_load_explicit(&lane->polls, memory_order_relaxed),
		/* the last of each chain */
		.signalled = atomic_load_explicit(&lane->posts, memory_order_relaxed),
	};
}

const struct rji_transport_ops rji_rdma_transport = {
	.name = "rdma",
	.moves_data = true,
	.create = create,
	.destroy = destroy,
	.reg = rji_rdma_reg,
	.dereg_all = rji_rdma_dereg_all,
	.unpin = rji_rdma_unpin,
	.repin = rji_rdma_repin,
	.export_keys = rji_rdma_export_keys,
	.import_keys = rji_rdma_import_keys,
	.say = rji_rdma_say,
	.hear = rji_rdma_hear,
	.expect = rji_rdma_expect,
	.listen = rji_rdma_listen,
	.accept = rji_rdma_accept,
	.serve = rji_rdma_serve,
	.withdraw = rji_rdma_withdraw,
	.connect = rji_rdma_connect,
	.post = rji_rdma_post,
	.staging = rji_rdma_staging,
	.post_staged = rji_rdma_post_staged,
	.codings = 1u << RJI_CODING_ZEROS,
	.post_coded = rji_rdma_post_coded,
	.drain = rji_rdma_drain,
	.fence = rji_rdma_fence,
	.stats = stats,
	.close = rji_rdma_close,
};

/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/fault_transport.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <ramjet/session.h>

#include "base/clock.h"

struct wrapped {
	struct sim_faulty *f;
	struct rji_transport *inner;
	const struct rji_stop *stop;
	uint32_t peer_timeout_ms;
};

struct wrapped_lane {
	struct wrapped *tp;
	struct rji_lane *inner;
	atomic_bool cut;
};

static struct wrapped *to_wrapped(struct rji_transport *tp)
{
	return (struct wrapped *)tp;
}

static struct wrapped_lane *to_lane(struct rji_lane *lane)
{
	return (struct wrapped_lane *)lane;
}

const char *sim_op_name(enum sim_op op)
{
	static const char *const names[] = { "none",	    "create", "reg",	"export_keys",
					     "import_keys", "listen", "accept", "serve",
					     "connect",	    "post",   "drain",	"fence" };

	return op < SIM_N_OPS ? names[op] : "?";
}

static bool is_due(struct sim_faulty *f, enum sim_op op)
{
	return f->fault.op == op && atomic_fetch_add(&f->n_calls, 1) + 1 == f->fault.nth;
}

/* Until the session stops (true), the lane is cut, or the peer timeout has passed. */
static bool stall(const struct rji_stop *stop, uint32_t ms, atomic_bool *cut)
{
	uint64_t until = rji_now_ns() + ms * RJI_NS_PER_MS;

	while (rji_now_ns() < until && !(cut && atomic_load(cut))) {
		struct pollfd fd = { .fd = stop->fd, .events = POLLIN };

		if (poll(&fd, 1, 5) > 0)
			return true;
	}
	return false;
}

static int break_down(struct sim_faulty *f, const struct rji_stop *stop, uint32_t peer_timeout_ms,
		      atomic_bool *cut, struct rj_error *err)
{
	atomic_store(&f->fired, true);
	if (f->fault.stall && stall(stop, f->fault.for_ms ? f->fault.for_ms : peer_timeout_ms, cut))
		return -ECANCELED;
	return rji_fail(err, RJ_E_LANE, "%s call %u was made to fail", sim_op_name(f->fault.op),
			f->fault.nth);
}

/* Around a call: stands for its result. */
#define WITH_FAULT(w, op, err, call) WITH_LANE_FAULT(w, NULL, op, err, call)
#define WITH_LANE_FAULT(w, cut, op, err, call)                                                     \
	({                                                                                         \
		bool due_ = is_due((w)->f, op);                                                    \
		int ret_ = due_ && !(w)->f->fault.after ? 0 : (call);                              \
		if (due_ && ret_ >= 0)                                                             \
			ret_ = break_down((w)->f, (w)->stop, (w)->peer_timeout_ms, cut, err);      \
		ret_;                                                                              \
	})

static int fault_create(const struct rji_transport_opts *o, struct rj_error *err,
			struct rji_transport **tp_p)
{
	struct sim_faulty *f = o->arg;
	struct rji_transport_opts inner = *o;
	struct wrapped *w;
	int ret;

	if (is_due(f, SIM_OP_CREATE))
		return break_down(f, o->stop, o->peer_timeout_ms, NULL, err);
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->f = f;
	w->stop = o->stop;
	w->peer_timeout_ms = o->peer_timeout_ms;
	inner.arg = f->inner_arg;
	ret = f->inner->create(&inner, err, &w->inner);
	if (ret < 0) {
		free(w);
		return ret;
	}
	*tp_p = (struct rji_transport *)w;
	return 0;
}

static void fault_destroy(struct rji_transport **tp_p)
{
	struct wrapped *w = to_wrapped(*tp_p);

	if (!w)
		return;
	w->f->inner->destroy(&w->inner);
	free(w);
	*tp_p = NULL;
}

static int fault_reg(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		     struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return WITH_FAULT(w, SIM_OP_REG, err, w->f->inner->reg(w->inner, m, done, err));
}

static void fault_dereg_all(struct rji_transport *tp)
{
	struct wrapped *w = to_wrapped(tp);

	w->f->inner->dereg_all(w->inner);
}

static int fault_unpin(struct rji_transport *tp, uint32_t region, uint64_t *offset_bytes,
		       uint64_t *len_bytes, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return w->f->inner->unpin
		       ? w->f->inner->unpin(w->inner, region, offset_bytes, len_bytes, err)
		       : 0;
}

static int fault_repin(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		       uint64_t len_bytes, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return w->f->inner->repin
		       ? w->f->inner->repin(w->inner, region, offset_bytes, len_bytes, err)
		       : 0;
}

static int fault_export_keys(struct rji_transport *tp, uint32_t region, void *buf, size_t buf_bytes,
			     struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return WITH_FAULT(w, SIM_OP_EXPORT_KEYS, err,
			  w->f->inner->export_keys
				  ? w->f->inner->export_keys(w->inner, region, buf, buf_bytes, err)
				  : 0);
}

static int fault_import_keys(struct rji_transport *tp, uint32_t region, const void *keys,
			     size_t len_bytes, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return WITH_FAULT(w, SIM_OP_IMPORT_KEYS, err,
			  w->f->inner->import_keys
				  ? w->f->inner->import_keys(w->inner, region, keys, len_bytes, err)
				  : 0);
}

static int fault_listen(struct rji_transport *tp, const struct rji_listen *l,
			struct rji_addrs *addrs, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);

	return WITH_FAULT(w, SIM_OP_LISTEN, err, w->f->inner->listen(w->inner, l, addrs, err));
}

static int wrap(struct wrapped *w, struct rji_lane *inner, struct rji_lane **lane_p)
{
	struct wrapped_lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return -ENOMEM;
	lane->tp = w;
	lane->inner = inner;
	*lane_p = (struct rji_lane *)lane;
	return 0;
}

static void fault_close(struct rji_lane **lane_p)
{
	struct wrapped_lane *lane = to_lane(*lane_p);

	if (!lane)
		return;
	lane->tp->f->inner->close(&lane->inner);
	free(lane);
	*lane_p = NULL;
}

static int accept_inner(struct wrapped *w, const struct rji_admission *adm, uint64_t deadline_ns,
			struct rji_lane **lanes, struct rj_error *err)
{
	struct rji_lane *inner[RJ_MAX_LANES];
	int ret;

	for (uint32_t i = 0; i < adm->n_lanes; i++)
		inner[i] = adm->there >> i & 1 ? to_lane(lanes[i])->inner : NULL;
	ret = w->f->inner->accept(w->inner, adm, deadline_ns, inner, err);
	for (uint32_t i = 0; !ret && i < adm->n_lanes; i++) {
		if (!(adm->there >> i & 1))
			ret = wrap(w, inner[i], &lanes[i]);
	}
	return ret;
}

static int fault_accept(struct rji_transport *tp, const struct rji_admission *adm,
			uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);
	int ret;

	for (uint32_t i = 0; i < adm->n_lanes; i++) {
		if (!(adm->there >> i & 1))
			lanes[i] = NULL;
	}
	ret = WITH_FAULT(w, SIM_OP_ACCEPT, err, accept_inner(w, adm, deadline_ns, lanes, err));
	for (uint32_t i = 0; ret < 0 && i < adm->n_lanes; i++) {
		if (!(adm->there >> i & 1))
			fault_close(&lanes[i]);
	}
	return ret;
}

static int fault_serve(struct rji_lane *lane_, struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_SERVE, err,
			       w->f->inner->serve(lane->inner, err));
}

static void fault_withdraw(struct rji_transport *tp)
{
	struct wrapped *w = to_wrapped(tp);

	w->f->inner->withdraw(w->inner);
}

static int connect_inner(struct wrapped *w, uint32_t number, const struct rji_addrs *addrs,
			 const struct rji_admission *adm, uint64_t deadline_ns,
			 struct rji_lane **lane_p, struct rj_error *err)
{
	struct rji_lane *inner;
	int ret = w->f->inner->connect(w->inner, number, addrs, adm, deadline_ns, &inner, err);

	return ret < 0 ? ret : wrap(w, inner, lane_p);
}

static int fault_connect(struct rji_transport *tp, uint32_t number, const struct rji_addrs *addrs,
			 const struct rji_admission *adm, uint64_t deadline_ns,
			 struct rji_lane **lane_p, struct rj_error *err)
{
	struct wrapped *w = to_wrapped(tp);
	struct rji_lane *lane = NULL;
	int ret = WITH_FAULT(w, SIM_OP_CONNECT, err,
			     connect_inner(w, number, addrs, adm, deadline_ns, &lane, err));

	if (ret < 0)
		fault_close(&lane);
	else
		*lane_p = lane;
	return ret;
}

static int fault_post(struct rji_lane *lane_, const struct rji_extent *e, uint32_t n,
		      struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_POST, err,
			       w->f->inner->post(lane->inner, e, n, err));
}

static void *fault_staging(struct rji_lane *lane_, size_t len_bytes)
{
	struct wrapped_lane *lane = to_lane(lane_);
	const struct rji_transport_ops *inner = lane->tp->f->inner;

	return inner->staging ? inner->staging(lane->inner, len_bytes) : NULL;
}

static int fault_post_staged(struct rji_lane *lane_, const struct rji_extent *e,
			     const void *const *from, uint32_t n, struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_POST, err,
			       w->f->inner->post_staged(lane->inner, e, from, n, err));
}

static int fault_post_coded(struct rji_lane *lane_, const struct rji_coded *c, uint32_t n,
			    struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_POST, err,
			       w->f->inner->post_coded(lane->inner, c, n, err));
}

static int fault_drain(struct rji_lane *lane_, struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_DRAIN, err,
			       w->f->inner->drain(lane->inner, err));
}

static int fault_fence(struct rji_lane *lane_, uint64_t deadline_ns, struct rj_error *err)
{
	struct wrapped_lane *lane = to_lane(lane_);
	struct wrapped *w = lane->tp;

	return WITH_LANE_FAULT(w, &lane->cut, SIM_OP_FENCE, err,
			       w->f->inner->fence(lane->inner, deadline_ns, err));
}

static void fault_cut(struct rji_lane *lane_)
{
	struct wrapped_lane *lane = to_lane(lane_);

	atomic_store(&lane->cut, true);
	lane->tp->f->inner->cut(lane->inner);
}

static void fault_stats(const struct rji_lane *lane_, struct rji_lane_stats *st)
{
	const struct wrapped_lane *lane = (const struct wrapped_lane *)lane_;

	lane->tp->f->inner->stats(lane->inner, st);
}

const struct rji_transport_ops sim_fault_transport = {
	.name = "sim",
	.moves_data = true,
	.create = fault_create,
	.destroy = fault_destroy,
	.reg = fault_reg,
	.dereg_all = fault_dereg_all,
	.unpin = fault_unpin,
	.repin = fault_repin,
	.export_keys = fault_export_keys,
	.import_keys = fault_import_keys,
	.listen = fault_listen,
	.accept = fault_accept,
	.serve = fault_serve,
	.withdraw = fault_withdraw,
	.connect = fault_connect,
	.post = fault_post,
	.staging = fault_staging,
	.post_staged = fault_post_staged,
	.codings = 1u << RJI_CODING_ZEROS | 1u << RJI_CODING_XBZRLE | 1u << RJI_CODING_ZSTD,
	.post_coded = fault_post_coded,
	.drain = fault_drain,
	.fence = fault_fence,
	.cut = fault_cut,
	.stats = fault_stats,
	.close = fault_close,
};

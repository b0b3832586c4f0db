/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "rdma/rdma_transport.h"

/*
 * The source connects a lane:
 *
 *   resolve address ── resolve route ── device attached ── queue pair, receives posted ── connect (hello) ── welcome
 *
 * Lanes are dealt out over the announced addresses, which is how several ports are used; one that cannot be reached leaves
 * its lanes to the next. A refusal by the destination is final.
 *
 * rdma_cm repeats a connection request to a host that is gone for a minute, so every step is bounded by our own deadline, and
 * the id is destroyed when that has passed.
 */

struct dial {
	struct rji_rdma_transport *tp;
	const struct rji_admission *adm;
	const char *text; /* the address */
	uint64_t deadline_ns;
	struct rji_rdma_lane *lane;
};

static int cm_failed(const struct dial *d, int ret, const char *step, struct rj_error *err)
{
	if (ret == -ECANCELED || ret == -ESHUTDOWN)
		return rji_fail(err, -ECANCELED, "stopped while connecting lane %u",
				d->lane->number);
	if (ret == -ETIMEDOUT)
		return rji_fail(err, RJ_E_CONNECT, "%s: no answer in time (%s)", d->text, step);
	return rji_fail_sys(err, RJ_E_CONNECT, -ret, "%s: %s", d->text, step);
}

static int refused(const struct dial *d, const struct rdma_cm_event *ev, struct rj_error *err)
{
	enum rji_rdma_refusal reason =
		rji_rdma_get_refusal(ev->param.conn.private_data, ev->param.conn.private_data_len);

	if (reason)
		return rji_fail(err, RJ_E_REFUSED, "%s refused lane %u: %s", d->text,
				d->lane->number, rji_rdma_refusal_text(reason));
	return rji_fail(err, RJ_E_CONNECT, "%s: nothing listens there for lanes (reject reason %d)",
			d->text, ev->status);
}

static int unexpected(const struct dial *d, const struct rdma_cm_event *ev, const char *step,
		      struct rj_error *err)
{
	switch (ev->event) {
	case RDMA_CM_EVENT_REJECTED: return refused(d, ev, err);
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
		if (ev->status == -ENODEV)
			return rji_fail(err, RJ_E_NO_RDMA,
					"no RDMA device of this machine reaches %s", d->text);
		break;
	default: break;
	}
	return rji_fail(err, RJ_E_CONNECT, "%s: %s, %s (%d)", d->text, step,
			rdma_event_str(ev->event), ev->status);
}

/* Wait for the event that ends a step. It is left to be acknowledged in *ev_p if that is given. */
static int expect(const struct dial *d, enum rdma_cm_event_type type, const char *step,
		  struct rdma_cm_event **ev_p, struct rj_error *err)
{
	struct rdma_cm_event *ev;
	int ret = rji_rdma_cm_next(d->tp, d->lane->cm, d->deadline_ns, &ev);

	if (ret)
		return cm_failed(d, ret, step, err);
	if (ev->event != type) {
		ret = unexpected(d, ev, step, err);
		rdma_ack_cm_event(ev);
		assert(ret < 0);
		return ret;
	}
	if (ev_p)
		*ev_p = ev;
	else
		rdma_ack_cm_event(ev);
	return 0;
}

static int ms_left(const struct dial *d)
{
	int ms = rji_ms_until(d->deadline_ns);

	return ms == 0 ? 1 : ms < 0 ? 60000 : ms;
}

static int resolve_address(struct dial *d, const struct sockaddr *from, struct sockaddr_storage *to,
			   struct rj_error *err)
{
	struct rji_rdma_lane *lane = d->lane;
	struct sockaddr_storage src;

	if (lane->id)
		rdma_destroy_id(lane->id);
	lane->id = NULL;
	if (rdma_create_id(lane->cm, &lane->id, lane, RDMA_PS_TCP))
		return rji_fail_sys(err, RJ_E_CONNECT, errno, "no rdma_cm id");
	rji_rdma_cm_options(d->tp, lane->id);
	if (from)
		memcpy(&src, from, sizeof(src));
	if (rdma_resolve_addr(lane->id, from ? (struct sockaddr *)&src : NULL,
			      (struct sockaddr *)to, ms_left(d))) {
		if (errno == ENODEV)
			return rji_fail(err, RJ_E_NO_RDMA,
					"no RDMA device of this machine reaches %s", d->text);
		return cm_failed(d, -errno, "resolving the address", err);
	}
	return expect(d, RDMA_CM_EVENT_ADDR_RESOLVED, "resolving the address", NULL, err);
}

/*
 * On RoCE the entry of the GID table follows from the source address. Who wants another entry gets the address it stands for
 * as the source.
 */
static int choose_gid(struct dial *d, struct sockaddr_storage *to, struct rj_error *err)
{
	struct rdma_cm_id *id = d->lane->id;
	struct sockaddr_storage from = { 0 };
	struct sockaddr_in6 *in6 = (void *)&from;
	struct sockaddr_in *in = (void *)&from;
	union ibv_gid gid;

	if (d->tp->gid_index < 0)
		return 0;
	if (ibv_query_gid(id->verbs, id->port_num, d->tp->gid_index, &gid))
		return rji_fail(err, -EINVAL, "%s has no GID %d",
				ibv_get_device_name(id->verbs->device), d->tp->gid_index);
	if (!memcmp(&gid, &id->route.addr.addr.ibaddr.sgid, sizeof(gid)))
		return 0;
	if (IN6_IS_ADDR_V4MAPPED((struct in6_addr *)(void *)&gid)) {
		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, gid.raw + 12, sizeof(in->sin_addr));
	} else {
		in6->sin6_family = AF_INET6;
		memcpy(&in6->sin6_addr, gid.raw, sizeof(in6->sin6_addr));
		if (to->ss_family == AF_INET6)
			in6->sin6_scope_id = ((struct sockaddr_in6 *)to)->sin6_scope_id;
	}
	if (from.ss_family != to->ss_family)
		return rji_fail(err, -EINVAL, "GID %d is of another address family than %s",
				d->tp->gid_index, d->text);
	return resolve_address(d, (struct sockaddr *)&from, to, err);
}

static int resolve(struct dial *d, struct sockaddr_storage *to, struct rj_error *err)
{
	int ret = resolve_address(d, NULL, to, err);

	if (!ret)
		ret = choose_gid(d, to, err);
	if (ret)
		return ret;
	if (rdma_resolve_route(d->lane->id, ms_left(d))) {
		if (errno == ENODEV)
			return rji_fail(err, RJ_E_NO_RDMA,
					"no RDMA device of this machine reaches %s", d->text);
		return cm_failed(d, -errno, "resolving the route", err);
	}
	return expect(d, RDMA_CM_EVENT_ROUTE_RESOLVED, "resolving the route", NULL, err);
}

static int attach(struct dial *d, struct rj_error *err)
{
	struct rji_rdma_lane *lane = d->lane;
	int i = rji_rdma_device_of(d->tp, lane->id);
	int ret;

	if (i < 0)
		return rji_fail(err, RJ_E_NO_RDMA,
				"%s is reached by %s, which this session may not use", d->text,
				ibv_get_device_name(lane->id->verbs->device));
	pthread_mutex_lock(&d->tp->lock);
	ret = rji_rdma_attach(d->tp, (uint32_t)i, err);
	pthread_mutex_unlock(&d->tp->lock);
	lane->device = (uint32_t)i;
	lane->dev = &d->tp->device[i];
	return ret;
}

static int welcomed(struct dial *d, const struct rdma_cm_event *ev, struct rj_error *err)
{
	struct rji_rdma_lane *lane = d->lane;
	struct rji_rdma_welcome w;
	int ret = rji_rdma_get_welcome(ev->param.conn.private_data, ev->param.conn.private_data_len,
				       &w);

	if (!ret && (w.lane != lane->number || w.device >= RJI_RDMA_MAX_DEVICES))
		ret = RJ_E_PROTOCOL;
	if (ret)
		return rji_fail(err, ret, "%s: not the answer to a lane's request: %s", d->text,
				rj_strerror(ret));
	lane->peer_device = w.device;
	if (lane->max_wr_bytes > w.max_msg_bytes)
		lane->max_wr_bytes = w.max_msg_bytes & ~4095u;
	return 0;
}

static int connect_lane(struct dial *d, struct rj_error *err)
{
	struct rji_rdma_hello hello = { .lane = (uint16_t)d->lane->number };
	uint8_t bytes[RJI_RDMA_HELLO_BYTES];
	struct rdma_conn_param param;
	struct rdma_cm_event *ev = NULL;
	int ret;

	memcpy(hello.session_id, d->adm->session_id, sizeof(hello.session_id));
	memcpy(hello.token, d->adm->token, sizeof(hello.token));
	rji_rdma_put_hello(&hello, bytes);
	rji_rdma_cm_param(&param, bytes, sizeof(bytes));
	if (rdma_connect(d->lane->id, &param))
		return cm_failed(d, -errno, "connecting", err);
	ret = expect(d, RDMA_CM_EVENT_ESTABLISHED, "connecting", &ev, err);
	if (ret)
		return ret;
	ret = welcomed(d, ev, err);
	rdma_ack_cm_event(ev);
	if (!ret)
		rji_rdma_lane_narrow(d->lane);
	return ret;
}

static int dial(struct dial *d, struct rj_error *err)
{
	struct sockaddr_storage to;
	int ret;

	if (rji_rdma_parse_address(d->text, &to))
		return rji_fail(err, RJ_E_CONNECT, "\"%s\" is no address of a lane here", d->text);
	d->lane->cm = rji_rdma_cm_channel();
	if (!d->lane->cm)
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "rdma_cm (is rdma_ucm loaded?)");
	ret = resolve(d, &to, err);
	if (!ret)
		ret = attach(d, err);
	if (!ret)
		ret = rji_rdma_lane_setup(d->lane, d->adm->n_lanes, err);
	if (!ret)
		ret = connect_lane(d, err);
	return ret;
}

/* Another address may still do. */
static bool is_worth_another(int ret)
{
	return ret == RJ_E_CONNECT || ret == RJ_E_NO_RDMA;
}

/* An equal share of what is left for each address. */
static uint64_t share(uint64_t deadline_ns, uint32_t n_left)
{
	uint64_t now = rji_now_ns();

	if (!deadline_ns || deadline_ns <= now)
		return deadline_ns;
	return now + (deadline_ns - now) / n_left;
}

int rji_rdma_connect(struct rji_transport *base, uint32_t number, const struct rji_addrs *addrs,
		     const struct rji_admission *adm, uint64_t deadline_ns,
		     struct rji_lane **lane_p, struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	uint32_t n = addrs->n < RJI_MAX_ADDRS ? addrs->n : RJI_MAX_ADDRS;
	int ret = RJ_E_CONNECT;

	if (!n || number > UINT16_MAX)
		return rji_fail(err, -EINVAL, "lane %u has no address to connect to", number);
	for (uint32_t k = 0; k < n && is_worth_another(ret); k++) {
		struct dial d = { .tp = tp, .adm = adm, .text = addrs->addr[(number + k) % n] };
		struct rj_error why;

		rji_error_init(&why);
		d.deadline_ns = share(deadline_ns, n - k);
		d.lane = rji_rdma_lane_new(tp, number);
		ret = d.lane ? dial(&d, &why) : rji_fail(&why, -ENOMEM, "no memory for a lane");
		if (!ret) {
			*lane_p = (struct rji_lane *)(void *)d.lane;
			return 0;
		}
		rji_rdma_lane_free(d.lane);
		if (is_worth_another(ret) && k + 1 < n)
			rji_log(tp->host, RJ_LOG_WARN, "rdma: lane %u: %s; trying the next address",
				number, why.text);
		else
			rji_fail(err, ret, "%s", why.text);
	}
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"

/*
 * Which device reaches an address? An address of this machine can be bound to and then names its device; the way to any other
 * is resolved as for a connection, route included: the kernel resolves addresses of lo and finds no route for them.
 */

struct query {
	struct rdma_event_channel *channel;
	const char *devices;
	const char *host;
	uint64_t deadline_ns;
};

static void describe(const struct rdma_cm_id *id, struct rji_rdma_route *r)
{
	struct ibv_port_attr port;

	memset(r, 0, sizeof(*r));
	snprintf(r->device, sizeof(r->device), "%.58s/%u", ibv_get_device_name(id->verbs->device),
		 id->port_num);
	r->software = rji_rdma_is_software(id->verbs);
	if (!ibv_query_port(id->verbs, id->port_num, &port))
		r->rate_bps = rji_rdma_port_rate(&port);
}

static int step(const struct query *q, struct rdma_cm_id *id, enum rdma_cm_event_type want,
		struct rj_error *err)
{
	enum rdma_cm_event_type got;
	struct rdma_cm_event *ev;
	int ret = rji_rdma_cm_next(NULL, q->channel, q->deadline_ns, &ev);

	if (ret)
		return rji_fail_sys(err, RJ_E_NO_RDMA, -ret, "looking for the way to %s by RDMA",
				    q->host);
	got = ev->event;
	ret = ev->status;
	rdma_ack_cm_event(ev);
	if (got != want)
		return rji_fail(err, RJ_E_NO_RDMA, "no RDMA device reaches %s (%s, %d): try tcp://",
				q->host, rdma_event_str(got), ret);
	return 0;
}

static int no_way(const struct query *q, struct rj_error *err)
{
	return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "no RDMA device reaches %s (try tcp://)",
			    q->host);
}

static int find_way(const struct query *q, struct rdma_cm_id *id, struct sockaddr_storage *to,
		    struct rj_error *err)
{
	int ms = rji_ms_until(q->deadline_ns);
	int ret;

	if (rdma_resolve_addr(id, NULL, (struct sockaddr *)to, ms > 0 ? ms : 1))
		return no_way(q, err);
	ret = step(q, id, RDMA_CM_EVENT_ADDR_RESOLVED, err);
	if (ret)
		return ret;
	if (rdma_resolve_route(id, ms > 0 ? ms : 1))
		return no_way(q, err);
	return step(q, id, RDMA_CM_EVENT_ROUTE_RESOLVED, err);
}

static int check(const struct query *q, const struct rdma_cm_id *id, struct rji_rdma_route *route_p,
		 struct rj_error *err)
{
	const char *name = ibv_get_device_name(id->verbs->device);

	if (!rji_rdma_device_allowed(q->devices, name))
		return rji_fail(err, RJ_E_NO_RDMA,
				"%s is reached by %s, which is not among the devices %s", q->host,
				name, q->devices);
	describe(id, route_p);
	return 0;
}

static int ask(const struct query *q, struct sockaddr_storage *to, struct rji_rdma_route *route_p,
	       struct rj_error *err)
{
	struct rdma_cm_id *id;
	int ret = 0;

	if (rdma_create_id(q->channel, &id, NULL, RDMA_PS_TCP))
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "no rdma_cm id");
	if (rdma_bind_addr(id, (struct sockaddr *)to) || !id->verbs) {
		rdma_destroy_id(id);
		if (rdma_create_id(q->channel, &id, NULL, RDMA_PS_TCP))
			return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "no rdma_cm id");
		ret = find_way(q, id, to, err);
	}
	if (!ret)
		ret = check(q, id, route_p, err);
	rdma_destroy_id(id);
	return ret;
}

/* A destination that takes any address: the first device will do. */
static int any_device(const char *devices, struct rji_rdma_route *route_p, struct rj_error *err)
{
	struct rji_rdma_device dev[RJI_RDMA_MAX_DEVICES];
	int n = rji_rdma_devices(devices, dev, err);

	if (n < 0)
		return n;
	memset(route_p, 0, sizeof(*route_p));
	snprintf(route_p->device, sizeof(route_p->device), "%.61s/1", dev[0].name);
	route_p->software = dev[0].software;
	route_p->rate_bps = dev[0].rate_bps;
	return 0;
}

int rji_rdma_route(const char *devices, const char *host, uint16_t port, uint32_t timeout_ms,
		   struct rji_rdma_route *route_p, struct rj_error *err)
{
	struct query q = {
		.devices = devices,
		.host = host,
		.deadline_ns = rji_now_ns() + timeout_ms * RJI_NS_PER_MS,
	};
	struct rji_rdma_device dev[RJI_RDMA_MAX_DEVICES];
	struct sockaddr_storage to;
	int ret = rji_rdma_devices(devices, dev, err);

	if (ret < 0)
		return ret;
	if (!host[0])
		return any_device(devices, route_p, err);
	ret = rji_rdma_resolve_host(host, port, &to, err);
	if (ret)
		return ret;
	if (rji_rdma_is_any((struct sockaddr *)&to))
		return any_device(devices, route_p, err);
	/* Bound to, a port in use would be an error of its own. */
	((struct sockaddr_in *)&to)->sin_port = 0;
	q.channel = rji_rdma_cm_channel();
	if (!q.channel)
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "rdma_cm (is rdma_ucm loaded?)");
	ret = ask(&q, &to, route_p, err);
	rdma_destroy_event_channel(q.channel);
	return ret;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/verbs_shim/shim_internal.h"

/* librdmacm. */

#define REQUEST_BYTES 56
#define REPLY_BYTES 196
#define REJECT_BYTES 148

struct shim_id *shim_ids;
static uint16_t next_port;

static struct shim_id *of(struct rdma_cm_id *id)
{
	return (struct shim_id *)id;
}

static struct shim_cm_channel *channel_of(const struct shim_id *id)
{
	return (struct shim_cm_channel *)id->base.channel;
}

/* --- channels and events --- */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct shim_cm_channel *c = NULL;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_CM_CHANNEL)) {
		errno = EMFILE;
	} else {
		c = calloc(1, sizeof(*c));
		c->base.fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
		c->tail = &c->first;
		shim_object("event channels", 1);
	}
	pthread_mutex_unlock(&shim_lock);
	return c ? &c->base : NULL;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	struct shim_cm_channel *c = (struct shim_cm_channel *)channel;

	pthread_mutex_lock(&shim_lock);
	if (c->n_ids)
		shim_broken("an event channel is destroyed under %u ids", c->n_ids);
	if (c->first)
		shim_broken("an event channel is destroyed with events of nobody");
	shim_object("event channels", -1);
	pthread_mutex_unlock(&shim_lock);
	close(channel->fd);
	free(c);
}

/* The field is as long as the fabric makes it, padded with zeros. */
static struct shim_event *queue_event(struct shim_id *id, struct shim_id *listener,
				      enum rdma_cm_event_type type, int status,
				      const void *private_data, size_t len, size_t padded)
{
	struct shim_cm_channel *c = channel_of(listener ? listener : id);
	struct shim_event *ev = calloc(1, sizeof(*ev));

	ev->base.id = &id->base;
	ev->base.listen_id = listener ? &listener->base : NULL;
	ev->base.event = type;
	ev->base.status = status;
	if (padded) {
		if (len)
			memcpy(ev->private_data, private_data, len);
		ev->base.param.conn.private_data = ev->private_data;
		ev->base.param.conn.private_data_len = (uint8_t)padded;
	}
	*c->tail = ev;
	c->tail = &ev->next;
	shim_event_fd(c->base.fd, 1);
	return ev;
}

static void simple_event(struct shim_id *id, enum rdma_cm_event_type type, int status)
{
	queue_event(id, NULL, type, status, NULL, 0, 0);
}

/* Whose ack does destroying wait for? */
static struct shim_id *owner(const struct rdma_cm_event *ev)
{
	return of(ev->listen_id ? ev->listen_id : ev->id);
}

/* The library itself makes the queue pair ready when it hands out the event. */
static void on_fetch(struct shim_event *ev)
{
	struct shim_id *id = of(ev->base.id);
	struct shim_qp *qp = (struct shim_qp *)id->base.qp;

	if (ev->base.event == RDMA_CM_EVENT_ADDR_RESOLVED) {
		id->base.port_num = 1;
		id->state = SHIM_ID_RESOLVED;
	}
	if (ev->base.event == RDMA_CM_EVENT_ROUTE_RESOLVED)
		id->state = SHIM_ID_ROUTED;
	if (ev->base.event != RDMA_CM_EVENT_ESTABLISHED || id->state != SHIM_ID_CONNECTING)
		return;
	if (qp && qp->base.state != IBV_QPS_INIT) {
		ev->base.event = RDMA_CM_EVENT_CONNECT_ERROR;
		ev->base.status = -EINVAL;
		return;
	}
	if (qp)
		qp->base.state = IBV_QPS_RTS;
	id->state = SHIM_ID_CONNECTED;
	if (id->peer && id->peer->state == SHIM_ID_ACCEPTED) {
		id->peer->state = SHIM_ID_CONNECTED;
		simple_event(id->peer, RDMA_CM_EVENT_ESTABLISHED, 0);
	}
	pthread_cond_broadcast(&shim_work);
}

static void spoil(struct shim_event *ev)
{
	switch (ev->base.event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED: ev->base.event = RDMA_CM_EVENT_ADDR_ERROR; break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED: ev->base.event = RDMA_CM_EVENT_ROUTE_ERROR; break;
	case RDMA_CM_EVENT_ESTABLISHED: ev->base.event = RDMA_CM_EVENT_UNREACHABLE; break;
	default: return;
	}
	ev->base.status = -EHOSTUNREACH;
}

int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event)
{
	struct shim_cm_channel *c = (struct shim_cm_channel *)channel;
	struct shim_event *ev;
	uint64_t one;

	if (read(channel->fd, &one, sizeof(one)) != sizeof(one))
		return -1;
	pthread_mutex_lock(&shim_lock);
	ev = c->first;
	c->first = ev->next;
	if (!c->first)
		c->tail = &c->first;
	if (shim_fault(SHIM_CM_GET_EVENT))
		spoil(ev);
	on_fetch(ev);
	owner(&ev->base)->unacked++;
	pthread_mutex_unlock(&shim_lock);
	*event = &ev->base;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	pthread_mutex_lock(&shim_lock);
	if (!owner(event)->unacked--)
		shim_broken("a cm event is acknowledged twice");
	pthread_mutex_unlock(&shim_lock);
	free(event);
	return 0;
}

/* --- ids --- */

static struct shim_id *new_id(struct rdma_event_channel *channel, void *context)
{
	struct shim_id *id = calloc(1, sizeof(*id));

	id->base.channel = channel;
	id->base.context = context;
	id->base.ps = RDMA_PS_TCP;
	id->next = shim_ids;
	shim_ids = id;
	channel_of(id)->n_ids++;
	shim_object("cm ids", 1);
	return id;
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
		   enum rdma_port_space ps)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_CM_CREATE_ID)) {
		errno = ENOMEM;
		ret = -1;
	} else {
		*id = &new_id(channel, context)->base;
	}
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

static void free_id(struct shim_id *id);

/* The other end is told, as far as it has got. */
static void part(struct shim_id *id)
{
	struct shim_id *peer = id->peer;

	if (!peer)
		return;
	peer->peer = NULL;
	id->peer = NULL;
	switch (peer->state) {
	case SHIM_ID_CONNECTING:
		peer->state = SHIM_ID_ENDED;
		queue_event(peer, NULL, RDMA_CM_EVENT_REJECTED, 28, NULL, 0, REJECT_BYTES);
		break;
	case SHIM_ID_ACCEPTED:
		peer->state = SHIM_ID_ENDED;
		simple_event(peer, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
		break;
	case SHIM_ID_CONNECTED:
		if (!id->said_disconnect)
			simple_event(peer, RDMA_CM_EVENT_DISCONNECTED, 0);
		break;
	default: break;
	}
}

/* Take what is queued for an id from its channel; requests that nobody will look at end with it. */
static void drop_events(struct shim_cm_channel *c, struct shim_id *id)
{
	struct shim_event **at = &c->first;

	while (*at) {
		struct shim_event *ev = *at;

		if (owner(&ev->base) != id) {
			at = &ev->next;
			continue;
		}
		*at = ev->next;
		shim_event_fd(c->base.fd, -1);
		if (ev->base.event == RDMA_CM_EVENT_CONNECT_REQUEST)
			free_id(of(ev->base.id));
		free(ev);
	}
	c->tail = at;
}

static void free_id(struct shim_id *id)
{
	struct shim_id **at = &shim_ids;

	part(id);
	drop_events(channel_of(id), id);
	while (*at != id)
		at = &(*at)->next;
	*at = id->next;
	channel_of(id)->n_ids--;
	shim_object("cm ids", -1);
	free(id);
}

int rdma_destroy_id(struct rdma_cm_id *id)
{
	pthread_mutex_lock(&shim_lock);
	if (of(id)->unacked)
		shim_broken("an id is destroyed with %u events unacknowledged", of(id)->unacked);
	if (id->qp)
		shim_broken("an id is destroyed with its queue pair");
	free_id(of(id));
	pthread_mutex_unlock(&shim_lock);
	return 0;
}

int rdma_migrate_id(struct rdma_cm_id *id, struct rdma_event_channel *channel)
{
	struct shim_cm_channel *from = (struct shim_cm_channel *)id->channel;
	struct shim_cm_channel *to = (struct shim_cm_channel *)channel;
	struct shim_event **at = &from->first;
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (of(id)->unacked)
		shim_broken("an id moves with %u events unacknowledged", of(id)->unacked);
	if (shim_fault(SHIM_CM_MIGRATE)) {
		errno = EIO;
		ret = -1;
	}
	while (!ret && *at) {
		struct shim_event *ev = *at;

		if (owner(&ev->base) != of(id)) {
			at = &ev->next;
			continue;
		}
		*at = ev->next;
		ev->next = NULL;
		*to->tail = ev;
		to->tail = &ev->next;
		shim_event_fd(from->base.fd, -1);
		shim_event_fd(to->base.fd, 1);
	}
	if (!ret) {
		from->tail = at;
		from->n_ids--;
		to->n_ids++;
		id->channel = channel;
	}
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

int rdma_set_option(struct rdma_cm_id *id, int level, int optname, void *optval, size_t optlen)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (level != RDMA_OPTION_ID || optlen != 1)
		shim_broken("rdma_set_option(%d, %d, %zu bytes)", level, optname, optlen);
	if (optname == RDMA_OPTION_ID_ACK_TIMEOUT)
		of(id)->has_timeout = true;
	if (shim_fault(SHIM_CM_SET_OPTION)) {
		errno = ENOSYS;
		ret = -1;
	}
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

/* --- addresses --- */

static int device_of(const struct sockaddr *sa)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;
	struct in6_addr a6;
	struct in_addr a4;

	inet_pton(AF_INET, "192.0.2.1", &a4);
	inet_pton(AF_INET6, "2001:db8::1", &a6);
	for (uint32_t i = 0; i < shim_config.n_devices; i++) {
		if (sa->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) == ntohl(a4.s_addr) + i)
			return (int)i;
		a6.s6_addr[15] = (uint8_t)(1 + i);
		if (sa->sa_family == AF_INET6 && !memcmp(&in6->sin6_addr, &a6, sizeof(a6)))
			return (int)i;
	}
	return -1;
}

static bool never_answers(const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const void *)sa;

	return sa->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) == 0xc000024d;
}

static void copy_address(struct sockaddr_storage *to, const struct sockaddr *from)
{
	memset(to, 0, sizeof(*to));
	memcpy(to, from,
	       from->sa_family == AF_INET ? sizeof(struct sockaddr_in)
					  : sizeof(struct sockaddr_in6));
}

static in_port_t *port(struct sockaddr_storage *sa)
{
	return &((struct sockaddr_in *)(void *)sa)->sin_port;
}

static int fail_with(int code)
{
	errno = code;
	return -1;
}

static int bind_addr(struct shim_id *id, const struct sockaddr *addr)
{
	int i = device_of(addr);

	if (shim_fault(SHIM_CM_BIND))
		return fail_with(EADDRINUSE);
	if (i < 0)
		return fail_with(ENODEV);
	id->base.verbs = &shim_device[i].ctx;
	id->base.port_num = 1;
	copy_address(&id->base.route.addr.src_storage, addr);
	if (!*port(&id->base.route.addr.src_storage))
		*port(&id->base.route.addr.src_storage) =
			htons((uint16_t)(20000 + next_port++ % 10000));
	id->state = SHIM_ID_BOUND;
	return 0;
}

int rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *addr)
{
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = bind_addr(of(id), addr);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

__be16 rdma_get_src_port(struct rdma_cm_id *id)
{
	return *port(&id->route.addr.src_storage);
}

int rdma_listen(struct rdma_cm_id *id, int backlog)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_CM_LISTEN))
		ret = fail_with(EADDRINUSE);
	else
		of(id)->state = SHIM_ID_LISTENING;
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

int rdma_resolve_addr(struct rdma_cm_id *base, struct sockaddr *src_addr, struct sockaddr *dst_addr,
		      int timeout_ms)
{
	struct shim_id *id = of(base);
	int i = device_of(dst_addr);
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	copy_address(&base->route.addr.dst_storage, dst_addr);
	if (shim_fault(SHIM_CM_RESOLVE_ADDR)) {
		ret = fail_with(ENODEV);
	} else if (i >= 0) {
		base->verbs = &shim_device[i].ctx;
		simple_event(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
	} else if (!never_answers(dst_addr)) {
		simple_event(id, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
	}
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

int rdma_resolve_route(struct rdma_cm_id *base, int timeout_ms)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (of(base)->state != SHIM_ID_RESOLVED)
		shim_broken("a route is asked for without an address");
	if (shim_fault(SHIM_CM_RESOLVE_ROUTE))
		ret = fail_with(ENODEV);
	else
		simple_event(of(base), RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

/* --- connections --- */

int rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	if (pd->context != id->verbs)
		shim_broken("a protection domain of another device");
	if (shim_fault(SHIM_CM_CREATE_QP))
		ret = fail_with(ENOMEM);
	else if (attr->cap.max_inline_data && shim_config.refuse_inline)
		ret = fail_with(EINVAL);
	else if (shim_config.max_qp_wr && attr->cap.max_send_wr > shim_config.max_qp_wr)
		ret = fail_with(EINVAL);
	else
		id->qp = &shim_qp_new(pd, attr)->base;
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

void rdma_destroy_qp(struct rdma_cm_id *id)
{
	pthread_mutex_lock(&shim_lock);
	shim_qp_free((struct shim_qp *)id->qp);
	id->qp = NULL;
	pthread_mutex_unlock(&shim_lock);
}

static struct shim_id *find_listener(const struct shim_id *id)
{
	struct sockaddr_storage dst = id->base.route.addr.dst_storage;

	for (struct shim_id *l = shim_ids; l; l = l->next) {
		struct sockaddr_storage src = l->base.route.addr.src_storage;

		if (l->state == SHIM_ID_LISTENING && src.ss_family == dst.ss_family &&
		    *port(&src) == *port(&dst) &&
		    device_of((struct sockaddr *)&src) == device_of((struct sockaddr *)&dst))
			return l;
	}
	return NULL;
}

/* Rules for whoever makes a connection, on either side. */
static void check_connection(const struct shim_id *id, const struct rdma_conn_param *param)
{
	const struct shim_qp *qp = (const struct shim_qp *)id->base.qp;

	if (!id->has_timeout)
		shim_broken("a connection without an ACK timeout of its own");
	if (param->retry_count == 7)
		shim_broken("retry_count 7: rxe never gives up");
	if (param->rnr_retry_count != 7)
		shim_broken("rnr_retry_count %d", param->rnr_retry_count);
	if (qp && qp->base.state == IBV_QPS_INIT && !qp->rq)
		shim_broken("a connection without a receive posted");
}

static int do_connect(struct shim_id *id, const struct rdma_conn_param *param)
{
	struct shim_id *listener, *passive;

	if (id->state != SHIM_ID_ROUTED)
		return fail_with(EINVAL);
	if (shim_fault(SHIM_CM_CONNECT))
		return fail_with(ENOMEM);
	if (param->private_data_len > REQUEST_BYTES)
		return fail_with(EINVAL);
	check_connection(id, param);
	id->state = SHIM_ID_CONNECTING;
	listener = find_listener(id);
	if (!listener) {
		queue_event(id, NULL, RDMA_CM_EVENT_REJECTED, 8, NULL, 0, REJECT_BYTES);
		return 0;
	}
	passive = new_id(listener->base.channel, listener->base.context);
	passive->base.verbs = listener->base.verbs;
	passive->base.port_num = 1;
	passive->base.route = listener->base.route;
	passive->base.route.addr.dst_storage = listener->base.route.addr.src_storage;
	passive->state = SHIM_ID_REQUESTED;
	passive->peer = id;
	id->peer = passive;
	queue_event(passive, listener, RDMA_CM_EVENT_CONNECT_REQUEST, 0, param->private_data,
		    param->private_data_len, REQUEST_BYTES);
	return 0;
}

int rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = do_connect(of(id), param);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

static int do_accept(struct shim_id *id, const struct rdma_conn_param *param)
{
	struct shim_qp *qp = (struct shim_qp *)id->base.qp;

	if (shim_fault(SHIM_CM_ACCEPT))
		return fail_with(ENOMEM);
	if (id->state != SHIM_ID_REQUESTED || qp->base.state != IBV_QPS_INIT)
		return fail_with(EINVAL);
	check_connection(id, param);
	qp->base.state = IBV_QPS_RTS;
	id->state = SHIM_ID_ACCEPTED;
	if (!id->peer) {
		simple_event(id, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
		return 0;
	}
	qp->peer = (struct shim_qp *)id->peer->base.qp;
	if (qp->peer)
		qp->peer->peer = qp;
	queue_event(id->peer, NULL, RDMA_CM_EVENT_ESTABLISHED, 0, param->private_data,
		    param->private_data_len, REPLY_BYTES);
	return 0;
}

int rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = do_accept(of(id), param);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

int rdma_reject(struct rdma_cm_id *base, const void *private_data, uint8_t private_data_len)
{
	struct shim_id *id = of(base);
	int ret = -1;

	pthread_mutex_lock(&shim_lock);
	if (private_data_len <= REJECT_BYTES && id->state == SHIM_ID_REQUESTED) {
		ret = 0;
		id->state = SHIM_ID_ENDED;
		if (id->peer) {
			queue_event(id->peer, NULL, RDMA_CM_EVENT_REJECTED, 28, private_data,
				    private_data_len, REJECT_BYTES);
			id->peer->state = SHIM_ID_ENDED;
			id->peer->peer = NULL;
			id->peer = NULL;
		}
	}
	pthread_mutex_unlock(&shim_lock);
	errno = EINVAL;
	return ret;
}

static int do_disconnect(struct shim_id *id)
{
	if (shim_fault(SHIM_CM_DISCONNECT))
		return fail_with(EIO);
	if (id->base.qp)
		shim_qp_error((struct shim_qp *)id->base.qp);
	if (id->state != SHIM_ID_CONNECTED && id->state != SHIM_ID_ACCEPTED)
		return fail_with(EINVAL);
	if (id->said_disconnect)
		return 0;
	id->said_disconnect = true;
	if (!id->peer)
		return 0;
	if (!id->peer->said_disconnect) {
		simple_event(id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
		return 0;
	}
	simple_event(id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
	simple_event(id->peer, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
	return 0;
}

int rdma_disconnect(struct rdma_cm_id *id)
{
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = do_disconnect(of(id));
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

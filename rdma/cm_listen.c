/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "rdma/rdma_transport.h"

/*
 * Listening: on the addresses asked for, else on the one control came in at; never on a wildcard, so that what is announced is
 * what is listened on and nothing else. The port is any free one: RDMA ports are not TCP's, save on iWARP, where control's
 * own is taken. Where no address is known, every address of this machine that a usable device has is tried.
 */

#define BACKLOG 64

int rji_rdma_device_of(const struct rji_rdma_transport *tp, const struct rdma_cm_id *id)
{
	for (uint32_t i = 0; id->verbs && i < tp->n_devices; i++)
		if (tp->device[i].ctx == id->verbs)
			return (int)i;
	return -1;
}

static socklen_t sa_len(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int bind_and_listen(struct rji_rdma_transport *tp, struct rdma_cm_id *id,
			   struct sockaddr_storage *sa, const char *text, struct rj_error *err)
{
	int i;

	if (rdma_bind_addr(id, (struct sockaddr *)sa))
		return rji_fail_sys(err,
				    errno == ENODEV || errno == EADDRNOTAVAIL ? RJ_E_NO_RDMA : 0,
				    errno, "no RDMA device has the address %s", text);
	i = rji_rdma_device_of(tp, id);
	if (i < 0 || !tp->device[i].attached)
		return rji_fail(err, RJ_E_NO_RDMA,
				"the device of %s is not one this session may use", text);
	rji_rdma_cm_options(tp, id);
	if (rdma_listen(id, BACKLOG))
		return rji_fail_sys(err, 0, errno, "listening on %s", text);
	return 0;
}

/* One more listener; its address, with the port it got, is announced. */
static int listen_on(struct rji_rdma_transport *tp, const struct sockaddr *addr,
		     struct rji_addrs *addrs, struct rj_error *err)
{
	struct sockaddr_storage sa = { 0 };
	char text[RJI_ADDR_BYTES];
	struct rdma_cm_id *id;
	int ret;

	if (tp->n_listeners == RJI_RDMA_MAX_LISTENERS)
		return rji_fail(err, -EINVAL, "more than %d addresses to listen on", RJI_MAX_ADDRS);
	memcpy(&sa, addr, sa_len(addr));
	((struct sockaddr_in *)&sa)->sin_port = 0; /* at the same place in both kinds */
	rji_rdma_format_address((struct sockaddr *)&sa, text);
	if (rdma_create_id(tp->listen_channel, &id, NULL, RDMA_PS_TCP))
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "no rdma_cm id");
	ret = bind_and_listen(tp, id, &sa, text, err);
	if (ret) {
		rdma_destroy_id(id);
		return ret;
	}
	((struct sockaddr_in *)&sa)->sin_port = rdma_get_src_port(id);
	tp->listener[tp->n_listeners++] = id;
	rji_rdma_format_address((struct sockaddr *)&sa, addrs->addr[addrs->n++]);
	return 0;
}

static bool is_link_local(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

/* Link-local addresses only where there is no other: they mean nothing without a scope, which is each machine's own. */
static int listen_everywhere(struct rji_rdma_transport *tp, struct rji_addrs *addrs,
			     struct rj_error *err)
{
	struct ifaddrs *all;

	if (getifaddrs(&all))
		return rji_fail_sys(err, 0, errno, "the addresses of this machine");
	for (int link_local = 0; link_local < 2 && !addrs->n; link_local++) {
		for (struct ifaddrs *a = all; a && addrs->n < RJI_MAX_ADDRS; a = a->ifa_next) {
			if (!a->ifa_addr || a->ifa_flags & IFF_LOOPBACK ||
			    (a->ifa_addr->sa_family != AF_INET &&
			     a->ifa_addr->sa_family != AF_INET6))
				continue;
			if (is_link_local(a->ifa_addr) == (link_local == 1))
				listen_on(tp, a->ifa_addr, addrs, NULL);
		}
	}
	freeifaddrs(all);
	if (!addrs->n)
		return rji_fail(
			err, RJ_E_NO_RDMA,
			"no address of this machine belongs to an RDMA device: give its port's netdev one");
	return 0;
}

static int listen_host(struct rji_rdma_transport *tp, const char *host, struct rji_addrs *addrs,
		       struct rj_error *err)
{
	struct sockaddr_storage sa;
	int ret;

	if (!*host)
		return listen_everywhere(tp, addrs, err);
	ret = rji_rdma_resolve_host(host, 0, &sa, err);
	if (ret)
		return ret;
	if (rji_rdma_is_any((struct sockaddr *)&sa))
		return listen_everywhere(tp, addrs, err);
	return listen_on(tp, (struct sockaddr *)&sa, addrs, err);
}

static int listen_hosts(struct rji_rdma_transport *tp, const char *list, struct rji_addrs *addrs,
			struct rj_error *err)
{
	char host[RJI_ADDR_BYTES];
	const char *at;
	int ret = 0;
	size_t len;

	while (!ret && (at = rji_rdma_next_name(&list, &len))) {
		if (len >= sizeof(host))
			return rji_fail(err, -EINVAL, "an address of %zu characters", len);
		snprintf(host, sizeof(host), "%.*s", (int)len, at);
		ret = listen_host(tp, host, addrs, err);
	}
	return ret;
}

/* The device of one of our own addresses; -1: none, or not known. */
static int device_at(const struct rji_rdma_transport *tp, const char *host)
{
	struct rdma_event_channel *channel;
	struct sockaddr_storage sa;
	struct rdma_cm_id *id;
	int i = -1;

	if (rji_rdma_resolve_host(host, 0, &sa, NULL))
		return -1;
	channel = rji_rdma_cm_channel();
	if (!channel)
		return -1;
	if (!rdma_create_id(channel, &id, NULL, RDMA_PS_TCP)) {
		if (!rdma_bind_addr(id, (struct sockaddr *)&sa))
			i = rji_rdma_device_of(tp, id);
		rdma_destroy_id(id);
	}
	rdma_destroy_event_channel(channel);
	return i;
}

uint32_t rji_rdma_devices_at(const struct rji_rdma_transport *tp, const char *hosts)
{
	char host[RJI_ADDR_BYTES];
	uint32_t set = 0;
	const char *at;
	size_t len;
	int i;

	while (hosts && (at = rji_rdma_next_name(&hosts, &len))) {
		snprintf(host, sizeof(host), "%.*s", (int)len, at);
		i = device_at(tp, host);
		if (i < 0)
			return 0;
		set |= 1u << i;
	}
	return set;
}

void rji_rdma_unlisten(struct rji_rdma_transport *tp)
{
	while (tp->n_listeners)
		rdma_destroy_id(tp->listener[--tp->n_listeners]);
	if (tp->listen_channel)
		rdma_destroy_event_channel(tp->listen_channel);
	tp->listen_channel = NULL;
}

int rji_rdma_listen(struct rji_transport *base, const struct rji_listen *l, struct rji_addrs *addrs,
		    struct rj_error *err)
{
	struct rji_rdma_transport *tp = rji_rdma_transport_of(base);
	struct rji_addrs got = { 0 };
	int ret;

	if (tp->listen_channel)
		return rji_fail(err, RJ_E_STATE, "this transport is listening already");
	tp->listen_channel = rji_rdma_cm_channel();
	if (!tp->listen_channel)
		return rji_fail_sys(err, RJ_E_NO_RDMA, errno, "rdma_cm (is rdma_ucm loaded?)");
	if (l->data_addrs && *l->data_addrs)
		ret = listen_hosts(tp, l->data_addrs, &got, err);
	else
		ret = listen_host(tp, l->host ? l->host : "", &got, err);
	if (ret) {
		rji_rdma_unlisten(tp);
		return ret;
	}
	*addrs = got;
	return 0;
}

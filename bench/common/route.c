/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/common/route.h"

static void take_plan(struct bench_route *r, const char *uri, const struct rj_plan *plan)
{
	snprintf(r->uri, sizeof(r->uri), "%s%s", plan->transport, strstr(uri, "://"));
	snprintf(r->transport, sizeof(r->transport), "%s", plan->transport);
	snprintf(r->why, sizeof(r->why), "%s", plan->why);
	r->software = plan->software;
	r->n_lanes = plan->n_lanes;
}

/* An address of this machine that an RDMA device reaches. */
static int find_rdma_address(struct rj_env *env, struct bench_route *r)
{
	struct ifaddrs *list, *at;
	int found = RJ_E_NO_RDMA;

	if (getifaddrs(&list) < 0)
		return -errno;
	for (at = list; at && found < 0; at = at->ifa_next) {
		struct rj_plan plan = { .size = sizeof(plan) };
		char host[64], uri[ROUTE_URI];
		int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;

		if ((family != AF_INET && family != AF_INET6) || at->ifa_flags & IFF_LOOPBACK)
			continue;
		if (getnameinfo(at->ifa_addr,
				family == AF_INET ? sizeof(struct sockaddr_in)
						  : sizeof(struct sockaddr_in6),
				host, sizeof(host), NULL, 0, NI_NUMERICHOST))
			continue;
		snprintf(uri, sizeof(uri), strchr(host, ':') ? "rdma://[%s]:0" : "rdma://%s:0",
			 host);
		found = rj_plan(env, uri, &plan);
		if (!found)
			take_plan(r, uri, &plan);
	}
	freeifaddrs(list);
	return found;
}

int route_local(struct rj_env *env, const char *transport, struct bench_route *r, char *why,
		size_t why_bytes)
{
	bool any = !strcmp(transport, "auto");
	struct rj_plan plan = { .size = sizeof(plan) };
	char uri[ROUTE_URI];
	int ret = RJ_E_NO_RDMA;

	memset(r, 0, sizeof(*r));
	if (any || !strcmp(transport, "rdma")) {
		ret = find_rdma_address(env, r);
		if (!ret)
			return 0;
		snprintf(
			why, why_bytes,
			"no RDMA device of this machine reaches one of its own addresses: load its driver, or try software RDMA (rdma link add rxe0 type rxe netdev IF), or use --transport tcp");
		if (!any)
			return ret;
	}
	if (!strcmp(transport, "unix"))
		snprintf(uri, sizeof(uri), "unix:///tmp/ramjet-bench-%d.sock", (int)getpid());
	else
		snprintf(uri, sizeof(uri), "%s://127.0.0.1:0", any ? "tcp" : transport);
	ret = rj_plan(env, uri, &plan);
	take_plan(r, uri, &plan);
	snprintf(r->why, sizeof(r->why), "%s",
		 any ? "no RDMA device reaches an address of this machine" : "asked for");
	return ret;
}

int route_uri(struct rj_env *env, const char *uri, const char *transport, struct bench_route *r,
	      char *why, size_t why_bytes)
{
	struct rj_plan plan = { .size = sizeof(plan) };
	int ret = rj_plan(env, uri, &plan);

	memset(r, 0, sizeof(*r));
	if (ret < 0) {
		snprintf(why, why_bytes, "%s", plan.why);
		return ret;
	}
	if (strcmp(transport, "auto") && strcmp(transport, plan.transport)) {
		snprintf(why, why_bytes, "--transport %s contradicts %s: leave one of them out",
			 transport, uri);
		return RJ_E_URI;
	}
	take_plan(r, uri, &plan);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/local_route.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void as_text(const struct sockaddr *sa, char *buf, size_t buf_bytes)
{
	socklen_t len = sa->sa_family == AF_INET ? sizeof(struct sockaddr_in)
						 : sizeof(struct sockaddr_in6);

	*buf = '\0';
	getnameinfo(sa, len, buf, (socklen_t)buf_bytes, NULL, 0, NI_NUMERICHOST);
	buf[strcspn(buf, "%")] = '\0'; /* the scope */
}

void rji_local_netdev(const char *address, char netdev[IF_NAMESIZE])
{
	struct ifaddrs *all, *at;
	char text[64];

	*netdev = '\0';
	if (getifaddrs(&all))
		return;
	for (at = all; at && !*netdev; at = at->ifa_next) {
		int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;

		if (family != AF_INET && family != AF_INET6)
			continue;
		as_text(at->ifa_addr, text, sizeof(text));
		if (!strcmp(text, address))
			snprintf(netdev, IF_NAMESIZE, "%s", at->ifa_name);
	}
	freeifaddrs(all);
}

/* Connecting a datagram socket makes the kernel choose the way, and nothing more. */
static int ask(const struct addrinfo *to, struct rji_local_route *r)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	int fd = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, to->ai_addr, to->ai_addrlen) ||
	    getsockname(fd, (struct sockaddr *)&from, &len))
		ret = -errno;
	close(fd);
	if (!ret)
		as_text((struct sockaddr *)&from, r->address, sizeof(r->address));
	return ret;
}

int rji_local_route(const struct rji_uri *uri, struct rji_local_route *r_p, struct rj_error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
	struct rji_local_route r = { 0 };
	struct addrinfo *found, *at;
	int ret = -EHOSTUNREACH;
	char port[8];

	snprintf(port, sizeof(port), "%u", uri->port ? uri->port : 1u);
	ret = getaddrinfo(uri->host, port, &hints, &found);
	if (ret)
		return rji_fail(err, RJ_E_CONNECT, "%s: %s", uri->host, gai_strerror(ret));
	ret = -EHOSTUNREACH;
	for (at = found; at && ret; at = at->ai_next)
		ret = ask(at, &r);
	freeaddrinfo(found);
	if (ret)
		return rji_fail_sys(err, RJ_E_CONNECT, -ret, "no way to %s", uri->host);
	rji_local_netdev(r.address, r.netdev);
	*r_p = r;
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/rdma_transport.h"

/* getaddrinfo() knows "%eth0" of link-local addresses, which inet_pton() does not. */
static int look_up(const char *host, const char *port, int flags, struct sockaddr_storage *sa_p)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };
	struct addrinfo *found;
	int ret = getaddrinfo(host, port, &hints, &found);

	if (ret)
		return ret;
	memset(sa_p, 0, sizeof(*sa_p));
	memcpy(sa_p, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

/* getaddrinfo() takes 99999 for 34463. */
static bool is_port(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n > 0 && n < 6 && text[n] == '\0' && atoi(text) <= UINT16_MAX;
}

int rji_rdma_parse_address(const char *text, struct sockaddr_storage *sa_p)
{
	const char *colon = strrchr(text, ':');
	const char *host = text;
	char copy[RJI_ADDR_BYTES];
	size_t len;

	if (!colon || !is_port(colon + 1))
		return -EINVAL;
	len = (size_t)(colon - text);
	if (*host == '[') {
		if (len < 2 || host[len - 1] != ']')
			return -EINVAL;
		host++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, host, len);
	copy[len] = '\0';
	if (look_up(copy, colon + 1, AI_NUMERICHOST | AI_NUMERICSERV, sa_p))
		return -EINVAL;
	return 0;
}

void rji_rdma_format_address(const struct sockaddr *sa, char *text)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;
	char host[INET6_ADDRSTRLEN] = "?";
	char ifname[IF_NAMESIZE];
	const char *scope = "";
	const char *mark = "";

	if (sa->sa_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, RJI_ADDR_BYTES, "%s:%u", host, ntohs(in->sin_port));
		return;
	}
	inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
	if (in6->sin6_scope_id && if_indextoname(in6->sin6_scope_id, ifname)) {
		mark = "%";
		scope = ifname;
	}
	snprintf(text, RJI_ADDR_BYTES, "[%s%s%s]:%u", host, mark, scope, ntohs(in6->sin6_port));
}

int rji_rdma_resolve_host(const char *host, uint16_t port, struct sockaddr_storage *sa_p,
			  struct rj_error *err)
{
	char service[8];
	int ret;

	snprintf(service, sizeof(service), "%u", port);
	ret = look_up(host, service, AI_NUMERICSERV, sa_p);
	if (ret)
		return rji_fail(err, RJ_E_CONNECT, "%s: %s", host, gai_strerror(ret));
	return 0;
}

bool rji_rdma_is_any(const struct sockaddr *sa)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;

	if (sa->sa_family == AF_INET)
		return in->sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

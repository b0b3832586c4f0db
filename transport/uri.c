/* SPDX-License-Identifier: BSD-2-Clause */
#include "transport/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED                                                                                   \
	"write rdma://HOST:PORT, tcp://HOST:PORT, null://HOST:PORT, unix:///PATH or file:///PATH"

static int parse_port(const char *text, uint16_t *port_p)
{
	char *end;
	unsigned long port;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	port = strtoul(text, &end, 10);
	if (*end || port > UINT16_MAX)
		return -EINVAL;
	*port_p = (uint16_t)port;
	return 0;
}

/* HOST:PORT or [HOST]:PORT. */
static int parse_host_port(const char *text, struct rji_uri *uri)
{
	const char *host = text, *host_end, *port;
	size_t len;

	if (*text == '[') {
		host = text + 1;
		host_end = strchr(host, ']');
		if (!host_end || host_end[1] != ':')
			return -EINVAL;
		port = host_end + 2;
	} else {
		host_end = strrchr(text, ':');
		if (!host_end || memchr(text, ':', (size_t)(host_end - text)))
			return -EINVAL; /* no port, or IPv6 without brackets */
		port = host_end + 1;
	}
	len = (size_t)(host_end - host);
	if (len >= sizeof(uri->host))
		return -EINVAL;
	memcpy(uri->host, host, len);
	uri->host[len] = '\0';
	return parse_port(port, &uri->port);
}

static int parse_path(const char *text, char *path, size_t path_bytes)
{
	size_t len = strlen(text);

	if (*text != '/' || len < 2 || len >= path_bytes)
		return -EINVAL;
	memcpy(path, text, len + 1);
	return 0;
}

int rji_addr_parse(const char *text, struct rji_uri *uri_p, struct rj_error *err)
{
	struct rji_uri uri = { 0 };
	int ret = *text == '/' ? parse_path(text, uri.path, sizeof(uri.path))
			       : parse_host_port(text, &uri);

	if (ret < 0)
		return rji_fail(err, RJ_E_URI,
				"'%.200s' is not an address; write HOST:PORT, [IPV6]:PORT or /PATH",
				text);
	*uri_p = uri;
	return 0;
}

int rji_uri_parse(const char *text, struct rji_uri *uri_p, struct rj_error *err)
{
	static const char *const schemes[] = { "rdma", "tcp", "unix", "null", "file", "auto" };
	struct rji_uri uri = { 0 };
	const char *rest = text ? strstr(text, "://") : NULL;
	size_t len = rest ? (size_t)(rest - text) : 0;
	int ret;

	if (!rest)
		return rji_fail(err, RJ_E_URI, "'%.200s' is not a URI; " EXPECTED,
				text ? text : "");
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		if (strlen(schemes[i]) == len && !memcmp(schemes[i], text, len))
			memcpy(uri.scheme, text, len);
	}
	if (!uri.scheme[0])
		return rji_fail(err, RJ_E_URI, "'%.200s' names no transport that exists; " EXPECTED,
				text);
	rest += 3;
	if (!strcmp(uri.scheme, "unix"))
		ret = parse_path(rest, uri.path, sizeof(uri.path));
	else if (!strcmp(uri.scheme, "file"))
		ret = parse_path(rest, uri.file, sizeof(uri.file));
	else
		ret = parse_host_port(rest, &uri);
	if (ret < 0)
		return rji_fail(err, RJ_E_URI, "'%.200s' is not complete; " EXPECTED, text);
	*uri_p = uri;
	return 0;
}

int rji_addr_format(char *buf, size_t buf_bytes, const char *host, uint16_t port)
{
	bool v6 = strchr(host, ':');
	int n = snprintf(buf, buf_bytes, v6 ? "[%s]:%u" : "%s:%u", host, port);

	return n < 0 || (size_t)n >= buf_bytes ? -ENOSPC : 0;
}

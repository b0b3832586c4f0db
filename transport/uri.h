/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_URI_H
#define RJI_TRANSPORT_URI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"
#include "transport/transport.h"

#define RJI_FILE_PATH_BYTES 1024

/* SCHEME://HOST:PORT, unix:///PATH or file:///PATH. */
struct rji_uri {
	char scheme[8];
	char host[RJI_ADDR_BYTES]; /* without brackets; "" for any */
	uint16_t port;
	char path[108]; /* unix; as long as sun_path */
	char file[RJI_FILE_PATH_BYTES];
};

/* 0, or RJ_E_URI with a text that shows what is expected. */
int rji_uri_parse(const char *text, struct rji_uri *uri_p, struct rj_error *err);

static inline bool rji_uri_is_unix(const struct rji_uri *uri)
{
	return uri->path[0] != '\0';
}

static inline bool rji_uri_is_file(const struct rji_uri *uri)
{
	return uri->file[0] != '\0';
}

/* "HOST:PORT" with brackets around IPv6, or the path: what goes into struct rji_addrs. -ENOSPC. */
int rji_addr_format(char *buf, size_t buf_bytes, const char *host, uint16_t port);
/* The other way round; a text that begins with '/' is a path. Any bytes may come in. RJ_E_URI. */
int rji_addr_parse(const char *text, struct rji_uri *uri_p, struct rj_error *err);

#endif

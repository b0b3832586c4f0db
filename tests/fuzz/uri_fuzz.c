/* SPDX-License-Identifier: BSD-2-Clause */
/* URIs of the operator, and the addresses that a destination announces. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "transport/uri.h"

static void check(const struct rji_uri *uri)
{
	struct rji_uri again;
	char text[RJI_ADDR_BYTES + 16];

	if (!memchr(uri->host, 0, sizeof(uri->host)) || !memchr(uri->path, 0, sizeof(uri->path)))
		abort();
	if (rji_uri_is_unix(uri) || rji_uri_is_file(uri))
		return;
	/* A bracketed host without a colon loses its brackets, and needs none. */
	if (rji_addr_format(text, sizeof(text), uri->host, uri->port) < 0)
		abort();
	if (strpbrk(uri->host, "[]"))
		return;
	if (uri->host[0] == '/') /* reads as a path */
		return;
	if (rji_addr_parse(text, &again, NULL) < 0 || strcmp(again.host, uri->host) ||
	    again.port != uri->port)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	char *text = malloc(len_bytes + 1);
	struct rji_uri uri;
	struct rj_error err;

	memcpy(text, data, len_bytes);
	text[len_bytes] = '\0';
	rji_error_init(&err);
	if (!rji_uri_parse(text, &uri, &err))
		check(&uri);
	rji_error_init(&err);
	if (!rji_addr_parse(text, &uri, &err))
		check(&uri);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "transport/uri.h"

#define LEN_107                                                                                    \
	"123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"  \
	"89012345678901234567"

static const struct {
	const char *text, *scheme, *host;
	uint16_t port;
	const char *path;
} good[] = {
	{ "rdma://10.0.9.1:7471", "rdma", "10.0.9.1", 7471, "" },
	{ "tcp://host.example:1", "tcp", "host.example", 1, "" },
	{ "tcp://:0", "tcp", "", 0, "" },
	{ "tcp://[fd00::1]:65535", "tcp", "fd00::1", 65535, "" },
	{ "tcp://[fe80::1%eth0]:5", "tcp", "fe80::1%eth0", 5, "" },
	{ "tcp://[::]:0", "tcp", "::", 0, "" },
	{ "tcp://[10.0.0.1]:7", "tcp", "10.0.0.1", 7, "" },
	{ "null://x:0099", "null", "x", 99, "" },
	{ "auto://host:7471", "auto", "host", 7471, "" },
	{ "unix:///run/x.sock", "unix", "", 0, "/run/x.sock" },
	{ "unix:///a b:c", "unix", "", 0, "/a b:c" },
};

static const char *const bad[] = {
	"",
	"tcp",
	"tcp:",
	"tcp:/",
	"tcp://",
	"tcp:/host:1",
	"://host:1",
	"TCP://host:1",
	"tcpx://host:1",
	"tc://host:1",
	" tcp://host:1",
	"ftp:///x",
	"file://x",
	"file:///",
	"http://host:1",
	"tcp://host",
	"tcp://host:",
	"tcp://host:x",
	"tcp://host:1x",
	"tcp://host: 1",
	"tcp://host:+1",
	"tcp://host:-1",
	"tcp://host:65536",
	"tcp://host:18446744073709551617",
	"tcp://host:1/",
	"tcp://host:1 ",
	"tcp://fd00::1:7471",
	"tcp://a:b:1",
	"tcp://[fd00::1]",
	"tcp://[fd00::1]7471",
	"tcp://[fd00::1:7471",
	"tcp://[fd00::1]:",
	"tcp:///run/x",
	"unix://",
	"unix:///",
	"unix://run/x",
	"unix://host:1",
	"unix:///" LEN_107,
	"tcp://" LEN_107 LEN_107 ":1",
	"tcp://[" LEN_107 LEN_107 "]:1",
};

Test(uri, valid_ones)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct rj_error err;
		struct rji_uri uri;

		rji_error_init(&err);
		memset(&uri, 0xff, sizeof(uri));
		cr_assert_eq(rji_uri_parse(good[i].text, &uri, &err), 0, "%s", good[i].text);
		cr_assert_eq(err.code, 0);
		cr_assert_str_eq(uri.scheme, good[i].scheme);
		cr_assert_str_eq(uri.host, good[i].host, "%s", good[i].text);
		cr_assert_str_eq(uri.path, good[i].path, "%s", good[i].text);
		cr_assert_eq(uri.port, good[i].port, "%s", good[i].text);
		cr_assert_eq(rji_uri_is_unix(&uri), good[i].path[0] != '\0');
	}
}

Test(uri, a_file_has_a_path_and_is_no_socket)
{
	char text[RJI_FILE_PATH_BYTES + 16] = "file:///var/tmp/guest.snap";
	struct rji_uri uri;

	cr_assert_eq(rji_uri_parse(text, &uri, NULL), 0);
	cr_assert_str_eq(uri.file, "/var/tmp/guest.snap");
	cr_assert(rji_uri_is_file(&uri));
	cr_assert_not(rji_uri_is_unix(&uri));
	memset(text + 8, 'x', RJI_FILE_PATH_BYTES - 2);
	text[8 + RJI_FILE_PATH_BYTES - 2] = '\0';
	cr_assert_eq(rji_uri_parse(text, &uri, NULL), 0);
	strcat(text, "x");
	cr_assert_eq(rji_uri_parse(text, &uri, NULL), RJ_E_URI);
}

Test(uri, invalid_ones_say_what_is_expected)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct rji_uri uri, before;
		struct rj_error err;

		rji_error_init(&err);
		memset(&uri, 0x5a, sizeof(uri));
		before = uri;
		cr_assert_eq(rji_uri_parse(bad[i], &uri, &err), RJ_E_URI, "%s", bad[i]);
		cr_assert_eq(err.code, RJ_E_URI);
		cr_assert_not_null(strstr(err.text, "tcp://HOST:PORT"), "%s", err.text);
		cr_assert(!memcmp(&uri, &before, sizeof(uri)), "written: %s", bad[i]);
	}
	cr_assert_eq(rji_uri_parse(NULL, &(struct rji_uri){ 0 }, NULL), RJ_E_URI);
}

Test(uri, longest_path_and_host_fit)
{
	char text[400], name[200];
	struct rji_uri uri;

	memset(name, 'p', sizeof(name));
	name[0] = '/';
	snprintf(text, sizeof(text), "unix://%.*s", (int)sizeof(uri.path) - 1, name);
	cr_assert_eq(rji_uri_parse(text, &uri, NULL), 0);
	cr_assert_eq(strlen(uri.path), sizeof(uri.path) - 1);
	name[0] = 'p';
	snprintf(text, sizeof(text), "tcp://%.*s:1", (int)sizeof(uri.host) - 1, name);
	cr_assert_eq(rji_uri_parse(text, &uri, NULL), 0);
	cr_assert_eq(strlen(uri.host), sizeof(uri.host) - 1);
	snprintf(text, sizeof(text), "tcp://%.*s:1", (int)sizeof(uri.host), name);
	cr_assert_eq(rji_uri_parse(text, &uri, NULL), RJ_E_URI);
}

Test(uri, addresses_come_back_as_they_were_formatted)
{
	static const char *const hosts[] = { "10.0.0.1", "fd00::1", "a.example", "" };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		char text[RJI_ADDR_BYTES];
		struct rji_uri uri;

		cr_assert_eq(rji_addr_format(text, sizeof(text), hosts[i], 7471), 0);
		cr_assert_eq(rji_addr_parse(text, &uri, NULL), 0, "%s", text);
		cr_assert_str_eq(uri.host, hosts[i]);
		cr_assert_eq(uri.port, 7471);
		cr_assert_str_eq(uri.path, "");
	}
}

Test(uri, addresses_of_sockets_are_paths)
{
	struct rji_uri uri;

	cr_assert_eq(rji_addr_parse("/run/x.sock", &uri, NULL), 0);
	cr_assert(rji_uri_is_unix(&uri));
	cr_assert_str_eq(uri.path, "/run/x.sock");
}

Test(uri, address_that_does_not_fit_its_buffer)
{
	char text[12];

	cr_assert_eq(rji_addr_format(text, sizeof(text), "10.0.0.1", 99), 0);
	cr_assert_eq(rji_addr_format(text, sizeof(text), "10.0.0.1", 999), -ENOSPC);
	cr_assert_eq(rji_addr_format(text, sizeof(text), "fd00::1", 999), -ENOSPC);
}

Test(uri, bad_addresses_are_refused_with_their_text)
{
	static const char *const addrs[] = { "", ":", "host", "[", "[]", "[::1]", "/", "a:b:1" };

	for (size_t i = 0; i < sizeof(addrs) / sizeof(*addrs); i++) {
		struct rji_uri uri;
		struct rj_error err;

		rji_error_init(&err);
		cr_assert_eq(rji_addr_parse(addrs[i], &uri, &err), RJ_E_URI, "%s", addrs[i]);
		cr_assert_not_null(strstr(err.text, addrs[i]));
	}
}

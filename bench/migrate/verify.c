/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is the memory equal? Each side takes a 64-bit sum of every page while the guest stands still (the destination before
 * it lets it run, the source any time after, since its copy stands still for good), and the source brings its sums to
 * the destination over a TCP connection of its own. Not a part of the migration and in none of its figures.
 *
 * The reply to the set-up blob carries the port and a key, so that a stranger cannot answer.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xxhash.h>

#include "bench/migrate/migrate.h"

#define SUM_PAGE_BYTES 4096u
#define SUM_FREE 0x66726565u
#define SOURCE_TIMEOUT_MS 60000

struct verifier {
	int listen_fd;
	uint64_t key;
};

struct reply {
	uint32_t port;
	uint32_t zero;
	uint64_t key;
};

struct offer {
	uint64_t key, n;
};

struct answer {
	int64_t equal; /* 1, 0 */
	char text[MIGRATE_TEXT];
};

int page_sums_take(const struct guest *g, struct page_sums *sums)
{
	uint64_t n = 0, at = 0; /* regions follow each other as the guest numbers its pages */

	for (uint32_t i = 0; i < guest_n_regions(g); i++) {
		struct rj_region r;

		guest_region(g, i, &r);
		n += r.len_bytes / SUM_PAGE_BYTES;
	}
	sums->n_free = 0;
	sums->sum = malloc(n * sizeof(*sums->sum));
	if (!sums->sum)
		return -ENOMEM;
	for (uint32_t i = 0; i < guest_n_regions(g); i++) {
		struct rj_region r;

		guest_region(g, i, &r);
		for (uint64_t p = 0; p < r.len_bytes; p += SUM_PAGE_BYTES) {
			bool is_free = guest_page_is_free(g, at);

			sums->n_free += is_free;
			sums->sum[at++] =
				is_free ? SUM_FREE
					: XXH3_64bits((const char *)r.host + p, SUM_PAGE_BYTES);
		}
	}
	sums->n = n;
	return 0;
}

void page_sums_free(struct page_sums *sums)
{
	free(sums->sum);
	*sums = (struct page_sums){ 0 };
}

/* All or nothing, with a deadline for each turn. */
static int transfer(int fd, void *p, size_t len, bool sending, int timeout_ms)
{
	char *at = p;

	while (len) {
		struct pollfd pfd = { .fd = fd, .events = sending ? POLLOUT : POLLIN };
		ssize_t n;

		if (poll(&pfd, 1, timeout_ms) <= 0)
			return -ETIMEDOUT;
		n = sending ? send(fd, at, len, MSG_NOSIGNAL) : recv(fd, at, len, 0);
		if (n <= 0 && errno != EINTR)
			return -ECONNRESET;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int verifier_open(struct verifier **v_p, void *reply_p, size_t reply_bytes)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	struct verifier *v = calloc(1, sizeof(*v));
	socklen_t len = sizeof(any);
	struct reply reply = { 0 };
	int zero = 0;

	if (!v || reply_bytes < sizeof(reply))
		return -ENOMEM;
	v->listen_fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(v->listen_fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (v->listen_fd < 0 || bind(v->listen_fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
	    listen(v->listen_fd, 4) < 0 ||
	    getsockname(v->listen_fd, (struct sockaddr *)&any, &len) < 0 ||
	    getrandom(&v->key, sizeof(v->key), 0) != sizeof(v->key)) {
		verifier_close(&v);
		return -errno;
	}
	reply.port = htole32(ntohs(any.sin6_port));
	reply.key = v->key;
	memcpy(reply_p, &reply, sizeof(reply));
	*v_p = v;
	return sizeof(reply);
}

void verifier_close(struct verifier **v_p)
{
	if (!*v_p)
		return;
	if ((*v_p)->listen_fd >= 0)
		close((*v_p)->listen_fd);
	free(*v_p);
	*v_p = NULL;
}

static void compare(const struct page_sums *mine, const uint64_t *theirs, struct answer *a)
{
	uint64_t differ = 0, first = 0;

	for (uint64_t i = 0; i < mine->n; i++) {
		if (mine->sum[i] != theirs[i] && !differ++)
			first = i;
	}
	a->equal = !differ;
	if (differ)
		snprintf(a->text, sizeof(a->text),
			 "%" PRIu64 " of %" PRIu64 " pages differ, the first at offset 0x%" PRIx64,
			 differ, mine->n, first * SUM_PAGE_BYTES);
	else if (mine->n_free)
		snprintf(a->text, sizeof(a->text),
			 "memory equal over %" PRIu64 " pages; of %" PRIu64 " free ones %" PRIu64
			 " hold zeros, the others what the guest once had there",
			 mine->n - mine->n_free, mine->n_free, mine->n_free_zero);
	else
		snprintf(a->text, sizeof(a->text), "memory equal over %" PRIu64 " pages", mine->n);
}

/* One caller. -1: not our source. */
static int serve(struct verifier *v, int fd, const struct page_sums *mine, struct answer *a)
{
	struct offer offer;
	uint64_t *theirs;
	int ret = -1;

	if (transfer(fd, &offer, sizeof(offer), false, 5000) < 0 || offer.key != v->key)
		return -1;
	if (le64toh(offer.n) != mine->n) {
		snprintf(a->text, sizeof(a->text), "the two sides have different numbers of pages");
		return transfer(fd, a, sizeof(*a), true, 5000) < 0 ? -1 : 0;
	}
	theirs = malloc(mine->n * sizeof(*theirs));
	if (theirs &&
	    transfer(fd, theirs, mine->n * sizeof(*theirs), false, SOURCE_TIMEOUT_MS) == 0) {
		compare(mine, theirs, a);
		ret = (int)a->equal;
		transfer(fd, a, sizeof(*a), true, 5000);
	}
	free(theirs);
	return ret;
}

int verifier_compare(struct verifier *v, const struct page_sums *mine, uint32_t timeout_ms,
		     char *text, size_t text_bytes)
{
	struct answer a = { 0 };
	int ret = -1;

	snprintf(a.text, sizeof(a.text), "the source did not bring its page sums");
	while (ret < 0) {
		struct pollfd pfd = { .fd = v->listen_fd, .events = POLLIN };
		int fd;

		if (poll(&pfd, 1, (int)timeout_ms) <= 0)
			break;
		fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		ret = serve(v, fd, mine, &a);
		close(fd);
	}
	snprintf(text, text_bytes, "%s", a.text);
	return ret;
}

/* The host in a URI; this machine for a path. */
static void host_of(const char *uri, char *host, size_t host_bytes)
{
	const char *at = strstr(uri, "://");
	const char *end;

	snprintf(host, host_bytes, "127.0.0.1");
	if (!at || at[3] == '/')
		return;
	at += 3;
	end = *at == '[' ? strchr(++at, ']') : strrchr(at, ':');
	if (end && end > at && (size_t)(end - at) < host_bytes) {
		memcpy(host, at, (size_t)(end - at));
		host[end - at] = '\0';
	}
}

static int dial(const char *uri, uint32_t port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char host[MIGRATE_URI], service[16];
	int fd = -1;

	host_of(uri, host, sizeof(host));
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list))
		return -1;
	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

int verify_at_destination(const char *uri, const void *reply_p, size_t reply_bytes,
			  const struct page_sums *mine, char *text, size_t text_bytes)
{
	struct answer a = { .equal = -1 };
	struct reply reply;
	struct offer offer;
	int fd;

	snprintf(a.text, sizeof(a.text), "the destination was not started with --verify");
	if (reply_bytes == sizeof(reply)) {
		memcpy(&reply, reply_p, sizeof(reply));
		snprintf(a.text, sizeof(a.text),
			 "the destination cannot be reached to compare memory");
		fd = dial(uri, le32toh(reply.port));
		offer = (struct offer){ .key = reply.key, .n = htole64(mine->n) };
		if (fd >= 0 && (transfer(fd, &offer, sizeof(offer), true, SOURCE_TIMEOUT_MS) < 0 ||
				transfer(fd, mine->sum, mine->n * sizeof(*mine->sum), true,
					 SOURCE_TIMEOUT_MS) < 0 ||
				transfer(fd, &a, sizeof(a), false, SOURCE_TIMEOUT_MS) < 0))
			a.equal = -1;
		if (fd >= 0)
			close(fd);
	}
	a.text[sizeof(a.text) - 1] = '\0';
	snprintf(text, text_bytes, "%s", a.text);
	return (int)a.equal;
}

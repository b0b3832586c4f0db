/* SPDX-License-Identifier: BSD-2-Clause */
/* The end that is written to. It believes nothing of what the source asks for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <ramjet/version.h>

#include "base/clock.h"
#include "base/random.h"
#include "bench/perf/perf.h"
#include "pagesender/receiver.h"
#include "transport/greeting.h"
#include "transport/socket.h"

#define NEXT_QUESTION_MS (24u * 3600 * 1000) /* a case may last; a lost peer shows sooner */
#define LANES_MS 30000
#define MAX_KEYS (1u << 20)
#define MAX_MEMORY (1ull << 44) /* of address space */

struct destination {
	const struct perf_setting *s;
	struct rji_stop stop;
	int listen_fd, fd, failed_fd;
	struct perf_memory memory;
	struct rji_transport *tp;
	struct rji_receiver *receiver;
	struct rji_admission adm;
	bool bye;
};

static int listen_at(struct destination *d, const char *uri, char *real, size_t real_bytes,
		     struct rj_error *err)
{
	struct rji_uri at, local;
	char addr[RJI_ADDR_BYTES];
	int ret = rji_uri_parse(uri, &at, err);

	if (!ret)
		ret = rji_socket_listen(&at, &d->listen_fd, err);
	if (ret < 0)
		return ret;
	ret = rji_socket_local(d->listen_fd, &local);
	if (!ret && !rji_uri_is_unix(&local))
		ret = rji_addr_format(addr, sizeof(addr), local.host, local.port);
	if (ret < 0)
		return rji_fail(err, ret, "the listening socket has no address");
	snprintf(real, real_bytes, "%s://%s", d->s->transport,
		 rji_uri_is_unix(&local) ? local.path : addr);
	return 0;
}

/* Somebody who greets as a control connection. */
static int await_source(struct destination *d, struct rj_error *err)
{
	struct rji_acceptor a;
	struct rji_greeting g;
	int ret;

	rji_acceptor_init(&a, d->listen_fd, d->s->host, &d->stop);
	for (;;) {
		ret = rji_acceptor_next(&a, 0, &g, &d->fd);
		if (ret <= 0 || (g.kind == RJI_GREET_CONTROL && g.major == RJI_PROTOCOL_MAJOR))
			break;
		close(d->fd);
		d->fd = -1;
	}
	rji_acceptor_fini(&a);
	if (ret > 0)
		ret = rji_socket_tune(d->fd, 20000);
	return ret < 0 ? rji_fail(err, ret, "waiting for a source: %s", rj_strerror(ret)) : 0;
}

static int hello(struct destination *d, const json_t *q, json_t *answer, struct rj_error *err)
{
	const char *transport = json_string_value(json_object_get(q, "transport"));
	json_int_t bytes = json_integer_value(json_object_get(q, "memory_bytes"));
	uint64_t free_bytes = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t most = d->s->ops->moves_data ? free_bytes : MAX_MEMORY;

	if (!transport || strcmp(transport, d->s->transport))
		return rji_fail(err, RJ_E_REFUSED, "the other end speaks %.16s, this one %s",
				transport ? transport : "nothing known", d->s->transport);
	if (d->memory.at)
		return rji_fail(err, RJ_E_PROTOCOL, "hello was said before");
	if (bytes <= 0 || (uint64_t)bytes % PERF_PAGE_BYTES || (uint64_t)bytes > most)
		return rji_fail(err, RJ_E_REFUSED,
				"%" JSON_INTEGER_FORMAT
				" bytes of memory are more than the %" PRIu64
				" free here: use a smaller --memory",
				bytes, most);
	json_object_set_new(answer, "version",
			    json_sprintf("%d.%d.%d", RJ_VERSION_MAJOR, RJ_VERSION_MINOR,
					 RJ_VERSION_PATCH));
	json_object_set_new(answer, "host", perf_describe_host());
	return perf_memory_init(&d->memory, (uint64_t)bytes, d->s->ops->moves_data, d->s->o->nodes,
				err);
}

static int export_keys(struct destination *d, json_t *answer, struct rj_error *err)
{
	uint8_t *keys;
	int n;

	if (!d->s->ops->export_keys)
		return 0;
	keys = malloc(MAX_KEYS);
	n = keys ? d->s->ops->export_keys(d->tp, 0, keys, MAX_KEYS, err)
		 : rji_fail(err, -ENOMEM, "no memory for keys");
	if (n >= 0)
		json_object_set_new(answer, "keys", perf_hex(keys, (size_t)n));
	free(keys);
	return n < 0 ? n : 0;
}

static int listen_for_lanes(struct destination *d, json_t *answer, struct rj_error *err)
{
	struct rji_listen l = { .control_listen_fd = d->listen_fd };
	json_t *list = json_array();
	struct rji_uri local = { 0 };
	struct rji_addrs addrs;
	int ret;

	rji_socket_local(d->fd, &local);
	l.host = local.host;
	l.port = local.port;
	ret = d->s->ops->listen(d->tp, &l, &addrs, err);
	for (uint32_t i = 0; !ret && i < addrs.n; i++)
		json_array_append_new(list, json_string(addrs.addr[i]));
	json_object_set_new(answer, "addrs", list);
	return ret;
}

/* A transport with our memory registered, listening; the lanes themselves come after the answer. */
static int open_transport(struct destination *d, const json_t *q, json_t *answer,
			  struct rj_error *err)
{
	json_int_t lanes = json_integer_value(json_object_get(q, "lanes"));
	const struct rji_memory m = { .name = "perf",
				      .host = d->memory.at,
				      .len_bytes = d->memory.len_bytes };
	struct rji_transport_opts o = { .host = d->s->host,
					.stop = &d->stop,
					.is_destination = true,
					.gid_index = -1,
					.traffic_class = -1,
					.peer_timeout_ms = 20000 };
	_Atomic uint64_t done = 0;
	struct rji_uri local = { 0 };
	int ret;

	if (!d->memory.at || d->tp || lanes < 1 || lanes > RJ_MAX_LANES)
		return rji_fail(err, RJ_E_PROTOCOL, "lanes are opened after hello, once at a time");
	d->adm.n_lanes = (uint32_t)lanes;
	if (rji_random_bytes(d->adm.token, sizeof(d->adm.token)) < 0 ||
	    rji_random_bytes(d->adm.session_id, sizeof(d->adm.session_id)) < 0)
		return rji_fail(err, -EIO, "no random numbers from the kernel");
	rji_socket_local(d->fd, &local);
	o.data_hosts = local.host;
	ret = d->s->ops->create(&o, err, &d->tp);
	if (!ret)
		ret = d->s->ops->reg(d->tp, &m, &done, err);
	if (!ret)
		ret = export_keys(d, answer, err);
	if (!ret)
		ret = listen_for_lanes(d, answer, err);
	json_object_set_new(answer, "token", perf_hex(d->adm.token, sizeof(d->adm.token)));
	json_object_set_new(answer, "session",
			    perf_hex(d->adm.session_id, sizeof(d->adm.session_id)));
	return ret;
}

static int let_lanes_in(struct destination *d, struct rj_error *err)
{
	struct rji_lane *lanes[RJ_MAX_LANES];
	struct rji_receiver_opts o = { .host = d->s->host,
				       .ops = d->s->ops,
				       .tp = d->tp,
				       .n_lanes = d->adm.n_lanes,
				       .lanes = lanes,
				       .failed_fd = d->failed_fd };
	uint64_t deadline = rji_now_ns() + LANES_MS * RJI_NS_PER_MS;
	int ret = d->s->ops->accept(d->tp, &d->adm, deadline, lanes, err);

	return ret < 0 ? ret : rji_receiver_create(&o, &d->receiver, err);
}

static int cpu(struct destination *d, const json_t *q, json_t *answer, struct rj_error *err)
{
	if (!d->receiver)
		return rji_fail(err, RJ_E_PROTOCOL, "there are no lanes");
	json_object_set_new(answer, "cpu_ns",
			    json_integer((json_int_t)rji_receiver_cpu_ns(d->receiver)));
	return rji_receiver_result(d->receiver, err);
}

static void close_transport(struct destination *d)
{
	rji_receiver_destroy(&d->receiver);
	if (d->tp)
		d->s->ops->destroy(&d->tp);
}

static int close_lanes(struct destination *d, const json_t *q, json_t *answer, struct rj_error *err)
{
	close_transport(d);
	json_object_set_new(answer, "arrived_pages",
			    json_integer((json_int_t)perf_memory_arrived(&d->memory)));
	return 0;
}

static int bye(struct destination *d, const json_t *q, json_t *answer, struct rj_error *err)
{
	d->bye = true;
	return 0;
}

static const struct {
	const char *op;
	int (*answer)(struct destination *d, const json_t *q, json_t *answer, struct rj_error *err);
	int (*after)(struct destination *d, struct rj_error *err);
} questions[] = {
	{ "hello", hello, NULL }, { "open", open_transport, let_lanes_in },
	{ "cpu", cpu, NULL },	  { "close", close_lanes, NULL },
	{ "bye", bye, NULL },
};

/* What went wrong is the source's news too. */
static int tell_failure(struct destination *d, struct rj_error *err)
{
	struct rj_error ignored;

	rji_error_init(&ignored);
	perf_wire_send(d->fd, &d->stop, json_pack("{s:s}", "error", err->text), &ignored);
	return err->code;
}

static int serve_one(struct destination *d, struct rj_error *err)
{
	json_t *q, *answer = json_pack("{s:b}", "ok", 1);
	int ret = perf_wire_recv(d->fd, &d->stop, NEXT_QUESTION_MS, &q, err);
	const char *op;
	size_t i, n = sizeof(questions) / sizeof(*questions);

	if (ret < 0) {
		json_decref(answer);
		return ret;
	}
	op = json_string_value(json_object_get(q, "op"));
	for (i = 0; i < n && (!op || strcmp(op, questions[i].op)); i++)
		;
	ret = i < n ? questions[i].answer(d, q, answer, err)
		    : rji_fail(err, RJ_E_PROTOCOL, "a question this version does not know");
	json_decref(q);
	if (ret < 0) {
		json_decref(answer);
		return tell_failure(d, err);
	}
	ret = perf_wire_send(d->fd, &d->stop, answer, err);
	if (!ret && questions[i].after && questions[i].after(d, err) < 0)
		ret = tell_failure(d, err);
	return ret;
}

int perf_destination_run(const struct perf_setting *s, const char *uri,
			 void (*listening)(void *arg, const char *uri), void *arg,
			 struct rj_error *err)
{
	struct destination d = { .s = s, .listen_fd = -1, .fd = -1 };
	char real[ROUTE_URI] = "";
	int ret = rji_stop_init(&d.stop);

	if (ret < 0)
		return rji_fail(err, ret, "eventfd: %s", rj_strerror(ret));
	d.failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = listen_at(&d, uri, real, sizeof(real), err);
	if (!ret) {
		listening(arg, real);
		ret = await_source(&d, err);
	}
	while (!ret && !d.bye)
		ret = serve_one(&d, err);
	close_transport(&d);
	perf_memory_fini(&d.memory);
	if (d.fd >= 0)
		close(d.fd);
	if (d.listen_fd >= 0)
		close(d.listen_fd);
	if (!strncmp(real, "unix://", 7))
		unlink(real + 7);
	close(d.failed_fd);
	rji_stop_fini(&d.stop);
	return ret;
}

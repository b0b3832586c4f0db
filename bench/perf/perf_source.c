/* SPDX-License-Identifier: BSD-2-Clause */
/* The end that sends: one connection, for each number of lanes a set of them, on it every case. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ramjet/version.h>

#include "base/clock.h"
#include "bench/common/units.h"
#include "bench/perf/perf.h"
#include "rdma/rdma.h"
#include "transport/greeting.h"
#include "transport/socket.h"

#define CONNECT_MS 30000
#define ANSWER_MS 120000 /* registering a lot of memory takes its time */
#define MAX_KEYS (1u << 20)
#define MAX_ROUNDS 100000 /* of a case; their times are kept */

struct source {
	const struct perf_setting *s;
	struct rji_stop stop;
	struct rji_uri to;
	int fd;
	uint64_t port_rate;
	struct perf_memory memory;
	struct rji_transport *tp;
	struct perf_bed *bed;
	uint64_t *round_ns;
	uint64_t most_pages; /* of one round since the lanes were opened */
};

static int ask(struct source *s, json_t *question, json_t **answer_p, struct rj_error *err)
{
	return perf_wire_ask(s->fd, &s->stop, question, ANSWER_MS, answer_p, err);
}

static int greet(struct source *s, const char *uri, struct rj_error *err)
{
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR, .kind = RJI_GREET_CONTROL };
	uint64_t deadline = rji_now_ns() + CONNECT_MS * RJI_NS_PER_MS;
	uint8_t bytes[RJI_GREETING_BYTES];
	struct iovec iov = { bytes, sizeof(bytes) };
	int ret = rji_uri_parse(uri, &s->to, err);

	if (!ret)
		ret = rji_socket_connect(&s->to, deadline, &s->stop, &s->fd, err);
	if (ret < 0)
		return ret;
	rji_socket_tune(s->fd, 20000);
	rji_greeting_encode(&g, bytes);
	ret = rji_socket_send(s->fd, &iov, 1, deadline, &s->stop);
	return ret < 0 ? rji_fail(err, ret, "greeting the destination: %s", rj_strerror(ret)) : 0;
}

static int hello(struct source *s, json_t **peer_p, struct rj_error *err)
{
	json_t *answer;
	int ret = ask(s,
		      json_pack("{s:s,s:s,s:I}", "op", "hello", "transport", s->s->transport,
				"memory_bytes", (json_int_t)s->s->memory_bytes),
		      &answer, err);

	if (!ret)
		*peer_p = answer;
	return ret;
}

/* Addresses and keys out of an answer, of which nothing is believed. */
static int take_addrs(const json_t *list, const struct rji_uri *to, struct rji_addrs *addrs_p)
{
	struct rji_addrs addrs = { 0 };
	size_t i;
	json_t *one;

	json_array_foreach((json_t *)(uintptr_t)list, i, one)
	{
		const char *text = json_string_value(one);

		if (!text || strlen(text) >= RJI_ADDR_BYTES || addrs.n == RJI_MAX_ADDRS ||
		    (text[0] == '/') != rji_uri_is_unix(to))
			return -EINVAL;
		memcpy(addrs.addr[addrs.n++], text, strlen(text) + 1);
	}
	*addrs_p = addrs;
	return 0;
}

static int import_keys(struct source *s, const json_t *answer, struct rj_error *err)
{
	uint8_t *keys;
	int ret;

	if (!s->s->ops->import_keys)
		return 0;
	keys = malloc(MAX_KEYS);
	ret = keys ? perf_unhex(json_object_get(answer, "keys"), keys, MAX_KEYS) : -ENOMEM;
	ret = ret < 0 ? rji_fail(err, RJ_E_PROTOCOL, "the destination sent no keys")
		      : s->s->ops->import_keys(s->tp, 0, keys, (size_t)ret, err);
	free(keys);
	return ret;
}

static int create_transport(struct source *s, struct rj_error *err)
{
	const struct rji_memory m = { .name = "perf",
				      .host = s->memory.at,
				      .len_bytes = s->memory.len_bytes };
	const struct rji_transport_opts o = { .host = s->s->host,
					      .stop = &s->stop,
					      .gid_index = -1,
					      .traffic_class = -1,
					      .peer_timeout_ms = 20000 };
	_Atomic uint64_t done = 0;
	int ret = s->s->ops->create(&o, err, &s->tp);

	return ret ? ret : s->s->ops->reg(s->tp, &m, &done, err);
}

static int connect_lanes(struct source *s, const json_t *answer, uint32_t n_lanes,
			 struct rj_error *err)
{
	struct rji_admission adm = { .n_lanes = n_lanes };
	struct rji_addrs addrs;
	struct perf_bed_opts bo = { .host = s->s->host,
				    .ops = s->s->ops,
				    .tp = s->tp,
				    .stop = &s->stop,
				    .memory = &s->memory,
				    .addrs = &addrs,
				    .cpus = s->s->o->cpus,
				    .n_lanes = n_lanes,
				    .bandwidth_bytes_per_s = s->s->o->bandwidth_bytes_per_s };
	int ret;

	if (take_addrs(json_object_get(answer, "addrs"), &s->to, &addrs) < 0 ||
	    perf_unhex(json_object_get(answer, "token"), adm.token, sizeof(adm.token)) !=
		    sizeof(adm.token) ||
	    perf_unhex(json_object_get(answer, "session"), adm.session_id,
		       sizeof(adm.session_id)) != sizeof(adm.session_id))
		return rji_fail(err, RJ_E_PROTOCOL, "the destination's answer is malformed");
	ret = perf_bed_create(&bo, &s->bed, err);
	return ret ? ret : perf_bed_connect(s->bed, &adm, err);
}

static int open_lanes(struct source *s, uint32_t n_lanes, struct rj_error *err)
{
	json_t *answer;
	int ret = create_transport(s, err);

	if (!ret)
		ret = ask(s, json_pack("{s:s,s:i}", "op", "open", "lanes", (int)n_lanes), &answer,
			  err);
	if (ret < 0)
		return ret;
	ret = import_keys(s, answer, err);
	if (!ret)
		ret = connect_lanes(s, answer, n_lanes, err);
	json_decref(answer);
	return ret;
}

static void drop_lanes(struct source *s)
{
	perf_bed_destroy(&s->bed);
	if (s->tp)
		s->s->ops->destroy(&s->tp);
}

/* And see whether what was sent is there. */
static int close_lanes(struct source *s, struct rj_error *err)
{
	uint64_t arrived;
	json_t *answer;
	int ret;

	drop_lanes(s);
	ret = ask(s, json_pack("{s:s}", "op", "close"), &answer, err);
	if (ret < 0)
		return ret;
	arrived = (uint64_t)json_integer_value(json_object_get(answer, "arrived_pages"));
	json_decref(answer);
	if (s->memory.backed && arrived < s->most_pages)
		return rji_fail(err, -EIO, "%" PRIu64 " pages were sent, %" PRIu64 " arrived",
				s->most_pages, arrived);
	return 0;
}

static int destination_cpu(struct source *s, uint64_t *ns_p, struct rj_error *err)
{
	json_t *answer;
	int ret = ask(s, json_pack("{s:s}", "op", "cpu"), &answer, err);

	if (ret < 0)
		return ret;
	*ns_p = (uint64_t)json_integer_value(json_object_get(answer, "cpu_ns"));
	json_decref(answer);
	return 0;
}

static void add(struct perf_round *sum, const struct perf_round *r)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)r;

	_Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "nothing but counters");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += from[i];
}

/* Rounds for as long as one repetition lasts, at least one. */
static int repeat(struct source *s, struct perf_round *sum_p, uint64_t *n_rounds,
		  struct rj_error *err)
{
	struct perf_round sum = { 0 }, r;

	do {
		int ret = perf_bed_round(s->bed, &r, err);

		if (ret < 0)
			return ret;
		if (*n_rounds < MAX_ROUNDS)
			s->round_ns[(*n_rounds)++] = r.ns;
		add(&sum, &r);
	} while (sum.ns < s->s->o->duration_ms * RJI_NS_PER_MS);
	if (r.pages > s->most_pages)
		s->most_pages = r.pages;
	*sum_p = sum;
	return 0;
}

static int by_value(const void *a_, const void *b_)
{
	uint64_t a = *(const uint64_t *)a_, b = *(const uint64_t *)b_;

	return a < b ? -1 : a > b;
}

static int measure(struct source *s, struct perf_case *c, struct rj_error *err)
{
	const struct perf_opts *o = s->s->o;
	uint64_t n_rounds = 0, cpu = 0;
	int ret = 0;

	perf_bed_shape(s->bed, c->pattern, c->message_bytes);
	for (uint32_t i = 0; !ret && i < o->warmup + o->repeat; i++) {
		struct perf_round r;

		if (i == o->warmup) {
			n_rounds = 0;
			ret = destination_cpu(s, &cpu, err);
		}
		if (!ret)
			ret = repeat(s, &r, &n_rounds, err);
		if (ret || i < o->warmup)
			continue;
		c->repetition[c->n_repetitions++] = (double)r.bytes / (double)r.ns * 1e9;
		add(&c->sum, &r);
	}
	if (!ret)
		ret = destination_cpu(s, &c->destination_cpu_ns, err);
	if (ret)
		return ret;
	c->destination_cpu_ns -= cpu;
	qsort(s->round_ns, n_rounds, sizeof(*s->round_ns), by_value);
	c->round_p50_ns = s->round_ns[n_rounds / 2];
	c->round_p99_ns = s->round_ns[n_rounds * 99 / 100];
	return 0;
}

static int one_case(struct source *s, uint32_t lanes, uint32_t size, enum perf_pattern pattern,
		    json_t *results, struct rj_error *err)
{
	struct perf_case c = { .transport = s->s->transport,
			       .pattern = pattern,
			       .message_bytes = size,
			       .lanes = lanes,
			       .memory_bytes = s->memory.len_bytes,
			       .port_rate_bytes_per_s = s->port_rate,
			       .nodes = s->s->o->nodes,
			       .placement = perf_bed_placement(s->bed) };
	int ret;

	c.repetition = calloc(s->s->o->repeat, sizeof(*c.repetition));
	if (!c.repetition)
		return rji_fail(err, -ENOMEM, "no memory");
	perf_say(s->s->o, "measuring  %s, %s, %u lane%s", perf_pattern_names[pattern],
		 UNITS_BYTES(size), lanes, lanes == 1 ? "" : "s");
	ret = measure(s, &c, err);
	if (!ret) {
		json_t *o = perf_case_json(&c);

		json_array_append(results, o);
		if (s->s->o->json)
			perf_print_json(json_incref(o));
		else
			perf_print_case(&c);
		json_decref(o);
	}
	free(c.repetition);
	return ret;
}

static int with_lanes(struct source *s, uint32_t lanes, json_t *results, struct rj_error *err)
{
	const struct perf_opts *o = s->s->o;
	int ret = open_lanes(s, lanes, err);

	s->most_pages = 0;
	for (uint32_t p = 0; !ret && p < o->n_patterns; p++)
		for (uint32_t i = 0; !ret && i < o->n_sizes; i++)
			ret = one_case(s, lanes, o->sizes[i], o->patterns[p], results, err);
	return ret ? ret : close_lanes(s, err);
}

static int all(struct source *s, uint32_t default_lanes, json_t *results, struct rj_error *err)
{
	const struct perf_opts *o = s->s->o;
	uint32_t n = o->n_lanes ? o->n_lanes : 1;
	json_t *answer;
	int ret = perf_memory_init(&s->memory, s->s->memory_bytes, s->s->ops->moves_data, o->nodes,
				   err);

	perf_memory_fill(&s->memory);
	if (!ret && !o->json)
		perf_print_head();
	for (uint32_t i = 0; !ret && i < n; i++)
		ret = with_lanes(s, o->n_lanes ? o->lanes[i] : default_lanes, results, err);
	if (!ret)
		ret = ask(s, json_pack("{s:s}", "op", "bye"), &answer, err);
	if (!ret)
		json_decref(answer);
	return ret;
}

int perf_source_run(const struct perf_setting *setting, const char *uri, uint32_t default_lanes,
		    json_t *results, json_t **peer_p, struct rj_error *err)
{
	struct source s = { .s = setting, .fd = -1 };
	int ret = rji_stop_init(&s.stop);

	if (ret < 0)
		return rji_fail(err, ret, "eventfd: %s", rj_strerror(ret));
	s.round_ns = calloc(MAX_ROUNDS, sizeof(*s.round_ns));
	ret = s.round_ns ? greet(&s, uri, err) : rji_fail(err, -ENOMEM, "no memory");
	if (!ret)
		ret = hello(&s, peer_p, err);
	if (!ret) {
		s.port_rate = perf_port_rate(setting->transport, &s.to, s.fd);
		ret = all(&s, default_lanes, results, err);
	}
	drop_lanes(&s);
	perf_memory_fini(&s.memory);
	if (s.fd >= 0)
		close(s.fd);
	free(s.round_ns);
	rji_stop_fini(&s.stop);
	return ret;
}

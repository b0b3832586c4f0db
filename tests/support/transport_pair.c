/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/transport_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"

#define SPAN_BYTES (2ull << 20)
#define PAGE_BYTES 4096u
#define KEYS_BYTES 65536

/* xorshift64*: the sequence is the seed's. */
uint64_t pair_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* Memory that misses a 2 MiB boundary by so much, so that chunks of both ends do not fall together. */
static void *map(uint64_t len_bytes, uint32_t misalign)
{
	uint8_t *at = mmap(NULL, len_bytes + 2 * SPAN_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *aligned = at + (SPAN_BYTES - (uintptr_t)at % SPAN_BYTES);

	if (at == MAP_FAILED)
		abort();
	munmap(at, (size_t)(aligned + misalign - at));
	munmap(aligned + misalign + len_bytes, (size_t)(at + 2 * SPAN_BYTES - aligned - misalign));
	return aligned + misalign;
}

static void fill(const struct rji_memory *m, uint64_t seed)
{
	uint64_t state = seed * 2654435761u + m->region + 1;
	uint64_t *at = m->host;

	for (uint64_t i = 0; i < m->len_bytes / sizeof(*at); i++)
		at[i] = pair_random(&state);
}

void pair_fill(struct pair *p, uint64_t seed)
{
	for (uint32_t i = 0; i < p->o.n_regions; i++)
		fill(&p->source_memory[i], seed);
}

static int end_create(struct pair *p, bool is_destination, struct rj_error *err)
{
	struct rji_transport_opts o = {
		.host = p->o.log,
		.stop = is_destination ? &p->destination_stop : &p->source_stop,
		.is_destination = is_destination,
		.devices = p->o.devices,
		.apply = is_destination ? p->o.apply : NULL,
		.data_hosts = p->o.data_hosts,
		.gid_index = -1,
		.traffic_class = -1,
		.peer_timeout_ms = p->o.peer_timeout_ms,
		.lazy = is_destination ? p->o.lazy_destination : p->o.lazy_source,
		.background = p->o.background,
		.topology = p->o.topology,
		.pin_cap_bytes = is_destination ? p->o.destination_cap_bytes
						: p->o.source_cap_bytes,
		.n_lanes = p->o.n_lanes,
		.wake_fd = p->wake_fd,
		.pins = is_destination ? &p->destination_pins : &p->source_pins,
	};

	return p->o.ops->create(&o, err, is_destination ? &p->destination : &p->source);
}

int pair_create(struct pair *p, const struct pair_opts *o, uint64_t seed, struct rj_error *err)
{
	static const char *const name[PAIR_MAX_REGIONS] = { "ram0", "ram1", "ram2", "ram3" };
	int ret;

	memset(p, 0, sizeof(*p));
	p->o = *o;
	rji_stop_init(&p->source_stop);
	rji_stop_init(&p->destination_stop);
	p->wake_fd = eventfd(0, EFD_CLOEXEC);
	rji_random_bytes(&p->admission, sizeof(p->admission));
	p->admission.n_lanes = o->n_lanes;
	for (uint32_t i = 0; i < o->n_regions; i++) {
		uint64_t len = o->region_bytes + i * PAGE_BYTES;

		p->source_memory[i] =
			(struct rji_memory){ i, name[i], map(len, i * PAGE_BYTES), len };
		p->destination_memory[i] =
			(struct rji_memory){ i, name[i], map(len, o->misalign), len };
	}
	pair_fill(p, seed);
	ret = end_create(p, true, err);
	return ret ? ret : end_create(p, false, err);
}

static int reg(struct rji_transport *tp, const struct rji_transport_ops *ops,
	       const struct rji_memory *m, struct rj_error *err)
{
	_Atomic uint64_t done = 0;
	int ret = ops->reg(tp, m, &done, err);

	if (!ret && done != m->len_bytes) {
		fprintf(stderr, "registered %llu of %llu bytes\n", (unsigned long long)done,
			(unsigned long long)m->len_bytes);
		abort();
	}
	return ret;
}

static int carry_keys(struct pair *p, uint32_t region, struct rj_error *err)
{
	void *keys = malloc(KEYS_BYTES);
	int ret;

	if (!p->o.ops->export_keys) {
		free(keys);
		return 0;
	}
	ret = p->o.ops->export_keys(p->destination, region, keys, KEYS_BYTES, err);
	if (ret >= 0)
		ret = p->o.ops->import_keys(p->source, region, keys, (size_t)ret, err);
	free(keys);
	return ret;
}

/* --- what control would carry --- */

/* All that one side has to say. */
static int carry(const struct rji_transport_ops *ops, struct rji_transport *from,
		 struct rji_transport *to, struct rj_error *err)
{
	uint8_t buf[100]; /* so that it takes several */
	int n;

	while ((n = ops->say(from, buf, sizeof(buf), err)) > 0) {
		n = ops->hear(to, buf, (size_t)n, err);
		if (n < 0)
			break;
	}
	return n;
}

static void *carrier_thread(void *arg)
{
	struct pair *p = arg;
	eventfd_t many;
	int ret = 0;

	while (!ret && !atomic_load(&p->carried_enough)) {
		eventfd_read(p->wake_fd, &many);
		ret = carry(p->o.ops, p->source, p->destination, &p->carrier_err);
		if (!ret)
			ret = carry(p->o.ops, p->destination, p->source, &p->carrier_err);
	}
	if (ret < 0) { /* a session would end */
		rji_stop_set(&p->source_stop);
		rji_stop_set(&p->destination_stop);
	}
	return NULL;
}

static void start_carrier(struct pair *p)
{
	rji_error_init(&p->carrier_err);
	p->carrying = p->o.background && !pthread_create(&p->carrier, NULL, carrier_thread, p);
}

static void stop_carrier(struct pair *p)
{
	if (!p->carrying)
		return;
	atomic_store(&p->carried_enough, true);
	eventfd_write(p->wake_fd, 1);
	pthread_join(p->carrier, NULL);
	p->carrying = false;
}

int pair_listen(struct pair *p, struct rj_error *err)
{
	struct rji_listen l = {
		.control_listen_fd = p->o.listen_fd ? p->o.listen_fd : -1,
		.host = p->o.host,
		.data_addrs = p->o.data_addrs,
	};
	int ret = 0;

	for (uint32_t i = 0; !ret && i < p->o.n_regions; i++) {
		ret = reg(p->destination, p->o.ops, &p->destination_memory[i], err);
		if (!ret)
			ret = reg(p->source, p->o.ops, &p->source_memory[i], err);
		if (!ret)
			ret = carry_keys(p, i, err);
	}
	if (!ret)
		start_carrier(p);
	return ret ? ret : p->o.ops->listen(p->destination, &l, &p->addrs, err);
}

static uint64_t connect_deadline(const struct pair *p)
{
	return rji_now_ns() + (p->o.deadline_ms ? p->o.deadline_ms : 10000) * RJI_NS_PER_MS;
}

struct accepting {
	struct pair *p;
	struct rji_lane *lane[PAIR_MAX_LANES];
	struct rj_error err;
	int ret;
};

static void *accept_thread(void *arg)
{
	struct accepting *a = arg;

	a->ret = a->p->o.ops->accept(a->p->destination, &a->p->admission, connect_deadline(a->p),
				     a->lane, &a->err);
	return NULL;
}

struct serving {
	struct pair *p;
	struct pair_lane *lane;
};

static void *serve_thread(void *arg)
{
	struct serving s = *(struct serving *)arg;

	free(arg);
	rji_error_init(&s.lane->served_err);
	s.lane->served = s.p->o.ops->serve(s.lane->destination, &s.lane->served_err);
	return NULL;
}

static void start_serving(struct pair *p, struct pair_lane *lane)
{
	struct serving *s = malloc(sizeof(*s));

	*s = (struct serving){ p, lane };
	lane->serving = true;
	if (pthread_create(&lane->server, NULL, serve_thread, s))
		abort();
}

int pair_connect(struct pair *p, struct rj_error *err)
{
	struct accepting a = { .p = p };
	pthread_t acceptor;
	int ret = 0;

	rji_error_init(&a.err);
	if (pthread_create(&acceptor, NULL, accept_thread, &a))
		abort();
	for (uint32_t i = 0; !ret && i < p->o.n_lanes; i++)
		ret = p->o.ops->connect(p->source, i, &p->addrs, &p->admission, connect_deadline(p),
					&p->lane[i].source, err);
	if (ret)
		rji_stop_set(&p->destination_stop);
	pthread_join(acceptor, NULL);
	if (a.ret) {
		if (ret && a.ret == -ECANCELED)
			return ret;
		*err = a.err;
		return a.ret;
	}
	for (uint32_t i = 0; i < p->o.n_lanes; i++) {
		p->lane[i].destination = a.lane[i];
		start_serving(p, &p->lane[i]);
	}
	return ret;
}

int pair_open(struct pair *p, const struct pair_opts *o, uint64_t seed, struct rj_error *err)
{
	int ret = pair_create(p, o, seed, err);

	if (!ret)
		ret = pair_listen(p, err);
	return ret ? ret : pair_connect(p, err);
}

int pair_end_lanes(struct pair *p)
{
	int ret = 0;

	for (uint32_t i = 0; i < p->o.n_lanes; i++)
		p->o.ops->close(&p->lane[i].source);
	for (uint32_t i = 0; i < p->o.n_lanes; i++) {
		if (!p->lane[i].serving)
			continue;
		pthread_join(p->lane[i].server, NULL);
		p->lane[i].serving = false;
		if (p->lane[i].served && !ret)
			ret = p->lane[i].served;
	}
	return ret;
}

void pair_close(struct pair *p)
{
	rji_stop_set(&p->destination_stop);
	pair_end_lanes(p);
	for (uint32_t i = 0; i < p->o.n_lanes; i++)
		p->o.ops->close(&p->lane[i].destination);
	if (p->destination)
		p->o.ops->withdraw(p->destination);
	stop_carrier(p);
	p->o.ops->destroy(&p->destination);
	p->o.ops->destroy(&p->source);
	for (uint32_t i = 0; i < p->o.n_regions; i++) {
		munmap(p->source_memory[i].host, p->source_memory[i].len_bytes);
		munmap(p->destination_memory[i].host, p->destination_memory[i].len_bytes);
	}
	rji_stop_fini(&p->source_stop);
	rji_stop_fini(&p->destination_stop);
	close(p->wake_fd);
}

/* --- sending --- */

struct sender {
	struct pair *p;
	uint32_t lane;
	uint64_t random;
	struct rj_error err;
	int ret;
	pthread_t thread;
};

#define BATCH 48

/* The pages of one span, in runs of random length, the runs in random order. */
static int send_span(struct sender *s, uint32_t region, uint64_t from, uint64_t to)
{
	struct rji_extent e[SPAN_BYTES / PAGE_BYTES], tmp;
	const struct rji_transport_ops *ops = s->p->o.ops;
	uint32_t n = 0;
	int ret = 0;

	while (from < to) {
		uint64_t pages =
			1 + (pair_random(&s->random) >> 8) % (1u << pair_random(&s->random) % 10);
		uint64_t len = pages * PAGE_BYTES < to - from ? pages * PAGE_BYTES : to - from;

		e[n++] = (struct rji_extent){ from, (uint32_t)len, region };
		from += len;
	}
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(pair_random(&s->random) % (i + 1));

		tmp = e[i];
		e[i] = e[k];
		e[k] = tmp;
	}
	for (uint32_t i = 0; !ret && i < n; i += BATCH)
		ret = ops->post(s->p->lane[s->lane].source, &e[i], n - i < BATCH ? n - i : BATCH,
				&s->err);
	return ret;
}

static int send_share(struct sender *s)
{
	const struct pair *p = s->p;
	uint64_t span = 0;
	int ret = 0;

	for (uint32_t r = 0; !ret && r < p->o.n_regions; r++) {
		uint64_t len = p->source_memory[r].len_bytes;

		for (uint64_t at = 0; !ret && at < len; at += SPAN_BYTES, span++)
			if (span % p->o.n_lanes == s->lane)
				ret = send_span(s, r, at,
						at + SPAN_BYTES < len ? at + SPAN_BYTES : len);
	}
	return ret;
}

static void *send_thread(void *arg)
{
	struct sender *s = arg;

	s->ret = send_share(s);
	if (!s->ret)
		s->ret = s->p->o.ops->fence(s->p->lane[s->lane].source, 0, &s->err);
	return NULL;
}

int pair_send_all(struct pair *p, uint64_t seed, struct rj_error *err)
{
	struct sender s[PAIR_MAX_LANES];
	int ret = 0;

	for (uint32_t i = 0; i < p->o.n_lanes; i++) {
		s[i] = (struct sender){ .p = p, .lane = i, .random = seed * 7919 + i + 1 };
		rji_error_init(&s[i].err);
		if (pthread_create(&s[i].thread, NULL, send_thread, &s[i]))
			abort();
	}
	for (uint32_t i = 0; i < p->o.n_lanes; i++) {
		pthread_join(s[i].thread, NULL);
		if (s[i].ret && !ret) {
			ret = s[i].ret;
			*err = s[i].err;
		}
	}
	return ret;
}

bool pair_equal(const struct pair *p)
{
	for (uint32_t r = 0; r < p->o.n_regions; r++) {
		const uint8_t *a = p->source_memory[r].host;
		const uint8_t *b = p->destination_memory[r].host;
		uint64_t at = 0;

		if (!memcmp(a, b, p->source_memory[r].len_bytes))
			continue;
		while (a[at] == b[at])
			at++;
		fprintf(stderr, "region %u differs at 0x%llx: sent %02x, there %02x\n", r,
			(unsigned long long)at, a[at], b[at]);
		return false;
	}
	return true;
}

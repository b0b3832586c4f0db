/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_TRANSPORT_PAIR_H
#define RJ_TESTS_TRANSPORT_PAIR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/transport.h"

/*
 * Both ends of a transport in one process, brought up the way sessions do it: for tests of transports. Each destination
 * lane is served by a thread.
 */

#define PAIR_MAX_REGIONS 4
#define PAIR_MAX_LANES 32

struct pair_opts {
	const struct rji_transport_ops *ops;
	const char *host; /* where the destination listens */
	const char *data_addrs;
	const char *data_hosts; /* told to the destination beforehand */
	uint32_t n_lanes;
	uint32_t n_regions;
	uint64_t region_bytes; /* of each; region k has k pages more */
	uint32_t
		misalign; /* bytes by which the memory misses a 2 MiB boundary, a multiple of 4096 */
	uint32_t peer_timeout_ms;
	uint32_t deadline_ms; /* for connecting */
	int listen_fd;	      /* of the destination; 0: none, for transports that make their own */
	const struct rji_host *log;
	const char *devices;
	const struct rji_apply_ops *apply; /* of the destination; NULL: nothing coded comes */
	const struct rji_topology *topology;
	/* rdma: as struct rji_transport_opts has them, of either side; then a thread carries say() to hear() */
	bool background, lazy_source, lazy_destination;
	uint64_t source_cap_bytes, destination_cap_bytes;
};

struct pair_lane {
	struct rji_lane *source;
	struct rji_lane *destination;
	pthread_t server;
	bool serving;
	int served; /* what serve() returned */
	struct rj_error served_err;
};

struct pair {
	struct pair_opts o;
	struct rji_stop source_stop;
	struct rji_stop destination_stop;
	struct rji_transport *source;
	struct rji_transport *destination;
	struct rji_memory source_memory[PAIR_MAX_REGIONS];
	struct rji_memory destination_memory[PAIR_MAX_REGIONS];
	struct rji_admission admission;
	struct rji_addrs addrs;
	struct pair_lane lane[PAIR_MAX_LANES];
	struct rji_pins source_pins, destination_pins;
	int wake_fd; /* of both sides */
	pthread_t carrier;
	bool carrying;
	atomic_bool carried_enough;
	struct rj_error carrier_err; /* why it ended early */
};

/*
 * Everything up to lanes that are served. source memory holds a pattern of the seed, the destination's zeros. A failure leaves
 * a pair that pair_close() takes; *err_p is of whichever side failed first.
 */
int pair_open(struct pair *p, const struct pair_opts *o, uint64_t seed, struct rj_error *err);
/* The steps of it. */
int pair_create(struct pair *p, const struct pair_opts *o, uint64_t seed, struct rj_error *err);
int pair_listen(struct pair *p, struct rj_error *err);
int pair_connect(struct pair *p, struct rj_error *err);

/* Close source lanes, join the servers, withdraw, close, destroy; compares nothing. */
void pair_close(struct pair *p);
/* Close the source's lanes and join the servers; 0 if all of them returned 0. */
int pair_end_lanes(struct pair *p);

/*
 * Send every page of every region once, in extents of random length and order, over all lanes, each from a thread of its
 * own: spans are dealt out so that no page goes over two lanes. Then a fence on each lane.
 */
int pair_send_all(struct pair *p, uint64_t seed, struct rj_error *err);

/* Do both sides hold the same? The first byte that differs is printed. */
bool pair_equal(const struct pair *p);

/* New contents at the source. */
void pair_fill(struct pair *p, uint64_t seed);

uint64_t pair_random(uint64_t *state);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_RECEIVER_H
#define RJI_PAGESENDER_RECEIVER_H

#include "base/host.h"
#include "numa/placement.h"
#include "transport/transport.h"

/* The destination's lanes and their threads, one each, which place what arrives. */
struct rji_receiver_opts {
	const struct rji_host *host;
	const struct rji_transport_ops *ops;
	struct rji_transport *tp;
	uint32_t n_lanes;
	const struct rji_placement *placement; /* NULL: they run anywhere */
	struct rji_lane **lanes; /* accepted; the receiver's from now on, also on failure */
	int failed_fd;		 /* an eventfd, the caller's: written when a lane fails */
};

struct rji_receiver;

int rji_receiver_create(const struct rji_receiver_opts *o, struct rji_receiver **r_p,
			struct rj_error *err);

/*
 * A lane that ended with an error: its code, else 0. Of several, not RJ_E_LANE, which can be mended.
 */
int rji_receiver_result(const struct rji_receiver *r, struct rj_error *err);

/*
 * Cut these lanes (by bit), join their threads and close them: from here on nothing changes guest
 * memory by them. Only where the transport has cut().
 */
void rji_receiver_drop(struct rji_receiver *r, uint64_t lanes);
/* The lanes that are open, into n_lanes entries; returns which, by bit. */
uint64_t rji_receiver_lanes(const struct rji_receiver *r, struct rji_lane **lanes);
/* Serve those of lanes that are not open yet; they are the receiver's from now on. */
int rji_receiver_adopt(struct rji_receiver *r, struct rji_lane **lanes, struct rj_error *err);

uint64_t rji_receiver_cpu_ns(const struct rji_receiver *r);
uint64_t rji_receiver_sent_bytes(const struct rji_receiver *r);

/*
 * Withdraw the lanes, join their threads: from here on nothing the peer does reaches guest memory.
 * Then close them. NULL is fine.
 */
void rji_receiver_destroy(struct rji_receiver **r_p);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_CONTROL_H
#define RJI_MIGRATION_CONTROL_H

#include <stdbool.h>

#include "base/stop.h"
#include "migration/message.h"

/*
 * One control connection: messages out, messages in, and the keepalive. Owned by the control thread
 * alone. PING, PONG and FAILED are dealt with here, everything else is queued for whoever expects
 * it.
 */
struct rji_msg {
	struct rji_msg *next;
	uint16_t type;
	uint32_t len_bytes;
	uint8_t payload[];
};

struct rji_control {
	int fd; /* -1: not connected, or lost */
	uint32_t peer_timeout_ms;
	uint64_t heard_ns, spoke_ns;
	bool gone;	  /* closed by the peer, silent, or broken */
	bool peer_failed; /* it sent FAILED */
	struct rji_msg_failed failure;
	uint32_t n_queued;
	struct rji_msg *first, *last;
	struct rji_msg *partial; /* being received */
	size_t got_bytes;	 /* of head, then of payload */
	uint8_t head[RJI_MSG_HEAD_BYTES];
	struct rj_error err;   /* why it is gone */
	struct rji_stop *stop; /* borrowed; ends a wait for room to send */
};

/* fd becomes the channel's. */
void rji_control_init(struct rji_control *c, int fd, uint32_t peer_timeout_ms,
		      struct rji_stop *stop);
void rji_control_fini(struct rji_control *c);
/* Close the connection; what is queued stays. */
void rji_control_hang_up(struct rji_control *c);

/* Send one message. RJ_E_PEER_GONE and others; then the channel is gone. */
int rji_control_send(struct rji_control *c, uint16_t type, const void *payload, size_t len_bytes);

/* fd is readable: take in what there is. */
void rji_control_read(struct rji_control *c);
/*
 * Now and then: keep alive, notice silence. Returns 0, or why the channel is of no use with err:
 * RJ_E_PEER_GONE, RJ_E_PEER_FAILED, RJ_E_PROTOCOL.
 */
int rji_control_check(struct rji_control *c, struct rj_error *err);
/* Next time check() should be called. */
uint64_t rji_control_next_check_ns(const struct rji_control *c);

/* The oldest queued message, the caller's to free(), or NULL. */
struct rji_msg *rji_control_take(struct rji_control *c);
/* Too much is queued: do not read on. */
bool rji_control_is_full(const struct rji_control *c);

#endif

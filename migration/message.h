/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_MESSAGE_H
#define RJI_MIGRATION_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/session.h>

#include "base/cursor.h"
#include "base/fail.h"
#include "transport/transport.h"

/*
 * What the control channel says: encoding and decoding of each message side by side.
 * docs/protocol.md has the bytes in tables. A message is a head (u32 payload length, u16 type, u16
 * zero) and a payload; little-endian.
 *
 *   source                      destination
 *   HELLO                  ►
 *                          ◄    HELLO_OK
 *   SETUP                  ►                     (RJ_RQ_SETUP)
 *                          ◄    SETUP_OK
 *   REGIONS                ►                     (RJ_RQ_REGION each, registration)
 *                          ◄    REGION_OK each
 *                          ◄    LANES            (addresses, token)
 *   … lanes connect …
 *                          ◄    LANES_OK
 *   ROUND each             ►
 *   LANES_RESET            ►                     (a lane failed: end these; features)
 *                          ◄    LANES_GONE       (a token for those that replace them)
 *   … they connect …
 *                          ◄    LANES_OK
 *   READY                  ►
 *                          ◄    READY_OK
 *   STOPPING, STATE …      ►                     (paused)
 *   FINISH                 ►                     (RJ_RQ_LOAD)
 *        or ROLLBACK ► ◄ ROLLBACK_OK, and on with ROUND
 *                          ◄    PREPARED
 *        or ROLLBACK ►                           (RJ_RQ_RESET; features) ◄ ROLLBACK_OK, and on with ROUND
 *   COMMIT                 ►                     (RJ_RQ_ACQUIRE, RJ_RQ_RESUME)
 *                          ◄    RUNNING or REFUSED
 *   BYE                    ►
 *
 * Any time, either way: PING, PONG, FAILED (I gave up; before COMMIT), WINDOWS (after REGIONS).
 */
enum rji_msg_type {
	RJI_MSG_FAILED = 1, /* this one's layout never changes, so that versions can refuse each
			     * other */
	RJI_MSG_PING,
	RJI_MSG_PONG,
	RJI_MSG_HELLO,
	RJI_MSG_HELLO_OK,
	RJI_MSG_SETUP,
	RJI_MSG_SETUP_OK,
	RJI_MSG_REGIONS,
	RJI_MSG_REGION_OK,
	RJI_MSG_LANES,
	RJI_MSG_LANES_OK,
	RJI_MSG_ROUND,
	RJI_MSG_READY,
	RJI_MSG_READY_OK,
	RJI_MSG_STOPPING,
	RJI_MSG_STATE,
	RJI_MSG_ROLLBACK,
	RJI_MSG_ROLLBACK_OK,
	RJI_MSG_FINISH,
	RJI_MSG_PREPARED,
	RJI_MSG_COMMIT,
	RJI_MSG_RUNNING,
	RJI_MSG_REFUSED,
	RJI_MSG_BYE,
	RJI_MSG_LANES_RESET, /* RJI_FEATURE_LANES_RESET */
	RJI_MSG_LANES_GONE,
	RJI_MSG_WINDOWS, /* both; RJI_FEATURE_WINDOWS: what ops->say() gave for ops->hear() */
	RJI_MSG_LAST = RJI_MSG_WINDOWS,
};

/* Bits of HELLO's and HELLO_OK's features: used when both sides have told them. */
#define RJI_FEATURE_LANES_RESET (1ull << 0)   /* a lane that failed is replaced */
#define RJI_FEATURE_LOAD_ROLLBACK (1ull << 1) /* ROLLBACK may come after FINISH */
#define RJI_FEATURE_WINDOWS (1ull << 2)	      /* memory is registered by and by */
#define RJI_FEATURE_CODED (1ull << 3) /* lanes carry changes that are not the pages themselves */

#define RJI_PROTOCOL_MINOR 1
#define RJI_MSG_HEAD_BYTES 8
#define RJI_MSG_MAX_BYTES (2u << 20) /* payload */
#define RJI_SECRET_BYTES RJI_TOKEN_BYTES

const char *rji_msg_name(unsigned int type);

/* Head. Decoding checks type and length: RJ_E_PROTOCOL. */
void rji_msg_encode_head(uint8_t bytes[RJI_MSG_HEAD_BYTES], uint16_t type, uint32_t len_bytes);
int rji_msg_decode_head(const uint8_t bytes[RJI_MSG_HEAD_BYTES], uint16_t *type_p,
			uint32_t *len_bytes_p, struct rj_error *err);

/* FAILED, REFUSED: the sender's own code and text. */
struct rji_msg_failed {
	int32_t code;
	char text[RJ_ERROR_TEXT_BYTES];
};

struct rji_msg_hello {
	uint16_t minor;
	char transport[16];
	uint32_t n_lanes;
	uint32_t peer_timeout_ms;
	uint64_t guest_bytes;
	uint8_t session_id[RJI_SESSION_ID_BYTES];
	uint8_t secret[RJI_SECRET_BYTES];
	uint64_t features; /* of what a later minor adds; unknown ones are ignored */
};

struct rji_msg_hello_ok {
	uint16_t minor;
	uint32_t n_lanes;
	uint32_t outcome_keep_ms;
	uint64_t features;
};

struct rji_msg_region {
	char name[RJ_NAME_BYTES];
	uint64_t len_bytes;
	uint64_t gpa;
	uint32_t page_bytes;
	uint32_t flags;
};

/* REGION_OK */
struct rji_msg_region_ok {
	uint32_t region;
	uint32_t flags;	  /* RJ_REGION_ZEROED */
	const void *keys; /* a view */
	size_t keys_bytes;
};

struct rji_msg_lanes {
	uint8_t token[RJI_TOKEN_BYTES];
	struct rji_addrs addrs;
};

/* LANES_GONE. LANES_RESET has the first field only. */
struct rji_msg_lanes_gone {
	uint64_t lanes; /* by bit */
	uint8_t token[RJI_TOKEN_BYTES];
};

/* ROLLBACK_OK after FINISH: a u32 count and so many of these, which loading has changed. */
struct rji_msg_range {
	uint32_t region;
	uint64_t offset_bytes, len_bytes;
};

struct rji_msg_finish {
	uint32_t run;	      /* the guest ran when it was paused */
	uint64_t state_bytes; /* of all STATE messages */
};

/* PREPARED, RUNNING: nanoseconds the steps took at the destination. */
struct rji_msg_prepared {
	uint64_t load_ns;
};

struct rji_msg_running {
	uint64_t acquire_ns, revoke_ns, resume_ns;
};

/* One put and one get each; get returns 0 or RJ_E_PROTOCOL and must survive any bytes. */
void rji_put_failed(struct rji_cursor *c, const struct rji_msg_failed *m);
int rji_get_failed(struct rji_cursor *c, struct rji_msg_failed *m);
void rji_put_hello(struct rji_cursor *c, const struct rji_msg_hello *m);
int rji_get_hello(struct rji_cursor *c, struct rji_msg_hello *m);
void rji_put_hello_ok(struct rji_cursor *c, const struct rji_msg_hello_ok *m);
int rji_get_hello_ok(struct rji_cursor *c, struct rji_msg_hello_ok *m);
/* REGIONS: a u32 count and so many of these. */
void rji_put_region(struct rji_cursor *c, const struct rji_msg_region *m);
int rji_get_region(struct rji_cursor *c, struct rji_msg_region *m);
void rji_put_region_ok(struct rji_cursor *c, const struct rji_msg_region_ok *m);
int rji_get_region_ok(struct rji_cursor *c, struct rji_msg_region_ok *m);
void rji_put_lanes(struct rji_cursor *c, const struct rji_msg_lanes *m);
int rji_get_lanes(struct rji_cursor *c, struct rji_msg_lanes *m);
void rji_put_lanes_gone(struct rji_cursor *c, const struct rji_msg_lanes_gone *m);
int rji_get_lanes_gone(struct rji_cursor *c, struct rji_msg_lanes_gone *m);
void rji_put_range(struct rji_cursor *c, const struct rji_msg_range *m);
int rji_get_range(struct rji_cursor *c, struct rji_msg_range *m);
void rji_put_finish(struct rji_cursor *c, const struct rji_msg_finish *m);
int rji_get_finish(struct rji_cursor *c, struct rji_msg_finish *m);
void rji_put_prepared(struct rji_cursor *c, const struct rji_msg_prepared *m);
int rji_get_prepared(struct rji_cursor *c, struct rji_msg_prepared *m);
void rji_put_running(struct rji_cursor *c, const struct rji_msg_running *m);
int rji_get_running(struct rji_cursor *c, struct rji_msg_running *m);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_LANE_HELLO_H
#define RJI_RDMA_LANE_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include "transport/transport.h"

/*
 * What a connection says of itself in rdma_cm's private data: the request, the answer and the refusal. All carry a length of
 * their own, because the receiver sees the field padded with zeros to the most the fabric carries. A request may have 56 bytes
 * on InfiniBand and RoCE: 92 of the CM REQ (IBTA vol. 1, 12.6.5) less the 36 of the IP addressing annex.
 *
 *   request   0 magic u32   4 version u8   5 length u8   6 lane u16   8 session id 16   24 token 32    = 56
 *   accept    0 magic u32   4 version u8   5 length u8   6 lane u16   8 device u32   12 max_msg u32    = 16
 *   reject    0 magic u32   4 version u8   5 length u8   6 reason u16                                   = 8
 */

#define RJI_RDMA_VERSION 1
#define RJI_RDMA_HELLO_BYTES 56
#define RJI_RDMA_WELCOME_BYTES 16
#define RJI_RDMA_REFUSAL_BYTES 8

struct rji_rdma_hello {
	uint16_t lane;
	uint8_t session_id[RJI_SESSION_ID_BYTES];
	uint8_t token[RJI_TOKEN_BYTES];
};

struct rji_rdma_welcome {
	uint16_t lane;
	uint32_t device;	/* which of the exported key tables holds on this connection */
	uint32_t max_msg_bytes; /* the destination's port takes no longer message */
};

/* Why a lane was refused; on the wire, so only ever appended to. */
#define RJI_RDMA_REFUSALS(X)                                                                       \
	X(GARBAGE, "what we said is not a lane's request")                                         \
	X(VERSION, "it speaks another version of the lane protocol")                               \
	X(SESSION, "the session is not the one it waits for")                                      \
	X(TOKEN, "the token is wrong")                                                             \
	X(LANE, "there is no lane of this number")                                                 \
	X(TAKEN, "this lane is already connected")                                                 \
	X(DEVICE, "the memory is not registered with the device this came in by")                  \
	X(FAILED, "it could not set up its end")

enum rji_rdma_refusal {
	RJI_RDMA_REFUSED_NONE,
#define RJI_RDMA_REFUSAL_ENUM(name, text) RJI_RDMA_REFUSED_##name,
	RJI_RDMA_REFUSALS(RJI_RDMA_REFUSAL_ENUM)
#undef RJI_RDMA_REFUSAL_ENUM
};

/* Into exactly RJI_RDMA_HELLO_BYTES. */
void rji_rdma_put_hello(const struct rji_rdma_hello *h, void *buf);
/* From any bytes: RJI_RDMA_REFUSED_NONE, _GARBAGE or _VERSION. */
enum rji_rdma_refusal rji_rdma_get_hello(const void *buf, size_t len_bytes,
					 struct rji_rdma_hello *h_p);

void rji_rdma_put_welcome(const struct rji_rdma_welcome *w, void *buf);
/* 0, or RJ_E_PROTOCOL, RJ_E_VERSION. */
int rji_rdma_get_welcome(const void *buf, size_t len_bytes, struct rji_rdma_welcome *w_p);

void rji_rdma_put_refusal(enum rji_rdma_refusal reason, void *buf);
/* The reason, RJI_RDMA_REFUSED_NONE if the bytes tell none. */
enum rji_rdma_refusal rji_rdma_get_refusal(const void *buf, size_t len_bytes);
const char *rji_rdma_refusal_text(enum rji_rdma_refusal reason);

#endif

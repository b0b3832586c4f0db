/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_GREETING_H
#define RJI_TRANSPORT_GREETING_H

#include "base/cursor.h"
#include "transport/transport.h"

/*
 * The first bytes on every socket: who is calling. One port serves control, lanes and the question
 * for the outcome, so each says what it is. Fixed length, so that a caller who is not one of us is
 * known by its first bytes.
 *
 *   0   8  "RAMJET\r\n" (a text protocol, or a line-ending conversion, does not get past this)
 *   8   2  protocol major        10  2  kind
 *   12  4  lane number
 *   16  16 session id
 *   32  32 token: lanes: from control; ask: the session's secret; control: zero
 */
enum rji_greeting_kind { RJI_GREET_CONTROL = 1, RJI_GREET_LANE = 2, RJI_GREET_ASK = 3 };

#define RJI_PROTOCOL_MAJOR 1
#define RJI_GREETING_BYTES 64

struct rji_greeting {
	uint16_t major;
	uint16_t kind;
	uint32_t lane;
	uint8_t session_id[RJI_SESSION_ID_BYTES];
	uint8_t token[RJI_TOKEN_BYTES];
};

void rji_greeting_encode(const struct rji_greeting *g, uint8_t bytes[RJI_GREETING_BYTES]);
/* -EINVAL: not a greeting of any version. */
int rji_greeting_decode(const uint8_t bytes[RJI_GREETING_BYTES], struct rji_greeting *g_p);

#define RJI_ACCEPTOR_PENDING 16

/*
 * Takes connections from a listening socket and waits for their greetings, several at a time, so
 * that one which stays silent keeps nobody else out: it has 5 s, half a second while all places are
 * taken. Not thread-safe.
 */
struct rji_acceptor {
	int listen_fd;		     /* the owner's */
	const struct rji_host *host; /* where strangers are logged */
	const struct rji_stop *stop;
	bool starved; /* no descriptor was free for the last that came */
	uint32_t n_pending;
	struct rji_pending {
		int fd;
		uint64_t deadline_ns; /* for its greeting */
		size_t got_bytes;
		uint8_t bytes[RJI_GREETING_BYTES];
	} pending[RJI_ACCEPTOR_PENDING];
};

void rji_acceptor_init(struct rji_acceptor *a, int listen_fd, const struct rji_host *host,
		       const struct rji_stop *stop);
/* Close what has not greeted yet. */
void rji_acceptor_fini(struct rji_acceptor *a);

/*
 * The next connection that greeted properly (any kind, any major). 1 with its descriptor, the
 * caller's from now on; 0 at the deadline; -ECANCELED; -errno.
 */
int rji_acceptor_next(struct rji_acceptor *a, uint64_t deadline_ns, struct rji_greeting *g_p,
		      int *fd_p);

#endif

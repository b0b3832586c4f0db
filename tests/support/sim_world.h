/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_WORLD_H
#define RJ_TESTS_SIM_WORLD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "tests/support/sim_guest.h"
#include "tests/support/sim_random.h"
#include "transport/memory.h"
#include "transport/transport.h"

/*
 * The network between two ends of the sim transport, and the memory behind both: what a NIC may do,
 * it does.
 *
 *   post ─► posted ──(wire reads the source's memory)──► read ──(placed there)──► gone
 *
 * A wire thread does one of all the things that are possible, by chance: read a piece, place a
 * piece, answer a fence whose pieces are all placed. So a page is read any time after it was
 * posted, pieces overtake each other on a lane and among lanes, and only a fence orders them.
 * Between two such things the guest may write.
 *
 * It keeps watch: a page with two changes in flight, an older copy placed over a newer one, a read
 * of memory that is not registered, a write beyond the regions or after the withdrawal is a
 * violation; the first is kept in words.
 *
 * Registration pins: what the guest takes away while it is pinned is still read as it was
 * (sim_world_punch).
 */
#define SIM_PIECE_UNITS 4
#define SIM_MAX_PIECES 2048

struct sim_piece {
	uint32_t region;
	uint64_t first_unit;
	uint32_t n_units;
	uint64_t *data;		/* read, not yet placed */
	const uint64_t *from;	/* not read yet, from a copy; NULL: from guest memory */
	struct rji_coded coded; /* coding 0: it is none; its bytes are data */
};

/* On the wire when the source closed its end: may come down as long as the destination has its own. */
struct sim_orphan {
	struct sim_piece piece;
	uint32_t link;
};

struct sim_link {
	bool connected, accepted, serving;
	bool cut;  /* by the network */
	bool over; /* closed by the source in order */
	bool dead; /* closed by either end with something in flight */
	bool sunk; /* cut by the destination: nothing comes down any more */
	uint64_t fences_asked, fences_answered;
	uint32_t n_posted, n_read;
	struct sim_piece *posted, *read;
	uint32_t frozen; /* turns it sits out */
	_Atomic uint64_t sent_bytes;
};

struct sim_end_memory {
	struct rji_memory_table table;
	uint64_t key[SIM_MAX_REGIONS];
	uint8_t *pinned[SIM_MAX_REGIONS]; /* per unit */
	void **orphan[SIM_MAX_REGIONS];	  /* what the NIC still reads instead */
	uint16_t *in_flight[SIM_MAX_REGIONS];
};

struct sim_world {
	pthread_mutex_t lock;
	pthread_cond_t work, changed; /* for the wire; for who waits on it */
	struct sim_random random;
	struct sim_guest *guest; /* makes steps; may be NULL */
	uint32_t guest_percent;	 /* how often */
	uint32_t queue_pieces;	 /* room on a lane */
	struct rji_admission admitted;
	uint32_t n_links;
	struct sim_link link[RJ_MAX_LANES];
	struct sim_end_memory source, destination;
	uint64_t imported_key[SIM_MAX_REGIONS];
	struct sim_orphan *orphans;
	uint32_t n_orphans, max_orphans;
	uint64_t n_late; /* orphans that were placed */
	bool withdrawn;
	uint32_t n_draining;
	bool stalled; /* the network carries nothing */
	bool lazy; /* it touches nothing of a lane before a fence, a drain or want of room asks */
	uint64_t n_placed;
	const struct rji_apply_ops *apply; /* the destination's */
	void *applying;
	uint64_t cut_after; /* placed pieces; then cut_link is cut. 0: never */
	uint32_t cut_link;
	char violation[256];
	bool quit;
	pthread_t wire;
};

/* What rji_session_use_transport() is given. */
struct sim_end {
	struct sim_world *world;
};

extern const struct rji_transport_ops sim_transport;

/* guest may be NULL; its steps are made between the wire's. */
struct sim_world *sim_world_create(uint64_t seed, struct sim_guest *guest);
void sim_world_destroy(struct sim_world **w_p);

/* Cut a lane, or all. */
void sim_world_cut(struct sim_world *w, uint32_t link);
void sim_world_cut_all(struct sim_world *w);
/* While stalled nothing moves. */
void sim_world_stall(struct sim_world *w, bool stalled);
/* Has the destination withdrawn the peer's access? */
bool sim_world_is_withdrawn(struct sim_world *w);
/* Is anything on its way that the destination would still take? */
bool sim_world_in_flight(struct sim_world *w);
/* Wait until n pieces were placed, or the lanes are closed. */
void sim_world_await_placed(struct sim_world *w, uint64_t n);
/* Wait until a lane has no room left; make room, up to SIM_MAX_PIECES. */
void sim_world_await_full(struct sim_world *w, uint32_t link);
void sim_world_make_room(struct sim_world *w, uint32_t n_pieces);
/* Wait until nothing posted is unread any more. */
void sim_world_await_read(struct sim_world *w);
/* Is a lane waiting for its pages to be read? */
bool sim_world_is_draining(struct sim_world *w);
/*
 * The guest's memory [offset, +len) is punched: what is pinned stays readable by the NIC only. Call
 * before it.
 */
void sim_world_punch(struct sim_world *w, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes);
/* The first violation into text; false: there was none. */
bool sim_world_violation(struct sim_world *w, char *text, size_t text_bytes);

/* --- for sim_transport.c --- */

/* Note a violation; with the lock held. */
void sim_world_blame(struct sim_world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Forget all that is on a lane; with the lock held. */
void sim_link_clear(struct sim_world *w, struct sim_link *l);
/* The source's end is gone, the destination's is not: what was read goes on. With the lock held. */
void sim_link_orphan(struct sim_world *w, uint32_t link);
/* The destination's end is gone as well. With the lock held. */
void sim_link_bury(struct sim_world *w, uint32_t link);
/*
 * Sleep until something changed; with the lock held. Looks at least each 10 ms, for stop flags and
 * deadlines.
 */
void sim_world_wait(struct sim_world *w);
void sim_end_memory_free(struct sim_end_memory *m);

#endif

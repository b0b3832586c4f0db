/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/migrate/registering.h"

#include <stdio.h>

#include <ramjet/ramjet.h>

#include "bench/common/units.h"

#define SECOND_NS 1000000000ull
#define PAUSE_NS (3 * SECOND_NS) /* a large piece of fresh memory may take that long */
#define PACE_MAX_NS (8 * SECOND_NS)

/* Is this side's memory becoming more, and has it been for a second? */
static bool goes_on(struct registering_side *side, uint64_t bytes, uint64_t now_ns)
{
	bool more = bytes > side->bytes;

	side->comes_and_goes |= bytes < side->bytes;
	side->bytes = bytes;
	if (!more)
		return false;
	if (!side->more_ns || now_ns - side->more_ns > PAUSE_NS) {
		side->since_ns = now_ns;
		side->next_ns = 0;
		side->pace_ns = SECOND_NS;
	}
	side->more_ns = now_ns;
	return now_ns - side->since_ns >= SECOND_NS;
}

static bool is_due(struct registering_side *side, uint64_t now_ns)
{
	if (now_ns < side->next_ns)
		return false;
	side->next_ns = now_ns + side->pace_ns;
	if (side->pace_ns < PACE_MAX_NS)
		side->pace_ns *= 2;
	return true;
}

static bool is_news(struct registering_side *side, uint64_t bytes, uint64_t total, bool waited_for,
		    uint64_t now_ns)
{
	return goes_on(side, bytes, now_ns) && !side->comes_and_goes && bytes < total &&
	       waited_for && is_due(side, now_ns);
}

bool registering_line(struct registering *r, const struct rj_stats *st, bool is_source,
		      uint64_t now_ns, char *line, size_t line_bytes)
{
	/* Only a source knows what its lanes wait for. */
	bool waited_for = !is_source || st->state == RJ_STATE_SETUP ||
			  st->register_wait_ns > r->wait_ns;
	bool here, there;

	r->wait_ns = st->register_wait_ns;
	if (st->state > RJ_STATE_DIRTY)
		return false;
	here = is_news(&r->here, st->registered_bytes, st->guest_bytes, waited_for, now_ns);
	there = is_news(&r->there, st->peer_registered_bytes, st->guest_bytes, waited_for, now_ns);
	if (!here && !there)
		return false;
	/* Of both, what lies behind. */
	here &= !there || st->registered_bytes <= st->peer_registered_bytes;
	snprintf(line, line_bytes, "registering  %s of %s%s",
		 UNITS_BYTES(here ? st->registered_bytes : st->peer_registered_bytes),
		 UNITS_BYTES(st->guest_bytes), here ? "" : " at the destination");
	return true;
}

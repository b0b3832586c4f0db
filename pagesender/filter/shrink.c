/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/filter/shrink.h"

#include "pagesender/filter/figures.h"

#define PAGE_BYTES 4096u

/* No compressor gets through a page in less. */
#define HOPELESS_NS 1000u

/* Spans between looks. */
#define FIRST_LOOK 2u
#define RARELY 1024u
#define LOOK_WHILE_ON 512u

/* A look while on: the first of them only fill the socket's buffer, which then is empty. */
#define LOOK_SPANS 8u
#define LOOK_COUNTS 4u

void rji_shrink_init(struct rji_shrink *s)
{
	*s = (struct rji_shrink){ .wait = FIRST_LOOK, .backoff = FIRST_LOOK };
}

/* A link that is full either way is no reason to compress. */
static bool still_pays(const struct rji_shrink *s)
{
	return s->packed_ns < s->plain_ns - s->plain_ns / 16;
}

static enum rji_shrink_how next_while_on(struct rji_shrink *s)
{
	if (s->looking) {
		if (--s->looking == LOOK_COUNTS) {
			s->plain_before_ns = s->plain_ns;
			s->plain_ns = 0; /* anew */
		}
		if (s->looking)
			return RJI_SHRINK_NO;
		s->wait = LOOK_WHILE_ON;
		if (!s->plain_ns) /* nothing had to be sent */
			s->plain_ns = s->plain_before_ns;
		s->on = still_pays(s);
		if (s->on) /* that was true for long enough */
			s->backoff = FIRST_LOOK;
		return s->on ? RJI_SHRINK_ALL : RJI_SHRINK_NO;
	}
	if (--s->wait)
		return RJI_SHRINK_ALL;
	s->looking = LOOK_SPANS;
	return RJI_SHRINK_NO;
}

enum rji_shrink_how rji_shrink_next(struct rji_shrink *s)
{
	if (s->on)
		return next_while_on(s);
	if (s->plain_ns < HOPELESS_NS || --s->wait)
		return RJI_SHRINK_NO;
	s->wait = s->backoff;
	return RJI_SHRINK_PIECE;
}

void rji_shrink_saw_plain(struct rji_shrink *s, uint64_t pages, uint64_t ns)
{
	/* Soon forgotten: the first only fill the socket's buffer, and a look is at few. */
	if (pages)
		rji_average(&s->plain_ns, ns / pages, 2);
}

static void turn(struct rji_shrink *s, bool on)
{
	s->on = on;
	s->looking = 0;
	if (!on && s->backoff < RARELY) /* also where a piece had promised more */
		s->backoff *= 2;
	s->wait = on ? LOOK_WHILE_ON : s->backoff;
}

void rji_shrink_saw_packed(struct rji_shrink *s, uint64_t pages, uint64_t ns)
{
	if (!pages)
		return;
	rji_average(&s->packed_ns, ns / pages, 8);
	if (s->on && !still_pays(s))
		turn(s, false);
}

void rji_shrink_saw_piece(struct rji_shrink *s, uint64_t pages, uint64_t len_bytes, uint64_t ns)
{
	uint64_t pack = ns / pages, send = s->plain_ns * len_bytes / (pages * PAGE_BYTES);
	uint64_t guess = pack > send ? pack : send; /* the link has what went before to carry */

	if (s->on)
		return;
	s->packed_ns = guess;
	turn(s, guess < s->plain_ns - s->plain_ns / 8);
}

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

/* Of the time that goes into sending, what looks may take while compression is off: 1/LOOK_SHARE. */
#define LOOK_SHARE 100u

/* A look while on: the first of them only fill the socket's buffer, which then is empty. */
#define LOOK_SPANS 8u
#define LOOK_COUNTS 4u

/* After it was turned on: its worth shows when what went before has left the link's buffers. */
#define FAIR_TRIAL 16u

void rji_shrink_init(struct rji_shrink *s)
{
	*s = (struct rji_shrink){ .wait = FIRST_LOOK, .backoff = FIRST_LOOK };
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
		s->on = s->packed_ns < s->plain_ns;
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
	if (s->wait)
		s->wait--;
	if (s->wait || s->plain_ns < HOPELESS_NS || s->since_look_ns < s->look_ns * LOOK_SHARE)
		return RJI_SHRINK_NO;
	s->wait = s->backoff;
	s->since_look_ns = 0;
	return RJI_SHRINK_PIECE;
}

void rji_shrink_saw_plain(struct rji_shrink *s, uint64_t pages, uint64_t ns)
{
	s->since_look_ns += ns;
	if (pages) /* soon right behind a buffer that took the first pages for nothing */
		rji_average_of(&s->plain_ns, ns / pages, 4);
}

static void turn_on(struct rji_shrink *s)
{
	s->on = true;
	s->wait = LOOK_WHILE_ON;
	s->trial = FAIR_TRIAL;
}

/* A piece had promised more: the next one is believed later. */
static void turn_off(struct rji_shrink *s)
{
	s->on = false;
	s->looking = 0;
	if (s->backoff < RARELY)
		s->backoff *= 2;
	s->wait = s->backoff;
}

void rji_shrink_saw_packed(struct rji_shrink *s, uint64_t pages, uint64_t ns)
{
	if (!pages)
		return;
	rji_average(&s->packed_ns, ns / pages);
	if (s->trial)
		s->trial--;
	else if (s->on && s->packed_ns > s->plain_ns)
		turn_off(s);
}

void rji_shrink_saw_piece(struct rji_shrink *s, uint64_t pages, uint64_t len_bytes, uint64_t ns)
{
	uint64_t pack_ns = ns / pages, link_ns = s->plain_ns * len_bytes / (pages * PAGE_BYTES);
	uint64_t guess = pack_ns > link_ns ? pack_ns : link_ns;

	if (s->on)
		return;
	s->packed_ns = guess;
	s->look_ns = ns;
	if (guess < s->plain_ns - s->plain_ns / 8)
		turn_on(s);
}

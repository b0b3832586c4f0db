/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "pagesender/filter/shrink.h"

#define SPAN_PAGES 512u

/* A link and a compressor, in ns a page; sizes in 1/1000 of a page. */
struct world {
	uint64_t link_ns, pack_ns;
	uint64_t becomes;	/* of all pages */
	uint64_t piece_becomes; /* of those looked at; 0: the same */
	bool unbuffered;	/* nothing is carried while the next is compressed */
};

struct outcome {
	uint32_t flips, spans_on;
};

static uint64_t packed_ns(const struct world *w)
{
	uint64_t send = w->link_ns * w->becomes / 1000;

	if (w->unbuffered)
		return w->pack_ns + send;
	return w->pack_ns > send ? w->pack_ns : send;
}

/* Send n spans. */
static struct outcome run(struct rji_shrink *s, const struct world *w, uint32_t n)
{
	struct outcome o = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		bool was_on = s->on;
		enum rji_shrink_how how = rji_shrink_next(s);
		uint64_t piece = w->piece_becomes ? w->piece_becomes : w->becomes;

		if (how == RJI_SHRINK_PIECE)
			rji_shrink_saw_piece(s, 16, 16 * 4096 * piece / 1000, 16 * w->pack_ns);
		if (how == RJI_SHRINK_ALL)
			rji_shrink_saw_packed(s, SPAN_PAGES, SPAN_PAGES * packed_ns(w));
		else
			rji_shrink_saw_plain(s, SPAN_PAGES, SPAN_PAGES * w->link_ns);
		o.flips += s->on != was_on;
		o.spans_on += how == RJI_SHRINK_ALL;
	}
	return o;
}

static const struct {
	const char *what;
	struct world w;
	bool on;
} constant[] = {
	{ "1 Gb/s, text", { 32768, 12000, 300, 0, false }, true },
	{ "100 Mb/s, hardly compressible", { 327680, 15000, 750, 0, false }, true },
	{ "2.5 Gb/s, zeros and a few bytes", { 13107, 3000, 20, 0, false }, true },
	{ "1 Gb/s, random", { 32768, 6000, 1000, 0, false }, false },
	{ "1 Gb/s, slow compressor", { 32768, 40000, 300, 0, false }, false },
	{ "10 Gb/s, text", { 3277, 12000, 300, 0, false }, false },
	{ "100 Gb/s, anything", { 328, 100, 10, 0, false }, false },
	{ "nothing is gained", { 22000, 20000, 500, 0, false }, false },
};

Test(shrink, on_where_pages_leave_sooner_and_else_off_without_flapping)
{
	for (size_t i = 0; i < sizeof(constant) / sizeof(*constant); i++) {
		struct rji_shrink s;
		struct outcome first, then;

		rji_shrink_init(&s);
		first = run(&s, &constant[i].w, 2000);
		cr_assert_eq(first.flips, constant[i].on, "%s: %u", constant[i].what, first.flips);
		then = run(&s, &constant[i].w, 20000);
		cr_assert_eq(then.flips, 0, "%s", constant[i].what);
		cr_assert_eq(s.on, constant[i].on, "%s", constant[i].what);
		if (constant[i].on) /* but for a look at times */
			cr_assert_geq(then.spans_on, 19600, "%s: %u", constant[i].what,
				      then.spans_on);
		else
			cr_assert_eq(then.spans_on, 0, "%s", constant[i].what);
	}
}

/* The pieces promise more than the rest keeps: each try is dearer than the one before. */
Test(shrink, promise_that_is_not_kept_is_believed_ever_less)
{
	const struct world w = { 32768, 12000, 900, 300, true };
	struct rji_shrink s;
	struct outcome o;

	rji_shrink_init(&s);
	o = run(&s, &w, 20000);
	cr_assert_lt(o.spans_on, 20000 / 20, "%u", o.spans_on);
	cr_assert_not(s.on && o.spans_on > 10000);
}

/* On a slow link, the first pages only fill buffers. */
Test(shrink, is_on_soon_after_the_buffers_are_full)
{
	const struct world filling = { 1500, 12000, 400, 0, false },
			   full = { 65536, 24000, 400, 0, false };
	struct rji_shrink s;
	struct outcome o;

	rji_shrink_init(&s);
	o = run(&s, &filling, 2);
	cr_assert_eq(o.spans_on, 0);
	o = run(&s, &full, 20);
	cr_assert(s.on);
	cr_assert_geq(o.spans_on, 14, "%u", o.spans_on);
}

Test(shrink, a_look_that_sends_nothing_changes_nothing)
{
	struct world w = { 32768, 12000, 300, 0, false };
	struct rji_shrink s;

	rji_shrink_init(&s);
	run(&s, &w, 100);
	cr_assert(s.on);
	while (rji_shrink_next(&s) == RJI_SHRINK_ALL)
		;
	for (int i = 0; i < 20; i++)
		rji_shrink_next(&s); /* nothing was left to be sent */
	cr_assert(s.on);
}

Test(shrink, link_that_becomes_faster_is_noticed)
{
	struct world w = { 32768, 12000, 300, 0, false };
	struct rji_shrink s;

	rji_shrink_init(&s);
	run(&s, &w, 1000);
	cr_assert(s.on);
	w.link_ns = 800;
	run(&s, &w, 600);
	cr_assert_not(s.on);
	w.link_ns = 32768;
	run(&s, &w, 1100);
	cr_assert(s.on, "and that it is slow again");
}

Test(shrink, content_that_stops_to_compress_is_noticed)
{
	struct world w = { 32768, 12000, 300, 0, false };
	struct rji_shrink s;

	rji_shrink_init(&s);
	run(&s, &w, 1000);
	cr_assert(s.on);
	w.becomes = 1000;
	run(&s, &w, 50);
	cr_assert_not(s.on);
}

Test(shrink, nothing_is_tried_before_it_is_known_what_sending_costs)
{
	struct rji_shrink s;

	rji_shrink_init(&s);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(rji_shrink_next(&s), RJI_SHRINK_NO);
	rji_shrink_saw_plain(&s, 0, 1000);
	rji_shrink_saw_packed(&s, 0, 1000);
	cr_assert_eq(s.plain_ns, 0, "of no page nothing is learnt");
	cr_assert_eq(s.packed_ns, 0);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Destination: what loading the device state changed in guest RAM. When the guest goes on at the
 * source after that, these ranges differ from the source's though they were fenced: it sends them
 * again.
 */
#include <stdlib.h>

#include "migration/session_impl.h"

#define RANGE_BYTES 20

/* With the lock. A list that is nearly full has room for one more of each region, which grows. */
static void add(struct rji_loaded *l, const struct rji_msg_range *r)
{
	bool full = l->n >= RJI_MAX_LOADED - RJ_MAX_REGIONS;

	for (uint32_t i = full ? l->n : 0; i-- > 0;) {
		struct rji_msg_range *at = &l->range[i];
		uint64_t end = at->offset_bytes + at->len_bytes;
		uint64_t r_end = r->offset_bytes + r->len_bytes;

		if (at->region != r->region)
			continue;
		if (r->offset_bytes < at->offset_bytes)
			at->offset_bytes = r->offset_bytes;
		at->len_bytes = (end > r_end ? end : r_end) - at->offset_bytes;
		return;
	}
	l->range[l->n++] = *r;
}

/* By the number that rj_add_region() told. */
static bool find(const struct rj_session *s, struct rji_msg_range *r)
{
	for (uint32_t i = 0; i < s->n_given; i++) {
		const struct rji_given_region *g = &s->given[i];

		if (g->told != r->region)
			continue;
		r->region = i;
		return r->offset_bytes <= g->r.len_bytes &&
		       r->len_bytes <= g->r.len_bytes - r->offset_bytes;
	}
	return false;
}

int rji_loaded_mark(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes)
{
	struct rji_msg_range r = { region, offset, len_bytes };
	int ret = RJ_E_STATE;

	pthread_mutex_lock(&s->reply_lock);
	if (s->loaded && s->loaded->open) {
		ret = find(s, &r) ? 0 : -EINVAL;
		if (!ret && len_bytes)
			add(s->loaded, &r);
	}
	pthread_mutex_unlock(&s->reply_lock);
	return ret;
}

int rji_loaded_open(struct rj_session *s, bool open)
{
	int ret = 0;

	pthread_mutex_lock(&s->reply_lock);
	if (open && !s->loaded)
		s->loaded = malloc(sizeof(*s->loaded));
	if (s->loaded) {
		if (open)
			s->loaded->n = 0;
		s->loaded->open = open;
	} else if (open) {
		ret = -ENOMEM;
	}
	pthread_mutex_unlock(&s->reply_lock);
	return ret;
}

int rji_loaded_tell(struct rj_session *s, struct rj_error *err)
{
	const struct rji_loaded *l = s->loaded; /* closed: nobody writes it */
	size_t max = 4 + (size_t)l->n * RANGE_BYTES;
	uint8_t *buf = malloc(max);
	struct rji_cursor c;
	int ret;

	if (!buf)
		return rji_fail(err, -ENOMEM, "no memory to tell what loading changed");
	rji_cursor_init(&c, buf, max);
	rji_put_u32(&c, l->n);
	for (uint32_t i = 0; i < l->n; i++)
		rji_put_range(&c, &l->range[i]);
	ret = rji_session_send(s, RJI_MSG_ROLLBACK_OK, buf, c.pos, err);
	free(buf);
	return ret;
}

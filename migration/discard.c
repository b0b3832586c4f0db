/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rj_discard_begin() and rj_discard_end(): the VMM takes pages away while the guest runs. A
 * registration pins pages: after MADV_DONTNEED or a hole punch the NIC would go on reading the old
 * ones, without any error. So the range is deregistered before and registered again after.
 *
 * How far deregistering reaches is only known when it is done (whole registrations). Until then
 * lanes stay out of the whole region; then the hold is narrowed to what was deregistered.
 */
#include "migration/session_impl.h"

/* The pages that [offset, offset + len) touches. */
static void cover(struct rji_held *held, const struct rji_pageset_region *r, uint64_t offset,
		  uint64_t len)
{
	held->first_page = offset >> r->page_shift;
	held->n_pages = ((offset + len - 1) >> r->page_shift) - held->first_page + 1;
}

static struct rji_pageset_region *find_region(struct rj_session *s, uint32_t region,
					      uint64_t offset, uint64_t len_bytes)
{
	struct rji_pageset_region *r = region < s->set.n_regions ? &s->set.region[region] : NULL;

	if (!r || !len_bytes || offset > r->len_bytes || len_bytes > r->len_bytes - offset)
		return NULL;
	return r;
}

int rj_discard_begin(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes)
{
	struct rji_pageset_region *r;
	struct rji_held held = { .region = region, .asked_offset = offset, .asked_len = len_bytes };
	struct rj_error err;
	int ret;

	if (!s)
		return -EINVAL;
	if (s->is_destination)
		return -EBUSY;
	r = find_region(s, region, offset, len_bytes);
	if (!r)
		return -EINVAL;
	if (s->ops->unpin)
		held.n_pages = r->n_pages;
	else
		cover(&held, r, offset, len_bytes);
	ret = rji_holds_add(&s->holds, &held);
	if (ret < 0 || !s->ops->unpin)
		return ret;
	rji_error_init(&err);
	pthread_mutex_lock(&s->tp_lock);
	if (s->registered) {
		ret = s->ops->unpin(s->tp, region, &offset, &len_bytes, &err);
		cover(&held, r, offset, len_bytes);
	} /* else nothing is registered yet, and lanes stay out of all of it until the end */
	pthread_mutex_unlock(&s->tp_lock);
	if (ret < 0)
		rji_holds_remove(&s->holds, &held);
	else
		rji_holds_narrow(&s->holds, &held);
	return ret;
}

/*
 * Register the held range anew; what was registered meanwhile may have pinned pages that are gone
 * by now.
 */
static int repin(struct rj_session *s, const struct rji_pageset_region *r,
		 const struct rji_held *held)
{
	uint64_t offset = held->first_page << r->page_shift, len = held->n_pages << r->page_shift;
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = s->ops->unpin(s->tp, held->region, &offset, &len, &err);
	return ret < 0 ? ret : s->ops->repin(s->tp, held->region, offset, len, &err);
}

int rj_discard_end(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes)
{
	struct rji_pageset_region *r;
	struct rji_held held;
	int ret;

	if (!s || s->is_destination)
		return -EINVAL;
	r = find_region(s, region, offset, len_bytes);
	ret = r ? rji_holds_find(&s->holds, region, offset, len_bytes, &held) : -EINVAL;
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&s->tp_lock);
	if (s->registered && s->ops->unpin)
		ret = repin(s, r, &held);
	pthread_mutex_unlock(&s->tp_lock);
	/* whatever was there before, it is something else now */
	rj_mark_dirty(s, region, offset, len_bytes);
	if (!ret)
		rji_holds_remove(&s->holds, &held);
	return ret;
}

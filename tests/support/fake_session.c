/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/fake_session.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define PIECE_BYTES 1001u /* rj_state_read() may return less than asked for */

struct fake_session fake;

struct rj_session *fake_session(void)
{
	return (struct rj_session *)&fake;
}

void fake_session_reset(void)
{
	memset(&fake, 0, sizeof(fake));
}

void fake_session_take_marks(uint64_t *bits, uint64_t n_pages)
{
	for (uint64_t i = 0; i < (n_pages + 63) / 64; i++)
		bits[i] |= __atomic_exchange_n(&fake.marks[i], 0, __ATOMIC_ACQ_REL);
}

int rj_add_region(struct rj_session *s, const struct rj_region *r, uint32_t *region_p)
{
	*region_p = fake.n_regions++;
	return 0;
}

int rj_add_tracker(struct rj_session *s, struct rj_tracker *t)
{
	fake.tracker = t;
	return 0;
}

int rj_mark_dirty(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes)
{
	uint64_t page = offset / PAGE_BYTES;

	if (len_bytes != PAGE_BYTES || offset % PAGE_BYTES)
		abort();
	if (!region && page < FAKE_PAGES)
		__atomic_fetch_or(&fake.marks[page / 64], 1ull << page % 64, __ATOMIC_ACQ_REL);
	__atomic_fetch_add(&fake.n_marks, 1, __ATOMIC_RELAXED);
	return 0;
}

int rj_mark_free(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes,
		 uint64_t generation)
{
	if (!len_bytes || (offset | len_bytes) % PAGE_BYTES)
		abort();
	return fake.mark_free ? fake.mark_free(region, offset, len_bytes, generation) : 0;
}

int rj_free_begin(struct rj_session *s, uint64_t *generation_p)
{
	*generation_p = ++fake.generation;
	return 0;
}

int rj_state_write(struct rj_session *s, const void *p, size_t len_bytes)
{
	if (len_bytes > sizeof(fake.state) - fake.len_bytes)
		abort();
	memcpy(fake.state + fake.len_bytes, p, len_bytes);
	fake.len_bytes += len_bytes;
	return 0;
}

ssize_t rj_state_read(struct rj_session *s, void *p, size_t len_bytes)
{
	size_t n = fake.len_bytes - fake.pos;

	n = n > PIECE_BYTES ? PIECE_BYTES : n;
	n = n > len_bytes ? len_bytes : n;
	memcpy(p, fake.state + fake.pos, n);
	fake.pos += n;
	return (ssize_t)n;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_device.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "bench/guest/guest_impl.h"

#define TAG_DEVICE 2u
#define SEED_BUFFER 0x6275666665720000ull
#define SEED_STATUS 0x7374617475730000ull

/* Sparse guests have a device that writes nothing and only says so. */
static void write_page(struct guest *g, uint64_t offset, uint64_t seed, uint64_t n)
{
	pthread_rwlock_rdlock(&g->marking);
	if (g->dev.ram)
		guest_page_fill((uint64_t *)(g->dev.ram + offset), seed ^ g->o.seed, n, n);
	if (!g->o.break_device_tracking)
		guest_mark(g, offset, GUEST_PAGE_BYTES);
	pthread_rwlock_unlock(&g->marking);
}

void guest_device_ring(struct guest *g)
{
	uint64_t buffer = g->dev.writes++ % GUEST_DEVICE_N;

	write_page(g, GUEST_DEVICE_BUFFERS + buffer * GUEST_PAGE_BYTES, SEED_BUFFER, g->dev.writes);
}

void guest_device_save(struct guest *g, struct guest_state *st)
{
	uint64_t v[2];

	write_page(g, GUEST_DEVICE_STATUS, SEED_STATUS, ++g->dev.saves);
	v[0] = htole64(g->dev.writes);
	v[1] = htole64(g->dev.saves);
	guest_state_put(st, TAG_DEVICE, v, sizeof(v));
}

int guest_device_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	uint64_t v[2];
	int ret = guest_state_take(st, TAG_DEVICE, v, sizeof(v), why, why_bytes);

	if (ret)
		return ret;
	g->dev.writes = le64toh(v[0]);
	g->dev.saves = le64toh(v[1]);
	return 0;
}

/* n: the number of what was written newest into the page, 0: nothing yet. */
static int check_page(const struct guest *g, uint64_t offset, uint64_t seed, uint64_t n,
		      const char *what, char *why, size_t why_bytes)
{
	const uint64_t *words = (const uint64_t *)(g->mem.host + offset);

	if (n ? guest_page_is(words, seed ^ g->o.seed, n, n) : !words[0])
		return 0;
	snprintf(why, why_bytes,
		 "page %" PRIu64 ", a %s of the device, is stale or lost: it holds number %" PRIu64
		 ", the newest was %" PRIu64,
		 offset / GUEST_PAGE_BYTES, what, words[0], n);
	return -EIO;
}

/* Buffer i holds the newest number that is i + 1 modulo the number of buffers. */
int guest_device_check(const struct guest *g, char *why, size_t why_bytes)
{
	uint64_t writes = g->dev.writes;
	int ret = check_page(g, GUEST_DEVICE_STATUS, SEED_STATUS, g->dev.saves, "status page", why,
			     why_bytes);

	for (uint64_t i = 0; i < GUEST_DEVICE_N && !ret; i++) {
		uint64_t n = writes > i ? writes - (writes - 1 - i) % GUEST_DEVICE_N : 0;

		ret = check_page(g, GUEST_DEVICE_BUFFERS + i * GUEST_PAGE_BYTES, SEED_BUFFER, n,
				 "buffer", why, why_bytes);
	}
	return ret;
}

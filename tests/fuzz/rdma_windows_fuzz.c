/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/key_table.h"
#include "rdma/rdma_transport.h"
#include "tests/fuzz/fuzz.h"

/*
 * What a peer may say of windows. The first byte: which side hears it; the rest are messages, one by one; after each, what it set off
 * is done. Whatever comes, no more than the room is ever registered, and at a source nothing changes that was not asked for.
 */

#define SHIFT 21
#define N_WINDOWS 8u
#define ROOM (3ull << SHIFT)

static void work(struct rji_rdma_window_pool *pool)
{
	struct rji_rdma_window *w;

	while ((w = rji_rdma_windows_todo(pool, 0))) {
		assert(pool->used_bytes <= ROOM);
		if (w->state == RJI_RDMA_WINDOW_COMING)
			rji_rdma_windows_came(w, 1 + rji_rdma_window_index(w));
		else
			rji_rdma_windows_gone(w);
		rji_rdma_windows_tell(w);
	}
}

static void make_table(struct rji_rdma_region *r, struct rji_rdma_window_table *t,
		       struct rji_rdma_window_pool *pool)
{
	*t = (struct rji_rdma_window_table){
		.owner = r,
		.shift = SHIFT,
		.n = N_WINDOWS,
		.len_bytes = (uint64_t)N_WINDOWS << SHIFT,
		.told = true,
	};
	if (rji_rdma_window_table_init(t, pool))
		abort();
}

/* The source has one window, one on its way and one that goes. */
static void make_source(struct rji_rdma_transport *tp, struct rji_rdma_region *r)
{
	struct rji_rdma_window_pool *pool = &tp->memory.there;
	uint8_t said[256];

	make_table(r, &r->there[0], pool);
	r->n_there = 1;
	for (int i = 0; i < 2; i++) {
		rji_rdma_windows_demand(&r->there[0].window[i]);
		rji_rdma_windows_came(rji_rdma_windows_todo(pool, 0), 7);
	}
	rji_rdma_windows_block(&r->there[0].window[1]);
	rji_rdma_windows_demand(&r->there[0].window[2]);
	assert(rji_rdma_say((struct rji_transport *)(void *)tp, said, sizeof(said), NULL) ==
	       2 * 20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct rji_rdma_transport *tp = calloc(1, sizeof(*tp));
	struct rji_rdma_region *r = calloc(1, sizeof(*r));
	uint8_t told[64];
	int ret = 0;

	if (!tp || !r || !len_bytes)
		goto done;
	tp->is_destination = tp->lazy = data[0] & 1;
	tp->n_devices = 1;
	tp->device[0].attached = true;
	tp->wake_fd = -1;
	rji_rdma_window_pool_init(&tp->memory.here);
	rji_rdma_window_pool_init(&tp->memory.there);
	rji_rdma_window_pool_limit(&tp->memory.here, ROOM, SHIFT, 1);
	rji_rdma_window_pool_limit(&tp->memory.there, ROOM, SHIFT, 1);
	tp->memory.region[0] = r;
	make_table(r, &r->here[0], &tp->memory.here);
	if (!tp->is_destination)
		make_source(tp, r);
	for (size_t at = 1; !ret && at < len_bytes; at += 20) {
		size_t n = len_bytes - at < 20 ? len_bytes - at : 20;

		ret = rji_rdma_hear((struct rji_transport *)(void *)tp, data + at, n, NULL);
		assert(tp->memory.here.used_bytes <= ROOM && tp->memory.there.used_bytes <= ROOM);
		if (tp->is_destination)
			work(&tp->memory.here);
		while (rji_rdma_say((struct rji_transport *)(void *)tp, told, sizeof(told), NULL))
			;
	}
	assert(r->here[0].window[0].state != RJI_RDMA_WINDOW_READY || tp->is_destination);
	rji_rdma_window_table_fini(&r->here[0]);
	rji_rdma_drop_keys(r);
	assert(!tp->memory.here.used_bytes && !tp->memory.there.used_bytes);
	rji_rdma_window_pool_fini(&tp->memory.here);
	rji_rdma_window_pool_fini(&tp->memory.there);
done:
	free(r);
	free(tp);
	return 0;
}

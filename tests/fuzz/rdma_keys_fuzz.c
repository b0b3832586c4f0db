/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <string.h>

#include "rdma/key_table.h"
#include "tests/fuzz/fuzz.h"

/*
 * Keys as a destination may send them. The first byte chooses how large the source's region is. What is accepted must have a
 * window for each address that post() will ask for.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static const uint64_t sizes[] = { 4096, 1 << 20, 3ull << 30, (64ull << 30) + 4096 };
	struct rji_rdma_window_pool pool;
	struct rji_rdma_region r;

	if (!len_bytes)
		return 0;
	memset(&r, 0, sizeof(r));
	r.len_bytes = sizes[data[0] % 4];
	rji_rdma_window_pool_init(&pool);
	if (rji_rdma_get_keys(&r, &pool, 2, data + 1, len_bytes - 1)) {
		assert(r.n_there == 0 && pool.used_bytes == 0);
		rji_rdma_window_pool_fini(&pool);
		return 0;
	}
	assert(r.n_there >= 1 && r.n_there <= RJI_RDMA_MAX_DEVICES);
	for (uint32_t i = 0; i < r.n_there; i++) {
		const struct rji_rdma_window_table *t = &r.there[i];
		volatile uint32_t key = t->window[r.peer_base >> t->shift].key;

		key = t->window[(r.peer_base + r.len_bytes - 1) >> t->shift].key;
		(void)key;
	}
	rji_rdma_drop_keys(&r);
	assert(pool.used_bytes == 0 && pool.n_coming[0] == 0);
	rji_rdma_window_pool_fini(&pool);
	return 0;
}

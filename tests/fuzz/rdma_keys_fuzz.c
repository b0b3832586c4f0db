/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <string.h>

#include "rdma/key_table.h"
#include "tests/fuzz/fuzz.h"

/*
 * Keys as a destination may send them. The first byte chooses how large the source's region is. What is accepted must have a
 * key for each address that post() will ask for.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static const uint64_t sizes[] = { 4096, 1 << 20, 3ull << 30, (64ull << 30) + 4096 };
	struct rji_rdma_region r;

	if (!len_bytes)
		return 0;
	memset(&r, 0, sizeof(r));
	r.len_bytes = sizes[data[0] % 4];
	if (rji_rdma_get_keys(&r, data + 1, len_bytes - 1)) {
		assert(r.n_remote == 0);
		return 0;
	}
	assert(r.n_remote >= 1 && r.n_remote <= RJI_RDMA_MAX_DEVICES);
	for (uint32_t i = 0; i < r.n_remote; i++) {
		const struct rji_rdma_remote *remote = &r.remote[i];
		volatile uint32_t key = remote->rkey[r.peer_base >> remote->shift];

		key = remote->rkey[(r.peer_base + r.len_bytes - 1) >> remote->shift];
		(void)key;
	}
	rji_rdma_drop_keys(&r);
	return 0;
}

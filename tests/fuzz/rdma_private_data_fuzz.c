/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <string.h>

#include "rdma/lane_hello.h"
#include "rdma/lane_message.h"
#include "tests/fuzz/fuzz.h"

/* Whatever comes in rdma_cm's private data, or by a SEND. What is accepted must read back to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint8_t again[64];
	struct rji_rdma_hello hello;
	struct rji_rdma_welcome welcome;
	struct rji_rdma_message message;
	enum rji_rdma_refusal reason;

	if (!rji_rdma_get_hello(data, len_bytes, &hello)) {
		rji_rdma_put_hello(&hello, again);
		assert(!memcmp(data, again, RJI_RDMA_HELLO_BYTES));
	}
	if (!rji_rdma_get_welcome(data, len_bytes, &welcome)) {
		rji_rdma_put_welcome(&welcome, again);
		assert(!memcmp(data, again, RJI_RDMA_WELCOME_BYTES));
	}
	if (rji_rdma_get_message(data, len_bytes, &message)) {
		rji_rdma_put_message(&message, again);
		assert(!memcmp(data, again, RJI_RDMA_MESSAGE_BYTES));
	}
	reason = rji_rdma_get_refusal(data, len_bytes);
	assert(rji_rdma_refusal_text(reason));
	return 0;
}

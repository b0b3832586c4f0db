/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "transport/greeting.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint8_t again[RJI_GREETING_BYTES];
	struct rji_greeting g;

	if (len_bytes < sizeof(again) || rji_greeting_decode(data, &g) < 0)
		return 0;
	rji_greeting_encode(&g, again);
	if (memcmp(again, data, sizeof(again)))
		abort();
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/* Payloads of control messages: the first byte says of which. What is understood can be said again. */
#include <stdlib.h>
#include <string.h>

#include "migration/message.h"
#include "tests/fuzz/fuzz.h"

#define BOTH(name)                                                                                 \
	static void try_##name(struct rji_cursor *c, struct rji_cursor *out)                       \
	{                                                                                          \
		struct rji_msg_##name m, again;                                                    \
		struct rji_cursor back;                                                            \
                                                                                                   \
		if (rji_get_##name(c, &m) < 0)                                                     \
			return;                                                                    \
		rji_put_##name(out, &m);                                                           \
		rji_cursor_init(&back, out->bytes, out->pos);                                      \
		if (out->bad || rji_get_##name(&back, &again) < 0 || !rji_cursor_done(&back))      \
			abort();                                                                   \
	}

BOTH(failed)
BOTH(hello)
BOTH(hello_ok)
BOTH(region)
BOTH(region_ok)
BOTH(lanes)
BOTH(finish)
BOTH(prepared)
BOTH(running)
BOTH(lanes_gone)
BOTH(range)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static void (*const tries[])(struct rji_cursor *, struct rji_cursor *) = {
		try_failed, try_hello,	  try_hello_ok, try_region,	try_region_ok, try_lanes,
		try_finish, try_prepared, try_running,	try_lanes_gone, try_range,
	};
	struct rji_cursor c, out;
	uint8_t *bytes;

	if (!len_bytes || data[0] >= sizeof(tries) / sizeof(*tries))
		return 0;
	bytes = malloc(len_bytes + 64);
	rji_cursor_init_const(&c, data + 1, len_bytes - 1);
	rji_cursor_init(&out, bytes, len_bytes + 64);
	tries[data[0]](&c, &out);
	free(bytes);
	return 0;
}

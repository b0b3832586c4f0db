/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "bench/guest/guest_impl.h"
#include "tests/support/fake_session.h"

/* The set-up blob: what is understood would be described by the same bytes. */
static void understand(const uint8_t *data, size_t len_bytes)
{
	static struct guest g;
	uint8_t blob[128];
	char why[256];
	int len;

	if (guest_understand(data, len_bytes, &g.o, why, sizeof(why)))
		return;
	len = guest_describe(&g, blob, sizeof(blob));
	if (len < 0 || (size_t)len != len_bytes || memcmp(blob, data, len_bytes) != 0)
		abort();
}

/* The device state. */
static void read_state(const uint8_t *data, size_t len_bytes)
{
	struct guest_state st = { 0 };
	uint8_t section[8];
	char why[256];

	if (len_bytes > sizeof(fake.state))
		return;
	fake_session_reset();
	memcpy(fake.state, data, len_bytes);
	fake.len_bytes = len_bytes;
	if (!guest_state_read(&st, GUEST_KVM, fake_session(), why, sizeof(why))) {
		guest_state_take(&st, 1, section, sizeof(section), why, sizeof(why));
		guest_state_taken(&st, why, sizeof(why));
	}
	guest_state_fini(&st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	understand(data, len_bytes);
	read_state(data, len_bytes);
	return 0;
}

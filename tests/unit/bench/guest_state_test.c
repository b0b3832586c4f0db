/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "bench/guest/guest_state.h"
#include "tests/support/fake_session.h"

#define KIND 3

static char why[256];
static struct guest_state st;

static void write_some(void)
{
	struct guest_state out;

	guest_state_init(&out);
	guest_state_put(&out, 7, "seven", 5);
	guest_state_put(&out, 9, "", 0);
	guest_state_put(&out, 8, "12345678", 8);
	fake_session_reset();
	cr_assert_eq(guest_state_write(&out, KIND, fake_session()), 0);
	guest_state_fini(&out);
}

static int read_it(uint16_t kind)
{
	guest_state_fini(&st);
	fake.pos = 0;
	why[0] = '\0';
	return guest_state_read(&st, kind, fake_session(), why, sizeof(why));
}

static int take(uint32_t tag, void *p, uint32_t len)
{
	return guest_state_take(&st, tag, p, len, why, sizeof(why));
}

static void teardown(void)
{
	guest_state_fini(&st);
}

TestSuite(guest_state, .init = write_some, .fini = teardown);

Test(guest_state, round_trip)
{
	char a[5], b[8];

	cr_assert_eq(read_it(KIND), 0, "%s", why);
	cr_assert_eq(take(8, b, 8), 0);
	cr_assert_eq(guest_state_taken(&st, why, sizeof(why)), -EINVAL);
	cr_assert_eq(take(7, a, 5), 0);
	cr_assert_eq(take(9, a, 0), 0);
	cr_assert_eq(guest_state_taken(&st, why, sizeof(why)), 0);
	cr_assert(memcmp(a, "seven", 5) == 0 && memcmp(b, "12345678", 8) == 0);
}

Test(guest_state, sections_must_be_there_and_of_their_length)
{
	char buf[16];

	cr_assert_eq(read_it(KIND), 0);
	cr_assert_eq(take(6, buf, 5), -EINVAL);
	cr_assert_eq(take(7, buf, 4), -EINVAL);
	cr_assert_eq(take(7, buf, 6), -EINVAL);
}

Test(guest_state, doubled_section)
{
	struct guest_state out;
	char buf[4];

	guest_state_init(&out);
	guest_state_put(&out, 7, "aaaa", 4);
	guest_state_put(&out, 7, "bbbb", 4);
	fake_session_reset();
	cr_assert_eq(guest_state_write(&out, KIND, fake_session()), 0);
	guest_state_fini(&out);
	cr_assert_eq(read_it(KIND), 0);
	cr_assert_eq(take(7, buf, 4), -EINVAL);
}

Test(guest_state, another_kind)
{
	cr_assert_eq(read_it(KIND + 1), -EINVAL);
}

Test(guest_state, cut_anywhere)
{
	size_t len = fake.len_bytes;

	for (fake.len_bytes = 0; fake.len_bytes < len; fake.len_bytes++)
		cr_assert_eq(read_it(KIND), -EINVAL);
	fake.len_bytes = len + 1;
	cr_assert_eq(read_it(KIND), -EINVAL);
	fake.len_bytes = sizeof(fake.state);
	cr_assert_eq(read_it(KIND), -EINVAL);
	cr_assert(why[0]);
}

/* Any byte of the header or of a section's length. */
Test(guest_state, damaged_anywhere)
{
	static const uint8_t values[] = { 0x01, 0x80, 0xff };

	for (size_t i = 0; i < 16; i++)
		for (int v = 0; v < 3; v++) {
			fake.state[i] ^= values[v];
			cr_assert_eq(read_it(KIND), -EINVAL, "byte %zu", i);
			fake.state[i] ^= values[v];
		}
	for (size_t i = 20; i < 24; i++)
		for (int v = 0; v < 3; v++) {
			char buf[5];

			fake.state[i] ^= values[v];
			cr_assert(read_it(KIND) || take(7, buf, 5), "byte %zu", i);
			fake.state[i] ^= values[v];
		}
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "migration/message.h"

/*
 * One sample of each message and its bytes, which are the protocol's: a change here is a new
 * protocol version.
 */
static const struct rji_msg_failed failed = { .code = -1010, .text = "no" };
static const uint8_t failed_bytes[] = { 0x0e, 0xfc, 0xff, 0xff, 2, 0, 'n', 'o' };

static const struct rji_msg_hello hello = {
	.minor = 0x0102,
	.transport = "tcp",
	.n_lanes = 8,
	.peer_timeout_ms = 5000,
	.guest_bytes = 0x1122334455667788,
	.session_id = { 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab,
			0xac, 0xad, 0xae, 0xaf },
	.secret = { 0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
		    0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5,
		    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf },
	.features = 0x3,
};
static const uint8_t hello_bytes[] = {
	0x02, 0x01, 3,	  0,	't',  'c',  'p',  8,	0,    0,    0,	  0x88, 0x13, 0,
	0,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4,
	0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1, 0xb2,
	0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf, 0xc0,
	0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce,
	0xcf, 3,    0,	  0,	0,    0,    0,	  0,	0,
};

static const struct rji_msg_hello_ok hello_ok = { .minor = 1,
						  .n_lanes = 64,
						  .outcome_keep_ms = 8000,
						  .features = 0x100 };
static const uint8_t hello_ok_bytes[] = { 1, 0, 64, 0, 0, 0, 0x40, 0x1f, 0,
					  0, 0, 1,  0, 0, 0, 0,	   0,	 0 };

static const struct rji_msg_region region = { .name = "ram0",
					      .len_bytes = 0x100000000,
					      .gpa = UINT64_MAX,
					      .page_bytes = 4096,
					      .flags = 2 };
static const uint8_t region_bytes[] = { 4,    0,    'r', 'a',  'm',  '0',  0,	 0,    0,    0,
					1,    0,    0,	 0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					0xff, 0xff, 0,	 0x10, 0,    0,	   2,	 0,    0,    0 };

static const uint8_t keys[] = { 7, 8, 9 };
static const struct rji_msg_region_ok region_ok = { .region = 5,
						    .flags = 1,
						    .keys = keys,
						    .keys_bytes = sizeof(keys) };
static const uint8_t region_ok_bytes[] = { 5, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 7, 8, 9 };

static const struct rji_msg_lanes lanes = {
	.token = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
		   17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 },
	.addrs = { .n = 2, .addr = { "a:1", "[::1]:2" } },
};
static const uint8_t lanes_bytes[] = {
	1,  2,	3,  4,	5,   6,	  7,   8,  9,  10,  11,	 12,  13,  14,	15,  16,  17,
	18, 19, 20, 21, 22,  23,  24,  25, 26, 27,  28,	 29,  30,  31,	32,  2,	  0,
	0,  0,	3,  0,	'a', ':', '1', 7,  0,  '[', ':', ':', '1', ']', ':', '2',
};

static const struct rji_msg_finish finish = { .run = 1, .state_bytes = 0x10203 };
static const uint8_t finish_bytes[] = { 1, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0, 0 };

static const struct rji_msg_prepared prepared = { .load_ns = 0x0102 };
static const uint8_t prepared_bytes[] = { 2, 1, 0, 0, 0, 0, 0, 0 };

static const struct rji_msg_running running = { .acquire_ns = 1, .revoke_ns = 2, .resume_ns = 3 };
static const uint8_t running_bytes[] = { 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0,
					 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0 };

static const struct rji_msg_lanes_gone lanes_gone = {
	.lanes = 0x8000000000000005,
	.token = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
		   17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 },
};
static const uint8_t lanes_gone_bytes[] = {
	5,  0,	0,  0,	0,  0,	0,  0x80, 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
	13, 14, 15, 16, 17, 18, 19, 20,	  21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
};

static const struct rji_msg_range range = { .region = 2,
					    .offset_bytes = 0x1000,
					    .len_bytes = 0x0102030405 };
static const uint8_t range_bytes[] = {
	2, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 5, 4, 3, 2, 1, 0, 0, 0
};

/* Each message through one type of function; m is big enough for the largest. */
typedef void (*put_fn)(struct rji_cursor *c, const void *m);
typedef int (*get_fn)(struct rji_cursor *c, void *m);

#define EITHER(name)                                                                               \
	static void put_##name(struct rji_cursor *c, const void *m)                                \
	{                                                                                          \
		rji_put_##name(c, m);                                                              \
	}                                                                                          \
	static int get_##name(struct rji_cursor *c, void *m)                                       \
	{                                                                                          \
		return rji_get_##name(c, m);                                                       \
	}

EITHER(failed)
EITHER(hello)
EITHER(hello_ok)
EITHER(region)
EITHER(region_ok)
EITHER(lanes)
EITHER(finish)
EITHER(prepared)
EITHER(running)
EITHER(lanes_gone)
EITHER(range)

#define MESSAGE(name)                                                                              \
	{                                                                                          \
#name, &name, name##_bytes, sizeof(name##_bytes), put_##name, get_##name           \
	}

static const struct message {
	const char *name;
	const void *m;
	const uint8_t *bytes;
	size_t len_bytes;
	put_fn put;
	get_fn get;
} messages[] = {
	MESSAGE(failed),    MESSAGE(hello),	 MESSAGE(hello_ok), MESSAGE(region),
	MESSAGE(region_ok), MESSAGE(lanes),	 MESSAGE(finish),   MESSAGE(prepared),
	MESSAGE(running),   MESSAGE(lanes_gone), MESSAGE(range),
};

#define N_MESSAGES (sizeof(messages) / sizeof(*messages))

/* The largest message, aligned. */
union any {
	struct rji_msg_lanes lanes;
	struct rji_msg_failed failed;
	struct rji_msg_hello hello;
};

Test(message, every_message_has_its_bytes)
{
	for (size_t i = 0; i < N_MESSAGES; i++) {
		const struct message *m = &messages[i];
		uint8_t bytes[1024];
		struct rji_cursor c;

		rji_cursor_init(&c, bytes, sizeof(bytes));
		m->put(&c, m->m);
		cr_assert_not(c.bad);
		cr_assert_eq(c.pos, m->len_bytes, "%s: %zu", m->name, c.pos);
		cr_assert_arr_eq(bytes, m->bytes, m->len_bytes, "%s", m->name);
	}
}

Test(message, every_message_comes_back)
{
	for (size_t i = 0; i < N_MESSAGES; i++) {
		const struct message *m = &messages[i];
		uint8_t again[1024];
		struct rji_cursor c;
		union any got;

		memset(&got, 0x5a, sizeof(got));
		rji_cursor_init_const(&c, m->bytes, m->len_bytes);
		cr_assert_eq(m->get(&c, &got), 0, "%s", m->name);
		cr_assert(rji_cursor_done(&c));
		rji_cursor_init(&c, again, sizeof(again));
		m->put(&c, &got);
		cr_assert_eq(c.pos, m->len_bytes);
		cr_assert_arr_eq(again, m->bytes, m->len_bytes, "%s", m->name);
	}
}

Test(message, fields_come_back_where_they_belong)
{
	struct rji_msg_region_ok ok;
	struct rji_msg_hello h;
	struct rji_cursor c;

	rji_cursor_init_const(&c, hello_bytes, sizeof(hello_bytes));
	rji_get_hello(&c, &h);
	cr_assert_str_eq(h.transport, "tcp");
	cr_assert_eq(h.n_lanes, 8);
	cr_assert_eq(h.peer_timeout_ms, 5000);
	cr_assert_eq(h.guest_bytes, hello.guest_bytes);
	cr_assert_arr_eq(h.secret, hello.secret, sizeof(h.secret));
	rji_cursor_init_const(&c, region_ok_bytes, sizeof(region_ok_bytes));
	rji_get_region_ok(&c, &ok);
	cr_assert_eq(ok.keys, region_ok_bytes + 12, "a view");
	cr_assert_eq(ok.keys_bytes, 3);
}

Test(message, cut_anywhere_it_is_refused)
{
	for (size_t i = 0; i < N_MESSAGES; i++) {
		const struct message *m = &messages[i];

		for (size_t len = 0; len < m->len_bytes; len++) {
			uint8_t *bytes = malloc(len ? len : 1); /* for ASan: exactly so long */
			struct rji_cursor c;
			union any got;

			memcpy(bytes, m->bytes, len);
			rji_cursor_init_const(&c, bytes, len);
			cr_assert_eq(m->get(&c, &got), RJ_E_PROTOCOL, "%s at %zu", m->name, len);
			free(bytes);
		}
	}
}

Test(message, what_a_later_minor_appends_is_ignored)
{
	for (size_t i = 0; i < N_MESSAGES; i++) {
		const struct message *m = &messages[i];
		uint8_t bytes[1024];
		struct rji_cursor c;
		union any got;

		memset(bytes, 0xee, sizeof(bytes));
		memcpy(bytes, m->bytes, m->len_bytes);
		rji_cursor_init_const(&c, bytes, m->len_bytes + 40);
		cr_assert_eq(m->get(&c, &got), 0, "%s", m->name);
		cr_assert_eq(rji_cursor_left(&c), 40);
	}
}

/* A byte of a good message changed into one that makes it bad. */
static const struct {
	const char *message;
	size_t at;
	uint8_t value;
} spoiled[] = {
	{ "hello", 7, 0 },				 /* no lanes */
	{ "hello", 7, 65 },				 /* more than there may be */
	{ "hello", 10, 0x80 },				 /* far more */
	{ "hello", 2, 16 },				 /* a name that does not fit */
	{ "hello", 5, 0 },				 /* a NUL in the name */
	{ "hello_ok", 2, 0 },				 /* no lanes */
	{ "hello_ok", 2, 65 },				 /* more than there may be */
	{ "region", 0, 64 },				 /* a name that does not fit */
	{ "region", 3, 0 },				 /* a NUL in the name */
	{ "region_ok", 8, 4 },				 /* more keys than there are */
	{ "region_ok", 11, 0x80 }, { "lanes", 32, 9 },	 /* more addresses than there may be */
	{ "lanes", 35, 0xff },	   { "lanes", 36, 128 }, /* an address that does not fit */
	{ "finish", 0, 2 },				 /* neither ran nor paused */
	{ "failed", 4, 3 },				 /* more text than there is */
};

Test(message, values_out_of_range_are_refused)
{
	for (size_t i = 0; i < sizeof(spoiled) / sizeof(*spoiled); i++) {
		const struct message *m = messages;
		uint8_t bytes[512] = { 0 };
		struct rji_cursor c;
		union any got;

		while (strcmp(m->name, spoiled[i].message))
			m++;
		memcpy(bytes, m->bytes, m->len_bytes);
		bytes[spoiled[i].at] = spoiled[i].value;
		rji_cursor_init_const(&c, bytes, m->len_bytes);
		cr_assert_eq(m->get(&c, &got), RJ_E_PROTOCOL, "%s at %zu", m->name, spoiled[i].at);
	}
}

Test(message, as_many_addresses_as_fit_and_not_one_more)
{
	uint8_t bytes[RJI_TOKEN_BYTES + 4 + 2 * (RJI_MAX_ADDRS + 1)] = { 0 };
	struct rji_msg_lanes m;
	struct rji_cursor c;

	for (uint8_t n = 0; n <= RJI_MAX_ADDRS + 1; n++) {
		bytes[RJI_TOKEN_BYTES] = n;
		rji_cursor_init_const(&c, bytes, sizeof(bytes));
		cr_assert_eq(rji_get_lanes(&c, &m), n <= RJI_MAX_ADDRS ? 0 : RJ_E_PROTOCOL, "%u",
			     n);
	}
}

Test(message, region_without_a_name_is_refused)
{
	uint8_t bytes[26] = { 0 };
	struct rji_msg_region m;
	struct rji_cursor c;

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	cr_assert_eq(rji_get_region(&c, &m), RJ_E_PROTOCOL);
}

Test(message, text_of_a_failure_is_one_clean_line)
{
	static const uint8_t bytes[] = { 0x0e, 0xfc, 0xff, 0xff, 8,    0,    'a',
					 '\n', 'b',  0x1b, '[',	 0x7f, 0xc3, 0xa4 };
	struct rji_msg_failed m;
	struct rji_cursor c;

	rji_cursor_init_const(&c, bytes, sizeof(bytes));
	cr_assert_eq(rji_get_failed(&c, &m), 0);
	cr_assert_str_eq(m.text, "a?b?[?\xc3\xa4");
}

Test(message, failure_that_claims_success_is_one)
{
	static const uint8_t codes[][4] = { { 0, 0, 0, 0 },
					    { 1, 0, 0, 0 },
					    { 255, 255, 255, 127 } };

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		uint8_t bytes[6] = { 0 };
		struct rji_msg_failed m;
		struct rji_cursor c;

		memcpy(bytes, codes[i], 4);
		rji_cursor_init_const(&c, bytes, sizeof(bytes));
		cr_assert_eq(rji_get_failed(&c, &m), 0);
		cr_assert_eq(m.code, RJ_E_PROTOCOL);
	}
}

Test(message, head_has_these_bytes)
{
	static const uint8_t expected[] = { 0x00, 0x00, 0x20, 0x00, 0x10, 0x00, 0x00, 0x00 };
	uint8_t bytes[RJI_MSG_HEAD_BYTES];
	uint32_t len;
	uint16_t type;

	rji_msg_encode_head(bytes, RJI_MSG_STATE, RJI_MSG_MAX_BYTES);
	cr_assert_arr_eq(bytes, expected, sizeof(expected));
	cr_assert_eq(rji_msg_decode_head(bytes, &type, &len, NULL), 0);
	cr_assert_eq(type, RJI_MSG_STATE);
	cr_assert_eq(len, RJI_MSG_MAX_BYTES);
}

Test(message, numbers_of_the_types_do_not_move)
{
	static const char *const expected[] = {
		"?",	       "FAILED",      "PING",	    "PONG",	 "HELLO",   "HELLO_OK",
		"SETUP",       "SETUP_OK",    "REGIONS",    "REGION_OK", "LANES",   "LANES_OK",
		"ROUND",       "READY",	      "READY_OK",   "STOPPING",	 "STATE",   "ROLLBACK",
		"ROLLBACK_OK", "FINISH",      "PREPARED",   "COMMIT",	 "RUNNING", "REFUSED",
		"BYE",	       "LANES_RESET", "LANES_GONE", "WINDOWS",	 "?",
	};

	for (unsigned int i = 0; i < sizeof(expected) / sizeof(*expected); i++)
		cr_assert_str_eq(rji_msg_name(i), expected[i]);
	cr_assert_str_eq(rji_msg_name(UINT32_MAX), "?");
}

Test(message, bad_heads_are_refused)
{
	static const uint8_t heads[][RJI_MSG_HEAD_BYTES] = {
		{ 0, 0, 0, 0, 0, 0, 0, 0 },		   /* no type */
		{ 0, 0, 0, 0, RJI_MSG_LAST + 1, 0, 0, 0 }, /* an unknown one */
		{ 0, 0, 0, 0, RJI_MSG_PING, 1, 0, 0 },	   /* by its upper byte */
		{ 0, 0, 0, 0, RJI_MSG_PING, 0, 1, 0 },	   /* what must be zero */
		{ 0, 0, 0, 0, RJI_MSG_PING, 0, 0, 1 },
		{ 1, 0, 0x20, 0, RJI_MSG_STATE, 0, 0, 0 }, /* a byte too long */
		{ 0, 0, 0, 0x80, RJI_MSG_STATE, 0, 0, 0 },
		{ 'G', 'E', 'T', ' ', '/', ' ', 'H', 'T' },
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		struct rj_error err;
		uint32_t len = 77;
		uint16_t type = 77;

		rji_error_init(&err);
		cr_assert_eq(rji_msg_decode_head(heads[i], &type, &len, &err), RJ_E_PROTOCOL, "%zu",
			     i);
		cr_assert_eq(len, 77);
		cr_assert_eq(type, 77);
		cr_assert(err.text[0]);
	}
}

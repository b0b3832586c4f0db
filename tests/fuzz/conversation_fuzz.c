/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A destination and whatever a source may say on the control connection, from the greeting to the
 * end. Over null, so that lanes need nobody; the VMM says yes to all. Whatever comes in, the session
 * ends, and the guest is resumed only after COMMIT was read.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ramjet/ramjet.h>

#include "migration/message.h"
#include "tests/fuzz/fuzz.h"

#define MEMORY_BYTES (1u << 20)

static struct rj_env *env;
static void *memory;
static bool commit_is_there; /* its head is somewhere in the input */

static int give_memory(struct rj_session *s, const struct rj_event *ev)
{
	struct rj_region r;

	if (ev->u.region.len_bytes > MEMORY_BYTES)
		return -ENOMEM;
	rj_region_init(&r);
	r.name = ev->u.region.name;
	r.host = memory;
	r.len_bytes = ev->u.region.len_bytes;
	r.page_bytes = ev->u.region.page_bytes;
	return rj_add_region(s, &r, NULL);
}

static int load(struct rj_session *s)
{
	char bytes[512];
	ssize_t n;

	while ((n = rj_state_read(s, bytes, sizeof(bytes))) > 0)
		;
	return (int)n;
}

/* True: that was the last event. */
static bool handle(struct rj_session *s, const struct rj_event *ev)
{
	int status = 0;

	switch (ev->type) {
	case RJ_EV_DONE: return true;
	case RJ_RQ_SETUP:
		if (ev->u.setup.len_bytes && !ev->u.setup.blob)
			abort();
		rj_set_setup_reply(s, ev->u.setup.blob, ev->u.setup.len_bytes);
		break;
	case RJ_RQ_REGION: status = give_memory(s, ev); break;
	case RJ_RQ_LOAD: status = load(s); break;
	case RJ_RQ_RESUME:
		if (!commit_is_there)
			abort();
		break;
	default: break;
	}
	if (ev->request)
		rj_answer(s, ev->request, status);
	return false;
}

static void run(struct rj_session *s)
{
	struct rj_event ev = { .size = sizeof(ev) };
	struct pollfd fd = { .fd = rj_event_fd(s), .events = POLLIN };

	for (;;) {
		while (rj_next_event(s, &ev) == 1) {
			if (handle(s, &ev))
				return;
		}
		/* Its peer is gone at the end of the input, so it ends: in a second at most. */
		if (poll(&fd, 1, 5000) == 0)
			abort();
	}
}

static void set_up(void)
{
	if (env)
		return;
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED || rj_env_open(NULL, &env) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static const uint8_t commit[4] = { RJI_MSG_COMMIT };
	struct rj_session *s;
	struct rj_opts o;
	int fds[2];

	set_up();
	if (len_bytes > 65536)
		return 0;
	commit_is_there = memmem(data, len_bytes, commit, sizeof(commit));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	rj_opts_init(&o);
	o.uri = "null://:0";
	o.control_fd = fds[0];
	if (rj_destination_open(env, &o, &s) < 0)
		abort();
	close(fds[0]);
	if (send(fds[1], data, len_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len_bytes &&
	    len_bytes)
		abort();
	shutdown(fds[1], SHUT_WR);
	if (rj_start(s) < 0)
		abort();
	run(s);
	rj_close(&s);
	close(fds[1]);
	return 0;
}

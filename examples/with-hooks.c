/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same with hooks: rj_run() fetches the events in a thread of ours and calls a function for each
 * request, whose return value is the answer. Also shown: connected descriptors handed in (control
 * and one lane), as a sandboxed VMM gets them from its manager. Both ends are in this process, each
 * in its thread; nothing writes the memory, so that no tracker is needed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ramjet/ramjet.h>

#define RAM_BYTES (8u << 20)

struct end {
	struct rj_env *env;
	int control_fd, lane_fd;
	char *ram;
	uint32_t clock; /* the device state */
	int ret;
};

static void describe(const struct end *end, uint32_t flags, struct rj_region *r)
{
	rj_region_init(r);
	r->name = "ram";
	r->host = end->ram;
	r->len_bytes = RAM_BYTES;
	r->flags = flags;
}

/* Without a hook for it a request is answered by 0; pause by RJ_WAS_RUNNING. */
static int on_save(void *arg, struct rj_session *s)
{
	struct end *end = arg;

	return rj_state_write(s, &end->clock, sizeof(end->clock));
}

static int on_region(void *arg, struct rj_session *s, const struct rj_event *ev)
{
	struct rj_region r;

	describe(arg, RJ_REGION_ZEROED, &r);
	return strcmp(ev->u.region.name, r.name) != 0 ? -ENOENT : rj_add_region(s, &r, NULL);
}

static int on_load(void *arg, struct rj_session *s)
{
	struct end *end = arg;
	ssize_t n = rj_state_read(s, &end->clock, sizeof(end->clock));

	return n == sizeof(end->clock) ? 0 : -EBADMSG;
}

static void set_up(const struct end *end, struct rj_opts *o)
{
	rj_opts_init(o);
	o->control_fd = end->control_fd; /* duplicated: ours stay ours */
	o->lane_fds = &end->lane_fd;
	o->n_lane_fds = 1;
}

static void *source(void *arg)
{
	static const struct rj_hooks hooks = { .size = sizeof(hooks), .save = on_save };
	struct rj_session *s = NULL;
	struct end *end = arg;
	struct rj_region r;
	struct rj_opts o;

	set_up(end, &o);
	describe(end, RJ_REGION_MARKED, &r);
	end->ret = rj_source_open(end->env, &o, &s);
	if (!end->ret)
		end->ret = rj_add_region(s, &r, NULL);
	if (!end->ret)
		end->ret = rj_run(s, &hooks, end);
	rj_close(&s);
	return NULL;
}

static void *destination(void *arg)
{
	static const struct rj_hooks hooks = { .size = sizeof(hooks),
					       .region = on_region,
					       .load = on_load };
	struct rj_session *s = NULL;
	struct end *end = arg;
	struct rj_opts o;

	set_up(end, &o);
	end->ret = rj_destination_open(end->env, &o, &s);
	if (!end->ret)
		end->ret = rj_run(s, &hooks, end);
	rj_close(&s);
	return NULL;
}

int main(void)
{
	struct end from = { .clock = 4711 }, to = { .clock = 0 };
	pthread_t thread[2];
	int control[2], lane[2];

	if (rj_env_open(NULL, &from.env) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lane) < 0)
		return 1;
	to.env = from.env;
	from.control_fd = control[0], from.lane_fd = lane[0];
	to.control_fd = control[1], to.lane_fd = lane[1];
	from.ram =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	to.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (from.ram == MAP_FAILED || to.ram == MAP_FAILED)
		return 1;
	for (uint32_t i = 0; i < RAM_BYTES; i++)
		from.ram[i] = (char)(i >> 12 ^ i);

	if (pthread_create(&thread[0], NULL, destination, &to) ||
	    pthread_create(&thread[1], NULL, source, &from))
		return 1;
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);

	printf("source: %s; destination: %s\n", rj_strerror(from.ret), rj_strerror(to.ret));
	if (from.ret || to.ret || memcmp(from.ram, to.ram, RAM_BYTES) != 0 || to.clock != 4711)
		return 1;
	printf("%u bytes and the clock (%u) have arrived\n", RAM_BYTES, to.clock);
	for (int i = 0; i < 2; i++) {
		close(control[i]);
		close(lane[i]);
	}
	munmap(from.ram, RAM_BYTES);
	munmap(to.ram, RAM_BYTES);
	rj_env_close(&from.env);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest complete VMM that live-migrates its guest with ramjet.
 *
 *   tiny-vmm destination unix:///tmp/tiny.sock      in one terminal (or tcp://:7471)
 *   tiny-vmm source      unix:///tmp/tiny.sock      in another     (or tcp://HOST:7471)
 *
 * The "guest" is a thread that writes a counter over its memory, page after page. Like many VMMs
 * this one has one big lock, which the guest's thread and the device take, and one event loop, which
 * is the main thread. The session's events come to that loop by a descriptor; nothing of ramjet runs
 * in a callback, so the big lock can be taken wherever it is needed.
 *
 * Read handle() first: it is the whole integration. docs/integration.md has the rules in full.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <ramjet/ramjet.h>

#define PAGE_BYTES 4096u
#define RAM_PAGES 4096u /* 16 MiB */
#define RAM_BYTES ((uint64_t)RAM_PAGES * PAGE_BYTES)
#define DEVICE_PAGE 0u /* the toy device writes here, the guest everywhere else */

/* What both ends must agree on, for the destination to judge: here, all there is to this machine. */
static const char machine[] = "tiny-vmm 1, 16 MiB, one timer";

/* The device state: what is not in guest RAM. */
struct device {
	uint64_t ticks; /* of the guest's clock */
	uint64_t saved; /* how often this guest was migrated */
};

struct vm {
	pthread_mutex_t lock; /* the big one: over everything below, and over guest RAM */
	pthread_cond_t wake;  /* running or quit changed */
	pthread_t cpu;
	bool running, quit;
	uint8_t *ram;
	struct device dev;
	struct rj_session
		*migration; /* the source's, while there is one: writes are announced to it */
	enum rj_outcome outcome;
	int status; /* what the session ended with */
};

/* --- the guest, and the rule for everybody who writes its memory --- */

/*
 * Write a page's counter. Whoever writes guest RAM says so, after the write and not before: a page
 * announced too early may be sent with its old contents. rj_mark_dirty() never waits, so calling it
 * under the big lock is fine. With KVM one would add rj_kvm_log_create() as a tracker for what vCPUs
 * write, and announce only what the VMM itself writes.
 */
static void write_page(struct vm *vm, uint64_t page, uint64_t value)
{
	memcpy(vm->ram + page * PAGE_BYTES, &value, sizeof(value));
	if (vm->migration)
		rj_mark_dirty(vm->migration, 0, page * PAGE_BYTES, sizeof(value));
}

/* Which page the guest writes at a tick. */
static uint64_t page_of(uint64_t tick)
{
	return 1 + tick % (RAM_PAGES - 1);
}

static void *cpu_thread(void *arg)
{
	const struct timespec moment = { .tv_nsec = 20000 };
	struct vm *vm = arg;

	pthread_mutex_lock(&vm->lock);
	while (!vm->quit) {
		if (!vm->running) {
			pthread_cond_wait(&vm->wake, &vm->lock);
			continue;
		}
		vm->dev.ticks++;
		write_page(vm, page_of(vm->dev.ticks), vm->dev.ticks);
		pthread_mutex_unlock(&vm->lock);
		nanosleep(&moment, NULL);
		pthread_mutex_lock(&vm->lock);
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/* Has every page the last counter that was written to it? A lost page would show an older one. */
static bool is_complete(const struct vm *vm)
{
	uint64_t n = RAM_PAGES - 1, ticks = vm->dev.ticks;

	for (uint64_t back = 0; back < n && back < ticks; back++) {
		uint64_t found;

		memcpy(&found, vm->ram + page_of(ticks - back) * PAGE_BYTES, sizeof(found));
		if (found != ticks - back)
			return false;
	}
	return true;
}

/* Returns whether it ran before. Under the big lock, so no write is under way when this returns. */
static bool set_running(struct vm *vm, bool running)
{
	bool before;

	pthread_mutex_lock(&vm->lock);
	before = vm->running;
	vm->running = running;
	pthread_cond_broadcast(&vm->wake);
	pthread_mutex_unlock(&vm->lock);
	return before;
}

/* --- answers to the library's requests --- */

/* The destination: memory for a region of the source, of the same name, length and page size. */
static int give_memory(struct vm *vm, struct rj_session *s, const struct rj_event *ev)
{
	struct rj_region r;

	if (strcmp(ev->u.region.name, "ram") != 0 || ev->u.region.len_bytes != RAM_BYTES)
		return -ENOENT;
	rj_region_init(&r);
	r.name = "ram";
	r.host = vm->ram;
	r.len_bytes = RAM_BYTES;
	r.flags = RJ_REGION_ZEROED; /* fresh from mmap() */
	return rj_add_region(s, &r, NULL);
}

/*
 * Device state goes as bytes, which are ours to define and to version. Saving may write guest RAM,
 * as devices do which flush rings: announced like any other write, before the answer.
 * rj_state_write() may wait for the link. That is nothing for 16 bytes; a VMM with megabytes of state
 * writes them in a thread of its own, and that thread calls rj_answer().
 */
static int save(struct vm *vm, struct rj_session *s)
{
	struct device dev;

	pthread_mutex_lock(&vm->lock);
	vm->dev.saved++;
	write_page(vm, DEVICE_PAGE, vm->dev.saved);
	dev = vm->dev;
	pthread_mutex_unlock(&vm->lock);
	return rj_state_write(s, &dev, sizeof(dev));
}

/* These bytes came over a network: nothing in them is taken for granted. */
static int load(struct vm *vm, struct rj_session *s, uint64_t len_bytes)
{
	struct device dev;

	if (len_bytes != sizeof(dev) || rj_state_read(s, &dev, sizeof(dev)) != sizeof(dev))
		return -EBADMSG;
	pthread_mutex_lock(&vm->lock);
	vm->dev = dev;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

/*
 * One event. Requests (ev->request is not 0) are answered exactly once, 0 or a count for success;
 * events that only tell are not answered. Any thread may answer, at any time before the deadline.
 */
static void handle(struct vm *vm, struct rj_session *s, const struct rj_event *ev)
{
	int answer = 0;

	switch (ev->type) {
	/* both */
	case RJ_EV_STATE: printf("state %s\n", rj_state_name(ev->u.state.state)); break;
	case RJ_EV_WARN: printf("warning: %s\n", ev->u.warn.text); break;
	case RJ_EV_DONE:
		vm->outcome = ev->u.done.runs;
		vm->status = ev->u.done.status;
		break;
	/*
	 * The guest is this side's: the source's after a failure, the destination's at the end. run is
	 * 0 where it was paused already when the migration paused it. What can fail comes before the
	 * first vCPU runs: at the destination a failure lets the source run its copy.
	 */
	case RJ_RQ_RESUME: set_running(vm, ev->u.resume.run); break;

	/* source */
	case RJ_EV_ROUND:
		printf("round %u: %" PRIu64 " pages sent, %" PRIu64 " dirty\n", ev->u.round.round,
		       ev->u.round.pages, ev->u.round.dirty_pages);
		break;
	case RJ_RQ_PAUSE: /* not simply 0: that would mean "it was paused anyway" */
		answer = set_running(vm, false) ? RJ_WAS_RUNNING : RJ_WAS_PAUSED;
		break;
	case RJ_RQ_SAVE: answer = save(vm, s); break;
	case RJ_RQ_RELEASE: /* unlock disk images; this machine has none */
	case RJ_RQ_RECLAIM: /* lock them again; must also be fine if RELEASE was never answered */
		break;

	/* destination */
	case RJ_RQ_SETUP:
		if (ev->u.setup.len_bytes != sizeof(machine) ||
		    memcmp(ev->u.setup.blob, machine, sizeof(machine)) != 0)
			answer =
				-EINVAL; /* another kind of machine: refused before anything is sent */
		break;
	case RJ_RQ_REGION: answer = give_memory(vm, s, ev); break;
	case RJ_RQ_LOAD: answer = load(vm, s, ev->u.load.len_bytes); break;
	case RJ_RQ_ACQUIRE: /* lock disk images: a failure still gives the guest back to the source */
		break;
	case RJ_RQ_DROP: /* it will never run here. The memory stays mapped until rj_close() */
		vm->dev = (struct device){ 0 };
		break;
	default: break; /* a later version may tell more */
	}
	if (ev->request)
		rj_answer(s, ev->request, answer);
}

/* The VMM's event loop: a real one polls its devices here as well. Ends with the session. */
static void loop(struct vm *vm, struct rj_session *s, int signal_fd)
{
	struct pollfd fds[] = { { .fd = rj_event_fd(s), .events = POLLIN },
				{ .fd = signal_fd, .events = POLLIN } };
	struct rj_event ev = { .type = RJ_EV_NONE };

	while (ev.type != RJ_EV_DONE) {
		struct signalfd_siginfo info;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents && read(signal_fd, &info, sizeof(info)) > 0)
			rj_cancel(s); /* returns at once; the end is told by RJ_EV_DONE */
		ev.size = sizeof(ev);
		while (ev.type != RJ_EV_DONE && rj_next_event(s, &ev) == 1)
			handle(vm, s, &ev);
	}
}

/* --- the two ends --- */

static int fail(const char *what, struct rj_session *s, int code)
{
	struct rj_error e = { .size = sizeof(e) };

	if (s)
		rj_error_detail(s,
				&e); /* one line that names what failed and what to do about it */
	fprintf(stderr, "tiny-vmm: %s: %s\n", what, e.text[0] ? e.text : rj_strerror(code));
	return 1;
}

/* The source's memory and machine, before rj_start(). Every writer announces: RJ_REGION_MARKED. */
static int prepare_source(struct vm *vm, struct rj_session *s)
{
	struct rj_region r;
	int ret;

	rj_region_init(&r);
	r.name = "ram";
	r.host = vm->ram;
	r.len_bytes = RAM_BYTES;
	r.flags = RJ_REGION_MARKED;
	ret = rj_add_region(s, &r, NULL);
	if (!ret)
		ret = rj_set_setup_blob(s, machine, sizeof(machine));
	pthread_mutex_lock(&vm->lock);
	vm->migration = s; /* before rj_start(), so that no write goes by unannounced */
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int migrate_away(struct vm *vm, struct rj_session *s, int signal_fd)
{
	int ret = prepare_source(vm, s);

	set_running(vm, true);
	if (!ret)
		ret = rj_start(s);
	if (!ret)
		loop(vm, s, signal_fd);
	pthread_mutex_lock(&vm->lock);
	vm->migration = NULL; /* before rj_close(), which frees it */
	pthread_mutex_unlock(&vm->lock);
	if (ret < 0)
		return fail("cannot start", s, ret);
	switch (vm->outcome) {
	case RJ_RUNS_AT_DESTINATION: printf("gone at tick %" PRIu64 "\n", vm->dev.ticks); return 0;
	case RJ_RUNS_AT_SOURCE: /* RJ_RQ_RESUME has set it running again: a VMM goes on as before */
		return fail("the guest stays here", s, vm->status);
	default: /* paused; somebody has to look at the other side, then rj_resolve() */
		return fail("where does the guest run?", s, vm->status);
	}
}

static int receive(struct vm *vm, struct rj_session *s, int signal_fd)
{
	const struct timespec moment = { .tv_nsec = 50000000 };
	uint64_t arrived, later;
	char uri[256];
	int ret = rj_start(s);

	if (!ret)
		ret = rj_local_uri(s, uri, sizeof(uri));
	if (ret < 0)
		return fail("cannot listen", s, ret);
	printf("listening at %s\n", uri);
	loop(vm, s, signal_fd);
	if (vm->outcome != RJ_RUNS_AT_DESTINATION)
		return fail("no guest came", s, vm->status);
	pthread_mutex_lock(&vm->lock);
	arrived = vm->dev.ticks;
	ret = is_complete(vm) ? 0 : -EIO;
	pthread_mutex_unlock(&vm->lock);
	printf("arrived, %s at tick %" PRIu64 "\n", ret ? "DAMAGED" : "complete", arrived);
	nanosleep(&moment, NULL);
	set_running(vm, false);
	later = vm->dev.ticks;
	printf("%s at tick %" PRIu64 "\n", later > arrived ? "counts on" : "STANDS STILL", later);
	return ret || later <= arrived;
}

static int open_vm(struct vm *vm, int *signal_fd_p)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*signal_fd_p = signalfd(-1, &set, SFD_CLOEXEC);
	vm->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->ram == MAP_FAILED || *signal_fd_p < 0)
		return -errno;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->wake, NULL);
	return -pthread_create(&vm->cpu, NULL, cpu_thread, vm);
}

static void close_vm(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->wake);
	pthread_mutex_unlock(&vm->lock);
	pthread_join(vm->cpu, NULL);
	munmap(vm->ram, RAM_BYTES);
}

int main(int argc, char **argv)
{
	bool is_source = argc == 3 && !strcmp(argv[1], "source");
	struct rj_session *s = NULL;
	struct rj_env *env = NULL;
	struct vm vm = { 0 };
	struct rj_opts o;
	int ret, signal_fd;

	if (!is_source && (argc != 3 || strcmp(argv[1], "destination") != 0)) {
		fprintf(stderr, "Usage: tiny-vmm source|destination URI\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	ret = open_vm(&vm, &signal_fd);
	if (ret < 0)
		return fail("no guest", NULL, ret);
	rj_opts_init(&o); /* always first: it sets the size and every default */
	o.uri = argv[2];
	ret = rj_env_open(NULL, &env);
	if (!ret)
		ret = is_source ? rj_source_open(env, &o, &s) : rj_destination_open(env, &o, &s);
	if (ret < 0)
		ret = fail(argv[2], s, ret);
	else
		ret = is_source ? migrate_away(&vm, s, signal_fd) : receive(&vm, s, signal_fd);
	rj_close(&s); /* the session, then the memory it used, then the environment */
	close_vm(&vm);
	rj_env_close(&env);
	return ret;
}

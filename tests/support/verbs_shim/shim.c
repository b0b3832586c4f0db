/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/verbs_shim/shim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/verbs_shim/shim_internal.h"

pthread_mutex_t shim_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t shim_work = PTHREAD_COND_INITIALIZER;
struct shim_config shim_config;
struct shim_counts shim_count;

static pthread_t engine;
static bool running, stopping, paused;
static uint64_t random_state;
static enum shim_kind fail_kind;
static uint32_t fail_in; /* calls until the one that fails; 0: none will */
static bool has_failed;

#define MAX_KINDS 16
static struct {
	const char *kind;
	int n;
} objects[MAX_KINDS];

void shim_broken(const char *fmt, ...)
{
	va_list ap;

	fputs("verbs_shim: rule broken: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

uint64_t shim_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull >> 16;
}

void shim_object(const char *kind, int change)
{
	for (int i = 0; i < MAX_KINDS; i++) {
		if (!objects[i].kind)
			objects[i].kind = kind;
		if (!strcmp(objects[i].kind, kind)) {
			objects[i].n += change;
			return;
		}
	}
	abort();
}

const char *shim_kind_name(enum shim_kind kind)
{
	static const char *const name[] = {
#define SHIM_NAME(name) #name,
		SHIM_KINDS(SHIM_NAME)
#undef SHIM_NAME
	};

	return name[kind];
}

bool shim_fault(enum shim_kind kind)
{
	if (kind != fail_kind || !fail_in || --fail_in)
		return false;
	has_failed = true;
	return true;
}

void shim_fail(enum shim_kind kind, uint32_t nth)
{
	pthread_mutex_lock(&shim_lock);
	fail_kind = kind;
	fail_in = nth;
	has_failed = false;
	pthread_mutex_unlock(&shim_lock);
}

bool shim_has_failed(void)
{
	bool ret;

	pthread_mutex_lock(&shim_lock);
	ret = has_failed;
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

void shim_fail_none(void)
{
	shim_fail(SHIM_GET_DEVICES, 0);
}

void shim_pause(bool on)
{
	pthread_mutex_lock(&shim_lock);
	paused = on;
	pthread_cond_broadcast(&shim_work);
	pthread_mutex_unlock(&shim_lock);
}

struct shim_counts shim_counts(void)
{
	struct shim_counts c;

	pthread_mutex_lock(&shim_lock);
	c = shim_count;
	pthread_mutex_unlock(&shim_lock);
	return c;
}

/* Plays the devices: bursts of steps, with pauses in which the users' threads may overtake. */
static void *engine_thread(void *arg)
{
	struct timespec moment = { 0, 0 };

	pthread_mutex_lock(&shim_lock);
	while (!stopping) {
		if (paused || !shim_has_work()) {
			pthread_cond_wait(&shim_work, &shim_lock);
			continue;
		}
		for (uint64_t burst = shim_random() % 64; burst && shim_has_work(); burst--)
			shim_step();
		moment.tv_nsec = (long)(shim_random() % 20000);
		pthread_mutex_unlock(&shim_lock);
		nanosleep(&moment, NULL);
		pthread_mutex_lock(&shim_lock);
	}
	pthread_mutex_unlock(&shim_lock);
	return NULL;
}

void shim_start(const struct shim_config *c)
{
	if (running)
		shim_broken("shim_start() twice");
	shim_config = *c;
	if (!shim_config.n_devices)
		shim_config.n_devices = 1;
	random_state = c->seed * 2654435761u + 88172645463325252ull;
	memset(&shim_count, 0, sizeof(shim_count));
	memset(objects, 0, sizeof(objects));
	fail_in = 0;
	has_failed = false;
	stopping = false;
	paused = false;
	running = true;
	shim_devices_init();
	if (pthread_create(&engine, NULL, engine_thread, NULL))
		abort();
}

bool shim_stop(void)
{
	bool clean = true;

	pthread_mutex_lock(&shim_lock);
	stopping = true;
	pthread_cond_broadcast(&shim_work);
	pthread_mutex_unlock(&shim_lock);
	pthread_join(engine, NULL);
	running = false;
	for (int i = 0; i < MAX_KINDS && objects[i].kind; i++) {
		if (!objects[i].n)
			continue;
		fprintf(stderr, "verbs_shim: %d %s left\n", objects[i].n, objects[i].kind);
		clean = false;
	}
	shim_devices_fini();
	return clean;
}

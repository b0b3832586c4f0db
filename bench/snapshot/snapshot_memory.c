/* SPDX-License-Identifier: BSD-2-Clause */
/* Anonymous memory of this process, sampled: guest memory that is a memfd is not part of it. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "bench/snapshot/snapshot_bench.h"

#define SAMPLE_NS 5000000L

static pthread_t thread;
static atomic_bool stop;
static bool running;
static uint64_t start_bytes, peak_bytes;

static uint64_t anonymous_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	uint64_t kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kib * 1024;
}

static void sample(void)
{
	uint64_t now = anonymous_bytes();

	if (now > peak_bytes)
		peak_bytes = now;
}

static void *watch(void *arg)
{
	const struct timespec moment = { .tv_nsec = SAMPLE_NS };

	while (!atomic_load(&stop)) {
		sample();
		nanosleep(&moment, NULL);
	}
	return arg;
}

void memory_watch_start(void)
{
	start_bytes = peak_bytes = anonymous_bytes();
	atomic_store(&stop, false);
	running = !pthread_create(&thread, NULL, watch, NULL);
}

uint64_t memory_watch_stop(void)
{
	atomic_store(&stop, true);
	if (running)
		pthread_join(thread, NULL);
	running = false;
	sample();
	return peak_bytes - start_bytes;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "bench/guest/guest_pattern.h"

/* What is in guest RAM before the guest runs. */

#define N_FILLERS 2u

struct filler {
	pthread_t thread;
	uint64_t *ram;
	const struct guest_opts *o;
	struct guest_areas areas;
	uint64_t first, end;
};

static void *fill_thread(void *arg)
{
	struct filler *f = arg;

	for (uint64_t p = f->first; p < f->end; p++) {
		uint64_t *words = f->ram + p * GUEST_PAGE_WORDS;

		if (guest_is_filled(f->o, &f->areas, p))
			guest_filling(words, f->o, p);
		else if (p >= f->areas.free_end)
			memset(words, 0, GUEST_PAGE_BYTES); /* touched, unlike a hole */
	}
	return NULL;
}

int guest_fill(void *ram, const struct guest_opts *o)
{
	uint64_t first = GUEST_LOW_BYTES / GUEST_PAGE_BYTES, n;
	struct filler f[N_FILLERS];
	struct guest_areas areas;
	int ret = 0;
	uint32_t i;

	guest_areas_init(&areas, o);
	n = areas.zero_end - first;
	for (i = 0; i < N_FILLERS && !ret; i++) {
		f[i] = (struct filler){ .ram = ram, .o = o, .areas = areas };
		f[i].first = first + n * i / N_FILLERS;
		f[i].end = first + n * (i + 1) / N_FILLERS;
		ret = -pthread_create(&f[i].thread, NULL, fill_thread, &f[i]);
	}
	if (ret)
		i--;
	while (i--)
		pthread_join(f[i].thread, NULL);
	return ret;
}

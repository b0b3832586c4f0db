/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_STOP_H
#define RJI_BASE_STOP_H

#include <stdatomic.h>
#include <stdbool.h>

/*
 * "Stop what you are doing": set once, from any thread, seen by polling fd (readable from then on)
 * or by asking. Every wait in the library that could last watches one.
 */
struct rji_stop {
	int fd;
	atomic_bool set;
};

int rji_stop_init(struct rji_stop *stop); /* 0 or -errno */
void rji_stop_fini(struct rji_stop *stop);
void rji_stop_set(struct rji_stop *stop);

static inline bool rji_stop_is_set(const struct rji_stop *stop)
{
	/* pairs with rji_stop_set() */
	return atomic_load_explicit(&stop->set, memory_order_acquire);
}

#endif

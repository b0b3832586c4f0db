/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/stop.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int rji_stop_init(struct rji_stop *stop)
{
	stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_init(&stop->set, false);
	return stop->fd < 0 ? -errno : 0;
}

void rji_stop_fini(struct rji_stop *stop)
{
	close(stop->fd);
	stop->fd = -1;
}

void rji_stop_set(struct rji_stop *stop)
{
	/* pairs with rji_stop_is_set() */
	atomic_store_explicit(&stop->set, true, memory_order_release);
	eventfd_write(stop->fd, 1);
}

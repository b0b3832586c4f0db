/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_ENV_IMPL_H
#define RJI_MIGRATION_ENV_IMPL_H

#include "base/host.h"
#include "numa/topology.h"

struct rj_env {
	struct rji_host host;
	char *devices; /* NULL: all */
	struct rji_topology *topology;
};

#endif

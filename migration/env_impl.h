/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_ENV_IMPL_H
#define RJI_MIGRATION_ENV_IMPL_H

#include "base/host.h"

struct rj_env {
	struct rji_host host;
	char *devices; /* NULL: all */
};

#endif

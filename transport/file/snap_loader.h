/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_FILE_SNAP_LOADER_H
#define RJI_TRANSPORT_FILE_SNAP_LOADER_H

#include <stdatomic.h>

#include "base/host.h"
#include "base/stop.h"
#include "transport/file/snap_reader.h"

/* Where the pages of a region go. */
struct rji_snap_target {
	char *host;  /* NULL in all of them: nowhere, they are only checked */
	bool zeroed; /* known to read as zeros */
};

struct rji_snap_loading {
	struct rji_snap_reader *reader; /* its maps are loaded */
	const struct rji_host *host;
	struct rji_stop *stop; /* may be NULL */
	const struct rji_snap_target *targets;
	uint32_t n_lanes;
	_Atomic uint64_t *done_bytes; /* of the file's pages, read and checked; may be NULL */
	_Atomic uint64_t *cpu_ns;     /* of the threads; may be NULL */
};

/*
 * Read all pages by threads of its own, straight to where they go, and compare each with its checksum.
 * Absent pages become zero. Without targets: everything that is no page must be zero, too.
 * Blocks. 0; RJ_E_SNAPSHOT naming file and offset; -errno; -ECANCELED.
 */
int rji_snap_load(const struct rji_snap_loading *l, struct rj_error *err);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_PROBE_IMPL_H
#define RJI_MIGRATION_PROBE_IMPL_H

#include <ramjet/probe.h>

/* rj_probe_create() with another root than this machine's: tests. */
int rji_probe_take(const char *root, struct rj_env *env, const char *uri, uint64_t guest_bytes,
		   struct rj_probe **probe_p);

/* The way of a migration by uri, and the GIDs chosen for it in probe's devices. 0, RJ_E_URI or -EINVAL. */
int rji_probe_route(struct rj_env *env, const char *root, const char *uri, struct rj_probe *probe,
		    struct rj_probe_route *route_p);

/* From what was found: what is wrong with it. 0 or -ENOMEM. */
int rji_probe_judge(struct rj_probe *probe, uint64_t guest_bytes);

/* The device and port that the route takes; NULL over tcp, or without a URI. */
const struct rj_probe_device *rji_probe_route_device(const struct rj_probe *probe);

#endif

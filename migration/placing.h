/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_PLACING_H
#define RJI_MIGRATION_PLACING_H

#include "numa/placement.h"
#include "transport/transport.h"

struct rj_session;
struct rji_rdma_route;

/* rj_start(): understand rj_opts.cpus. -EINVAL with what is wrong. */
int rji_session_take_cpus(struct rj_session *s, struct rj_error *err);

/* Source: how many lanes to ask the destination for, if nobody said. */
int rji_session_choose_lanes(struct rj_session *s, struct rj_error *err);

/* Plan where the lanes run, their number being agreed; addrs is where they connect. */
int rji_session_place(struct rj_session *s, struct rji_addrs *addrs, struct rj_error *err);
void rji_session_forget_places(struct rj_session *s);

/* A port as placement sees it. */
void rji_rail_of_route(const struct rji_topology *t, const struct rji_rdma_route *route,
		       struct rji_rail *rail);

#endif

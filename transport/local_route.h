/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_LOCAL_ROUTE_H
#define RJI_TRANSPORT_LOCAL_ROUTE_H

#include <net/if.h>

#include "transport/uri.h"

/* This machine's side of a way. */
struct rji_local_route {
	char address[64];	  /* without brackets, scope or port */
	char netdev[IF_NAMESIZE]; /* that has it; "" if none */
};

/* Which address of ours a connection to uri's host would come from. Sends nothing; may block on a name server. RJ_E_CONNECT. */
int rji_local_route(const struct rji_uri *uri, struct rji_local_route *r_p, struct rj_error *err);

/* The netdev that has an address as text; "" if none. */
void rji_local_netdev(const char *address, char netdev[IF_NAMESIZE]);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_INVENTORY_H
#define RJI_RDMA_INVENTORY_H

#include <ramjet/probe.h>

/*
 * All RDMA devices of this machine with all their ports, usable or not: from sysfs, which knows of a device as soon as its
 * driver has found it, then what only verbs tell. devices: those that may be used, NULL or "" for all. A count, the devices
 * in *list_p; -ENOMEM.
 */
int rji_inventory_take(const char *root, const char *devices, struct rj_probe_device **list_p);
void rji_inventory_free(struct rj_probe_device *list, int n);

/* The two halves of it. Those which verbs do not know stay as they are. */
int rji_inventory_sysfs(const char *root, struct rj_probe_device **list_p);
void rji_inventory_verbs(const char *root, struct rj_probe_device *list, int n);

/* Mark the GID that lanes from address would use; "": the one they would use if nothing else decides. Its place in gids, or -1. */
int rji_inventory_choose_gid(struct rj_probe_port *p, const char *address);

#endif

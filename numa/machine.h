/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_MACHINE_H
#define RJI_NUMA_MACHINE_H

#include <ramjet/probe.h>

/* CPUs, nodes, memory and huge pages, from files below root and from this process; the rest of m is left alone. */
void rji_machine_look(const char *root, struct rj_probe_machine *m);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_MACHINE_H
#define RJI_NUMA_MACHINE_H

#include <stdbool.h>

#include <ramjet/probe.h>

/* CPUs, nodes, memory and huge pages, from files below root and from this process; the rest of m is left alone. */
void rji_machine_look(const char *root, struct rj_probe_machine *m);

/* How many numbers a list "0-3,8" has. 0 for anything else. */
uint32_t rji_list_count(const char *list);

/* Have two lists a number in common? */
bool rji_list_meets(const char *a, const char *b);

#endif

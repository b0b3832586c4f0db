/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_PROBE_PRINT_H
#define BENCH_PROBE_PRINT_H

#include <stdint.h>

#include <ramjet/probe.h>

/* For people. */
void probe_print_text(const struct rj_probe *p, uint64_t guest_bytes);

/* One object. p NULL: a usage error, or nothing could be looked at; error says which. */
void probe_print_json(const struct rj_probe *p, const char *error);

#endif

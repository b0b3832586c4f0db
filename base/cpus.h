/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_BASE_CPUS_H
#define RJI_BASE_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of CPUs, by the kernel's numbers. Larger than cpu_set_t, which ends at 1024. */

#define RJI_MAX_CPUS 4096u

struct rji_cpus {
	uint64_t word[RJI_MAX_CPUS / 64];
};

/*
 * The kernel's list format: "0-3,8". 0; -EINVAL for anything else, an empty list and backward
 * ranges included; -ERANGE for a CPU from RJI_MAX_CPUS on.
 */
int rji_cpus_parse(const char *list, struct rji_cpus *cpus_p);
/*
 * As text in that format. One that does not fit ends in "...". Return the length written.
 */
size_t rji_cpus_format(const struct rji_cpus *cpus, char *buf, size_t buf_bytes);

void rji_cpus_add(struct rji_cpus *cpus, uint32_t cpu);
bool rji_cpus_has(const struct rji_cpus *cpus, uint32_t cpu);
/* Number of CPUs in it. */
uint32_t rji_cpus_weight(const struct rji_cpus *cpus);
bool rji_cpus_is_empty(const struct rji_cpus *cpus);
bool rji_cpus_equal(const struct rji_cpus *a, const struct rji_cpus *b);
/* Those in both. */
struct rji_cpus rji_cpus_and(const struct rji_cpus *a, const struct rji_cpus *b);
/* Those in a and not in b. */
struct rji_cpus rji_cpus_without(const struct rji_cpus *a, const struct rji_cpus *b);
/* The first at or after cpu; RJI_MAX_CPUS: none. */
uint32_t rji_cpus_next(const struct rji_cpus *cpus, uint32_t cpu);

/* Where the calling thread may run. 0 or -errno. */
int rji_cpus_of_thread(struct rji_cpus *cpus_p);
/*
 * Keep the calling thread to these, which it has left for them when this returns. 0 or -errno
 * (-EINVAL: none of them may be used).
 */
int rji_cpus_bind(const struct rji_cpus *cpus);

#endif

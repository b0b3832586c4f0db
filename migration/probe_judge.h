/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_PROBE_JUDGE_H
#define RJI_MIGRATION_PROBE_JUDGE_H

#include <stdbool.h>
#include <stdio.h>

#include "migration/probe_impl.h"

/* Problems as they are found. */
struct rji_judge {
	struct rj_probe *probe;
	uint64_t guest_bytes;
	uint32_t capacity;
	int ret;			 /* -ENOMEM once a problem was lost */
	struct rj_probe_problem nowhere; /* takes those */
};

/* One more; never NULL. */
struct rj_probe_problem *rji_judge_add(struct rji_judge *j, enum rj_probe_severity severity);

#define RJI_SAY(field, ...) snprintf(field, sizeof(field), __VA_ARGS__)

/* What is wrong with a device and its ports. worst: no problem of it is more severe, as it is not the one to be used. */
void rji_judge_device(struct rji_judge *j, const struct rj_probe_device *d,
		      enum rj_probe_severity worst);

#endif

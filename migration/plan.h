/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_PLAN_H
#define RJI_MIGRATION_PLAN_H

#include <stdint.h>

/*
 * How many lanes when nobody says: enough to fill a link, not more than half of a larger machine's
 * CPUs.
 */
uint32_t rji_default_lanes(void);

#endif

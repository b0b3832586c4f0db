/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_APPLY_H
#define RJI_PAGESENDER_APPLY_H

#include "transport/transport.h"

/* The destination's half of what is not sent as it is: filter/stage.c has the other. */
extern const struct rji_apply_ops rji_apply;

#endif

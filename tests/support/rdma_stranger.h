/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_RDMA_STRANGER_H
#define RJ_TESTS_RDMA_STRANGER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Knock at an address where lanes are accepted, with any private data, and wait for what comes of it: the rdma_cm event,
 * and with it up to *answer_bytes of private data. -1 if it did not come to that.
 */
int rdma_stranger_knock(const char *address, const void *private_data, uint8_t len_bytes,
			void *answer, size_t *answer_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_FUZZ_H
#define RJ_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/*
 * What libFuzzer, or replay.c, calls with each input. Return 0. A broken promise ends the program:
 * by assert(), abort() or a sanitizer.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#endif /* RJ_TESTS_FUZZ_H */

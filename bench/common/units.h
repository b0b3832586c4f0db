/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_COMMON_UNITS_H
#define BENCH_COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* Sizes and rates: a number, and K, M, G or T for powers of 1024. 0 or -EINVAL. */
int units_parse(const char *text, uint64_t *bytes_p);
/* The same at *text, up to a colon or the end; *text moves there. */
int units_take(const char **text, uint64_t *bytes_p);

/* "1.5 GiB" into buf, which is returned. */
const char *units_bytes(char *buf, size_t buf_bytes, uint64_t bytes);
/* "1.5 GiB/s" */
const char *units_rate(char *buf, size_t buf_bytes, uint64_t bytes_per_s);

/* For printf("%s", UNITS_BYTES(n)): lives until the end of the full expression's block. */
#define UNITS_BYTES(n) units_bytes((char[32]){ 0 }, 32, n)
#define UNITS_RATE(n) units_rate((char[32]){ 0 }, 32, n)

#endif

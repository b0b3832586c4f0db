/* SPDX-License-Identifier: BSD-2-Clause */
/* A compressed page: as it came, and the input as a page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pagesender/codec/zstd_block.h"
#include "tests/fuzz/fuzz.h"

#define PAGE 4096u

static void check_comes_back(struct rji_zstd *z, const uint8_t *page, uint32_t len_bytes)
{
	uint8_t code[2 * PAGE], again[PAGE];
	int n = rji_zstd_encode(z, page, len_bytes, code, sizeof(code));

	if (n <= 0 || rji_zstd_decode(z, code, (uint32_t)n, again, len_bytes))
		abort();
	if (memcmp(again, page, len_bytes))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct rji_zstd *z;
	/* Of exactly its size, so that ASan sees a byte too far. */
	uint8_t *page = malloc(PAGE);
	int rc;

	if (!page || (!z && rji_zstd_create(1, &z)) || len_bytes > INT32_MAX)
		abort();
	rc = rji_zstd_decode(z, data, (uint32_t)len_bytes, page, PAGE);
	if (rc && rc != -EBADMSG)
		abort();
	if (!rc)
		check_comes_back(z, page, PAGE);
	if (len_bytes <= PAGE)
		check_comes_back(z, data, (uint32_t)len_bytes);
	free(page);
	return 0;
}

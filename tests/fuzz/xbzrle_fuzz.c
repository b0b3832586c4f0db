/* SPDX-License-Identifier: BSD-2-Clause */
/* A page's changes: what is taken is coded and read again, with the same outcome. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pagesender/codec/xbzrle.h"
#include "tests/fuzz/fuzz.h"

#define PAGE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	/* Of exactly its size, so that ASan sees a byte too far. */
	uint8_t *page = malloc(PAGE), old[PAGE], again[PAGE], code[2 * PAGE];
	int rc, n;

	if (!page || len_bytes > RJI_XBZRLE_MAX_BYTES)
		abort();
	for (uint32_t i = 0; i < PAGE; i++)
		old[i] = (uint8_t)(i * 7);
	memcpy(page, old, PAGE);
	rc = rji_xbzrle_decode(data, (uint32_t)len_bytes, page, PAGE);
	if (rc && rc != -EBADMSG)
		abort();

	/* Whatever it made of the page. */
	n = rji_xbzrle_encode(old, page, PAGE, code, sizeof(code));
	memcpy(again, old, PAGE);
	if (n < 0 || !n != !memcmp(old, page, PAGE))
		abort();
	if (n && rji_xbzrle_decode(code, (uint32_t)n, again, PAGE))
		abort();
	if (memcmp(again, page, PAGE))
		abort();
	free(page);
	return 0;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "bench/scan/scan.h"

/*
 * A delta by zstd, with the old page as what came before the new one. The library does not do it: docs/design/0012
 * says why.
 */

struct prefix {
	ZSTD_CCtx *encode;
	ZSTD_DCtx *decode;
	uint8_t old[SCAN_PAGE_BYTES]; /* the page is decoded over it */
};

static void prefix_end(struct scan_worker *w)
{
	struct prefix *p = w->state;

	if (!p)
		return;
	ZSTD_freeCCtx(p->encode);
	ZSTD_freeDCtx(p->decode);
	free(p);
}

static int prefix_begin(struct scan_worker *w)
{
	struct prefix *p = calloc(1, sizeof(*p));

	w->state = p;
	if (!p)
		return -ENOMEM;
	p->encode = ZSTD_createCCtx();
	p->decode = ZSTD_createDCtx();
	if (!p->encode || !p->decode)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(p->encode, ZSTD_c_compressionLevel, w->level);
	ZSTD_CCtx_setParameter(p->encode, ZSTD_c_contentSizeFlag, 0);
	return 0;
}

static int prefix(struct scan_worker *w, uint64_t i, uint8_t *out)
{
	struct prefix *p = w->state;
	size_t n;

	/* It holds for one frame. */
	ZSTD_CCtx_refPrefix(p->encode, scan_old(w, i), SCAN_PAGE_BYTES);
	n = ZSTD_compress2(p->encode, out, SCAN_CODE_BYTES, scan_now(w, i), SCAN_PAGE_BYTES);
	if (!ZSTD_isError(n))
		return (int)n;
	return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? -ENOSPC : -EIO;
}

static int64_t prefix_encode(struct scan_worker *w, uint64_t i)
{
	return scan_encoded(prefix(w, i, scan_staging(w, i)));
}

static int prefix_prepare(struct scan_worker *w)
{
	int ret = prefix_begin(w);

	return ret < 0 ? ret : scan_prepare_decode(w, prefix);
}

static int64_t prefix_decode(struct scan_worker *w, uint64_t i)
{
	struct prefix *p = w->state;
	size_t n;

	if (w->code_bytes[i] <= 0)
		return SCAN_SKIPPED;
	memcpy(p->old, scan_old(w, i), SCAN_PAGE_BYTES);
	ZSTD_DCtx_refPrefix(p->decode, p->old, SCAN_PAGE_BYTES);
	n = ZSTD_decompressDCtx(p->decode, scan_scratch(w, i), SCAN_PAGE_BYTES, scan_code(w, i),
				(size_t)w->code_bytes[i]);
	return scan_decoded(w, i, n == SCAN_PAGE_BYTES ? 0 : -EBADMSG);
}

const struct scan_stage scan_prefix_stages[] = {
	{ .stage = "encode",
	  .variant = "zstd prefix",
	  .begin = prefix_begin,
	  .page = prefix_encode,
	  .end = prefix_end,
	  .is_codec = true,
	  .has_level = true,
	  .needs_old = true },
	{ .stage = "decode",
	  .variant = "zstd prefix",
	  .begin = prefix_prepare,
	  .page = prefix_decode,
	  .check = scan_check_decoded,
	  .end = prefix_end,
	  .is_codec = true,
	  .has_level = true,
	  .needs_old = true },
};
const size_t scan_n_prefix_stages = sizeof(scan_prefix_stages) / sizeof(*scan_prefix_stages);

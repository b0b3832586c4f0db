/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "bench/scan/scan.h"
#include "pagesender/codec/xbzrle.h"
#include "pagesender/codec/zstd_block.h"

/*
 * Coding a page, into memory that the caches have. And back: all pages are coded first, the ones that got smaller are decoded
 * into memory that the caches do not have, and compared in the end.
 */

/* Of what an encoder returned: a page that does not shrink goes as it is, one that did not change does not go. */
int64_t scan_encoded(int n)
{
	return n == -ENOSPC ? (int64_t)SCAN_PAGE_BYTES : n;
}

int scan_prepare_decode(struct scan_worker *w,
			int (*encode)(struct scan_worker *w, uint64_t i, uint8_t *out))
{
	for (uint64_t i = 0; i < w->n_pages; i++) {
		w->code_bytes[i] = encode(w, i, scan_code(w, i));
		if (w->code_bytes[i] < 0 && w->code_bytes[i] != -ENOSPC)
			return w->code_bytes[i];
		if (w->stage->needs_old)
			memcpy(scan_scratch(w, i), scan_old(w, i), SCAN_PAGE_BYTES);
	}
	return 0;
}

int64_t scan_decoded(const struct scan_worker *w, uint64_t i, int ret)
{
	return ret < 0 ? ret : w->code_bytes[i];
}

bool scan_check_decoded(struct scan_worker *w)
{
	for (uint64_t i = 0; i < w->n_pages; i++) {
		if (w->code_bytes[i] > 0 &&
		    memcmp(scan_scratch(w, i), scan_now(w, i), SCAN_PAGE_BYTES) != 0)
			return false;
	}
	return true;
}

static int xbzrle(struct scan_worker *w, uint64_t i, uint8_t *out)
{
	return rji_xbzrle_encode(scan_old(w, i), scan_now(w, i), SCAN_PAGE_BYTES, out,
				 SCAN_CODE_BYTES);
}

static int64_t xbzrle_encode(struct scan_worker *w, uint64_t i)
{
	return scan_encoded(xbzrle(w, i, scan_staging(w, i)));
}

static int xbzrle_prepare(struct scan_worker *w)
{
	return scan_prepare_decode(w, xbzrle);
}

static int64_t xbzrle_decode(struct scan_worker *w, uint64_t i)
{
	if (w->code_bytes[i] <= 0)
		return SCAN_SKIPPED;
	return scan_decoded(w, i,
			    rji_xbzrle_decode(scan_code(w, i), (uint32_t)w->code_bytes[i],
					      scan_scratch(w, i), SCAN_PAGE_BYTES));
}

static int zstd_begin(struct scan_worker *w)
{
	struct rji_zstd *z = NULL;
	int ret = rji_zstd_create(w->level, &z);

	w->state = z;
	return ret;
}

static void zstd_end(struct scan_worker *w)
{
	struct rji_zstd *z = w->state;

	rji_zstd_destroy(&z);
}

static int zstd(struct scan_worker *w, uint64_t i, uint8_t *out)
{
	return rji_zstd_encode(w->state, scan_now(w, i), SCAN_PAGE_BYTES, out, SCAN_CODE_BYTES);
}

static int64_t zstd_encode(struct scan_worker *w, uint64_t i)
{
	return scan_encoded(zstd(w, i, scan_staging(w, i)));
}

static int zstd_prepare(struct scan_worker *w)
{
	int ret = zstd_begin(w);

	return ret < 0 ? ret : scan_prepare_decode(w, zstd);
}

static int64_t zstd_decode(struct scan_worker *w, uint64_t i)
{
	if (w->code_bytes[i] <= 0)
		return SCAN_SKIPPED;
	return scan_decoded(w, i,
			    rji_zstd_decode(w->state, scan_code(w, i), (uint32_t)w->code_bytes[i],
					    scan_scratch(w, i), SCAN_PAGE_BYTES));
}

/* A delta where that is small, else the page by itself. */
static int64_t either_encode(struct scan_worker *w, uint64_t i)
{
	int n = rji_xbzrle_encode(scan_old(w, i), scan_now(w, i), SCAN_PAGE_BYTES,
				  scan_staging(w, i), SCAN_PAGE_BYTES / 4);

	return n == -ENOSPC ? zstd_encode(w, i) : n;
}

const struct scan_stage scan_codec_stages[] = {
	{ .stage = "encode",
	  .variant = "xbzrle",
	  .page = xbzrle_encode,
	  .is_codec = true,
	  .needs_old = true },
	{ .stage = "decode",
	  .variant = "xbzrle",
	  .begin = xbzrle_prepare,
	  .page = xbzrle_decode,
	  .check = scan_check_decoded,
	  .is_codec = true,
	  .needs_old = true },
	{ .stage = "encode",
	  .variant = "zstd",
	  .begin = zstd_begin,
	  .page = zstd_encode,
	  .end = zstd_end,
	  .is_codec = true,
	  .has_level = true },
	{ .stage = "decode",
	  .variant = "zstd",
	  .begin = zstd_prepare,
	  .page = zstd_decode,
	  .check = scan_check_decoded,
	  .end = zstd_end,
	  .is_codec = true,
	  .has_level = true },
	{ .stage = "encode",
	  .variant = "xbzrle or zstd",
	  .begin = zstd_begin,
	  .page = either_encode,
	  .end = zstd_end,
	  .is_codec = true,
	  .has_level = true,
	  .needs_old = true },
};
const size_t scan_n_codec_stages = sizeof(scan_codec_stages) / sizeof(*scan_codec_stages);

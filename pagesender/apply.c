/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/apply.h"

#include <errno.h>

#include "pagesender/codec/xbzrle.h"
#include "pagesender/codec/zstd_block.h"
#include "transport/clear.h"

/* One lane's. */
static int create(void **ctx_p)
{
	struct rji_zstd *zstd;
	int ret = rji_zstd_create(RJI_ZSTD_LEVEL, &zstd);

	if (!ret)
		*ctx_p = zstd;
	return ret;
}

static void destroy(void **ctx_p)
{
	struct rji_zstd *zstd = *ctx_p;

	rji_zstd_destroy(&zstd);
	*ctx_p = NULL;
}

static int apply(void *ctx, unsigned int coding, const void *code, uint32_t code_bytes, void *page,
		 uint32_t len_bytes, struct rj_error *err)
{
	int ret = -EBADMSG;

	switch (coding) {
	case RJI_CODING_ZEROS: rji_clear_memory(page, len_bytes); return 0;
	case RJI_CODING_XBZRLE: ret = rji_xbzrle_decode(code, code_bytes, page, len_bytes); break;
	case RJI_CODING_ZSTD: ret = rji_zstd_decode(ctx, code, code_bytes, page, len_bytes); break;
	}
	return ret < 0 ? rji_fail(err, RJ_E_PROTOCOL,
				  "%u bytes of coding %u do not make %u bytes of pages", code_bytes,
				  coding, len_bytes)
		       : 0;
}

const struct rji_apply_ops rji_apply = { .create = create, .apply = apply, .destroy = destroy };

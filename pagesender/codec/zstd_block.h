/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_ZSTD_BLOCK_H
#define RJI_PAGESENDER_ZSTD_BLOCK_H

#include <stdint.h>

/*
 * Pages compressed by zstd: a frame each, without content size and checksum. One for each thread that codes or decodes:
 * it keeps the working memory. Decoding has its memory from create on; encoding takes it at the first call, and again only
 * for a block that is longer than all before, or after more than a hundred that were much shorter.
 */
struct rji_zstd;

#define RJI_ZSTD_LEVEL 1 /* of pages on their way */

/* level: 1 and up, the higher the smaller; negative ones are faster. -EINVAL: zstd knows no such level; -ENOMEM. */
int rji_zstd_create(int level, struct rji_zstd **z_p);
void rji_zstd_destroy(struct rji_zstd **z_p);
/* Memory that it has; grows when it is first used. */
uint64_t rji_zstd_bytes(const struct rji_zstd *z);

/*
 * Nobody writes to from meanwhile. Return the length of the code, at least 1; -ENOSPC: it is longer than out_bytes, and
 * what is in out means nothing; -ENOMEM; -EIO for whatever else zstd says, which is not expected.
 */
int rji_zstd_encode(struct rji_zstd *z, const void *from, uint32_t len_bytes, void *out,
		    uint32_t out_bytes);

/*
 * Any bytes may come as code. Return 0 with exactly len_bytes in out; else -EBADMSG, and out has been written to in part
 * or not at all, never outside. -ENOMEM.
 */
int rji_zstd_decode(struct rji_zstd *z, const void *code, uint32_t code_bytes, void *out,
		    uint32_t len_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_XBZRLE_H
#define RJI_PAGESENDER_XBZRLE_H

#include <stdint.h>

/*
 * A page as what changed against an older copy of it, in QEMU's XBZRLE:
 *
 *   { equal  changed  bytes }...
 *
 *   equal    how many bytes are as before; 0 at the start only
 *   changed  how many bytes follow, 1 at least
 *   bytes    the new content of these
 *
 * Both counts are ULEB128: 7 bits a byte, the low ones first, the top bit set in all bytes but the last, no byte
 * more than needed, 4 bytes at most. What comes after the last changed byte is not written.
 */
#define RJI_XBZRLE_MAX_BYTES ((1u << 28) - 1) /* longest page */

/*
 * Code now against old, both of len_bytes; nobody writes to either meanwhile. Up to three equal bytes
 * among changed ones are coded as changed. Return the length of the code; 0: no difference, and no code; -ENOSPC: it would be longer than
 * out_bytes, and what is in out means nothing.
 */
int rji_xbzrle_encode(const uint8_t *old, const uint8_t *now, uint32_t len_bytes, uint8_t *out,
		      uint32_t out_bytes);

/*
 * page has the old content and gets the new. Any bytes may come as code: never does it write outside the page. Return 0;
 * -EBADMSG for what is no code of a page of this length, such as none at all: then the page may have been changed up to
 * where it went wrong.
 */
int rji_xbzrle_decode(const uint8_t *code, uint32_t code_bytes, uint8_t *page, uint32_t len_bytes);

#endif

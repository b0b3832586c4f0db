/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <xxhash.h>

#include "base/hash.h"
#include "bench/scan/scan.h"

/* The hash that tells unchanged pages, and SHA-1, which the work of 2016 took for it. */

static int secret_begin(struct scan_worker *w)
{
	w->state = malloc(sizeof(struct rji_hash128_secret));
	return w->state ? rji_hash128_secret_init(w->state) : -ENOMEM;
}

static void secret_end(struct scan_worker *w)
{
	free(w->state);
}

static int64_t xxh3(struct scan_worker *w, uint64_t i)
{
	struct rji_hash128 h = rji_hash128(w->state, scan_now(w, i), SCAN_PAGE_BYTES);

	w->sink += h.lo ^ h.hi;
	return SCAN_PAGE_BYTES;
}

/* What the shared library has, which the library calls where it has nothing better. */
static int64_t xxh3_shared(struct scan_worker *w, uint64_t i)
{
	const struct rji_hash128_secret *secret = w->state;
	XXH128_hash_t h = XXH3_128bits_withSecret(scan_now(w, i), SCAN_PAGE_BYTES, secret->bytes,
						  sizeof(secret->bytes));

	w->sink += h.low64 ^ h.high64;
	return SCAN_PAGE_BYTES;
}

struct sha1 {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
};

static void sha1_end(struct scan_worker *w)
{
	struct sha1 *s = w->state;

	if (!s)
		return;
	EVP_MD_CTX_free(s->ctx);
	EVP_MD_free(s->md);
	free(s);
}

static int sha1_begin(struct scan_worker *w)
{
	struct sha1 *s = calloc(1, sizeof(*s));

	w->state = s;
	if (!s)
		return -ENOMEM;
	s->md = EVP_MD_fetch(NULL, "SHA1", NULL);
	s->ctx = EVP_MD_CTX_new();
	return s->md && s->ctx ? 0 : -ENOTSUP;
}

static int64_t sha1(struct scan_worker *w, uint64_t i)
{
	struct sha1 *s = w->state;
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (!EVP_DigestInit_ex2(s->ctx, s->md, NULL) ||
	    !EVP_DigestUpdate(s->ctx, scan_now(w, i), SCAN_PAGE_BYTES) ||
	    !EVP_DigestFinal_ex(s->ctx, digest, NULL))
		return -EIO;
	w->sink += digest[0];
	return SCAN_PAGE_BYTES;
}

const struct scan_stage scan_hash_stages[] = {
	{ .stage = "hash",
	  .variant = "xxh3-128",
	  .begin = secret_begin,
	  .page = xxh3,
	  .end = secret_end },
	{ .stage = "hash",
	  .variant = "xxh3-128 shared",
	  .begin = secret_begin,
	  .page = xxh3_shared,
	  .end = secret_end },
	{ .stage = "hash", .variant = "sha1", .begin = sha1_begin, .page = sha1, .end = sha1_end },
};
const size_t scan_n_hash_stages = sizeof(scan_hash_stages) / sizeof(*scan_hash_stages);

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_OLD_PAGES_H
#define RJI_PAGESENDER_FILTER_OLD_PAGES_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/hash.h"

/*
 * Copies of pages as they were sent, so that the next time only the difference goes out. Each page has one
 * place, where another may have come meanwhile. A copy is of use only if it has the hash that the page's
 * content at the destination has: so nothing needs to be done here when a page is sent in another way.
 *
 * All lanes share it. A place is taken for as long as it is read or written; one that is taken is passed
 * by, which costs a delta.
 */
#define RJI_OLD_PAGE_BYTES 4096u

struct rji_old_pages;

/* Memory is used only as pages come. NULL: no memory. */
struct rji_old_pages *rji_old_pages_create(uint64_t bytes);
void rji_old_pages_destroy(struct rji_old_pages *o);
/* Memory in use. */
uint64_t rji_old_pages_bytes(const struct rji_old_pages *o);

/* number: of a page among all of the guest. Take its place; NULL: somebody has it. */
struct rji_old_page *rji_old_page_take(struct rji_old_pages *o, uint64_t number);
void rji_old_page_leave(struct rji_old_page *p);
/* The copy, if it is of this page with this hash; else NULL. */
uint8_t *rji_old_page_find(struct rji_old_pages *o, struct rji_old_page *p, uint64_t number,
			   const struct rji_hash128 *hash);
/* Put one in. */
void rji_old_page_put(struct rji_old_pages *o, struct rji_old_page *p, uint64_t number,
		      const struct rji_hash128 *hash, const void *page);

#endif

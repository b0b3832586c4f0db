/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <ramjet/tracker.h>

#include "base/bitmap.h"
#include "base/uffd.h"
#include "pagesender/dirty/tracker_impl.h"

/*
 * userfaultfd write-protection as a tracker: a page is dirty while it is not protected, so
 * everything is at the start.
 *
 *   collect   PAGEMAP_SCAN: which pages are not protected
 *   rearm     protect. A write before that is covered since the page is read afterwards, so that
 *             few runs are simply protected, exactly as given. Many runs would be as many system
 *             calls; then one PAGEMAP_SCAN protects whatever it finds dirty between the first and
 *             the last of them and says so.
 *
 * Protecting by rearm and not at the start makes the start cheap, and the first round protects
 * window by window; it also fills the holes of a window with markers, so that a lane which reads a
 * hole afterwards does not make it look written.
 */

/* A scan has to look at every page of a window; so much for a system call more. */
#define MAX_RUNS 8u

struct wp_region {
	void *host; /* NULL: not attached */
	uint64_t len_bytes;
	uint32_t page_bytes;
};

struct uffd_wp {
	struct rji_uffd uffd;
	uint32_t n_regions;
	struct wp_region *regions; /* by region number */
};

static int add_region(struct uffd_wp *w, uint32_t region, const struct wp_region *wr)
{
	if (region >= w->n_regions) {
		struct wp_region *more;

		more = reallocarray(w->regions, region + 1ul, sizeof(*more));
		if (!more)
			return -ENOMEM;
		for (uint32_t i = w->n_regions; i <= region; i++)
			more[i] = (struct wp_region){ 0 };
		w->regions = more;
		w->n_regions = region + 1;
	}
	w->regions[region] = *wr;
	return 0;
}

/*
 * Registering is harmless as long as nothing is protected, so attach does it to learn whether the
 * memory can be. EINVAL for one page alone: it is a part of a huge page.
 */
static int wp_attach(void *t, uint32_t region, const struct rj_region *r, char *why,
		     size_t why_bytes)
{
	struct uffd_wp *w = t;
	struct wp_region wr = { r->host, r->len_bytes, r->page_bytes };
	int ret = rji_uffd_register(&w->uffd, r->host, r->page_bytes);

	if (ret == -EINVAL) {
		snprintf(why, why_bytes,
			 "region %s cannot be write-protected by pages of %u bytes: for memory of "
			 "hugetlbfs, page_bytes must be its page size",
			 r->name, r->page_bytes);
		return ret;
	}
	if (ret == -EBUSY) {
		snprintf(why, why_bytes, "another userfaultfd watches region %s", r->name);
		return ret;
	}
	if (ret >= 0)
		ret = rji_uffd_register(&w->uffd, r->host, r->len_bytes);
	if (ret >= 0)
		ret = add_region(w, region, &wr);
	if (ret < 0) {
		snprintf(why, why_bytes, "userfaultfd cannot watch region %s (errno %d)", r->name,
			 -ret);
		return ret;
	}
	return 1;
}

/* Nothing to do: everything is watched since attach and counts as dirty until it is re-armed. */
static int wp_start(void *t)
{
	return 0;
}

/* Unregistering takes off all protection. */
static int wp_stop(void *t)
{
	struct uffd_wp *w = t;
	int ret = 0;

	for (uint32_t i = 0; i < w->n_regions; i++) {
		struct wp_region *wr = &w->regions[i];
		int one = wr->host ? rji_uffd_unregister(&w->uffd, wr->host, wr->len_bytes) : 0;

		ret = ret ? ret : one;
		wr->host = NULL;
	}
	return ret;
}

static const struct wp_region *find_region(const struct uffd_wp *w, uint32_t region)
{
	return region < w->n_regions && w->regions[region].host ? &w->regions[region] : NULL;
}

static int wp_collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		      uint64_t *bits)
{
	struct uffd_wp *w = t;
	const struct wp_region *wr = find_region(w, region);

	return wr ? rji_uffd_scan(&w->uffd, wr->host, wr->page_bytes, first_page, n_pages, bits,
				  false)
		  : 0;
}

/* Up to MAX_RUNS + 1. */
static uint32_t count_runs(const uint64_t *bits, uint64_t n_pages)
{
	uint64_t first = 0, n;
	uint32_t runs = 0;

	while (runs <= MAX_RUNS && (n = rji_bitmap_next_run(bits, &first, n_pages))) {
		first += n;
		runs++;
	}
	return runs;
}

static int protect_runs(struct uffd_wp *w, const struct wp_region *wr, uint64_t first_page,
			uint64_t n_pages, const uint64_t *bits)
{
	uint64_t first = 0, n;

	while ((n = rji_bitmap_next_run(bits, &first, n_pages))) {
		char *p = (char *)wr->host + (first_page + first) * wr->page_bytes;
		int ret = rji_uffd_protect(&w->uffd, p, n * wr->page_bytes);

		if (ret < 0)
			return ret;
		first += n;
	}
	return 0;
}

static int wp_rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages, uint64_t *bits)
{
	struct uffd_wp *w = t;
	const struct wp_region *wr = find_region(w, region);
	uint64_t from = 0, to = rji_bitmap_words(n_pages);

	if (!wr)
		return 0;
	if (count_runs(bits, n_pages) <= MAX_RUNS)
		return protect_runs(w, wr, first_page, n_pages, bits);
	while (!bits[from])
		from++;
	while (!bits[to - 1])
		to--;
	first_page += from * RJI_WORD_BITS;
	n_pages -= from * RJI_WORD_BITS;
	if (n_pages > (to - from) * RJI_WORD_BITS)
		n_pages = (to - from) * RJI_WORD_BITS;
	return rji_uffd_scan(&w->uffd, wr->host, wr->page_bytes, first_page, n_pages, bits + from,
			     true);
}

static void wp_destroy(void *t)
{
	struct uffd_wp *w = t;

	rji_uffd_close(&w->uffd); /* this unregisters, too */
	free(w->regions);
	free(w);
}

static const struct rj_tracker_ops wp_ops = {
	.size = sizeof(wp_ops),
	.name = "userfaultfd write-protection",
	.attach = wp_attach,
	.start = wp_start,
	.stop = wp_stop,
	.collect = wp_collect,
	.rearm = wp_rearm,
	.destroy = wp_destroy,
};

bool rji_tracker_is_uffd_wp(const struct rj_tracker *t)
{
	return t->ops.collect == wp_collect;
}

int rj_uffd_wp_create(struct rj_tracker **tracker_p)
{
	struct uffd_wp *w;
	int ret;

	if (!tracker_p)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	ret = rji_uffd_open(&w->uffd);
	if (ret < 0)
		goto free_w;
	ret = rj_tracker_create(&wp_ops, w, tracker_p);
	if (ret < 0)
		goto close_uffd;
	return 0;
close_uffd:
	rji_uffd_close(&w->uffd);
free_w:
	free(w);
	return ret;
}

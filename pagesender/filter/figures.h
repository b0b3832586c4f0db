/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_PAGESENDER_FILTER_FIGURES_H
#define RJI_PAGESENDER_FILTER_FIGURES_H

#include <stdatomic.h>
#include <stdint.h>

/* What became of pages: struct rj_page_counts. */
enum rji_kind {
	RJI_KIND_NORMAL,
	RJI_KIND_ZERO,
	RJI_KIND_HOLE,
	RJI_KIND_FREE,
	RJI_KIND_SAME,
	RJI_KIND_DELTA,
	RJI_KIND_ZSTD,
	RJI_N_KINDS,
};

/* One filter's account, of all lanes; any thread reads. */
struct rji_filter_figures {
	_Atomic uint64_t saved_bytes;
	_Atomic uint64_t cost_ns;
	_Atomic uint64_t came, applied; /* pages that came to it, and those it looked at */
};

/* A lane keeps its own until the end of a span, then adds them here. */
struct rji_filter_account {
	uint64_t saved_bytes, cost_ns, came, applied;
};

/* The lanes share the line: what is 0 is not added. */
static inline void rji_figure_add(_Atomic uint64_t *figure, uint64_t n)
{
	if (n)
		atomic_fetch_add_explicit(figure, n, memory_order_relaxed);
}

static inline void rji_figures_add(struct rji_filter_figures *f, const struct rji_filter_account *a)
{
	rji_figure_add(&f->saved_bytes, a->saved_bytes);
	rji_figure_add(&f->cost_ns, a->cost_ns);
	rji_figure_add(&f->came, a->came);
	rji_figure_add(&f->applied, a->applied);
}

/* A moving average of what a page costs, of which the newest is one part in so many. */
static inline void rji_average(uint64_t *ns, uint64_t seen, uint64_t parts)
{
	*ns = *ns ? *ns - *ns / parts + seen / parts : seen;
}

#endif

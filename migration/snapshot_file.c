/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking at a snapshot without a guest: <ramjet/snapshot.h>. */
#include <ramjet/snapshot.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bitmap.h"
#include "migration/env_impl.h"
#include "transport/file/snap_loader.h"

struct rj_snapshot {
	struct rj_env *env;
	struct rji_snap_reader *reader;
};

int rj_snapshot_open(struct rj_env *env, const char *path, struct rj_snapshot **snap_p,
		     struct rj_error *e_p)
{
	struct rj_snapshot *snap;
	struct rj_error err;
	int ret;

	if (!env || !path || !snap_p || (e_p && e_p->size != sizeof(*e_p)))
		return -EINVAL;
	rji_error_init(&err);
	snap = calloc(1, sizeof(*snap));
	if (!snap)
		return -ENOMEM;
	snap->env = env;
	ret = rji_snap_reader_open(&snap->reader, path, &err);
	if (ret < 0) {
		free(snap);
		if (e_p)
			*e_p = err;
		return ret;
	}
	*snap_p = snap;
	return 0;
}

void rj_snapshot_close(struct rj_snapshot **snap_p)
{
	struct rj_snapshot *snap = snap_p ? *snap_p : NULL;

	if (!snap)
		return;
	rji_snap_reader_close(&snap->reader);
	free(snap);
	*snap_p = NULL;
}

int rj_snapshot_info(const struct rj_snapshot *snap, struct rj_snapshot_info *info_p)
{
	const struct rji_snap *in = snap ? &snap->reader->snap : NULL;
	struct rj_snapshot_info info = { .size = sizeof(info) };
	struct stat st;

	if (!snap || !info_p || info_p->size != sizeof(info))
		return -EINVAL;
	if (fstat(snap->reader->meta_fd, &st) < 0)
		return -errno;
	info.major = RJI_SNAP_MAJOR;
	info.minor = in->minor;
	info.n_regions = in->n_regions;
	info.file_bytes = in->file_bytes;
	info.disk_bytes = (uint64_t)st.st_blocks * 512;
	info.guest_bytes = in->guest_bytes;
	info.setup_bytes = in->setup.len_bytes;
	info.state_bytes = in->state.len_bytes;
	info.created_s = in->created_s;
	info.run = in->flags & RJI_SNAP_RUN ? 1 : 0;
	memcpy(info.id, in->id, sizeof(info.id));
	for (uint32_t i = 0; i < in->n_regions; i++)
		info.present_bytes += in->region[i].n_present * RJI_SNAP_PAGE_BYTES;
	*info_p = info;
	return 0;
}

int rj_snapshot_region(const struct rj_snapshot *snap, uint32_t i, struct rj_snapshot_region *r_p)
{
	const struct rji_snap_region *in;

	if (!snap || !r_p || r_p->size != sizeof(*r_p))
		return -EINVAL;
	if (i >= snap->reader->snap.n_regions)
		return -ENOENT;
	in = &snap->reader->snap.region[i];
	*r_p = (struct rj_snapshot_region){
		.size = sizeof(*r_p),
		.len_bytes = in->len_bytes,
		.gpa = in->gpa,
		.page_bytes = in->page_bytes,
		.present_bytes = in->n_present * RJI_SNAP_PAGE_BYTES,
	};
	memcpy(r_p->name, in->name, sizeof(r_p->name));
	return 0;
}

/* Pages of [first, end) in the file. */
static uint64_t count_present(const uint64_t *present, uint64_t first, uint64_t end)
{
	uint64_t n = 0, run;

	while ((run = rji_bitmap_next_run(present, &first, end))) {
		n += run;
		first += run;
	}
	return n;
}

int rj_snapshot_cells(struct rj_snapshot *snap, uint32_t i, uint8_t *cells, uint32_t n_cells,
		      struct rj_error *e_p)
{
	struct rj_error err;
	uint64_t n_pages;
	int ret;

	if (!snap || !cells || !n_cells || (e_p && e_p->size != sizeof(*e_p)))
		return -EINVAL;
	if (i >= snap->reader->snap.n_regions)
		return -ENOENT;
	rji_error_init(&err);
	ret = rji_snap_reader_load_maps(snap->reader, i, &err);
	if (ret < 0) {
		if (e_p)
			*e_p = err;
		return ret;
	}
	n_pages = rji_snap_n_pages(&snap->reader->snap.region[i]);
	for (uint32_t c = 0; c < n_cells; c++) {
		uint64_t first = (uint64_t)((__uint128_t)n_pages * c / n_cells);
		uint64_t end = (uint64_t)((__uint128_t)n_pages * (c + 1) / n_cells);
		uint64_t n = count_present(snap->reader->present[i], first, end);

		cells[c] = n ? (uint8_t)(1 + 254 * n / (end - first)) : 0;
	}
	return 0;
}

/* An area that is only compared. */
static int check_area(const struct rji_snap_reader *r, const struct rji_snap_area *area,
		      const char *what, struct rj_error *err)
{
	void *bytes;
	int ret = rji_snap_reader_get(r, area, what, &bytes, err);

	if (!ret)
		free(bytes);
	return ret;
}

static int verify(struct rj_snapshot *snap, uint32_t n_threads, uint64_t *done_bytes_p,
		  struct rj_error *err)
{
	struct rji_snap_reader *r = snap->reader;
	struct rji_snap_loading l = {
		.reader = r,
		.host = &snap->env->host,
		.n_lanes = n_threads ? n_threads : 2,
		.done_bytes = (_Atomic uint64_t *)done_bytes_p,
	};
	int ret = check_area(r, &r->snap.setup, "set-up blob", err);

	if (!ret)
		ret = check_area(r, &r->snap.state, "device state", err);
	for (uint32_t i = 0; !ret && i < r->snap.n_regions; i++)
		ret = rji_snap_reader_load_maps(r, i, err);
	return ret ? ret : rji_snap_load(&l, err);
}

int rj_snapshot_verify(struct rj_snapshot *snap, uint32_t n_threads, uint64_t *done_bytes_p,
		       struct rj_error *e_p)
{
	struct rj_error err;
	int ret;

	if (!snap || n_threads > RJ_MAX_LANES || (e_p && e_p->size != sizeof(*e_p)))
		return -EINVAL;
	rji_error_init(&err);
	ret = verify(snap, n_threads, done_bytes_p, &err);
	if (ret < 0) {
		rji_fail(&err, ret, "%s", rj_strerror(ret));
		if (e_p)
			*e_p = err;
	}
	return ret;
}

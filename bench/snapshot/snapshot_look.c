/* SPDX-License-Identifier: BSD-2-Clause */
/* verify and info: a file, without a guest. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/common/units.h"
#include "bench/snapshot/snapshot_bench.h"

#define MAP_CELLS 256u
#define MAP_WIDTH 64u

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct rj_snapshot *open_file(struct rj_env *env, const struct snapshot_opts *o,
				     struct snapshot_result *res, struct rj_snapshot_info *info)
{
	struct rj_error e = { .size = sizeof(e) };
	struct rj_snapshot *snap = NULL;
	int ret = rj_snapshot_open(env, o->file, &snap, &e);

	info->size = sizeof(*info);
	if (!ret)
		ret = rj_snapshot_info(snap, info);
	if (ret < 0) {
		report_fail(res, "%s", e.text[0] ? e.text : rj_strerror(ret));
		rj_snapshot_close(&snap);
		return NULL;
	}
	res->st.guest_bytes = info->guest_bytes;
	res->st.state_bytes = info->state_bytes;
	res->file_bytes = info->file_bytes;
	res->disk_bytes = info->disk_bytes;
	return snap;
}

void snapshot_check_file(struct rj_env *env, const struct snapshot_opts *o,
			 struct snapshot_result *res)
{
	struct rj_error e = { .size = sizeof(e) };
	struct rj_snapshot_info info;
	struct rj_snapshot *snap = open_file(env, o, res, &info);
	uint64_t done = 0;
	int ret;

	res->verified = 0;
	if (!snap)
		return;
	report_progress_start(NULL, &done, info.present_bytes);
	ret = rj_snapshot_verify(snap, o->n_lanes, &done, &e);
	report_progress_stop();
	rj_snapshot_close(&snap);
	res->verified = !ret;
	if (ret < 0)
		report_fail(res, "%s", e.text[0] ? e.text : rj_strerror(ret));
	else
		snprintf(res->verify_text, sizeof(res->verify_text),
			 "all checksums match over %" PRIu64 " pages in the file",
			 info.present_bytes / 4096);
	if (!res->st.total_ns)
		res->st.transferred_bytes = done;
}

void snapshot_verify(struct rj_env *env, const struct snapshot_opts *o, struct snapshot_result *res)
{
	uint64_t began = now_ns();

	snapshot_check_file(env, o, res);
	res->st.total_ns = now_ns() - began;
}

/* --- info --- */

static void draw(const uint8_t *cells, uint32_t n_cells, uint64_t len_bytes)
{
	static const char *const shades[] = { "\u00b7", "\u2591", "\u2592", "\u2593", "\u2588" };

	for (uint32_t i = 0; i < n_cells; i++) {
		if (i % MAP_WIDTH == 0)
			printf("  %9s ", UNITS_BYTES(len_bytes / n_cells * i));
		fputs(shades[cells[i] ? 1 + cells[i] / 85 : 0], stdout);
		if (i % MAP_WIDTH == MAP_WIDTH - 1 || i == n_cells - 1)
			putchar('\n');
	}
}

static int print_region(struct rj_snapshot *snap, uint32_t i, struct rj_error *e)
{
	struct rj_snapshot_region r = { .size = sizeof(r) };
	uint8_t cells[MAP_CELLS];
	uint32_t n_cells = MAP_CELLS;
	int ret = rj_snapshot_region(snap, i, &r);

	if (!ret && r.len_bytes / 4096 < n_cells)
		n_cells = (uint32_t)(r.len_bytes / 4096);
	if (!ret)
		ret = rj_snapshot_cells(snap, i, cells, n_cells, e);
	if (ret < 0)
		return ret;
	printf("region %s: %s", r.name, UNITS_BYTES(r.len_bytes));
	if (r.gpa != RJ_NO_GPA)
		printf(" at guest-physical 0x%" PRIx64, r.gpa);
	printf(", pages of %u bytes, %s in the file\n", r.page_bytes, UNITS_BYTES(r.present_bytes));
	draw(cells, n_cells, r.len_bytes);
	return 0;
}

static void print_head(const struct rj_snapshot_info *info)
{
	time_t created = (time_t)info->created_s;
	char when[64] = "?";
	struct tm tm;

	if (gmtime_r(&created, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	printf("snapshot, format %u.%u, saved %s, id ", info->major, info->minor, when);
	for (size_t i = 0; i < sizeof(info->id); i++)
		printf("%02x", info->id[i]);
	printf("\nguest %s, was %s; %s in the file, device state %s, set-up %s\n",
	       UNITS_BYTES(info->guest_bytes), info->run ? "running" : "paused",
	       UNITS_BYTES(info->present_bytes), UNITS_BYTES(info->state_bytes),
	       UNITS_BYTES(info->setup_bytes));
	printf("file %s, %s on disk\n", UNITS_BYTES(info->file_bytes),
	       UNITS_BYTES(info->disk_bytes));
}

void snapshot_info(struct rj_env *env, const struct snapshot_opts *o, struct snapshot_result *res)
{
	struct rj_error e = { .size = sizeof(e) };
	struct rj_snapshot_info info;
	struct rj_snapshot *snap = open_file(env, o, res, &info);
	int ret = 0;

	if (!snap)
		return;
	if (!o->json)
		print_head(&info);
	for (uint32_t i = 0; !ret && !o->json && i < info.n_regions; i++)
		ret = print_region(snap, i, &e);
	if (!ret && !o->json)
		printf("in the file: \u00b7 nothing (zero)  \u2591 a little  \u2592 \u2593 more  \u2588 all\n");
	if (ret < 0)
		report_fail(res, "%s", e.text[0] ? e.text : rj_strerror(ret));
	rj_snapshot_close(&snap);
}

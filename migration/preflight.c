/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Before anything is sent: can every write to every region be seen? A guest whose memory cannot be
 * tracked would arrive with old pages and nobody would notice, so what is not known to be trackable
 * is refused, by name.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migration/session_impl.h"
#include "pagesender/dirty/tracker_impl.h"

/* A line of /proc/self/maps (proc(5)). */
struct mapping {
	uint64_t start, end;
	char perms[8];
	char path[256];
};

static bool parse_mapping(const char *line, struct mapping *m)
{
	m->path[0] = '\0';
	return sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %255[^\n]", &m->start, &m->end,
		      m->perms, m->path) >= 3;
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* Is this a kind of memory whose writes trackers see? */
static bool is_plain_memory(const struct mapping *m)
{
	if (!m->path[0] || begins(m->path, "[anon") || begins(m->path, "[heap]") ||
	    begins(m->path, "/memfd:"))
		return true;
	if (begins(m->path, "/dev/shm/") || begins(m->path, "/dev/hugepages") ||
	    begins(m->path, "/dev/zero") || begins(m->path, "/anon_hugepage"))
		return true;
	return m->path[0] == '/' && !begins(m->path, "/dev/") && !begins(m->path, "/[") &&
	       !strstr(m->path, "guest_memfd") && !strstr(m->path, "gmem");
}

static int check_mapping(const struct rji_given_region *g, const struct mapping *m,
			 struct rj_error *err)
{
	if (m->perms[0] != 'r')
		return rji_fail(err, RJ_E_REGION, "region '%s' is not readable at 0x%" PRIx64,
				g->name, m->start);
	if (!is_plain_memory(m))
		return rji_fail(
			err, RJ_E_UNTRACKED,
			"region '%s' maps '%.200s', memory whose writes cannot be tracked; unplug it or leave it out",
			g->name, m->path);
	return 0;
}

/* Walk the maps over one region: all of it must be mapped, and by memory we know. */
static int check_region_memory(FILE *maps, const struct rji_given_region *g, struct rj_error *err)
{
	uint64_t at = (uintptr_t)g->r.host, end = at + g->r.len_bytes;
	struct mapping m;
	char line[512];

	rewind(maps);
	while (at < end && fgets(line, sizeof(line), maps)) {
		int ret;

		if (!parse_mapping(line, &m) || m.end <= at)
			continue;
		if (m.start > at)
			break;
		ret = check_mapping(g, &m, err);
		if (ret < 0)
			return ret;
		at = m.end;
	}
	if (at < end)
		return rji_fail(err, RJ_E_REGION, "region '%s' is not mapped at 0x%" PRIx64,
				g->name, at);
	return 0;
}

static int check_memory(struct rj_session *s, struct rj_error *err)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int ret = 0;

	if (!maps) /* a sandbox without /proc: the VMM knows what it maps */
		return 0;
	for (uint32_t i = 0; !ret && i < s->n_given; i++)
		ret = check_region_memory(maps, &s->given[i], err);
	fclose(maps);
	return ret;
}

/* Ask every tracker about a region; keep those that cover it. */
static int attach_trackers(struct rj_session *s, uint32_t region, struct rj_error *err)
{
	struct rji_pageset_region *r = &s->set.region[region];

	r->n_trackers = 0; /* a start that failed may be tried again */
	for (uint32_t i = 0; i < s->n_trackers; i++) {
		struct rj_tracker *t = s->trackers[i];
		char why[256] = "";
		int ret = t->ops.attach(t->t, region, &s->given[region].r, why, sizeof(why));

		if (ret < 0)
			return rji_fail(err, RJ_E_UNTRACKED,
					"the tracker '%s' cannot track region '%s': %s",
					t->ops.name, r->name, why[0] ? why : rj_strerror(ret));
		if (ret > 0)
			r->trackers[r->n_trackers++] = (struct rji_attached){ &t->ops, t->t };
	}
	if (!r->n_trackers && !(r->flags & RJ_REGION_MARKED))
		return rji_fail(
			err, RJ_E_UNTRACKED,
			"nobody tracks the writes to region '%s': add a tracker, or give it RJ_REGION_MARKED if every writer calls rj_mark_dirty()",
			r->name);
	return 0;
}

int rji_preflight(struct rj_session *s, struct rj_error *err)
{
	int ret;

	if (s->blocker)
		return rji_fail(err, RJ_E_UNTRACKED, "%.400s", s->blocker);
	ret = check_memory(s, err);
	for (uint32_t i = 0; !ret && i < s->n_given; i++)
		ret = attach_trackers(s, i, err);
	return ret;
}

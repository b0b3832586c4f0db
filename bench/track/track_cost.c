/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/track/track.h"

/*
 * How far the guest comes and how much CPU its vCPU takes for it, while a round follows the other
 * and nothing is sent. CPU time says most where the guest has time to spare, progress where it has
 * none.
 */

/* CPU time of the thread that runs the vCPU. */
static uint64_t vcpu_cpu_ns(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	uint64_t ns = 0;

	while (dir && (e = readdir(dir))) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (!fgets(name, sizeof(name), f))
			name[0] = '\0';
		fclose(f);
		if (strncmp(name, "guest-vcpu", 10) != 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", e->d_name);
		f = fopen(path, "re");
		if (f && fscanf(f, "%" SCNu64, &ns) != 1)
			ns = 0;
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return ns;
}

static int rounds(struct track_bed *b, const struct track_opts *o, char *why, size_t why_bytes)
{
	uint64_t end = rji_now_ns() + o->duration_ms * RJI_NS_PER_MS;
	struct rji_dirt dirt;
	int64_t ret = 0;

	while (ret >= 0 && rji_now_ns() < end) {
		usleep(o->interval_ms * 1000);
		if (!b->ops)
			continue;
		ret = track_bed_collect(b, &dirt, why, why_bytes);
		if (!ret)
			ret = track_bed_round(b, why, why_bytes);
	}
	return ret < 0 ? (int)ret : 0;
}

static int run(struct track_bed *b, const struct track_opts *o, const char *tracker, uint32_t rate,
	       char *why, size_t why_bytes)
{
	uint64_t began, ns, beats, vcpu_ns, own_ns;
	int ret = guest_run(b->guest);

	if (!ret && b->ops) /* the bulk round */
		ret = track_bed_round(b, why, why_bytes) < 0 ? -EIO : 0;
	began = rji_now_ns();
	beats = guest_counter(b->guest);
	vcpu_ns = vcpu_cpu_ns();
	own_ns = rji_thread_cpu_ns();
	if (!ret)
		ret = rounds(b, o, why, why_bytes);
	if (ret)
		return ret;
	ns = rji_now_ns() - began;
	beats = guest_counter(b->guest) - beats;
	vcpu_ns = vcpu_cpu_ns() - vcpu_ns;
	own_ns = rji_thread_cpu_ns() - own_ns;
	track_print(o,
		    json_pack("{s:s,s:i,s:f,s:f,s:f,s:f}", "tracker", tracker, "wanted_pages_per_s",
			      (int)rate, "beats_per_s", (double)beats * 1e9 / (double)ns,
			      "pages_per_s", (double)beats * rate / 1e3 * 1e9 / (double)ns,
			      "vcpu_cpu_ms_per_s", (double)vcpu_ns * 1e3 / (double)ns,
			      "tracking_cpu_ms_per_s", (double)own_ns * 1e3 / (double)ns));
	return 0;
}

int track_cost(const struct track_opts *o, enum track_tracker tracker, uint32_t rate, char *why,
	       size_t why_bytes)
{
	struct guest_opts go = {
		.kind = GUEST_KVM,
		.size_bytes = o->size_bytes,
		.workload = { .kind = rate ? WORKLOAD_UNIFORM : WORKLOAD_IDLE,
			      .rate_bytes_per_s = rate * 4096ull },
	};
	struct track_bed b;
	int ret = track_bed_open(&b, &go, tracker, why, why_bytes);

	if (ret < 0)
		return ret;
	ret = run(&b, o, track_names[tracker], rate, why, why_bytes);
	guest_pause(b.guest);
	track_bed_stop(&b);
	track_bed_close(&b);
	return ret;
}

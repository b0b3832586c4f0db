/* SPDX-License-Identifier: BSD-2-Clause */
/* This machine, as /sys and /proc describe it: read as text, so that what is new there comes along. */
#include <dirent.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/perf/perf.h"
#include "rdma/rdma.h"

/* The first line of a file, or NULL. */
static char *first_line(const char *path, char *buf, int buf_bytes)
{
	FILE *f = fopen(path, "re");
	char *line = f ? fgets(buf, buf_bytes, f) : NULL;

	if (f)
		fclose(f);
	if (line)
		line[strcspn(line, "\n")] = '\0';
	return line;
}

/* Into o: the first lines of the files of a directory. */
static void read_files(json_t *o, const char *dir, const char *const *files)
{
	char path[PATH_MAX], line[256];

	for (; *files; files++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *files);
		if (first_line(path, line, sizeof(line)))
			json_object_set_new(o, *files, json_string(line));
	}
}

/* An object for each entry of a directory. */
static json_t *each(const char *dir, json_t *(*describe)(const char *path))
{
	json_t *o = json_object();
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		char path[PATH_MAX];

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 300, dir, e->d_name);
		json_object_set_new(o, e->d_name, describe(path));
	}
	if (d)
		closedir(d);
	return o;
}

static json_t *describe_rdma_port(const char *path)
{
	static const char *const files[] = { "state",	   "phys_state",	"rate",
					     "link_layer", "gid_attrs/ndevs/0", "gids/0",
					     NULL };
	json_t *o = json_object();

	read_files(o, path, files);
	return o;
}

static json_t *describe_rdma_device(const char *path)
{
	static const char *const files[] = { "fw_ver",
					     "hca_type",
					     "board_id",
					     "hw_rev",
					     "node_guid",
					     "device/numa_node",
					     "device/current_link_speed",
					     "device/current_link_width",
					     "device/vendor",
					     "device/device",
					     NULL };
	char ports[PATH_MAX];
	json_t *o = json_object();

	read_files(o, path, files);
	snprintf(ports, sizeof(ports), "%.*s/ports", PATH_MAX - 16, path);
	json_object_set_new(o, "ports", each(ports, describe_rdma_port));
	return o;
}

static json_t *describe_interface(const char *path)
{
	static const char *const files[] = { "mtu", "speed", "operstate", "device/numa_node",
					     NULL };
	json_t *o = json_object();

	read_files(o, path, files);
	return o;
}

static json_t *describe_node(const char *path)
{
	static const char *const files[] = { "cpulist", "distance", NULL };
	char meminfo[PATH_MAX], line[256];
	json_t *o = json_object();

	read_files(o, path, files);
	snprintf(meminfo, sizeof(meminfo), "%.*s/meminfo", PATH_MAX - 16, path);
	if (first_line(meminfo, line, sizeof(line)))
		json_object_set_new(o, "meminfo", json_string(line));
	return o;
}

static json_t *describe_nodes(void)
{
	json_t *all = each("/sys/devices/system/node", describe_node), *o;
	const char *name;
	void *next;

	json_object_foreach_safe(all, next, name, o)
	{
		if (strncmp(name, "node", 4))
			json_object_del(all, name);
	}
	return all;
}

/* "model name : ..." of the first CPU. */
static json_t *cpu_model(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	json_t *model = NULL;
	char line[256];

	while (f && !model && fgets(line, sizeof(line), f)) {
		const char *value = strchr(line, ':');

		if (!value || strncmp(line, "model name", 10))
			continue;
		line[strcspn(line, "\n")] = '\0';
		model = json_string(value + 1 + strspn(value + 1, " \t"));
	}
	if (f)
		fclose(f);
	return model ? model : json_null();
}

static json_t *describe_limits(void)
{
	struct rlimit memlock, nofile;

	getrlimit(RLIMIT_MEMLOCK, &memlock);
	getrlimit(RLIMIT_NOFILE, &nofile);
	return json_pack("{s:I,s:I}", "memlock_bytes",
			 memlock.rlim_cur == RLIM_INFINITY ? -1 : (json_int_t)memlock.rlim_cur,
			 "open_files", (json_int_t)nofile.rlim_cur);
}

/* Of the kernel's command line what bears on speed, and nothing else that may stand there. */
static json_t *describe_boot_options(void)
{
	static const char *const known[] = {
		"mitigations=",	     "isolcpus=",  "nohz_full=",   "iommu",
		"intel_iommu=",	     "amd_iommu=", "hugepage",	   "default_hugep",
		"transparent_hugep", "pci",	   "idle=",	   "intel_idle.",
		"processor.",	     "numa",	   "intel_pstate="
	};
	json_t *list = json_array();
	char line[4096], *at = line, *word;

	if (!first_line("/proc/cmdline", line, sizeof(line)))
		return list;
	while ((word = strsep(&at, " "))) {
		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
			if (!strncmp(word, known[i], strlen(known[i])))
				json_array_append_new(list, json_string(word));
		}
	}
	return list;
}

static json_t *describe_settings(void)
{
	static const char *const files[] = {
		"/sys/kernel/mm/transparent_hugepage/enabled",
		"/proc/sys/kernel/numa_balancing",
		"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
		"/proc/sys/net/core/wmem_max",
		"/proc/sys/net/core/rmem_max",
		"/proc/sys/net/ipv4/tcp_wmem",
		"/proc/sys/net/ipv4/tcp_rmem",
		"/proc/sys/net/ipv4/tcp_congestion_control",
		"/proc/loadavg",
		NULL
	};
	json_t *o = json_object();
	char line[512];

	for (const char *const *file = files; *file; file++) {
		if (first_line(*file, line, sizeof(line)))
			json_object_set_new(o, *file, json_string(line));
	}
	json_object_set_new(o, "boot_options", describe_boot_options());
	return o;
}

json_t *perf_describe_host(void)
{
	struct utsname u;
	json_t *o = json_object();

	uname(&u);
	json_object_set_new(o, "name", json_string(u.nodename));
	json_object_set_new(o, "kernel",
			    json_pack("{s:s,s:s,s:s}", "release", u.release, "version", u.version,
				      "machine", u.machine));
	json_object_set_new(o, "cpu_model", cpu_model());
	json_object_set_new(o, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(
		o, "memory_bytes",
		json_integer((json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)));
	json_object_set_new(o, "nodes", describe_nodes());
	json_object_set_new(o, "rdma_devices", each("/sys/class/infiniband", describe_rdma_device));
	json_object_set_new(o, "interfaces", each("/sys/class/net", describe_interface));
	json_object_set_new(o, "limits", describe_limits());
	json_object_set_new(o, "settings", describe_settings());
	return o;
}

/* --- the rate of the port that is used --- */

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return a->sa_family == AF_INET6 &&
	       !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		       &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
}

/* What the driver of the interface says that a socket goes out by; 0 where it does not. */
static uint64_t interface_rate(int fd)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	struct ifaddrs *list;
	uint64_t rate = 0;

	if (getsockname(fd, (struct sockaddr *)&local, &len) < 0 || getifaddrs(&list) < 0)
		return 0;
	for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
		char path[64 + IF_NAMESIZE], line[32];

		if (!same_address(at->ifa_addr, (const struct sockaddr *)&local))
			continue;
		snprintf(path, sizeof(path), "/sys/class/net/%.15s/speed", at->ifa_name);
		if (first_line(path, line, sizeof(line)) && line[0] != '-')
			rate = strtoull(line, NULL, 10) * 1000000 / 8;
	}
	freeifaddrs(list);
	return rate;
}

uint64_t perf_port_rate(const char *transport, const struct rji_uri *to, int fd)
{
	struct rji_rdma_route route;
	struct rj_error ignored;

	rji_error_init(&ignored);
	if (!strcmp(transport, "tcp"))
		return interface_rate(fd);
	if (strcmp(transport, "rdma") ||
	    rji_rdma_route(NULL, to->host, to->port, 2000, &route, &ignored) < 0)
		return 0;
	return route.software ? 0 : route.rate_bps / 8; /* what rxe claims means nothing */
}

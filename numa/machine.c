/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cpus.h"
#include "base/sysfs.h"

/* How many numbers a list "0-3,8" has; 0 where it is none. */
static uint32_t count(const char *list)
{
	struct rji_cpus set;

	return rji_cpus_parse(list, &set) ? 0 : rji_cpus_weight(&set);
}

/* "MemTotal:  263844872 kB" among the lines of a file, in bytes. */
static uint64_t kib_line(const char *root, const char *file, const char *key)
{
	char path[RJI_SYSFS_PATH], line[256];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key))) {
			kib = strtoull(line + strlen(key), NULL, 10);
			break;
		}
	}
	if (f)
		fclose(f);
	return kib * 1024;
}

/* Cpus_allowed_list of /proc/self/status: the kernel has joined affinity and cgroup there. */
static void allowed(const char *root, struct rj_probe_machine *m)
{
	static const char key[] = "Cpus_allowed_list:";
	char path[RJI_SYSFS_PATH], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/status", root);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, sizeof(key) - 1))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(m->cpus_allowed, sizeof(m->cpus_allowed), "%.127s",
			 line + sizeof(key) - 1 + strspn(line + sizeof(key) - 1, " \t"));
		m->n_cpus_allowed = count(m->cpus_allowed);
		break;
	}
	if (f)
		fclose(f);
}

static void huge_pages(const char *root, struct rj_probe_machine *m)
{
	static const char dir[] = "/sys/kernel/mm/hugepages";
	struct dirent **list;
	int n = rji_sysfs_names(root, &list, "%s", dir);

	for (int i = 0; i < n && m->n_huge < RJ_PROBE_MAX_HUGE; i++) {
		struct rj_probe_huge *h = &m->huge[m->n_huge];
		const char *name = list[i]->d_name; /* hugepages-2048kB */
		unsigned long kib;

		if (sscanf(name, "hugepages-%lukB", &kib) != 1)
			continue;
		h->page_bytes = kib * 1024;
		h->n_pages = (uint64_t)rji_sysfs_number(root, 0, "%s/%s/nr_hugepages", dir, name);
		h->n_free = (uint64_t)rji_sysfs_number(root, 0, "%s/%s/free_hugepages", dir, name);
		m->n_huge++;
	}
	rji_sysfs_names_free(list, n);
}

static void transparent(const char *root, const char *file, char *buf, size_t buf_bytes)
{
	char text[128];

	rji_sysfs_text(root, text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/%s", file);
	rji_sysfs_chosen(text, buf, buf_bytes);
}

/* A line of modules.dep or modules.builtin names it, loaded or not. */
static bool has_module(const char *root, const char *release, const char *file, const char *name)
{
	char path[RJI_SYSFS_PATH], line[4096];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/lib/modules/%s/%s", root, release, file);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *colon = strchr(line, ':'); /* what follows it are dependencies */
		const char *at = strstr(line, name);

		found = at && (!colon || at < colon);
	}
	if (f)
		fclose(f);
	return found;
}

static void software_rdma(const char *root, struct rj_probe_machine *m)
{
	static const char net[] = "/sys/class/net";
	struct dirent **list;
	int n = rji_sysfs_names(root, &list, "%s", net);
	char state[16];

	for (int i = 0; i < n && !m->netdev[0]; i++) {
		const char *name = list[i]->d_name;

		rji_sysfs_text(root, state, sizeof(state), "%s/%s/operstate", net, name);
		if (!strcmp(state, "up")) /* lo says "unknown" */
			snprintf(m->netdev, sizeof(m->netdev), "%.15s", name);
	}
	rji_sysfs_names_free(list, n);
	m->has_rxe = rji_sysfs_exists(root, "/sys/module/rdma_rxe") ||
		     has_module(root, m->kernel, "modules.dep", "/rdma_rxe.ko") ||
		     has_module(root, m->kernel, "modules.builtin", "/rdma_rxe.ko");
}

void rji_machine_look(const char *root, struct rj_probe_machine *m)
{
	struct utsname u;
	char list[128];

	if (!uname(&u))
		snprintf(m->kernel, sizeof(m->kernel), "%s", u.release);
	rji_sysfs_text(root, list, sizeof(list), "/sys/devices/system/node/online");
	m->n_nodes = count(list);
	if (!m->n_nodes) /* a kernel without NUMA */
		m->n_nodes = 1;
	rji_sysfs_text(root, list, sizeof(list), "/sys/devices/system/cpu/online");
	m->n_cpus = count(list);
	allowed(root, m);
	m->memory_bytes = kib_line(root, "/proc/meminfo", "MemTotal:");
	m->available_bytes = kib_line(root, "/proc/meminfo", "MemAvailable:");
	huge_pages(root, m);
	software_rdma(root, m);
	transparent(root, "enabled", m->thp, sizeof(m->thp));
	transparent(root, "shmem_enabled", m->thp_shmem, sizeof(m->thp_shmem));
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/sysfs_tree.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void give_up(const char *what)
{
	perror(what);
	abort();
}

static void make_parents(const char *path)
{
	char copy[512];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0777) && errno != EEXIST)
			give_up(copy);
		*p = '/';
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fputc('\n', f) < 0 || fclose(f))
		give_up(path);
}

static void add(const char *root, const struct sysfs_entry *e)
{
	size_t len = strlen(e->path);
	char path[512];

	snprintf(path, sizeof(path), "%s%s", root, e->path);
	make_parents(path);
	if (!e->text) {
		if (unlink(path))
			give_up(path);
	} else if (e->path[len - 1] == '@') {
		path[strlen(path) - 1] = '\0';
		if (symlink(e->text, path))
			give_up(path);
	} else {
		write_file(path, e->text);
	}
}

void sysfs_tree_add(char root[64], const struct sysfs_entry *entry, int n)
{
	if (!root[0]) {
		strcpy(root, "/tmp/ramjet-sysfs-XXXXXX");
		if (!mkdtemp(root))
			give_up(root);
	}
	for (int i = 0; i < n; i++)
		add(root, &entry[i]);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	return remove(path);
}

void sysfs_tree_remove(const char *root)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define IB "/sys/class/infiniband/mlx5_0"
#define PORT IB "/ports/1"
#define PCI "/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0"
#define NET "/sys/class/net/enp59s0f0np0"
#define NODES "/sys/devices/system/node"

void sysfs_tree_connectx(char root[64])
{
	static const struct sysfs_entry tree[] = {
		{ IB "/fw_ver", "22.39.1002" },
		{ IB "/node_type", "1: CA" },
		{ IB "/device@", "../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0" },
		{ PORT "/state", "4: ACTIVE" },
		{ PORT "/phys_state", "5: LinkUp" },
		{ PORT "/link_layer", "Ethernet" },
		{ PORT "/rate", "100 Gb/sec (4X EDR)" },
		{ PORT "/gids/0", "fe80:0000:0000:0000:0e42:a1ff:fe00:0001" },
		{ PORT "/gids/1", "fe80:0000:0000:0000:0e42:a1ff:fe00:0001" },
		{ PORT "/gids/2", "0000:0000:0000:0000:0000:ffff:c000:0207" },
		{ PORT "/gids/3", "0000:0000:0000:0000:0000:ffff:c000:0207" },
		{ PORT "/gids/4", "0000:0000:0000:0000:0000:0000:0000:0000" },
		{ PORT "/gid_attrs/types/0", "IB/RoCE v1" },
		{ PORT "/gid_attrs/types/1", "RoCE v2" },
		{ PORT "/gid_attrs/types/2", "IB/RoCE v1" },
		{ PORT "/gid_attrs/types/3", "RoCE v2" },
		{ PORT "/gid_attrs/ndevs/0", "enp59s0f0np0" },
		{ PORT "/gid_attrs/ndevs/1", "enp59s0f0np0" },
		{ PORT "/gid_attrs/ndevs/2", "enp59s0f0np0" },
		{ PORT "/gid_attrs/ndevs/3", "enp59s0f0np0" },
		{ PCI "/numa_node", "1" },
		{ PCI "/current_link_speed", "8.0 GT/s PCIe" },
		{ PCI "/current_link_width", "16" },
		{ PCI "/max_link_speed", "8.0 GT/s PCIe" },
		{ PCI "/max_link_width", "16" },
		{ "/sys/bus/pci/devices/0000:3b:00.0@",
		  "../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0" },
		{ NET "/mtu", "4200" },
		{ NET "/operstate", "up" },
		{ NET "/speed", "100000" },
		{ NODES "/online", "0-1" },
		{ NODES "/node0/cpulist", "0-15" },
		{ NODES "/node1/cpulist", "16-31" },
		{ "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024" },
		{ "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1000" },
		{ "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0" },
		{ "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0" },
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never" },
		{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		  "always within_size [advise] never deny force" },
		{ "/proc/meminfo",
		  "MemTotal:       263844872 kB\nMemFree:  1 kB\nMemAvailable:   200000000 kB" },
	};

	SYSFS_TREE_ADD(root, tree);
}

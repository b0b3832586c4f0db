/* SPDX-License-Identifier: BSD-2-Clause */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <criterion/criterion.h>

#include "numa/locality.h"
#include "numa/topology.h"

static char root[] = "/tmp/rj_sysfs_XXXXXX";

/* A file of a sysfs of our own, with the directories above it. */
static void plant(const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	f = fopen(full, "we");
	cr_assert_not_null(f, "%s", full);
	fputs(text, f);
	fclose(f);
}

static int node_of(const char *device)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", root, device);
	return rji_device_node_in(root, strchr(device, '/') ? full : device);
}

static void init(void)
{
	cr_assert_not_null(mkdtemp(root));
}

static void fini(void)
{
	char command[sizeof(root) + 16];

	snprintf(command, sizeof(command), "rm -r %s", root);
	cr_assert_eq(system(command), 0);
}

TestSuite(locality, .init = init, .fini = fini);

Test(locality, a_device_is_named_by_its_pci_address_or_its_directory)
{
	plant("bus/pci/devices/0000:3b:00.0/numa_node", "1\n");
	plant("class/infiniband/mlx5_0/device/numa_node", "3\n");
	plant("class/net/eth0/device/numa_node", "0\n");
	cr_assert_eq(node_of("0000:3b:00.0"), 1);
	cr_assert_eq(node_of("class/infiniband/mlx5_0"), 3);
	cr_assert_eq(node_of("class/net/eth0"), 0);
}

Test(locality, software_rdma_is_where_its_netdev_is)
{
	plant("class/infiniband/rxe0/parent", "eth1\n");
	plant("class/net/eth1/device/numa_node", "1\n");
	plant("class/infiniband/rxe1/parent", "dummy0\n");
	plant("class/net/dummy0/mtu", "4200\n");
	cr_assert_eq(node_of("class/infiniband/rxe0"), 1);
	cr_assert_eq(node_of("class/infiniband/rxe1"), RJI_NO_NODE);
}

Test(locality, what_is_not_told_is_no_node)
{
	plant("bus/pci/devices/0000:01:00.0/numa_node", "-1\n");
	plant("bus/pci/devices/0000:02:00.0/numa_node", "\n");
	plant("bus/pci/devices/0000:03:00.0/numa_node", "1 or 2\n");
	plant("class/infiniband/rxe0/parent", "../../etc\n");
	cr_assert_eq(node_of("0000:01:00.0"), RJI_NO_NODE);
	cr_assert_eq(node_of("0000:02:00.0"), RJI_NO_NODE);
	cr_assert_eq(node_of("0000:03:00.0"), RJI_NO_NODE);
	cr_assert_eq(node_of("0000:04:00.0"), RJI_NO_NODE);
	cr_assert_eq(node_of("class/infiniband/rxe0"), RJI_NO_NODE);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/locality.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/topology.h"

/* The first line of a small file, without its end. False: there is none. */
static bool read_line(const char *path, char *line, int line_bytes)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(line, line_bytes, f);

	if (f)
		fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok && *line;
}

/* The number in DIR/NAME; a file of another making tells nothing. */
static int node_in_file(const char *dir, const char *name)
{
	char path[PATH_MAX + 64], line[32], *end;
	long node;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!read_line(path, line, sizeof(line)))
		return RJI_NO_NODE;
	node = strtol(line, &end, 10);
	return *end || node < 0 || node > INT_MAX ? RJI_NO_NODE : (int)node;
}

static int node_of_parent(const char *sysfs, const char *dir)
{
	char path[PATH_MAX + 64], netdev[64], parent[PATH_MAX];

	snprintf(path, sizeof(path), "%s/parent", dir);
	if (!read_line(path, netdev, sizeof(netdev)) || strchr(netdev, '/'))
		return RJI_NO_NODE;
	snprintf(parent, sizeof(parent), "%s/class/net/%s", sysfs, netdev);
	return node_in_file(parent, "device/numa_node");
}

int rji_device_node_in(const char *sysfs, const char *device)
{
	char dir[PATH_MAX];
	int node;

	if (strchr(device, '/'))
		snprintf(dir, sizeof(dir), "%s", device);
	else
		snprintf(dir, sizeof(dir), "%s/bus/pci/devices/%s", sysfs, device);
	node = node_in_file(dir, "device/numa_node");
	if (node == RJI_NO_NODE)
		node = node_in_file(dir, "numa_node");
	return node == RJI_NO_NODE ? node_of_parent(sysfs, dir) : node;
}

int rji_device_node(const char *device)
{
	return rji_device_node_in("/sys", device);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "numa/pci_link.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/sysfs.h"

#define DEVICES "/sys/bus/pci/devices"

/* "8.0 GT/s PCIe", "16 GT/s", "Unknown" */
static uint32_t speed(const char *root, const char *address, const char *file)
{
	char text[64];
	double gt;

	if (rji_sysfs_text(root, text, sizeof(text), DEVICES "/%s/%s", address, file))
		return 0;
	gt = strtod(text, NULL);
	return gt > 0 && gt < 1000 ? (uint32_t)(gt * 1000 + 0.5) : 0;
}

static uint32_t width(const char *root, const char *address, const char *file)
{
	int64_t lanes = rji_sysfs_number(root, 0, DEVICES "/%s/%s", address, file);

	return lanes > 0 && lanes <= 32 ? (uint32_t)lanes : 0; /* 255: not trained */
}

void rji_pci_link(const char *root, const char *address, struct rji_pci_link *link_p)
{
	char card[32];

	if (rji_sysfs_link(root, card, sizeof(card), DEVICES "/%s/physfn", address))
		snprintf(card, sizeof(card), "%s", address);
	link_p->width = width(root, card, "current_link_width");
	link_p->mt_per_s = speed(root, card, "current_link_speed");
	link_p->max_width = width(root, card, "max_link_width");
	link_p->max_mt_per_s = speed(root, card, "max_link_speed");
}

void rji_node_cpus(const char *root, int32_t node, char *buf, size_t buf_bytes)
{
	*buf = '\0';
	if (node >= 0)
		rji_sysfs_text(root, buf, buf_bytes, "/sys/devices/system/node/node%d/cpulist",
			       node);
}

uint64_t rji_pcie_bits_per_s(uint32_t lanes, uint32_t mt_per_s)
{
	uint64_t raw = lanes * mt_per_s * 1000000ull;
	uint64_t coded = mt_per_s <= 5000 ? raw / 10 * 8 : raw / 130 * 128;

	return coded / 100 * 88;
}

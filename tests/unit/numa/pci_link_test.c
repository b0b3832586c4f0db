/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>

#include "numa/pci_link.h"
#include "tests/support/sysfs_tree.h"

static char root[64];

static void plant(void)
{
	sysfs_tree_connectx(root);
}

static void clear(void)
{
	sysfs_tree_remove(root);
}

TestSuite(pci_link, .init = plant, .fini = clear);

Test(pci_link, a_card_in_a_wide_slot)
{
	struct rji_pci_link link;

	rji_pci_link(root, "0000:3b:00.0", &link);
	cr_assert_eq(link.width, 16);
	cr_assert_eq(link.mt_per_s, 8000);
	cr_assert_eq(link.max_width, 16);
	cr_assert_eq(link.max_mt_per_s, 8000);
}

Test(pci_link, nothing_known)
{
	static const struct sysfs_entry odd[] = {
		{ "/sys/bus/pci/devices/0000:00:01.0/current_link_speed", "Unknown" },
		{ "/sys/bus/pci/devices/0000:00:01.0/current_link_width", "255" },
	};
	struct rji_pci_link link;

	SYSFS_TREE_ADD(root, odd);
	rji_pci_link(root, "0000:00:01.0", &link);
	cr_assert_eq(link.width, 0);
	cr_assert_eq(link.mt_per_s, 0);
	rji_pci_link(root, "0000:99:00.0", &link);
	cr_assert_eq(link.max_width, 0);
}

Test(pci_link, a_virtual_function_has_its_cards_link)
{
	static const struct sysfs_entry vf[] = {
		{ "/sys/bus/pci/devices/0000:3b:01.2/current_link_width", "0" },
		{ "/sys/bus/pci/devices/0000:3b:01.2/physfn@", "../0000:3b:00.0" },
	};
	struct rji_pci_link link;

	SYSFS_TREE_ADD(root, vf);
	rji_pci_link(root, "0000:3b:01.2", &link);
	cr_assert_eq(link.width, 16);
	cr_assert_eq(link.mt_per_s, 8000);
}

Test(pci_link, cpus_of_a_node)
{
	char cpus[32];

	rji_node_cpus(root, 1, cpus, sizeof(cpus));
	cr_assert_str_eq(cpus, "16-31");
	rji_node_cpus(root, 2, cpus, sizeof(cpus));
	cr_assert_str_eq(cpus, "");
	rji_node_cpus(root, -1, cpus, sizeof(cpus));
	cr_assert_str_eq(cpus, "");
}

static uint64_t gbit(uint32_t width, uint32_t mt_per_s)
{
	return rji_pcie_bits_per_s(width, mt_per_s) / 1000000000;
}

Test(pci_link, what_a_link_carries)
{
	cr_assert_eq(gbit(8, 5000), 28); /* generation 2: 40 less 20 % less 12 % */
	cr_assert_eq(gbit(8, 8000), 55); /* generation 3 */
	cr_assert_eq(gbit(16, 8000), 110);
	cr_assert_eq(gbit(16, 16000), 221);
	cr_assert_eq(gbit(16, 32000), 443);
	cr_assert_eq(gbit(0, 8000), 0);
	cr_assert_eq(gbit(16, 0), 0);
}

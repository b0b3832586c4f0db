/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "rdma/inventory.h"
#include "tests/support/sysfs_tree.h"

#define PORT "/sys/class/infiniband/mlx5_0/ports/1"

static char root[64];
static struct rj_probe_device *dev;
static int n_devs;

static void plant(void)
{
	sysfs_tree_connectx(root);
}

static void clear(void)
{
	rji_inventory_free(dev, n_devs);
	sysfs_tree_remove(root);
}

static struct rj_probe_port *look(void)
{
	n_devs = rji_inventory_sysfs(root, &dev);
	cr_assert_gt(n_devs, 0);
	cr_assert_gt(dev[0].n_ports, 0);
	return &dev[0].ports[0];
}

TestSuite(inventory, .init = plant, .fini = clear);

Test(inventory, a_card_and_its_port)
{
	struct rj_probe_port *p = look();

	cr_assert_eq(n_devs, 1);
	cr_assert_str_eq(dev[0].name, "mlx5_0");
	cr_assert_str_eq(dev[0].firmware, "22.39.1002");
	cr_assert_str_eq(dev[0].pci, "0000:3b:00.0");
	cr_assert_eq(dev[0].software, 0);
	cr_assert_eq(dev[0].n_ports, 1);
	cr_assert_eq(p->number, 1);
	cr_assert_str_eq(p->transport, "RoCE");
	cr_assert_str_eq(p->state, "ACTIVE");
	cr_assert_str_eq(p->phys_state, "LinkUp");
	cr_assert_str_eq(p->netdev, "enp59s0f0np0");
	cr_assert_eq(p->netdev_up, 1);
	cr_assert_eq(p->netdev_mtu_bytes, 4200);
	cr_assert_eq(p->rate_bits_per_s, 100000000000ull);
}

Test(inventory, gids_and_the_one_that_lanes_use)
{
	struct rj_probe_port *p = look();

	cr_assert_eq(p->n_gids, 4, "the empty entry does not count");
	cr_assert_str_eq(p->gids[0].type, "RoCE v1");
	cr_assert_str_eq(p->gids[0].address, "fe80::e42:a1ff:fe00:1");
	cr_assert_str_eq(p->gids[3].type, "RoCE v2");
	cr_assert_str_eq(p->gids[3].address, "192.0.2.7");
	cr_assert_eq(p->gids[3].chosen, 1);
	cr_assert_eq(p->gids[0].chosen + p->gids[1].chosen + p->gids[2].chosen, 0);
	cr_assert_eq(rji_inventory_choose_gid(p, "fe80::e42:a1ff:fe00:1"), 1);
	cr_assert_eq(p->gids[1].chosen, 1);
	cr_assert_eq(p->gids[3].chosen, 0);
	cr_assert_eq(rji_inventory_choose_gid(p, "198.51.100.1"), -1);
}

Test(inventory, infiniband_has_no_addresses)
{
	static const struct sysfs_entry ib[] = {
		{ PORT "/link_layer", "InfiniBand" },
		{ PORT "/state", "2: INIT" },
		{ PORT "/gid_attrs/ndevs/0", NULL },
		{ PORT "/gid_attrs/ndevs/1", NULL },
		{ PORT "/gid_attrs/ndevs/2", NULL },
		{ PORT "/gid_attrs/ndevs/3", NULL },
		{ "/sys/class/infiniband/mlx5_0/device/net/ibp59s0/dev_port", "0" },
		{ "/sys/class/infiniband/mlx5_0/device/net/ibp59s0d1/dev_port", "1" },
		{ "/sys/class/net/ibp59s0/mtu", "2044" },
		{ "/sys/class/net/ibp59s0/operstate", "down" },
	};
	struct rj_probe_port *p;

	SYSFS_TREE_ADD(root, ib);
	p = look();
	cr_assert_str_eq(p->transport, "InfiniBand");
	cr_assert_str_eq(p->state, "INIT");
	cr_assert_str_eq(p->gids[0].type, "IB");
	cr_assert_str_eq(p->gids[0].address, "");
	cr_assert_eq(p->gids[0].chosen, 1);
	cr_assert_str_eq(p->netdev, "ibp59s0");
	cr_assert_eq(p->netdev_up, 0);
}

Test(inventory, software_lies_on_its_parent)
{
	static const struct sysfs_entry rxe[] = {
		{ "/sys/class/infiniband/rxe0/node_type", "1: CA" },
		{ "/sys/class/infiniband/rxe0/parent", "eth0" },
		{ "/sys/class/infiniband/rxe0/ports/1/link_layer", "Ethernet" },
		{ "/sys/class/infiniband/rxe0/ports/1/state", "1: DOWN" },
		{ "/sys/class/infiniband/rxe0/ports/1/phys_state", "3: Disabled" },
		{ "/sys/class/infiniband/siw0/node_type", "4: RNIC" },
		{ "/sys/class/infiniband/siw0/ports/1/link_layer", "Ethernet" },
	};

	SYSFS_TREE_ADD(root, rxe);
	look();
	cr_assert_eq(n_devs, 3);
	cr_assert_str_eq(dev[1].name, "rxe0");
	cr_assert_eq(dev[1].software, 1);
	cr_assert_str_eq(dev[1].pci, "");
	cr_assert_eq(dev[1].node, -1);
	cr_assert_str_eq(dev[1].ports[0].netdev, "eth0");
	cr_assert_str_eq(dev[1].ports[0].phys_state, "Disabled");
	cr_assert_eq(dev[1].ports[0].n_gids, 0);
	cr_assert_str_eq(dev[2].ports[0].transport, "iWARP");
}

Test(inventory, no_devices)
{
	struct rj_probe_device *none;

	cr_assert_eq(rji_inventory_sysfs("/nowhere", &none), 0);
	rji_inventory_free(none, 0);
}

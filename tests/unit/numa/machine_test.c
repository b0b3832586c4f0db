/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include <criterion/criterion.h>

#include "numa/machine.h"
#include "tests/support/sysfs_tree.h"

Test(machine, what_the_files_say)
{
	static const struct sysfs_entry more[] = {
		{ "/sys/devices/system/cpu/online", "0-31" },
		{ "/proc/self/status",
		  "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-1,16-17" },
		{ "/sys/class/net/lo/operstate", "unknown" },
		{ "/sys/class/net/eth0/operstate", "down" },
		{ "/sys/module/rdma_rxe/refcnt", "0" },
	};
	struct rj_probe_machine m = { 0 };
	char root[64] = "";

	sysfs_tree_connectx(root);
	SYSFS_TREE_ADD(root, more);
	rji_machine_look(root, &m);
	sysfs_tree_remove(root);
	cr_assert_neq(m.kernel[0], '\0');
	cr_assert_eq(m.n_nodes, 2);
	cr_assert_eq(m.n_cpus, 32);
	cr_assert_eq(m.n_cpus_allowed, 4);
	cr_assert_str_eq(m.cpus_allowed, "0-1,16-17");
	cr_assert_eq(m.memory_bytes, 263844872ull * 1024);
	cr_assert_eq(m.available_bytes, 200000000ull * 1024);
	cr_assert_eq(m.n_huge, 2);
	cr_assert_eq(m.huge[0].page_bytes, 2ull << 20);
	cr_assert_eq(m.huge[0].n_pages, 1024);
	cr_assert_eq(m.huge[0].n_free, 1000);
	cr_assert_eq(m.huge[1].page_bytes, 1ull << 30);
	cr_assert_str_eq(m.thp, "madvise");
	cr_assert_str_eq(m.thp_shmem, "advise");
	cr_assert_str_eq(m.netdev, "enp59s0f0np0");
	cr_assert_eq(m.has_rxe, 1);
}

Test(machine, an_empty_tree_is_one_node_and_nothing_else)
{
	static const struct sysfs_entry nothing[] = { { "/sys/empty", "" } };
	struct rj_probe_machine m = { 0 };
	char root[64] = "";

	SYSFS_TREE_ADD(root, nothing);
	rji_machine_look(root, &m);
	sysfs_tree_remove(root);
	cr_assert_eq(m.n_nodes, 1);
	cr_assert_eq(m.n_cpus, 0);
	cr_assert_eq(m.n_huge, 0);
	cr_assert_str_eq(m.thp, "");
	cr_assert_str_eq(m.netdev, "");
	cr_assert_eq(m.has_rxe, 0);
}

Test(machine, a_module_is_known_before_it_is_loaded)
{
	static struct sysfs_entry dep[1];
	struct rj_probe_machine m = { 0 };
	char root[64] = "", path[256];

	dep[0] = (struct sysfs_entry){ "/sys/empty", "" };
	SYSFS_TREE_ADD(root, dep);
	rji_machine_look(root, &m); /* tells the release */
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", m.kernel);
	dep[0] = (struct sysfs_entry){
		path, "kernel/a.ko: kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko\n"
	};
	SYSFS_TREE_ADD(root, dep);
	rji_machine_look(root, &m);
	cr_assert_eq(m.has_rxe, 0, "named as a dependency only");
	dep[0].text = "kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko.xz: kernel/a.ko\n";
	SYSFS_TREE_ADD(root, dep);
	rji_machine_look(root, &m);
	sysfs_tree_remove(root);
	cr_assert_eq(m.has_rxe, 1);
}

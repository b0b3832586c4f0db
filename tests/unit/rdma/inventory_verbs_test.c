/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rdma/inventory.h"
#include "tests/support/sysfs_tree.h"
#include "tests/support/verbs_shim/shim.h"

/* What verbs add to what sysfs says: the shim has shim0, the made-up machine shim0 and mlx5_0. */

static int failed;

#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                     \
			failed++;                                                                  \
		}                                                                                  \
	} while (0)

static const struct sysfs_entry shim0[] = {
	{ "/sys/class/infiniband/shim0/node_type", "1: CA" },
	{ "/sys/class/infiniband/shim0/ports/1/link_layer", "Ethernet" },
	{ "/sys/class/infiniband/shim0/ports/1/state", "4: ACTIVE" },
};

static void known_devices(const char *root)
{
	struct rj_probe_device *d = NULL;
	int n = rji_inventory_take(root, "shim0,other", &d);

	EXPECT(n == 2 && !strcmp(d[0].name, "mlx5_0") && !strcmp(d[1].name, "shim0"));
	EXPECT(d[0].opened == -ENODEV && !d[0].allowed && d[0].max_qp_wr == 0);
	EXPECT(d[1].opened == 0 && d[1].allowed && d[1].max_qp_wr == 4096);
	EXPECT(d[1].max_mr_bytes > 0 && d[1].max_cqe > 0);
	/* RoCE's MTU follows from the netdev where verbs do not say. */
	EXPECT(d[0].ports[0].active_mtu_bytes == 4096 && d[0].ports[0].max_mtu_bytes == 0);
	rji_inventory_free(d, n);
}

static void why_not(char *root)
{
	static const struct sysfs_entry uverbs[] = {
		{ "/sys/class/infiniband_verbs/abi_version", "6" },
		{ "/sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0" },
		{ "/dev/infiniband/uverbs0", "" },
	};
	struct rj_probe_device *d = NULL;
	int n;

	SYSFS_TREE_ADD(root, uverbs);
	n = rji_inventory_take(root, NULL, &d);
	EXPECT(n == 2 && d[0].opened == -ENOTSUP && d[0].allowed);
	rji_inventory_free(d, n);
}

int main(void)
{
	struct shim_config config = { .seed = 1 };
	char root[64] = "";

	sysfs_tree_connectx(root);
	SYSFS_TREE_ADD(root, shim0);
	shim_start(&config);
	known_devices(root);
	why_not(root);
	EXPECT(shim_stop());
	sysfs_tree_remove(root);
	return failed != 0;
}

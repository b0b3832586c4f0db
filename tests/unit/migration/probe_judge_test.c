/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "migration/probe_impl.h"
#include "rdma/port_rate.h"
#include "tests/support/sysfs_tree.h"

#define PORT "/sys/class/infiniband/mlx5_0/ports/1"
#define FUNCTION_1 "/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1"
#define CARD "/sys/bus/pci/devices/0000:3b:00.0"

static char root[64];
static struct rj_env *env;
static struct rj_probe *probe;

static void plant(void)
{
	static const struct sysfs_entry here[] = {
		{ "/proc/self/status", "Cpus_allowed_list:\t0-31" },
		{ "/dev/infiniband/rdma_cm", "" },
		{ "/dev/kvm", "" },
	};

	sysfs_tree_connectx(root);
	SYSFS_TREE_ADD(root, here);
	cr_assert_eq(rj_env_open(NULL, &env), 0);
}

static void clear(void)
{
	rj_probe_destroy(&probe);
	rj_env_close(&env);
	sysfs_tree_remove(root);
}

TestSuite(probe_judge, .init = plant, .fini = clear);

static void judge(uint64_t guest_bytes)
{
	free(probe->problems);
	probe->problems = NULL;
	probe->n_problems = 0;
	cr_assert_eq(rji_probe_judge(probe, guest_bytes), 0);
}

/* As if verbs had been there as well, and nothing to say of this process. */
static void look(void)
{
	cr_assert_eq(rji_probe_take(root, env, NULL, 0, &probe), 0);
	for (uint32_t i = 0; i < probe->n_devices; i++) {
		probe->devices[i].opened = 0;
		for (uint32_t k = 0; k < probe->devices[i].n_ports; k++) {
			probe->devices[i].ports[k].max_mtu_bytes = 4096;
			rji_port_conclude(&probe->devices[i].ports[k]);
		}
	}
	probe->machine.uffd_wp = 0;
	probe->machine.memlock_bytes = UINT64_MAX;
	probe->machine.ipc_lock = 0;
	probe->machine.huge[0].n_free = 1u << 30;
	judge(0);
}

#define LOOK_AFTER(entries)                                                                        \
	do {                                                                                       \
		SYSFS_TREE_ADD(root, entries);                                                     \
		look();                                                                            \
	} while (0)

static const struct rj_probe_problem *only(enum rj_probe_severity severity, const char *problem)
{
	const struct rj_probe_problem *pr = &probe->problems[0];

	for (uint32_t i = 1; i < probe->n_problems; i++)
		cr_log_warn("also: %s", probe->problems[i].problem);
	cr_assert_eq(probe->n_problems, 1);
	cr_assert_eq(pr->severity, severity, "%s", pr->problem);
	cr_assert(strstr(pr->problem, problem), "%s", pr->problem);
	cr_assert(pr->why[0] && pr->fix[0]);
	return pr;
}

static void expect_fix(const char *part)
{
	cr_assert(strstr(probe->problems[0].fix, part), "%s", probe->problems[0].fix);
}

Test(probe_judge, a_sound_machine_has_no_problem)
{
	look();
	cr_assert_eq(probe->n_problems, 0, "%s",
		     probe->n_problems ? probe->problems[0].problem : "");
	cr_assert_eq(probe->would_go, 1);
	cr_assert_eq(probe->devices[0].node, 1);
	cr_assert_str_eq(probe->devices[0].node_cpus, "16-31");
	cr_assert_eq(probe->devices[0].pcie_width, 16);
}

Test(probe_judge, a_slot_that_is_too_narrow)
{
	static const struct sysfs_entry x8[] = { { CARD "/current_link_width", "8" } };

	LOOK_AFTER(x8);
	only(RJ_PROBE_SLOWS, "carries about 55 Gb/s, its active port 100");
	expect_fix("lspci -vv -s 0000:3b:00.0");
	cr_assert(strstr(probe->problems[0].why, "x8 at 8 GT/s; the card could do x16 at 8 GT/s"));
	cr_assert_eq(probe->would_go, 1);
}

Test(probe_judge, a_card_that_cannot_do_more)
{
	static const struct sysfs_entry gen3x8[] = {
		{ CARD "/current_link_width", "8" },
		{ CARD "/max_link_width", "8" },
	};

	LOOK_AFTER(gen3x8);
	only(RJ_PROBE_SLOWS, "carries about 55 Gb/s");
	expect_fix("another card");
}

Test(probe_judge, two_functions_of_one_card)
{
	static const struct sysfs_entry second[] = {
		{ "/sys/class/infiniband/mlx5_1/device@",
		  "../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1" },
		{ "/sys/class/infiniband/mlx5_1/ports/1/state", "4: ACTIVE" },
		{ "/sys/class/infiniband/mlx5_1/ports/1/link_layer", "InfiniBand" },
		{ "/sys/class/infiniband/mlx5_1/ports/1/rate", "100 Gb/sec (4X EDR)" },
		{ FUNCTION_1 "/current_link_speed", "8.0 GT/s PCIe" },
		{ FUNCTION_1 "/current_link_width", "16" },
		{ "/sys/bus/pci/devices/0000:3b:00.1@",
		  "../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1" },
	};

	LOOK_AFTER(second);
	cr_assert_eq(probe->n_devices, 2);
	probe->devices[1].ports[0].active_mtu_bytes = 4096;
	judge(0);
	only(RJ_PROBE_NOTE,
	     "mlx5_0 shares its slot, which carries about 111 Gb/s, with devices that make it 200");
	strcpy(probe->devices[1].ports[0].state, "DOWN");
	judge(0);
	only(RJ_PROBE_SLOWS, "port 1 of mlx5_1 is DOWN");
}

Test(probe_judge, small_packets_by_tcp)
{
	look();
	probe->route = calloc(1, sizeof(*probe->route));
	strcpy(probe->route->uri, "tcp://192.0.2.8:1");
	strcpy(probe->route->transport, "tcp");
	strcpy(probe->route->netdev, "eth2");
	probe->route->netdev_mtu_bytes = 1500;
	probe->route->rate_bytes_per_s = 25000000000ull / 8;
	judge(0);
	only(RJ_PROBE_NOTE, "packets by eth2 carry 1500 bytes");
	expect_fix("ip link set dev eth2 mtu 9000");
	probe->route->netdev_mtu_bytes = 9000;
	judge(0);
	cr_assert_eq(probe->n_problems, 0);
	probe->route->netdev_mtu_bytes = 1500;
	probe->route->rate_bytes_per_s = 1000000000ull / 8;
	judge(0);
	cr_assert_eq(probe->n_problems, 0, "a slow link needs none of it");
}

Test(probe_judge, a_wide_slot_of_unknown_link_is_not_blamed)
{
	static const struct sysfs_entry unknown[] = { { CARD "/current_link_speed", "Unknown" } };

	LOOK_AFTER(unknown);
	cr_assert_eq(probe->n_problems, 0);
}

Test(probe_judge, a_netdev_of_the_usual_mtu)
{
	static const struct sysfs_entry mtu[] = { { "/sys/class/net/enp59s0f0np0/mtu", "1500" } };

	LOOK_AFTER(mtu);
	only(RJ_PROBE_SLOWS, "carry 1024 bytes, not 4096");
	expect_fix("ip link set dev enp59s0f0np0 mtu 4200");
	cr_assert(strstr(probe->problems[0].why, "7.4 % of the rate, 2.0 % would do: 5.45 of 100"),
		  "%s", probe->problems[0].why);
}

Test(probe_judge, a_port_that_is_down)
{
	static const struct sysfs_entry down[] = {
		{ PORT "/state", "1: DOWN" },
		{ PORT "/phys_state", "3: Disabled" },
		{ "/sys/class/net/enp59s0f0np0/mtu", "1500" },
	};

	LOOK_AFTER(down);
	only(RJ_PROBE_SLOWS, "port 1 of mlx5_0 is DOWN, its link Disabled");
	expect_fix("ip link set dev enp59s0f0np0 up");
}

Test(probe_judge, a_second_port_that_is_down_is_a_note)
{
	static const struct sysfs_entry down[] = {
		{ "/sys/class/infiniband/mlx5_0/ports/2/link_layer", "Ethernet" },
		{ "/sys/class/infiniband/mlx5_0/ports/2/state", "1: DOWN" },
	};

	LOOK_AFTER(down);
	only(RJ_PROBE_NOTE, "port 2 of mlx5_0 is DOWN");
}

Test(probe_judge, infiniband_without_a_subnet_manager)
{
	static const struct sysfs_entry init[] = {
		{ PORT "/link_layer", "InfiniBand" },
		{ PORT "/state", "2: INIT" },
	};

	LOOK_AFTER(init);
	only(RJ_PROBE_SLOWS, "is INIT");
	expect_fix("opensm");
}

Test(probe_judge, a_port_without_an_address)
{
	static const struct sysfs_entry bare[] = {
		{ PORT "/gids/2", "0000:0000:0000:0000:0000:0000:0000:0000" },
		{ PORT "/gids/3", "0000:0000:0000:0000:0000:0000:0000:0000" },
	};

	LOOK_AFTER(bare);
	only(RJ_PROBE_SLOWS, "has no address");
	expect_fix("ip address add ADDRESS/PREFIX dev enp59s0f0np0");
}

Test(probe_judge, cpus_far_from_the_card)
{
	static const struct sysfs_entry far[] = {
		{ "/proc/self/status", "Cpus_allowed_list:\t0-7" },
	};

	LOOK_AFTER(far);
	only(RJ_PROBE_SLOWS, "mlx5_0 is at node 1 (CPUs 16-31), this process may run on 0-7 only");
	expect_fix("numactl --cpunodebind=1");
}

Test(probe_judge, locked_memory)
{
	look();
	probe->machine.memlock_bytes = 8 << 20;
	judge(0);
	only(RJ_PROBE_SLOWS, "the locked-memory limit is 8388608 bytes");
	expect_fix("ulimit -l unlimited");
	judge(64ull << 30);
	only(RJ_PROBE_SLOWS, "8388608 bytes, and the guest has 68719476736");
	expect_fix("ulimit -l 67108864;");
	judge(8 << 20);
	cr_assert_eq(probe->n_problems, 0, "it fits");
	probe->machine.ipc_lock = 1;
	judge(64ull << 30);
	cr_assert_eq(probe->n_problems, 0, "CAP_IPC_LOCK lifts it");
}

/* Locked memory is what stops a migration that takes the device, and does not matter to one over tcp. */
Test(probe_judge, with_a_route)
{
	struct rj_probe_route r = { .uri = "rdma://192.0.2.8:1", .transport = "rdma" };

	look();
	strcpy(r.device, "mlx5_0");
	probe->route = calloc(1, sizeof(r));
	*probe->route = r;
	probe->machine.memlock_bytes = 8 << 20;
	judge(64ull << 30);
	only(RJ_PROBE_STOPS, "locked-memory");
	cr_assert_eq(probe->would_go, 0);
	strcpy(probe->route->uri, "tcp://192.0.2.8:1");
	strcpy(probe->route->transport, "tcp");
	probe->route->device[0] = '\0';
	judge(64ull << 30);
	cr_assert_eq(probe->n_problems, 0);
	cr_assert_eq(probe->would_go, 1);
}

Test(probe_judge, another_devices_problem_is_a_note)
{
	static const struct sysfs_entry x8[] = { { CARD "/current_link_width", "8" } };

	LOOK_AFTER(x8);
	probe->route = calloc(1, sizeof(*probe->route));
	strcpy(probe->route->uri, "rdma://192.0.2.8:1");
	strcpy(probe->route->transport, "rdma");
	strcpy(probe->route->device, "mlx5_1");
	judge(0);
	only(RJ_PROBE_SLOWS, "slot of mlx5_0");
	strcpy(probe->route->uri, "tcp://192.0.2.8:1");
	strcpy(probe->route->transport, "tcp");
	probe->route->device[0] = '\0';
	judge(0);
	only(RJ_PROBE_NOTE, "slot of mlx5_0");
}

Test(probe_judge, a_device_that_programs_cannot_open)
{
	look();
	probe->devices[0].opened = -ENODEV;
	judge(0);
	only(RJ_PROBE_SLOWS, "mlx5_0 is there, but programs cannot open it");
	expect_fix("modprobe ib_uverbs");
	probe->devices[0].opened = -ENOTSUP;
	judge(0);
	expect_fix("apt-get install ibverbs-providers");
	probe->devices[0].opened = 0;
	probe->machine.rdma_cm = -ENOENT;
	judge(0);
	only(RJ_PROBE_SLOWS, "/dev/infiniband/rdma_cm cannot be opened: No such file");
	expect_fix("modprobe rdma_ucm");
}

Test(probe_judge, software_and_the_worst_first)
{
	static const struct sysfs_entry rxe[] = {
		{ "/sys/class/infiniband/rxe0/ports/1/link_layer", "Ethernet" },
		{ "/sys/class/infiniband/rxe0/ports/1/state", "1: DOWN" },
		{ "/sys/class/infiniband/rxe0/parent", "eth0" },
	};

	LOOK_AFTER(rxe);
	cr_assert_eq(probe->n_problems, 2);
	cr_assert_eq(probe->problems[0].severity, RJ_PROBE_SLOWS);
	cr_assert_eq(probe->problems[1].severity, RJ_PROBE_NOTE);
	cr_assert_str_eq(probe->problems[1].problem, "rxe0 is software RDMA");
}

Test(probe_judge, no_device_and_how_to_get_one)
{
	static const struct sysfs_entry rxe[] = { { "/sys/module/rdma_rxe/refcnt", "0" } };

	SYSFS_TREE_ADD(root, rxe);
	look();
	free(probe->devices[0].ports[0].gids);
	free(probe->devices[0].ports);
	probe->n_devices = 0;
	judge(0);
	only(RJ_PROBE_SLOWS, "no RDMA device here");
	expect_fix("without a card: rdma link add rxe0 type rxe netdev enp59s0f0np0");
	probe->machine.has_rxe = 0;
	judge(0);
	expect_fix("this kernel brings no software RDMA");
}

Test(probe_judge, too_few_huge_pages_and_no_kvm_are_notes)
{
	look();
	probe->machine.huge[0].n_free = 0;
	probe->machine.huge[0].n_pages = 0;
	judge(4ull << 30);
	only(RJ_PROBE_NOTE, "free huge pages: 0 MiB, too few for a guest of 4096 MiB");
	expect_fix("echo 2048 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	/* Those that another guest has are to stay its own. */
	probe->machine.huge[0].n_pages += 512;
	judge(4ull << 30);
	expect_fix("echo 2560 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
	probe->machine.huge[0].n_pages -= 512;
	judge(1ull << 40); /* more than this machine has: no number would do */
	cr_assert_eq(probe->n_problems, 0);
	judge(0);
	cr_assert_eq(probe->would_go, 1);
	probe->machine.huge[0].n_free = 1u << 30;
	probe->machine.kvm = -EACCES;
	judge(0);
	only(RJ_PROBE_NOTE, "/dev/kvm cannot be opened: Permission denied");
	expect_fix("usermod -aG kvm");
}

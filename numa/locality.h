/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_LOCALITY_H
#define RJI_NUMA_LOCALITY_H

/*
 * The node a device is attached to, by the kernel's number, or RJI_NO_NODE: a machine of one node,
 * firmware that does not tell, software RDMA over a netdev without hardware.
 *
 * device is a PCI address, "0000:3b:00.0", or a directory of sysfs: /sys/class/infiniband/mlx5_0,
 * /sys/class/net/eth0. Software RDMA is where its parent netdev is.
 */
int rji_device_node(const char *device);

/* The same below another root than "/sys": tests. */
int rji_device_node_in(const char *sysfs, const char *device);

#endif

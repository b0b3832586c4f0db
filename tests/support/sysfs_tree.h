/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SYSFS_TREE_H
#define RJ_TESTS_SYSFS_TREE_H

/*
 * A made-up /sys and /proc below a new directory in /tmp. A path that ends in "@" is a symbolic link to text; text NULL takes
 * away what an earlier entry made.
 */
struct sysfs_entry {
	const char *path; /* "/sys/class/infiniband/mlx5_0/fw_ver" */
	const char *text;
};

/* Make it, or add to it: root is filled in where it is "". */
void sysfs_tree_add(char root[64], const struct sysfs_entry *entry, int n);
void sysfs_tree_remove(const char *root);

#define SYSFS_TREE_ADD(root, entries)                                                              \
	sysfs_tree_add(root, entries, (int)(sizeof(entries) / sizeof(*(entries))))

/* A machine of two nodes with a 100 Gb/s RoCE card (mlx5_0, enp59s0f0np0, 192.0.2.7) on node 1, as sysfs shows it. */
void sysfs_tree_connectx(char root[64]);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "base/sysfs.h"
#include "tests/support/sysfs_tree.h"

static char root[64];

static void plant(void)
{
	static const struct sysfs_entry tree[] = {
		{ "/sys/a/text", "one line\nand another" },
		{ "/sys/a/number", "42 pages" },
		{ "/sys/a/hex", "0x15b3" },
		{ "/sys/a/minus", "-1" },
		{ "/sys/a/words", "none" },
		{ "/sys/a/empty", NULL },
		{ "/sys/a/link@", "../../devices/pci0000:00/0000:3b:00.0" },
		{ "/sys/a/bare@", "eth0" },
		{ "/sys/n/eth10", "" },
		{ "/sys/n/eth2", "" },
		{ "/sys/n/.hidden", "" },
	};

	sysfs_tree_add(root, tree, 5);
	sysfs_tree_add(root, tree + 6, 5);
}

static void clear(void)
{
	sysfs_tree_remove(root);
}

TestSuite(sysfs, .init = plant, .fini = clear);

Test(sysfs, first_line_cut_to_fit)
{
	char buf[64] = "x", small[4];

	cr_assert_eq(rji_sysfs_text(root, buf, sizeof(buf), "/sys/%s/text", "a"), 0);
	cr_assert_str_eq(buf, "one line");
	cr_assert_eq(rji_sysfs_text(root, small, sizeof(small), "/sys/a/text"), 0);
	cr_assert_str_eq(small, "one");
}

Test(sysfs, what_is_not_there_or_is_no_file_is_an_error_and_empty)
{
	char buf[64] = "x", path[600];

	cr_assert_eq(rji_sysfs_text(root, buf, sizeof(buf), "/sys/a/nothing"), -ENOENT);
	cr_assert_str_eq(buf, "");
	cr_assert_eq(rji_sysfs_text(root, buf, sizeof(buf), "/sys/a"), -EISDIR);
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	cr_assert_eq(rji_sysfs_text(root, buf, sizeof(buf), "/%s", path), -ENAMETOOLONG);
}

Test(sysfs, numbers)
{
	cr_assert_eq(rji_sysfs_number(root, 7, "/sys/a/number"), 42);
	cr_assert_eq(rji_sysfs_number(root, 7, "/sys/a/hex"), 0x15b3);
	cr_assert_eq(rji_sysfs_number(root, 7, "/sys/a/minus"), -1);
	cr_assert_eq(rji_sysfs_number(root, 7, "/sys/a/words"), 7);
	cr_assert_eq(rji_sysfs_number(root, 7, "/sys/a/nothing"), 7);
}

Test(sysfs, links_are_told_by_their_last_part)
{
	char buf[32] = "x";

	cr_assert_eq(rji_sysfs_link(root, buf, sizeof(buf), "/sys/a/link"), 0);
	cr_assert_str_eq(buf, "0000:3b:00.0");
	cr_assert_eq(rji_sysfs_link(root, buf, sizeof(buf), "/sys/a/bare"), 0);
	cr_assert_str_eq(buf, "eth0");
	cr_assert_eq(rji_sysfs_link(root, buf, sizeof(buf), "/sys/a/text"), -EINVAL);
	cr_assert_str_eq(buf, "");
}

Test(sysfs, names_in_their_order)
{
	struct dirent **list;
	int n = rji_sysfs_names(root, &list, "/sys/n");

	cr_assert_eq(n, 2);
	cr_assert_str_eq(list[0]->d_name, "eth2");
	cr_assert_str_eq(list[1]->d_name, "eth10");
	rji_sysfs_names_free(list, n);
	cr_assert_eq(rji_sysfs_names(root, &list, "/sys/nowhere"), -ENOENT);
	cr_assert(rji_sysfs_exists(root, "/sys/n/eth%d", 2));
	cr_assert(!rji_sysfs_exists(root, "/sys/n/eth%d", 3));
}

Test(sysfs, the_choice_in_brackets)
{
	char buf[16];

	rji_sysfs_chosen("always [madvise] never", buf, sizeof(buf));
	cr_assert_str_eq(buf, "madvise");
	rji_sysfs_chosen("nothing", buf, sizeof(buf));
	cr_assert_str_eq(buf, "");
}

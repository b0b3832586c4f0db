/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/sysfs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* False: it does not fit, so there is no such file. */
__attribute__((format(printf, 3, 0))) static bool path_of(char *path, const char *root,
							  const char *fmt, va_list ap)
{
	int n = snprintf(path, RJI_SYSFS_PATH, "%s", root);
	int m = vsnprintf(path + n, RJI_SYSFS_PATH - (size_t)n, fmt, ap);

	return n + m < RJI_SYSFS_PATH;
}

static int read_line(const char *path, char *buf, size_t buf_bytes)
{
	FILE *f = fopen(path, "re");
	int ret = 0;

	*buf = '\0';
	if (!f)
		return -errno;
	errno = 0;
	/* The entries of an InfiniBand table that are not in use can be opened but not read. */
	if (!fgets(buf, (int)buf_bytes, f)) {
		ret = errno ? -errno : -ENODATA;
		*buf = '\0';
	}
	fclose(f);
	buf[strcspn(buf, "\n")] = '\0';
	return ret;
}

int rji_sysfs_text(const char *root, char *buf, size_t buf_bytes, const char *fmt, ...)
{
	char path[RJI_SYSFS_PATH];
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, root, fmt, ap);
	va_end(ap);
	*buf = '\0';
	return fits ? read_line(path, buf, buf_bytes) : -ENAMETOOLONG;
}

int64_t rji_sysfs_number(const char *root, int64_t otherwise, const char *fmt, ...)
{
	char path[RJI_SYSFS_PATH], text[64], *end;
	int64_t v;
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, root, fmt, ap);
	va_end(ap);
	if (!fits || read_line(path, text, sizeof(text)))
		return otherwise;
	v = strtoll(text, &end, 0);
	return end == text ? otherwise : v;
}

int rji_sysfs_link(const char *root, char *buf, size_t buf_bytes, const char *fmt, ...)
{
	char path[RJI_SYSFS_PATH], to[RJI_SYSFS_PATH];
	const char *slash;
	ssize_t n;
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, root, fmt, ap);
	va_end(ap);
	*buf = '\0';
	if (!fits)
		return -ENAMETOOLONG;
	n = readlink(path, to, sizeof(to) - 1);
	if (n < 0)
		return -errno;
	to[n] = '\0';
	slash = strrchr(to, '/');
	snprintf(buf, buf_bytes, "%s", slash ? slash + 1 : to);
	return 0;
}

bool rji_sysfs_exists(const char *root, const char *fmt, ...)
{
	char path[RJI_SYSFS_PATH];
	va_list ap;
	bool fits;

	va_start(ap, fmt);
	fits = path_of(path, root, fmt, ap);
	va_end(ap);
	return fits && access(path, F_OK) == 0;
}

static int not_hidden(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int rji_sysfs_names(const char *root, struct dirent ***list_p, const char *fmt, ...)
{
	char path[RJI_SYSFS_PATH];
	va_list ap;
	bool fits;
	int n;

	va_start(ap, fmt);
	fits = path_of(path, root, fmt, ap);
	va_end(ap);
	if (!fits)
		return -ENAMETOOLONG;
	n = scandir(path, list_p, not_hidden, versionsort);
	return n < 0 ? -errno : n;
}

void rji_sysfs_names_free(struct dirent **list, int n)
{
	for (int i = 0; i < n; i++)
		free(list[i]);
	if (n >= 0)
		free(list);
}

void rji_sysfs_chosen(const char *text, char *buf, size_t buf_bytes)
{
	const char *from = strchr(text, '[');

	*buf = '\0';
	if (from)
		snprintf(buf, buf_bytes, "%.*s", (int)strcspn(from + 1, "]"), from + 1);
}

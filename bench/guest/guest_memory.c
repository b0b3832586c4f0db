/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/guest_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALIGN_BYTES (2ull << 20)
#define MIB ((uint64_t)1 << 20)

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

/* MemAvailable of /proc/meminfo, in bytes; UINT64_MAX if it cannot be told. */
static uint64_t available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	uint64_t kib = 0;
	char line[128];

	if (!f)
		return UINT64_MAX;
	while (!kib && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) != 1)
			kib = 0;
	fclose(f);
	return kib ? kib * 1024 : UINT64_MAX;
}

/* A stretch of addresses, aligned. NULL: there is none. */
static uint8_t *reserve(uint64_t len_bytes)
{
	uint8_t *p = mmap(NULL, len_bytes + ALIGN_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p % ALIGN_BYTES;
	if (before)
		munmap(p, before);
	munmap(p + before + len_bytes, ALIGN_BYTES - before);
	return p + before;
}

static int no_memory(uint64_t len_bytes, char *why, size_t why_bytes)
{
	int err = errno;

	snprintf(why, why_bytes, "cannot map %" PRIu64 " MiB of guest RAM: %s", len_bytes / MIB,
		 strerrordesc_np(err));
	return -err;
}

static int map_at(struct guest_memory *m, uint64_t len_bytes, int flags, int fd, char *why,
		  size_t why_bytes)
{
	uint8_t *host = reserve(len_bytes);
	void *p;

	if (!host)
		return no_memory(len_bytes, why, why_bytes);
	p = mmap(host, len_bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		int ret = no_memory(len_bytes, why, why_bytes);

		munmap(host, len_bytes);
		return ret;
	}
	*m = (struct guest_memory){ .host = host, .len_bytes = len_bytes, .fd = fd };
	return 0;
}

static int map_shared(struct guest_memory *m, uint64_t len_bytes, unsigned int flags, char *why,
		      size_t why_bytes)
{
	int fd = memfd_create("guest-ram", MFD_CLOEXEC | flags), ret;

	if (fd < 0 || ftruncate(fd, (off_t)len_bytes)) {
		ret = no_memory(len_bytes, why, why_bytes);
		if (fd >= 0)
			close(fd);
		return ret;
	}
	ret = map_at(m, len_bytes, MAP_SHARED, fd, why, why_bytes);
	if (ret)
		close(fd);
	return ret;
}

static int map_hugetlb(struct guest_memory *m, uint64_t len_bytes, char *why, size_t why_bytes)
{
	int ret = map_shared(m, len_bytes, MFD_HUGETLB | MFD_HUGE_2MB, why, why_bytes);
	uint64_t n = len_bytes / ALIGN_BYTES;

	if (ret < 0)
		snprintf(why, why_bytes,
			 "no %" PRIu64
			 " huge pages of 2 MiB for guest RAM: %s; reserve them, as by "
			 "sysctl vm.nr_hugepages=%" PRIu64,
			 n, strerrordesc_np(-ret), n);
	return ret;
}

static int map_private(struct guest_memory *m, uint64_t len_bytes, bool huge, char *why,
		       size_t why_bytes)
{
	int ret = map_at(m, len_bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, why,
			 why_bytes);

	/* A kernel without transparent huge pages refuses both, and has none. */
	if (!ret)
		madvise(m->host, len_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return ret;
}

/* Part by part to one node each, before anything is touched; libnuma would be much for one call. */
static int bind_to_nodes(const struct guest_memory *m, const struct guest_nodes *nodes, char *why,
			 size_t why_bytes)
{
	uint64_t part = m->len_bytes / (nodes->n ? nodes->n : 1) / ALIGN_BYTES * ALIGN_BYTES;

	for (uint32_t i = 0; i < nodes->n; i++) {
		uint64_t at = i * part, len = i + 1 < nodes->n ? part : m->len_bytes - at;
		unsigned long mask = 1ul << nodes->number[i];
		int err;

		if (!len || !syscall(SYS_mbind, m->host + at, len, MPOL_BIND, &mask, 65ul, 0u))
			continue;
		err = errno;
		snprintf(why, why_bytes, "cannot have guest RAM on node %u: %s%s", nodes->number[i],
			 strerrordesc_np(err),
			 err == EINVAL ? " (see /sys/devices/system/node/has_memory)" : "");
		return -err;
	}
	return 0;
}

static int map_kind(struct guest_memory *m, const struct guest_opts *o, char *why, size_t why_bytes)
{
	if (o->memory == GUEST_MEMORY_SHARED)
		return map_shared(m, o->size_bytes, 0, why, why_bytes);
	if (o->memory == GUEST_MEMORY_HUGETLB)
		return map_hugetlb(m, o->size_bytes, why, why_bytes);
	return map_private(m, o->size_bytes, o->memory == GUEST_MEMORY_HUGE, why, why_bytes);
}

int guest_memory_alloc(struct guest_memory *m, const struct guest_opts *o, char *why,
		       size_t why_bytes)
{
	uint64_t available = available_bytes();
	int ret;

	if (o->size_bytes > available && o->memory != GUEST_MEMORY_HUGETLB && !o->fill_none) {
		snprintf(why, why_bytes,
			 "a guest of %" PRIu64 " MiB does not fit: this machine has %" PRIu64
			 " MiB available; take a smaller size, or --guest marked",
			 o->size_bytes / MIB, available / MIB);
		return -ENOMEM;
	}
	ret = map_kind(m, o, why, why_bytes);
	if (ret < 0)
		return ret;
	ret = bind_to_nodes(m, &o->nodes, why, why_bytes);
	if (ret < 0)
		guest_memory_free(m);
	return ret;
}

int guest_memory_populate(struct guest_memory *m, char *why, size_t why_bytes)
{
	int err;

	if (!madvise(m->host, m->len_bytes, MADV_POPULATE_WRITE))
		return 0;
	err = errno;
	snprintf(why, why_bytes, "cannot populate %" PRIu64 " MiB of guest RAM: %s%s",
		 m->len_bytes / MIB, strerrordesc_np(err),
		 err == EINVAL ? " (--prefault needs Linux 5.14)" : "");
	return -err;
}

int guest_memory_reserve(struct guest_memory *m, uint64_t len_bytes, char *why, size_t why_bytes)
{
	return map_at(m, len_bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, why,
		      why_bytes);
}

void guest_memory_free(struct guest_memory *m)
{
	if (!m->host)
		return;
	munmap(m->host, m->len_bytes);
	if (m->fd >= 0)
		close(m->fd);
	m->host = NULL;
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rdma/rdma.h"
#include "rdma/rdma_transport.h"

/*
 * The kernel counts the pages of every registration against RLIMIT_MEMLOCK, twice if they are registered twice, in
 * mm->pinned_vm (VmPin of /proc/self/status, not VmLck). Without CAP_IPC_LOCK a limit of 0 gives EPERM, one that is exceeded
 * ENOMEM (ib_umem_get()). ENOMEM alone does not tell a limit from a machine without memory, and a registration of hundreds of
 * GB fails only after minutes; hence the question up front.
 */

static uint64_t pinned_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	uint64_t kib = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %" SCNu64, &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static bool has_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	memset(data, 0, sizeof(data));
	if (syscall(SYS_capget, &head, data))
		return false;
	return data[0].effective >> CAP_IPC_LOCK & 1;
}

void rji_rdma_memlock_limit(uint64_t *limit_bytes_p, bool *ipc_lock_p)
{
	struct rlimit limit;

	*limit_bytes_p = UINT64_MAX;
	if (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY)
		*limit_bytes_p = limit.rlim_cur;
	*ipc_lock_p = has_ipc_lock();
}

uint64_t rji_rdma_memlock_left(void)
{
	uint64_t limit, pinned = pinned_bytes();
	bool ipc_lock;

	rji_rdma_memlock_limit(&limit, &ipc_lock);
	if (limit == UINT64_MAX || ipc_lock)
		return RJI_RDMA_NO_LIMIT;
	return limit > pinned ? limit - pinned : 0;
}

int rji_rdma_memlock(const char *region, uint64_t more_bytes, int sys_errno, bool lazy,
		     struct rj_error *err)
{
	struct rlimit limit;
	uint64_t pinned;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return -sys_errno;
	/* Some drivers ask for the limit even where the capability is there (siw), so that only the question up front trusts it. */
	if (!sys_errno && has_ipc_lock())
		return 0;
	pinned = pinned_bytes();
	if (sys_errno != EPERM && more_bytes <= limit.rlim_cur &&
	    pinned <= limit.rlim_cur - more_bytes)
		return -sys_errno;
	return rji_fail(err, RJ_E_MEMLOCK,
			"region \"%s\" needs %" PRIu64 " bytes of locked memory, %" PRIu64
			" in all, and the limit is %" PRIu64 ": raise it (ulimit -l %" PRIu64
			", LimitMEMLOCK= of systemd), give CAP_IPC_LOCK, or %s",
			region, more_bytes, pinned + more_bytes, (uint64_t)limit.rlim_cur,
			(pinned + more_bytes + 1023) / 1024,
			lazy ? "set a lower --pin-cap"
			     : "register only what is needed (--register lazy --pin-cap BYTES)");
}

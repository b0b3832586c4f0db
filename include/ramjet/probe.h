/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_PROBE_H
#define RAMJET_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/env.h>
#include <ramjet/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What a migration from or to this machine has to work with: RDMA devices and their ports, the
 * machine, the way a URI would take; and what is wrong with that, each with the command that mends
 * it. Nothing is connected to, sent or changed.
 *
 * Texts are "" and numbers 0 where something is not known or not there, unless said otherwise.
 * Numbers that answer a question with yes or no are 1 or 0.
 */

/* An entry of a port's table of global identifiers (GIDs). */
struct rj_probe_gid {
	uint32_t index;
	uint32_t chosen;  /* lanes would use this one */
	char type[16];	  /* "RoCE v2", "RoCE v1", "IB" */
	char gid[48];	  /* "fe80:0000:…" */
	char address[48]; /* the IPv4 or IPv6 address it stands for; "" on InfiniBand and iWARP */
};

struct rj_probe_port {
	uint32_t number;     /* 1 is the first */
	char transport[16];  /* "InfiniBand", "RoCE", "iWARP" */
	char state[16];	     /* "ACTIVE", "DOWN", "INIT", "ARMED" */
	char phys_state[32]; /* "LinkUp", "Polling", "Disabled" … */
	char link_layer[16]; /* "InfiniBand", "Ethernet" */
	char netdev[16];
	uint32_t netdev_up;
	uint32_t netdev_mtu_bytes;
	uint32_t width;		   /* lanes of the cable: 4 in 4X */
	uint32_t speed_mbit_per_s; /* of one of them */
	uint64_t rate_bits_per_s;  /* both, less the line code: what can be filled */
	uint64_t rate_bytes_per_s; /* the same, less the headers at active_mtu_bytes */
	uint32_t active_mtu_bytes;
	uint32_t max_mtu_bytes;
	uint32_t mtu_lost_ppm;		  /* of the rate, to headers, in millionths */
	uint32_t max_mtu_lost_ppm;	  /* the same at max_mtu_bytes */
	uint32_t netdev_mtu_wanted_bytes; /* that would give max_mtu_bytes; 0: as it is */
	uint32_t n_gids;
	struct rj_probe_gid *gids;
};

struct rj_probe_device {
	char name[64]; /* "mlx5_0" */
	char firmware[64];
	uint32_t software;   /* rxe, siw: it shows the path, not the speed */
	uint32_t allowed;    /* rj_env_opts.devices lets it be used */
	int32_t opened;	     /* 0: by this process; else MTU and limits are not known, because of
			    * -ENODEV: no driver for programs, -EACCES, -ENOTSUP: no library for it */
	int32_t node;	     /* NUMA node, -1: none */
	char node_cpus[128]; /* the CPUs of that node, "0-15" */
	char pci[16];	     /* "0000:3b:00.0", "" for software */
	uint32_t pcie_width;
	uint32_t pcie_max_width; /* what the card could */
	uint32_t pcie_mt_per_s;	 /* mega-transfers a second of each lane: 16000 is generation 4 */
	uint32_t pcie_max_mt_per_s;
	uint64_t pcie_bits_per_s; /* what such a link carries, less its own headers; an estimate */
	uint64_t max_mr_bytes;
	uint32_t max_qp_wr;
	uint32_t max_sge;
	uint32_t max_cqe;
	uint32_t n_ports;
	struct rj_probe_port *ports;
};

/* Huge pages of one size. */
struct rj_probe_huge {
	uint64_t page_bytes;
	uint64_t n_pages;
	uint64_t n_free;
};

#define RJ_PROBE_MAX_HUGE 4

struct rj_probe_machine {
	char kernel[128]; /* "6.1.0-56-amd64" */
	uint64_t memory_bytes;
	uint64_t available_bytes;
	uint32_t n_nodes;
	uint32_t n_cpus;	 /* online */
	uint32_t n_cpus_allowed; /* to this process */
	char cpus_allowed[128];	 /* "0-3,8" */
	uint32_t n_huge;
	struct rj_probe_huge huge[RJ_PROBE_MAX_HUGE];
	char thp[16];		/* transparent huge pages: "always", "madvise", "never" */
	char thp_shmem[16];	/* the same of memfd and /dev/shm: "advise" … */
	uint64_t memlock_bytes; /* RLIMIT_MEMLOCK; UINT64_MAX: no limit */
	uint32_t ipc_lock;	/* CAP_IPC_LOCK: the limit does not matter to most drivers */
	int32_t rdma_cm;  /* 0: /dev/infiniband/rdma_cm can be used; else -errno of opening it */
	uint32_t has_rxe; /* this kernel brings software RDMA, rdma_rxe */
	char netdev[16];  /* that is up, for software RDMA to be put on; "" if none is */
	int32_t kvm;	  /* 0: /dev/kvm can be used; else -errno of opening it */
	int32_t uffd_wp; /* 0: dirty tracking by userfaultfd works; else what rj_uffd_wp_create() would say */
};

/* The way of a migration by the URI. */
struct rj_probe_route {
	char uri[256];
	int32_t status;	    /* 0, or why it would not go: what rj_plan() returns, or RJ_E_CONNECT */
	char transport[16]; /* as rj_plan() decides; "" where status is negative */
	char why[RJ_PLAN_TEXT_BYTES];
	char device[64]; /* RDMA device; "" over tcp */
	uint32_t port;
	uint32_t gid_index; /* of that port; UINT32_MAX: not known */
	char address[48];   /* of this machine */
	char netdev[16];    /* that has the address */
	uint32_t netdev_mtu_bytes;
	uint32_t n_lanes;
	struct rj_lane_plan *lanes; /* n_lanes of them, as far as they can be placed without knowing
				     * the guest's memory; NULL where they cannot */
	uint64_t rate_bytes_per_s;  /* of the port; over tcp of the netdev, where it tells */
};

enum rj_probe_severity {
	RJ_PROBE_STOPS = 1, /* the migration asked for would not go */
	RJ_PROBE_SLOWS = 2, /* it would go, slower than it could, or not by RDMA */
	RJ_PROBE_NOTE = 3,  /* good to know */
};

/* Each a line. */
struct rj_probe_problem {
	enum rj_probe_severity severity;
	char problem[192];
	char why[320]; /* what it costs, and how that is known */
	char fix[320]; /* the command, or what else to do */
};

struct rj_probe {
	struct rj_probe_machine machine;
	uint32_t n_devices;
	struct rj_probe_device *devices;
	struct rj_probe_route *route; /* NULL without a URI */
	uint32_t n_problems;	      /* the worst first */
	struct rj_probe_problem *problems;
	uint32_t would_go; /* no problem is RJ_PROBE_STOPS */
};

/*
 * Look. uri may be NULL, guest_bytes 0 (it is what the locked-memory limit is judged by). What is
 * found wrong is in the result; it is no failure of this call. Blocks for up to 2 s where the URI's
 * host is to be resolved. *probe_p is the caller's, for rj_probe_destroy().
 *
 * Return 0; -EINVAL; RJ_E_URI for one that cannot be understood; -ENOMEM.
 */
RJ_API int rj_probe_create(struct rj_env *env, const char *uri, uint64_t guest_bytes,
			   struct rj_probe **probe_p);

/* Free it; *probe_p becomes NULL; NULL is fine. */
RJ_API void rj_probe_destroy(struct rj_probe **probe_p);

#ifdef __cplusplus
}
#endif
#endif

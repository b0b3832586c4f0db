/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_ENV_H
#define RAMJET_ENV_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <ramjet/error.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rj_log_level {
	RJ_LOG_ERROR = 1,
	RJ_LOG_WARN = 2,
	RJ_LOG_INFO = 3,
	RJ_LOG_DEBUG = 4,
};

struct rj_env;

/*
 * What the sessions of a process share: where log lines go, how threads are made, the RDMA devices.
 *
 * log    one line without a newline. Called from any thread, also from several at once; must not
 *        call the library. NULL: nothing is logged. The library itself never writes to stdout or
 *        stderr.
 * spawn  start fn(fn_arg) in a new, joinable thread and store it in *t_p; role is its name
 *        ("rj-lane-3", at most 15 characters). 0, or -errno. The place to set affinity, scheduling,
 *        a cgroup or a seccomp filter for the library's threads. NULL: pthread_create() with all
 *        signals blocked.
 * arg    passed to both; the caller's.
 * devices  the RDMA devices that may be used, "mlx5_0,mlx5_1"; NULL or "": all.
 */
struct rj_env_opts {
	size_t size;
	void (*log)(void *arg, enum rj_log_level level, const char *line);
	int (*spawn)(void *arg, const char *role, void *(*fn)(void *), void *fn_arg,
		     pthread_t *t_p);
	void *arg;
	enum rj_log_level log_level;
	const char *devices;
};

/* Defaults: no log, library-made threads, all devices, level RJ_LOG_INFO. Sets size. */
RJ_API void rj_env_opts_init(struct rj_env_opts *o);

/*
 * Make an environment. o may be NULL; what it points to is copied.
 *
 * The CPUs that the calling thread may use now are those that sessions may use later; within them
 * rj_opts.cpus can be narrower. An affinity that the spawn hook gives a thread is kept, or narrowed.
 *
 * Call it before seccomp or setuid take away the right to open devices: the RDMA devices are opened
 * here. Not so /dev/infiniband/rdma_cm, which librdmacm opens for each lane: leave that. A machine
 * without any is no error (rj_plan() tells).
 *
 * Return 0; -EINVAL for a size this library does not know or for a device name that is not there;
 * -ENOMEM.
 */
RJ_API int rj_env_open(const struct rj_env_opts *o, struct rj_env **env_p);

/*
 * Close it. NULL and a handle that is NULL are fine. Every session of it must have been closed
 * before.
 */
RJ_API void rj_env_close(struct rj_env **env_p);

#define RJ_PLAN_TEXT_BYTES RJ_ERROR_TEXT_BYTES

/* What a migration over a URI would use. */
struct rj_plan {
	size_t size;
	char transport[16]; /* "rdma", "tcp", "unix", "null" */
	char device[64];    /* RDMA device and port, "rxe0/1"; "" without one */
	uint32_t n_lanes;   /* what n_lanes 0 would come to */
	uint32_t software;  /* 1: an RDMA device emulated in software (rxe, siw): it shows the path,
			     * not the speed */
	char why[RJ_PLAN_TEXT_BYTES]; /* why this transport, or why rdma was not chosen and what
				       * would change that */
};

/*
 * Look up which transport a URI leads to, without connecting: "rdma://", "tcp://", "unix://" and
 * "null://" are taken by their word, "auto://host:port" is rdma where an RDMA device of this
 * machine reaches the host, else tcp. Blocks for at most 2 s (address resolution).
 *
 * On failure plan_p->why says what is wrong and what to do; the rest of it is left alone.
 *
 * Return 0; RJ_E_URI; RJ_E_NO_RDMA for rdma:// where no device reaches the host; -EINVAL.
 */
RJ_API int rj_plan(struct rj_env *env, const char *uri, struct rj_plan *plan_p);

#ifdef __cplusplus
}
#endif
#endif

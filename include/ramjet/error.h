/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_ERROR_H
#define RAMJET_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Every function that can fail returns an int: 0 or a count on success, a negative number on
 * failure. Where an errno fits, it is -errno (-EINVAL: the caller's arguments; -ENOMEM; -EADDRINUSE
 * ...). What only a migration can run into is one of the codes below, each smaller than -1000.
 * Out-parameters are written on success only.
 */
#define RJ_ERROR_LIST(X)                                                                           \
	X(RJ_E_URI, -1001, "the URI cannot be understood")                                         \
	X(RJ_E_STATE, -1002, "not allowed in the state the session is in")                         \
	X(RJ_E_NO_RDMA, -1003, "no usable RDMA device")                                            \
	X(RJ_E_MEMLOCK, -1004, "the locked-memory limit is too low")                               \
	X(RJ_E_CONNECT, -1005, "the peer cannot be reached")                                       \
	X(RJ_E_VERSION, -1006, "the peer speaks another protocol version")                         \
	X(RJ_E_PROTOCOL, -1007, "the peer sent something that is not allowed")                     \
	X(RJ_E_PEER_GONE, -1008, "the peer closed the connection or fell silent")                  \
	X(RJ_E_PEER_FAILED, -1009, "the peer gave up")                                             \
	X(RJ_E_REFUSED, -1010, "the destination refused")                                          \
	X(RJ_E_REGION, -1011, "the memory regions of the two sides do not match")                  \
	X(RJ_E_UNTRACKED, -1012, "writes to some memory cannot be tracked")                        \
	X(RJ_E_TRACKER, -1013, "a dirty tracker failed")                                           \
	X(RJ_E_LANE, -1014, "a lane failed")                                                       \
	X(RJ_E_VMM, -1015, "the VMM answered a request with a failure")                            \
	X(RJ_E_TIMEOUT, -1016, "a step took longer than it may")                                   \
	X(RJ_E_CANCELLED, -1017, "cancelled")                                                      \
	X(RJ_E_OUTCOME_UNKNOWN, -1018, "it is not known on which side the guest runs")             \
	X(RJ_E_DOWNTIME, -1019, "the downtime limit would have been broken")                       \
	X(RJ_E_SNAPSHOT, -1020, "the snapshot file is damaged, or not a snapshot")

enum rj_error_code {
#define RJ_ERROR_ENUM(name, value, text) name = value,
	RJ_ERROR_LIST(RJ_ERROR_ENUM)
#undef RJ_ERROR_ENUM
};

#define RJ_ERROR_TEXT_BYTES 512

/*
 * All that is known about why a session failed. text is one line which names the thing that failed
 * and says what to do about it. The other fields are 0 (region: UINT32_MAX) where they do not
 * apply.
 */
struct rj_error {
	size_t size;		/* sizeof(struct rj_error), set by the caller */
	int code;		/* -errno or RJ_E_…; 0: no error */
	int sys_errno;		/* of the system call that failed */
	int peer_code;		/* what the peer reported, as its own code */
	uint32_t wc_status;	/* enum ibv_wc_status of the first failed work completion */
	uint32_t wc_vendor_err; /* its vendor_err */
	uint32_t lane;		/* UINT32_MAX: none */
	uint32_t region;	/* UINT32_MAX: none */
	uint64_t offset_bytes;	/* in that region */
	char text[RJ_ERROR_TEXT_BYTES];
};

/*
 * The fixed text of an error code, never NULL. For what happened in one session, ask
 * rj_error_detail().
 */
RJ_API const char *rj_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_FAULT_TRANSPORT_H
#define RJ_TESTS_FAULT_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transport/transport.h"

/*
 * A transport around any other which lets the n-th call of one function fail or stall. A sweep
 * takes the 1st, the 2nd, … until one run is untouched.
 */
enum sim_op {
	SIM_OP_NONE,
	SIM_OP_CREATE,
	SIM_OP_REG,
	SIM_OP_EXPORT_KEYS,
	SIM_OP_IMPORT_KEYS,
	SIM_OP_LISTEN,
	SIM_OP_ACCEPT,
	SIM_OP_SERVE,
	SIM_OP_CONNECT,
	SIM_OP_POST,
	SIM_OP_DRAIN,
	SIM_OP_FENCE,
	SIM_N_OPS,
};

struct sim_fault {
	enum sim_op op;
	uint32_t nth; /* 1: the first call */
	bool stall;   /* return only when stop is set, the lane is cut, or time has passed; fail */
	uint32_t for_ms; /* this time; 0: the peer timeout */
	bool after;	 /* do it, then fail */
};

/* What rji_session_use_transport() is given with sim_fault_transport. */
struct sim_faulty {
	const struct rji_transport_ops *inner;
	void *inner_arg;
	struct sim_fault fault;
	atomic_uint n_calls; /* of the function */
	atomic_bool fired;
};

extern const struct rji_transport_ops sim_fault_transport;

const char *sim_op_name(enum sim_op op);

#endif

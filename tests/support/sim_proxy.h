/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJ_TESTS_SIM_PROXY_H
#define RJ_TESTS_SIM_PROXY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Stands between the two control channels and understands where messages begin. At one message, the
 * n-th of a type in one direction, it does what its rule says; questions for the outcome are let
 * through, refused, or swallowed.
 */
enum sim_direction { SIM_TO_DESTINATION, SIM_TO_SOURCE };

enum sim_cut {
	SIM_CUT_NONE,
	SIM_CUT_BEFORE,	  /* the message is lost and the connection closed */
	SIM_CUT_AFTER,	  /* it is delivered, then the connection is closed */
	SIM_SILENT_FROM,  /* it and what follows, both ways, is swallowed; nothing is closed */
	SIM_SILENT_AFTER, /* it is delivered, what follows, both ways, is swallowed */
	SIM_FORGE,	  /* another message, without payload, comes in its place */
	SIM_CUT_SHORT,	  /* its payload lacks the last byte, by the head as well */
};

struct sim_rule {
	enum sim_cut cut;
	enum sim_direction direction;
	uint16_t type;	 /* enum rji_msg_type; 0: any but PING, PONG */
	uint32_t nth;	 /* 1: the first */
	uint16_t forged; /* SIM_FORGE: its type */
	bool no_answers; /* questions for the outcome are refused */
	void (*fired)(
		void *arg); /* called once, in the proxy's thread, before the cut; may be NULL */
	void *arg;
};

struct sim_proxy;

/* Listens at port *port_p of 127.0.0.1 for connections to the other port. */
struct sim_proxy *sim_proxy_create(const struct sim_rule *rule, uint16_t to_port, uint16_t *port_p);
void sim_proxy_destroy(struct sim_proxy **p_p);

/* Close everything and refuse all that comes: the host is dead. Any thread. */
void sim_proxy_kill(struct sim_proxy *p);
/* Did the rule's message come? */
bool sim_proxy_fired(const struct sim_proxy *p);
/* Questions for the outcome that came in. */
uint32_t sim_proxy_n_asked(const struct sim_proxy *p);

#endif

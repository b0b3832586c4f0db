/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_PAYLOAD_H
#define BENCH_GUEST_PAYLOAD_H

/* Shared by kvm.c and payload.S. */
#define PAYLOAD_PORT_TICK 0x510
#define PAYLOAD_PORT_RING 0x514
#define PAYLOAD_LAST 0x80000000 /* with the answer of PAYLOAD_PORT_TICK: a tick is over */
#define PAYLOAD_RING_MASK 3	/* ring when beats & this is 0 */

#ifndef __ASSEMBLER__
extern const char guest_payload_start[], guest_payload_end[];
#endif

#endif

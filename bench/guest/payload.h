/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_PAYLOAD_H
#define BENCH_GUEST_PAYLOAD_H

/* Shared by kvm.c and payload.S. */
#define PAYLOAD_PORT_TICK 0x510
#define PAYLOAD_PORT_RING 0x514
/* The answer of PAYLOAD_PORT_TICK: a tick is over; a free page is to be taken; pages to write. */
#define PAYLOAD_LAST 0x80000000
#define PAYLOAD_TAKE 0x40000000
/* The word HINT_MODE of GUEST_CONTROL: how a page is written; from 8 on bytes between changed words. */
#define PAYLOAD_PLAIN 0
#define PAYLOAD_SAME 1
#define PAYLOAD_ABA 2
#define PAYLOAD_RING_MASK 3 /* ring when beats & this is 0 */

#ifndef __ASSEMBLER__
extern const char guest_payload_start[], guest_payload_end[];
#endif

#endif

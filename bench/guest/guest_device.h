/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_DEVICE_H
#define BENCH_GUEST_GUEST_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest;
struct guest_state;

/*
 * The device: each time it is rung, the VMM fills the next of its buffers in guest RAM, by its own
 * stores, as a network card emulated in the VMM does. No vCPU does it, so no log of KVM's shows it:
 * rj_mark_dirty() has to. Saving it writes its status page.
 *
 *   GUEST_DEVICE_STATUS    one page; what the newest save wrote
 *   GUEST_DEVICE_BUFFERS   GUEST_DEVICE_N pages, used in turn
 */
#define GUEST_DEVICE_STATUS 0x80000ull
#define GUEST_DEVICE_BUFFERS 0x100000ull
#define GUEST_DEVICE_N 256u

struct guest_device {
	uint8_t *ram; /* by which it writes: not where its guest does, if a tracker watches that */
	uint64_t writes; /* buffers filled so far */
	uint64_t saves;
};

void guest_device_ring(struct guest *g);
/* Write the status page, then the state. */
void guest_device_save(struct guest *g, struct guest_state *st);
int guest_device_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes);
/* Do the buffers and the status page hold what they must? 0 or -EIO with why. */
int guest_device_check(const struct guest *g, char *why, size_t why_bytes);

#endif

/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_GUEST_GUEST_STATE_H
#define BENCH_GUEST_GUEST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ramjet/ramjet.h>

/*
 * Device state: a header and tagged sections, little-endian.
 *
 *   magic u32 | version u16 | kind u16 | length u32 of all | sections u32
 *   tag u32 | length u32 | bytes …   for each section
 *
 * Nothing of it is applied before all of it was found well-formed, and each section is there once,
 * of the length its reader wants; a section nobody took makes the whole refused.
 */
#define GUEST_STATE_MAX_BYTES (256u * 1024)

struct guest_state {
	uint8_t *bytes;
	uint32_t len_bytes, n_sections, n_taken;
	bool no_memory;
};

void guest_state_init(struct guest_state *st);
void guest_state_fini(struct guest_state *st);

void guest_state_put(struct guest_state *st, uint32_t tag, const void *p, uint32_t len_bytes);
int guest_state_write(struct guest_state *st, uint16_t kind, struct rj_session *s);

/* Read all there is and check its form. 0; -EINVAL with why; or what rj_state_read() said. */
int guest_state_read(struct guest_state *st, uint16_t kind, struct rj_session *s, char *why,
		     size_t why_bytes);
/* Copy the section out. 0; -EINVAL with why: it is missing, doubled or of another length. */
int guest_state_take(struct guest_state *st, uint32_t tag, void *p, uint32_t len_bytes, char *why,
		     size_t why_bytes);
/* Was everything taken? */
int guest_state_taken(const struct guest_state *st, char *why, size_t why_bytes);

#endif

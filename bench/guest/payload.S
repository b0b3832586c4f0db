/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the KVM guest executes: 64-bit code, copied into guest RAM, free of addresses so that it
 * runs anywhere. No stack, no interrupts. Everything it works with is in registers, set by kvm.c
 * before the first instruction:
 *
 *   r8   beats so far                       rbp  control page: +0 writes, +8 beats
 *   r9   number of the newest write         r14  first byte of the area it writes to
 *   r10  GUEST_MIX_1, r11 GUEST_MIX_2       r13  pages of the area
 *   r12  seed + r9 * GUEST_MIX_1            rdi  sweep: the page to write next
 *   dx   PAYLOAD_PORT_TICK                  rsi  sweep: end of the area, else 0
 *
 * A read of the tick port tells how many pages to write; bit 31 says that a tick is over with
 * these. The VMM answers when it is time. Each write puts its own number into the first word of a
 * page, chosen as guest_page_of() does in C. Every fourth tick rings the device. Few instructions
 * for each page, since some machines emulate every one of them.
 */
#include "bench/guest/payload.h"

	.section .rodata
	.code64
	.balign 16
	.globl guest_payload_start, guest_payload_end
guest_payload_start:
tick:
	inl	%dx, %eax
	movl	%eax, %ebx
	andl	$0x7fffffff, %eax
	movl	%eax, %ecx
	jz	written
	testq	%rsi, %rsi
	jnz	sweep

random:
	addq	%r10, %r12
	incq	%r9
	movq	%r12, %rax
	shrq	$32, %rax
	xorq	%r12, %rax
	imulq	%r11, %rax
	mulq	%r13
	shlq	$12, %rdx
	movq	%r9, (%r14, %rdx)
	loop	random
	movl	$PAYLOAD_PORT_TICK, %edx
	jmp	written

sweep:
	incq	%r9
	movq	%r9, (%rdi)
	addq	$4096, %rdi
	cmpq	%rsi, %rdi
	cmovaeq	%r14, %rdi
	loop	sweep

written:
	movq	%r9, (%rbp)
	testl	%ebx, %ebx
	jns	tick
	incq	%r8
	movq	%r8, 8(%rbp)
	testb	$PAYLOAD_RING_MASK, %r8b
	jnz	tick
	movl	%r8d, %eax
	movl	$PAYLOAD_PORT_RING, %edx
	outl	%eax, %dx
	movl	$PAYLOAD_PORT_TICK, %edx
	jmp	tick
guest_payload_end:

	.section .note.GNU-stack, "", @progbits

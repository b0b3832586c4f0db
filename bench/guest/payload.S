/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the KVM guest executes: 64-bit code, copied into guest RAM, free of addresses so that it
 * runs anywhere. No stack, no interrupts. Everything it works with is in registers, set by kvm.c
 * before the first instruction:
 *
 *   r8   beats so far                       rbp  control page, GUEST_CONTROL
 *   r9   number of the newest write         r14  first byte of the area it writes to
 *   r10  GUEST_MIX_1, r11 GUEST_MIX_2       r13  pages of the area
 *   r12  seed + r9 * GUEST_MIX_1            rdi  sweep: the page to write next
 *   dx   PAYLOAD_PORT_TICK                  rsi  sweep: end of the area, else 0
 *
 * A read of the tick port tells how many pages to write; bit 31 says that a tick is over with
 * these, bit 30 that a free page is to be taken. The VMM answers when it is time. Each write puts its own
 * number into the first word of a page, chosen as guest_page_of() does in C, or does what the mode says.
 * Every fourth tick rings the device. Few instructions for each page, since some machines emulate every
 * one of them.
 */
#include "bench/guest/guest_words.h"
#include "bench/guest/payload.h"

#define CONTROL(i) (8 * (i))(%rbp)
#define VMM(i) (GUEST_HINT_VMM - GUEST_CONTROL + 8 * (i))(%rbp)
#define RING (GUEST_HINT_RING - GUEST_CONTROL)
#define NUMBERS (GUEST_HINT_NUMBERS - GUEST_CONTROL)

/* rdx = the page of the next write, as an offset in the area. */
	.macro	next_write
	addq	%r10, %r12
	incq	%r9
	movq	%r12, %rax
	shrq	$32, %rax
	xorq	%r12, %rax
	imulq	%r11, %rax
	mulq	%r13
	shlq	$12, %rdx
	.endm

/* Go to label unless there is room for a hint; rax = number of hints so far. Changes rdx. */
	.macro	room_or	label
	movq	CONTROL(HINT_HINTS), %rax
	movq	%rax, %rdx
	subq	VMM(HINT_ACKED), %rdx
	cmpq	$GUEST_HINTS_N, %rdx
	jae	\label
	.endm

/* Hint r15, rax from room_or, which becomes one more. Changes rdx, rcx. */
	.macro	put_hint
	movzbl	%al, %ecx
	shll	$4, %ecx
	movq	%r15, RING(%rbp, %rcx)
	movq	VMM(HINT_VMM_ROUND), %rdx
	movq	%rdx, RING + 8(%rbp, %rcx)
	incq	%rax
	movq	%rax, CONTROL(HINT_HINTS)
	.endm

	.section .rodata
	.code64
	.balign 16
	.globl guest_payload_start, guest_payload_end
guest_payload_start:
tick:
	inl	%dx, %eax
	movl	%eax, %ebx
	andl	$~(PAYLOAD_LAST | PAYLOAD_TAKE), %eax
	movl	%eax, %ecx
	jz	written
	testq	%rsi, %rsi
	jnz	sweep
	movq	CONTROL(HINT_MODE), %r15
	cmpl	$PAYLOAD_SAME, %r15d
	je	same
	ja	toggle_or_sparse

random:
	next_write
	movq	%r9, (%r14, %rdx)
	loop	random
	jmp	written

same:
	next_write
	movq	(%r14, %rdx), %rax
	movq	%rax, (%r14, %rdx)
	loop	same
	jmp	written

toggle_or_sparse:
	cmpl	$PAYLOAD_ABA, %r15d
	ja	sparse

toggle:
	next_write
	xorq	%r10, (%r14, %rdx)
	loop	toggle
	jmp	written

sparse:
	next_write
1:	movq	%r9, (%r14, %rdx)
	addq	%r15, %rdx
	testl	$0xfff, %edx
	jnz	1b
	loop	sparse
	jmp	written

sweep:
	incq	%r9
	movq	%r9, (%rdi)
	addq	$4096, %rdi
	cmpq	%rsi, %rdi
	cmovaeq	%r14, %rdi
	loop	sweep

written:
	movl	$PAYLOAD_PORT_TICK, %edx
	movq	%r9, CONTROL(HINT_WRITES)
	cmpq	$0, CONTROL(HINT_N_BLOCKS)
	je	beat

/* Free pages: guest_hints_tick() in C. rdi is lent by the sweep; r15 and rsp are nobody's here. */
	testl	$PAYLOAD_TAKE, %ebx
	jz	tell
	movq	CONTROL(HINT_TAKEN), %rcx
	cmpq	%rcx, CONTROL(HINT_FREED)
	je	free_next
	movq	CONTROL(HINT_N_TURNING), %rax
	decq	%rax
	andq	%rcx, %rax
	cmpq	$0, VMM(HINT_WAIT)
	je	take
	movq	NUMBERS(%rbp, %rax, 8), %rdx
	cmpq	%rdx, VMM(HINT_ACKED)
	jb	free_next
take:
	incq	%rcx
	movq	%rcx, CONTROL(HINT_TAKEN)
	imulq	CONTROL(HINT_BLOCK), %rax
	addq	CONTROL(HINT_FIRST), %rax
	shlq	$12, %rax
	movq	%rdi, %rsp
	movq	%rax, %rdi
	movq	CONTROL(HINT_KEY), %rax
	addq	%rcx, %rax
	movl	$512, %ecx
	rep stosq
	movq	%rsp, %rdi

free_next:
	movq	CONTROL(HINT_TAKEN), %rcx
	movq	CONTROL(HINT_N_TURNING), %rdx
	leaq	-1(%rdx, %rdx), %rax
	andq	%rcx, %rax
	leaq	(%rdx, %rdx), %r15
	subq	%rax, %r15
	cmpq	%r15, %rax
	cmovaq	%r15, %rax
	cmpq	$1, %rax
	adcq	$0, %rax
	movq	CONTROL(HINT_FREED), %r15
	movq	%r15, %rdx
	subq	%rcx, %rdx
	cmpq	%rax, %rdx
	jae	tell
	room_or	tell
	incq	CONTROL(HINT_FREED)
	movq	CONTROL(HINT_N_TURNING), %rcx
	decq	%rcx
	andq	%rcx, %r15
	incq	%rax
	movq	%rax, NUMBERS(%rbp, %r15, 8)
	decq	%rax
	imulq	CONTROL(HINT_BLOCK), %r15
	addq	CONTROL(HINT_FIRST), %r15
	btsq	$32, %r15
	put_hint
	jmp	free_next

tell:
	testl	%ebx, %ebx
	jns	told
	movq	VMM(HINT_VMM_ROUND), %rax
	cmpq	%rax, CONTROL(HINT_ROUND)
	je	1f
	movq	%rax, CONTROL(HINT_ROUND)
	movq	$0, CONTROL(HINT_TOLD)
1:	movl	$GUEST_HINTS_PER_TICK, %esp
tell_next:
	movq	CONTROL(HINT_TOLD), %rcx
	cmpq	CONTROL(HINT_N_BLOCKS), %rcx
	jae	told
	room_or	told
	movq	%rcx, %rdx
	imulq	CONTROL(HINT_BLOCK), %rdx
	movq	CONTROL(HINT_N_PAGES), %r15
	subq	%rdx, %r15
	addq	CONTROL(HINT_FIRST), %rdx
	cmpq	CONTROL(HINT_BLOCK), %r15
	cmovaq	CONTROL(HINT_BLOCK), %r15
	cmpq	CONTROL(HINT_N_TURNING), %rcx
	jae	1f
	incq	%rdx
	decq	%r15
1:	incq	CONTROL(HINT_TOLD)
	shlq	$32, %r15
	jz	2f
	orq	%rdx, %r15
	put_hint
2:	decl	%esp
	jnz	tell_next
told:
	movl	$PAYLOAD_PORT_TICK, %edx

beat:
	testl	%ebx, %ebx
	jns	tick
	incq	%r8
	movq	%r8, CONTROL(HINT_BEATS)
	testb	$PAYLOAD_RING_MASK, %r8b
	jnz	tick
	movl	%r8d, %eax
	movl	$PAYLOAD_PORT_RING, %edx
	outl	%eax, %dx
	movl	$PAYLOAD_PORT_TICK, %edx
	jmp	tick
guest_payload_end:

	.section .note.GNU-stack, "", @progbits

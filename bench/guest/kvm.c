/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/guest/guest_impl.h"
#include "bench/guest/payload.h"

/*
 * A virtual machine with one vCPU in 64-bit mode that executes payload.S.
 *
 * Its addresses are linear: page tables of 2 MiB pages show RAM in one piece from 0, while
 * guest-physical there is a gap from 3 to 4 GiB where a PC has its devices; so large guests have
 * two slots and two regions.
 *
 *   0x1000    control page: writes, beats        0x80000   device status page
 *   0x2000    payload                            0x90000   hints of free pages
 *   0x4000    page tables                        0x100000  device buffers
 *                                                0x200000  the workload's area, to the end
 *
 * The vCPU's thread is a ticker. The payload asks through a port how many pages to write, and the
 * answer waits for the next tick; a tick's pages come in chunks of about 0.3 ms, so that a pause
 * never waits for long and always finds the guest between two writes, in that question. No signal
 * is needed to get it out.
 */

#define CONTROL ((uint64_t)GUEST_CONTROL)
#define PAYLOAD 0x2000ull
#define TABLES 0x4000ull
#define LOW_END (3ull << 30)
#define HIGH_GPA (4ull << 30)
#define GIB (1ull << 30)
#define BIG_PAGE (2ull << 20)
#define DIRS_MAX 64u /* page directories that there is room for, of 1 GiB each */
#define MAX_BYTES (DIRS_MAX * GIB)

/* Present, writable, accessed and dirty, so that the CPU need not set them; and a large page. */
#define PTE_TABLE 0x63ull
#define PTE_BIG 0xe3ull

#define CHUNK_MIN 16u
#define CHUNK_MAX 65536u
#define CHUNK_NS 300000u

int kvm_guest_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static int check_extension(int fd, uintptr_t cap)
{
	int ret = kvm_guest_ioctl(fd, KVM_CHECK_EXTENSION, (void *)cap);

	return ret < 0 ? 0 : ret;
}

static int say(int ret, const char *what, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "%s: %s", what, strerrordesc_np(-ret));
	return ret;
}

static int open_kvm(char *why, size_t why_bytes)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), err = errno;

	if (fd < 0 && (err == EACCES || err == EPERM)) {
		snprintf(why, why_bytes,
			 "no permission for /dev/kvm: add yourself to group kvm or "
			 "run as root, or use --guest synthetic");
		return -err;
	}
	if (fd < 0) {
		snprintf(why, why_bytes,
			 "no /dev/kvm (%s): load kvm_intel or kvm_amd, or use "
			 "--guest synthetic",
			 strerrordesc_np(err));
		return -err;
	}
	if (kvm_guest_ioctl(fd, KVM_GET_API_VERSION, NULL) == KVM_API_VERSION &&
	    check_extension(fd, KVM_CAP_USER_MEMORY) && check_extension(fd, KVM_CAP_IMMEDIATE_EXIT))
		return fd;
	close(fd);
	snprintf(why, why_bytes,
		 "this KVM is too old (Linux 4.13 is needed): use --guest synthetic");
	return -ENOTSUP;
}

static int set_slot(struct guest *g, struct kvm_guest *k, uint32_t i)
{
	const struct guest_region *r = &g->regions[i];
	struct kvm_userspace_memory_region m = {
		.slot = i,
		.guest_phys_addr = r->gpa,
		.memory_size = r->len_bytes,
		.userspace_addr = (uintptr_t)(g->mem.host + r->offset),
	};

	return kvm_guest_ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &m);
}

/* Intel's CPUs without unrestricted guest want these; they lie in the gap. Not having the calls is
 * fine. */
static void set_intel_addresses(struct kvm_guest *k)
{
	uint64_t map = 0xfffbc000ull;

	kvm_guest_ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &map);
	kvm_guest_ioctl(k->vm_fd, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul);
}

static int make_vm(struct guest *g, struct kvm_guest *k, char *why, size_t why_bytes)
{
	int ret;

	do
		k->vm_fd = kvm_guest_ioctl(k->kvm_fd, KVM_CREATE_VM, NULL);
	while (k->vm_fd == -EINTR);
	if (k->vm_fd < 0)
		return say(k->vm_fd, "KVM cannot make a virtual machine", why, why_bytes);
	set_intel_addresses(k);
	for (uint32_t i = 0; i < g->n_regions; i++) {
		ret = set_slot(g, k, i);
		if (ret < 0)
			return say(ret, "KVM refuses the guest's RAM", why, why_bytes);
	}
	return 0;
}

/* All that this KVM supports: both ends are taken to be alike. */
static int set_cpuid(struct kvm_guest *k)
{
	enum { N = 256 };
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + N * sizeof(c->entries[0]));
	int ret = -ENOMEM;

	if (!c)
		return ret;
	c->nent = N;
	ret = kvm_guest_ioctl(k->kvm_fd, KVM_GET_SUPPORTED_CPUID, c);
	if (ret >= 0)
		ret = kvm_guest_ioctl(k->vcpu_fd, KVM_SET_CPUID2, c);
	free(c);
	return ret;
}

static int make_vcpu(struct kvm_guest *k, char *why, size_t why_bytes)
{
	int bytes, ret;
	void *run;

	k->vcpu_fd = kvm_guest_ioctl(k->vm_fd, KVM_CREATE_VCPU, NULL);
	if (k->vcpu_fd < 0)
		return say(k->vcpu_fd, "KVM cannot make a vCPU", why, why_bytes);
	bytes = kvm_guest_ioctl(k->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (bytes < (int)sizeof(*k->run))
		return say(bytes < 0 ? bytes : -EINVAL, "KVM's vCPU cannot be mapped", why,
			   why_bytes);
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu_fd, 0);
	if (run == MAP_FAILED)
		return say(-errno, "KVM's vCPU cannot be mapped", why, why_bytes);
	k->run = run;
	k->run_bytes = (size_t)bytes;
	ret = set_cpuid(k);
	if (ret < 0)
		return say(ret, "KVM refuses its own CPUID", why, why_bytes);
	ret = check_extension(k->vm_fd, KVM_CAP_XSAVE2);
	if (ret > 0)
		k->xsave_bytes = (uint32_t)ret;
	else if (check_extension(k->vm_fd, KVM_CAP_XSAVE))
		k->xsave_bytes = sizeof(struct kvm_xsave);
	return 0;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

static uint64_t gpa_of(uint64_t offset)
{
	return offset < LOW_END ? offset : offset - LOW_END + HIGH_GPA;
}

/* Where the directories are; those of a guest too large for their place are at the end of RAM. */
static uint64_t dirs_at(uint64_t size_bytes)
{
	return size_bytes > DIRS_MAX * GIB ? size_bytes - BIG_PAGE : TABLES + 0x2000;
}

/* The i-th word of the page tables: PML4, PDPT, then the directories. */
static uint64_t table_word(uint64_t size_bytes, uint64_t i)
{
	uint64_t n_big = div_up(size_bytes, BIG_PAGE), n_dirs = div_up(size_bytes, GIB);

	if (i < 512)
		return i ? 0 : (TABLES + 0x1000) | PTE_TABLE;
	if (i < 1024)
		return i - 512 < n_dirs
			       ? gpa_of(dirs_at(size_bytes) + (i - 512) * 0x1000) | PTE_TABLE
			       : 0;
	return i - 1024 < n_big ? gpa_of((i - 1024) * BIG_PAGE) | PTE_BIG : 0;
}

static uint64_t n_table_words(uint64_t size_bytes)
{
	return 1024 + div_up(size_bytes, GIB) * 512;
}

static uint64_t *table_at(const struct guest *g, uint64_t i)
{
	uint64_t at = i < 1024 ? TABLES + i * 8 : dirs_at(g->o.size_bytes) + (i - 1024) * 8;

	return (uint64_t *)(g->mem.host + at);
}

static size_t payload_bytes(void)
{
	return (size_t)(guest_payload_end - guest_payload_start);
}

/* How payload.S is to write a page. */
static uint64_t mode_of(const struct guest_workload *w)
{
	if (w->kind == WORKLOAD_SPARSE)
		return GUEST_PAGE_BYTES / w->change_bytes * 8;
	return w->kind == WORKLOAD_SAME	 ? PAYLOAD_SAME
	       : w->kind == WORKLOAD_ABA ? PAYLOAD_ABA
					 : PAYLOAD_PLAIN;
}

static void write_low_ram(struct guest *g)
{
	uint64_t *control = (uint64_t *)(g->mem.host + CONTROL);

	control[HINT_MODE] = mode_of(&g->o.workload);
	for (uint64_t i = 0; i < n_table_words(g->o.size_bytes); i++)
		*table_at(g, i) = table_word(g->o.size_bytes, i);
	memcpy(g->mem.host + PAYLOAD, guest_payload_start, payload_bytes());
}

/* 64-bit mode, flat, interrupts off. */
static int set_sregs(struct kvm_guest *k)
{
	struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 8,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	struct kvm_segment data = {
		.limit = 0xffffffff,
		.selector = 16,
		.type = 3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};
	struct kvm_sregs s;
	int ret = kvm_guest_ioctl(k->vcpu_fd, KVM_GET_SREGS, &s);

	if (ret < 0)
		return ret;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr3 = TABLES;
	s.cr4 |= 0x20;	    /* PAE */
	s.cr0 = 0x80050033; /* PG, AM, WP, NE, ET, MP, PE */
	s.efer = 0x500;	    /* LMA, LME */
	return kvm_guest_ioctl(k->vcpu_fd, KVM_SET_SREGS, &s);
}

/* What payload.S starts from, or would go on from after done writes and beats. */
static void payload_regs(const struct guest *g, uint64_t done, uint64_t beats, struct kvm_regs *r)
{
	struct guest_writes gw;

	guest_writes_init(&gw, &g->o, 0, 1);
	*r = (struct kvm_regs){
		.rip = PAYLOAD,
		.rflags = 2,
		.rdx = PAYLOAD_PORT_TICK,
		.rbp = CONTROL,
		.r8 = beats,
		.r9 = done,
		.r10 = GUEST_MIX_1,
		.r11 = GUEST_MIX_2,
		.r12 = gw.seed + (gw.sweep ? 0 : done * GUEST_MIX_1),
		.r13 = gw.n_pages,
		.r14 = GUEST_LOW_BYTES,
		.rsi = gw.sweep ? GUEST_LOW_BYTES + gw.n_pages * GUEST_PAGE_BYTES : 0,
		.rdi = GUEST_LOW_BYTES + done % gw.n_pages * (gw.sweep ? GUEST_PAGE_BYTES : 0),
	};
}

static int set_start(struct guest *g, struct kvm_guest *k)
{
	int ret = set_sregs(k);

	payload_regs(g, 0, 0, &k->regs);
	return ret < 0 ? ret : kvm_guest_ioctl(k->vcpu_fd, KVM_SET_REGS, &k->regs);
}

static void set_regions(struct guest *g)
{
	uint64_t size = g->o.size_bytes, low = size < LOW_END ? size : LOW_END;

	g->regions[0] = (struct guest_region){ .name = "ram", .len_bytes = low };
	g->n_regions = 1;
	if (size == low)
		return;
	g->regions[1] = (struct guest_region){
		.name = "ram-high",
		.offset = low,
		.len_bytes = size - low,
		.gpa = HIGH_GPA,
	};
	g->n_regions = 2;
}

static int kvm_create(struct guest *g, bool empty, char *why, size_t why_bytes)
{
	struct kvm_guest *k = calloc(1, sizeof(*k));
	int ret;

	if (!k)
		return say(-ENOMEM, "a KVM guest", why, why_bytes);
	g->priv = k;
	k->vm_fd = k->vcpu_fd = -1;
	k->chunk = CHUNK_MIN;
	k->kvm_fd = open_kvm(why, why_bytes);
	if (k->kvm_fd < 0)
		return k->kvm_fd;
	ret = guest_memory_alloc(&g->mem, &g->o, why, why_bytes);
	if (ret)
		return ret;
	g->dev.ram = g->mem.host;
	set_regions(g);
	ret = make_vm(g, k, why, why_bytes);
	if (!ret)
		ret = kvm_track_prepare(g, why, why_bytes);
	if (!ret)
		ret = make_vcpu(k, why, why_bytes);
	if (!ret && g->o.tracker == GUEST_TRACKER_RING) /* its vCPU's thread needs it */
		ret = kvm_track(g, why, why_bytes);
	if (ret || empty)
		return ret;
	ret = set_start(g, k);
	if (ret < 0)
		return say(ret, "KVM refuses a vCPU in 64-bit mode", why, why_bytes);
	write_low_ram(g);
	ret = g->o.fill_none ? 0 : guest_fill(g->mem.host, &g->o);
	return ret ? say(ret, "filling guest RAM", why, why_bytes) : 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void kvm_destroy(struct guest *g)
{
	struct kvm_guest *k = g->priv;

	if (!k)
		return;
	if (k->run)
		munmap(k->run, k->run_bytes);
	close_fd(k->vcpu_fd);
	close_fd(k->vm_fd);
	close_fd(k->kvm_fd);
	free(k);
	g->priv = NULL;
}

static uint64_t control_word(const struct guest *g, uint32_t i)
{
	const uint64_t *words = (const uint64_t *)(g->mem.host + CONTROL);

	return __atomic_load_n(&words[i], __ATOMIC_RELAXED); /* the guest is out of KVM_RUN */
}

static int give_up(struct guest *g, const char *what, uint64_t code)
{
	snprintf(g->broken, sizeof(g->broken), "the vCPU stopped: %s %" PRIu64, what, code);
	return -EIO;
}

/* 1: it asks for the next pages; 0: go on. */
static int handle_exit(struct guest *g, struct kvm_guest *k)
{
	const struct kvm_run *run = k->run;

	if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
		return kvm_track_full(g);
	if (run->exit_reason != KVM_EXIT_IO)
		return give_up(g, "KVM exit", run->exit_reason);
	if (run->io.port == PAYLOAD_PORT_TICK && run->io.direction == KVM_EXIT_IO_IN &&
	    run->io.size == 4)
		return 1;
	if (run->io.port != PAYLOAD_PORT_RING || run->io.direction != KVM_EXIT_IO_OUT)
		return give_up(g, "access to port", run->io.port);
	guest_device_ring(g);
	return 0;
}

/* Run until it asks. 0 or -errno. */
static int run_to_tick(struct guest *g, struct kvm_guest *k)
{
	int ret = 0;

	while (!ret) {
		k->at_tick = false;
		ret = kvm_guest_ioctl(k->vcpu_fd, KVM_RUN, NULL);
		if (ret == -EINTR || ret == -EAGAIN)
			ret = 0;
		else if (ret < 0)
			ret = give_up(g, "KVM_RUN failed with error", (uint64_t)-ret);
		else
			ret = handle_exit(g, k);
	}
	k->at_tick = ret > 0;
	return ret < 0 ? ret : 0;
}

static void answer(struct kvm_guest *k, uint32_t v)
{
	memcpy((char *)k->run + k->run->io.data_offset, &v, sizeof(v));
}

/* As many pages at once as take CHUNK_NS. */
static void adapt_chunk(struct kvm_guest *k, uint64_t n, uint64_t ns)
{
	uint64_t fit = ns ? n * CHUNK_NS / ns : CHUNK_MAX;

	if (n < CHUNK_MIN)
		return; /* the exit itself took most of it */
	if (fit > 2ull * k->chunk)
		fit = 2ull * k->chunk;
	k->chunk = fit < CHUNK_MIN ? CHUNK_MIN : fit > CHUNK_MAX ? CHUNK_MAX : (uint32_t)fit;
}

static int kvm_tick(void *arg, struct ticker *t, uint64_t n_pages)
{
	struct guest_ticker *gt = arg;
	struct guest *g = gt->g;
	struct kvm_guest *k = g->priv;
	uint32_t n_take = guest_hints_of_tick(g);
	int ret = k->at_tick ? 0 : run_to_tick(g, k);
	bool last = false;

	while (!ret && !last) {
		uint64_t n = n_pages < k->chunk ? n_pages : k->chunk, start_ns = guest_now_ns();
		uint32_t take = n_take ? PAYLOAD_TAKE : 0;

		if (ticker_must_stop(t))
			return 1;
		n_take -= n_take ? 1 : 0;
		last = n == n_pages && !n_take;
		answer(k, (uint32_t)n | take | (last ? PAYLOAD_LAST : 0));
		ret = run_to_tick(g, k);
		if (!take)
			adapt_chunk(k, n, guest_now_ns() - start_ns);
		n_pages -= n;
	}
	atomic_store_explicit(&g->counter, control_word(g, HINT_BEATS), memory_order_relaxed);
	return ret;
}

int kvm_guest_complete(struct kvm_guest *k)
{
	int ret;

	if (!k->at_tick)
		return 0;
	answer(k, 0);
	k->run->immediate_exit = 1;
	ret = kvm_guest_ioctl(k->vcpu_fd, KVM_RUN, NULL);
	k->run->immediate_exit = 0;
	k->at_tick = false;
	return ret == -EINTR ? 0 : ret < 0 ? ret : -EIO;
}

static int kvm_save(struct guest *g, struct guest_state *st)
{
	return kvm_state_save(g->priv, st);
}

/* The registers that never change say whether the state fits the workload that the guest was
 * described with. */
static int kvm_load(struct guest *g, struct guest_state *st, char *why, size_t why_bytes)
{
	struct kvm_guest *k = g->priv;
	struct kvm_regs want;
	int ret = kvm_state_load(k, st, why, why_bytes);

	if (ret < 0)
		return ret;
	payload_regs(g, k->regs.r9, k->regs.r8, &want);
	if (k->regs.r10 != want.r10 || k->regs.r11 != want.r11 || k->regs.r12 != want.r12 ||
	    k->regs.r13 != want.r13 || k->regs.r14 != want.r14 || k->regs.rsi != want.rsi ||
	    k->regs.rdi != want.rdi || k->regs.rbp != want.rbp) {
		snprintf(why, why_bytes, "device state refused: the vCPU runs another workload");
		return -EINVAL;
	}
	return 0;
}

static int check_low_ram(const struct guest *g, const struct kvm_regs *regs, char *why,
			 size_t why_bytes)
{
	if (memcmp(g->mem.host + PAYLOAD, guest_payload_start, payload_bytes()) != 0) {
		snprintf(why, why_bytes, "page 2, the guest's code, is lost");
		return -EIO;
	}
	for (uint64_t i = 0; i < n_table_words(g->o.size_bytes); i++)
		if (*table_at(g, i) != table_word(g->o.size_bytes, i)) {
			snprintf(why, why_bytes, "page %" PRIu64 ", a page table, is lost",
				 (uint64_t)((TABLES + i * 8) / GUEST_PAGE_BYTES));
			return -EIO;
		}
	if (control_word(g, HINT_WRITES) != regs->r9 || control_word(g, HINT_BEATS) != regs->r8 ||
	    control_word(g, HINT_MODE) != mode_of(&g->o.workload)) {
		snprintf(why, why_bytes,
			 "page 1, the guest's counters, is stale or lost: beat %" PRIu64
			 ", the vCPU is at %" PRIu64,
			 control_word(g, HINT_BEATS), (uint64_t)regs->r8);
		return -EIO;
	}
	return 0;
}

static int kvm_check(const struct guest *g, char *why, size_t why_bytes)
{
	struct kvm_guest *k = g->priv;
	struct guest_writes gw;
	struct kvm_regs regs;
	uint64_t done;
	int ret = kvm_guest_ioctl(k->vcpu_fd, KVM_GET_REGS, &regs);

	if (ret < 0)
		return say(ret, "the vCPU's registers cannot be read", why, why_bytes);
	ret = check_low_ram(g, &regs, why, why_bytes);
	if (!ret)
		ret = guest_device_check(g, why, why_bytes);
	if (ret)
		return ret;
	guest_writes_init(&gw, &g->o, 0, 1);
	done = regs.r9;
	return guest_check_writes(&g->o, g->mem.host, &gw, &done, 1, why, why_bytes);
}

const struct guest_ops guest_kvm_ops = {
	.name = "kvm",
	.size_max_bytes = MAX_BYTES,
	.n_tickers = 1,
	.ticker_name = "guest-vcpu",
	.create = kvm_create,
	.destroy = kvm_destroy,
	.track = kvm_track,
	.tick = kvm_tick,
	.save = kvm_save,
	.load = kvm_load,
	.check = kvm_check,
};

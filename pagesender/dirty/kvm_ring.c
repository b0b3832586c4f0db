/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/kvm_ring.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "pagesender/dirty/tracker_impl.h"

/*
 * KVM's dirty ring (Linux Documentation/virt/kvm/api.rst, KVM_CAP_DIRTY_LOG_RING). Each vCPU pushes
 * the pages it writes, once, into a ring that we map:
 *
 *      reset_index           fetch               dirty_index
 *   clean │ collected, not reset │ pushed by KVM      │ clean      an entry's flags:
 *   ──────┴──────────────────────┴────────────────────┴──────►     0 ─► DIRTY ─► RESET ─► 0
 *                                                                    KVM     us       KVM
 *
 * A page with an entry in its ring is not watched: what the guest writes to it next makes no new
 * entry. KVM_RESET_DIRTY_RINGS takes all RESET entries back and watches their pages anew. So there
 * are three steps, and who reads a page reads it after the third:
 *
 *   take out   DIRTY ─► RESET, then the page's bit in found
 *   reset      the ioctl; it re-arms whatever has been taken out, of all rings, all windows
 *   read       by the caller of rearm
 *
 * For the two steps of a tracker: collect takes out and reports found, which it leaves as it is.
 * rearm takes out once more (a page written since collect is then sent once), moves the window's
 * bits from found to the caller, and resets if there were any. Nothing else is needed, because:
 *
 *   - An entry taken out and not reset has its bit in found, or a thread is about to set it. Who
 *     clears found resets after it, before its caller reads.
 *   - An entry's bit comes after its RESET: a rearm that sees the bit re-arms the page with its own
 *     reset. One that comes too early to see it reads an unwatched page; the bit is then reported
 *     by the next collect, which waits for the ring's lock, and the page is sent again.
 *   - An entry still DIRTY is reported later in any case.
 *
 * Resetting re-arms also pages of other windows, whose bits stay in found: they are reported and
 * sent, though nothing may have written them since. That is why rearm resets only where the window
 * at hand needs it; collect and start do only to keep the number of entries small that one reset
 * has to go through, since a vCPU with a full ring waits for it.
 *
 * Locks, none taken while another is held: a ring's, for taking out; reset_lock, over the ioctl,
 * because KVM flushes TLBs after it let go of its own lock: who finds nothing left to reset must
 * still wait for the flush. Since Linux 6.16 a signal ends the ioctl early, and it returns how many
 * entries it did: it is repeated until all that had been taken out were.
 *
 * vCPU threads come in by rj_kvm_ring_full(), any time; it takes the same locks and waits for
 * nothing that waits for a vCPU.
 *
 * KVM leaves KVM_RUN before a ring is full, with room for 64 entries. Where it emulates instructions it makes an entry
 * for every word stored, looks only when it has emulated a good many, and writes over the oldest ones. So a ring without
 * one clean entry has overflowed, and nobody knows what was written over: collect, rearm and start say so from then on.
 * The vCPU is to go on meanwhile. But entries that KVM pushed over others are clean once these have been reset, and are
 * still to come by its count: fill_hole() hands them back as if they had been taken out. Counts are a guess from
 * there on; a vCPU that does not get on is told that, instead of coming back for ever.
 */

#define MAP_OFFSET (KVM_DIRTY_LOG_PAGE_OFFSET * RJI_KVM_PAGE_BYTES)
/* Entries taken out at once between two looks at n_taken. */
#define BATCH 64u
/* Entries taken out at once under a ring's lock. */
#define CHUNK (8u * 1024)
/* So many may wait for a reset. */
#define BACKLOG_MAX (16u * 1024)
/* Resets in a row that do nothing although entries wait, or full rings in a row with nothing in them. */
#define IDLE_MAX 1000u
/* found is kept by blocks, so that nobody walks the map of a huge guest to find nothing. */
#define BLOCK_WORDS 256u

struct vcpu_ring {
	struct vcpu_ring *next;
	int vcpu_fd;
	struct kvm_dirty_gfn *gfns;
	uint32_t n_gfns; /* a power of two */
	pthread_mutex_t lock;
	uint32_t fetch; /* the next to take out, once located */
	bool located;
	uint32_t idle; /* times that it was full and empty at once; its vCPU's */
};

/* Words and blocks are counted from the block of the region that holds the slot's first page. */
struct ring_slot {
	struct rji_kvm_slot k;
	uint64_t first_word; /* of the region; a multiple of BLOCK_WORDS */
	uint64_t n_words;
	_Atomic uint64_t *found; /* taken out and not yet handed to rearm's caller */
	_Atomic uint8_t *may_find;
};

struct kvm_ring {
	rji_kvm_ioctl kvm;
	int vm_fd;
	_Atomic(struct vcpu_ring *) rings; /* only ever added to, at the head */
	_Atomic uint64_t n_taken;	   /* entries, of all rings, ever */
	pthread_mutex_t reset_lock;
	_Atomic uint64_t n_reset; /* written under reset_lock */
	atomic_bool lost;	  /* a ring has overflowed */
	uint32_t n_slots;
	struct ring_slot slots[];
};

static uint32_t flags_of(const struct kvm_dirty_gfn *gfn)
{
	/* pairs with KVM's release: slot and offset are there */
	return __atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_MASK;
}

static struct kvm_dirty_gfn *entry(const struct vcpu_ring *r, uint32_t index)
{
	return &r->gfns[index & (r->n_gfns - 1)];
}

/*
 * Somebody may have used the ring before us, and KVM does not tell how far. Nothing in it is RESET
 * (add_vcpu saw to that), so the first DIRTY entry is the one whose predecessor is not; looked at
 * again, as KVM may have pushed both since.
 */
static bool locate(struct vcpu_ring *r)
{
	uint32_t i = 0;

	while (i < r->n_gfns && flags_of(entry(r, i)) != KVM_DIRTY_GFN_F_DIRTY)
		i++;
	if (i == r->n_gfns)
		return false;
	for (uint32_t n = 0; n < r->n_gfns && flags_of(entry(r, i - 1)) == KVM_DIRTY_GFN_F_DIRTY;
	     n++)
		i--;
	r->fetch = i;
	r->located = true;
	return true;
}

static struct ring_slot *find_slot(struct kvm_ring *kr, uint32_t slot, struct ring_slot *last)
{
	if (last && last->k.s.slot == slot)
		return last;
	for (uint32_t i = 0; i < kr->n_slots; i++)
		if (kr->slots[i].k.s.slot == slot)
			return &kr->slots[i];
	return NULL;
}

/* A slot that is not ours, or in no region, is dropped. */
static struct ring_slot *note(struct kvm_ring *kr, const struct kvm_dirty_gfn *gfn,
			      struct ring_slot *last)
{
	struct ring_slot *rs = find_slot(kr, gfn->slot, last);
	uint64_t bit;

	if (!rs || !rs->found || gfn->offset >= rs->k.n_pages)
		return rs;
	bit = rs->k.first_page - rs->first_word * RJI_WORD_BITS + gfn->offset;
	/* Pairs with take_words(): the entry is RESET and counted. */
	atomic_fetch_or_explicit(&rs->found[bit / RJI_WORD_BITS], 1ull << bit % RJI_WORD_BITS,
				 memory_order_release);
	atomic_store_explicit(&rs->may_find[bit / RJI_WORD_BITS / BLOCK_WORDS], 1,
			      memory_order_release);
	return rs;
}

/* At most BATCH entries: all RESET, then counted, then noted. How many. */
static uint32_t take_out_batch(struct kvm_ring *kr, struct vcpu_ring *r)
{
	struct kvm_dirty_gfn batch[BATCH];
	struct ring_slot *rs = NULL;
	uint32_t n = 0;

	while (n < BATCH) {
		struct kvm_dirty_gfn *gfn = entry(r, r->fetch);

		if (flags_of(gfn) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		batch[n++] = *gfn;
		/* pairs with KVM's acquire: it is ours no more */
		__atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		r->fetch++;
	}
	atomic_fetch_add_explicit(&kr->n_taken, n, memory_order_relaxed); /* note() releases */
	for (uint32_t i = 0; i < n; i++)
		rs = note(kr, &batch[i], rs);
	return n;
}

/*
 * Is there no clean entry? Most often the next is one. Else, back from fetch are those that are RESET, then, if any, clean ones. KVM may make room as we
 * look, from the other end: what is DIRTY there tells something only if the entry before is RESET still.
 */
static bool is_full(const struct vcpu_ring *r)
{
	uint32_t n, flags;

	if (!flags_of(entry(r, r->fetch)))
		return false;
	do {
		n = 1;
		while (n < r->n_gfns && flags_of(entry(r, r->fetch - n)) == KVM_DIRTY_GFN_F_RESET)
			n++;
		flags = flags_of(entry(r, r->fetch - n));
	} while (flags && n > 1 && flags_of(entry(r, r->fetch - n + 1)) != KVM_DIRTY_GFN_F_RESET);
	return flags;
}

/* At most CHUNK entries. How many. */
static uint32_t take_out_chunk(struct kvm_ring *kr, struct vcpu_ring *r)
{
	uint32_t n = 0, more = BATCH;

	pthread_mutex_lock(&r->lock);
	if (r->located || locate(r)) {
		if (is_full(r)) /* afterwards there is no telling */
			atomic_store(&kr->lost, true);
		while (n < CHUNK && more == BATCH) {
			more = take_out_batch(kr, r);
			n += more;
		}
	}
	pthread_mutex_unlock(&r->lock);
	return n;
}

/*
 * KVM says that the ring is full. Clean entries at fetch, with DIRTY ones behind? KVM pushes in order: it has lost them.
 * RESET ones there only wait for the reset of a ring from which somebody has just collected.
 */
static void fill_hole(struct kvm_ring *kr, struct vcpu_ring *r)
{
	uint32_t n = 0;

	pthread_mutex_lock(&r->lock);
	while (n < r->n_gfns && !flags_of(entry(r, r->fetch + n)))
		n++;
	if (r->located && n && flags_of(entry(r, r->fetch + n)) == KVM_DIRTY_GFN_F_DIRTY) {
		for (uint32_t i = 0; i < n; i++) /* pairs with KVM's acquire */
			__atomic_store_n(&entry(r, r->fetch + i)->flags, KVM_DIRTY_GFN_F_RESET,
					 __ATOMIC_RELEASE);
		r->fetch += n;
		atomic_fetch_add_explicit(&kr->n_taken, n, memory_order_relaxed); /* the lock */
		atomic_store(&kr->lost, true);
	}
	pthread_mutex_unlock(&r->lock);
}

static uint64_t n_reset(const struct kvm_ring *kr)
{
	return atomic_load_explicit(&kr->n_reset, memory_order_relaxed); /* reset_lock orders */
}

/* Whatever the caller knows to be taken out is watched when this returns 0. */
static int reset(struct kvm_ring *kr)
{
	uint64_t until;
	uint32_t idle = 0;
	int ret = 0;

	pthread_mutex_lock(&kr->reset_lock);
	until = atomic_load_explicit(&kr->n_taken, memory_order_relaxed);
	while (ret >= 0 && n_reset(kr) < until) {
		ret = kr->kvm(kr->vm_fd, KVM_RESET_DIRTY_RINGS, NULL);
		if (ret == 0 && ++idle == IDLE_MAX) {
			if (atomic_load(&kr->lost))
				atomic_store_explicit(&kr->n_reset, until, memory_order_relaxed);
			else
				ret = -EIO; /* somebody else resets them */
		}
		if (ret > 0)
			atomic_fetch_add_explicit(&kr->n_reset, (uint32_t)ret,
						  memory_order_relaxed);
	}
	pthread_mutex_unlock(&kr->reset_lock);
	return ret < 0 ? ret : 0;
}

static struct vcpu_ring *first_ring(const struct kvm_ring *kr)
{
	return atomic_load_explicit(&kr->rings, memory_order_acquire); /* pairs with add_vcpu */
}

/* All that is in a ring; not for ever, should the vCPU be as fast. */
static int take_out(struct kvm_ring *kr, struct vcpu_ring *r)
{
	uint32_t n = 0, more = CHUNK;
	int ret = 0;

	while (!ret && more == CHUNK && n < r->n_gfns) {
		more = take_out_chunk(kr, r);
		n += more;
		if (n_reset(kr) + BACKLOG_MAX <
		    atomic_load_explicit(&kr->n_taken, memory_order_relaxed))
			ret = reset(kr);
	}
	return ret;
}

static int take_out_all(struct kvm_ring *kr)
{
	int ret = 0;

	for (struct vcpu_ring *r = first_ring(kr); r && !ret; r = r->next)
		ret = take_out(kr, r);
	return ret;
}

static void free_found(struct ring_slot *rs)
{
	rji_bitmap_free((uint64_t *)rs->found, rs->n_words * RJI_WORD_BITS);
	free((void *)rs->may_find);
	rs->found = NULL;
	rs->may_find = NULL;
}

static int alloc_found(struct ring_slot *rs)
{
	uint64_t end_word = rji_bitmap_words(rs->k.first_page + rs->k.n_pages);

	free_found(rs);
	rs->first_word = rs->k.first_page / RJI_WORD_BITS / BLOCK_WORDS * BLOCK_WORDS;
	rs->n_words = end_word - rs->first_word;
	rs->may_find = calloc(rs->n_words / BLOCK_WORDS + 1, 1);
	rs->found = (_Atomic uint64_t *)rji_bitmap_alloc(rs->n_words * RJI_WORD_BITS);
	return rs->found && rs->may_find ? 0 : -ENOMEM;
}

static int attach_slot(struct ring_slot *rs, uint32_t region, const struct rj_region *r, char *why,
		       size_t why_bytes)
{
	int ret = rji_kvm_slot_attach(&rs->k, region, r, why, why_bytes);

	if (ret <= 0 || !alloc_found(rs))
		return ret;
	free_found(rs);
	rs->k.region = RJI_KVM_NO_REGION;
	snprintf(why, why_bytes, "no memory for the dirty bitmap of KVM slot %u", rs->k.s.slot);
	return -ENOMEM;
}

static int ring_attach(void *t, uint32_t region, const struct rj_region *r, char *why,
		       size_t why_bytes)
{
	struct kvm_ring *kr = t;
	int covered = 0;

	for (uint32_t i = 0; i < kr->n_slots; i++) {
		int ret = attach_slot(&kr->slots[i], region, r, why, why_bytes);

		if (ret < 0)
			return ret;
		covered |= ret;
	}
	if (covered && !first_ring(kr)) {
		snprintf(why, why_bytes,
			 "no vCPU writes region %s: call rj_kvm_ring_add_vcpu() for each vCPU",
			 r->name);
		return -EINVAL;
	}
	return covered;
}

/* Leaves the rings empty and all that was found forgotten. */
static int ring_stop(void *t)
{
	struct kvm_ring *kr = t;
	int ret = 0;

	for (uint32_t i = 0; i < kr->n_slots; i++) {
		int one = rji_kvm_slot_log(kr->kvm, kr->vm_fd, &kr->slots[i].k, false);

		ret = ret ? ret : one;
	}
	if (!ret)
		ret = take_out_all(kr);
	return ret < 0 ? ret : reset(kr);
}

static int nothing_lost(const struct kvm_ring *kr, int ret)
{
	return atomic_load(&kr->lost) ? -EOVERFLOW : ret;
}

/*
 * With KVM_DIRTY_LOG_INITIALLY_SET nothing would be watched until it is cleared by a log that the
 * ring shuts off: off with it.
 */
static int ring_start(void *t)
{
	struct kvm_ring *kr = t;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 };
	int ret = kr->kvm(kr->vm_fd, KVM_ENABLE_CAP, &cap);

	if (ret >= 0)
		ret = nothing_lost(kr, 0);
	if (ret >= 0)
		ret = take_out_all(kr); /* and vCPU threads see what attach made */
	for (uint32_t i = 0; i < kr->n_slots && ret >= 0; i++)
		ret = rji_kvm_slot_log(kr->kvm, kr->vm_fd, &kr->slots[i].k, true);
	if (ret < 0)
		ring_stop(kr);
	return ret < 0 ? ret : 0;
}

/* The slot's words that lie in a range of its region: [*from, *to), counted as in ring_slot. */
static bool words_in_range(const struct ring_slot *rs, uint32_t region, uint64_t first_page,
			   uint64_t n_pages, uint64_t *from_p, uint64_t *to_p)
{
	uint64_t first = first_page / RJI_WORD_BITS, end = first + rji_bitmap_words(n_pages);

	if (rs->k.region != region || end <= rs->first_word ||
	    first >= rs->first_word + rs->n_words)
		return false;
	*from_p = first > rs->first_word ? first - rs->first_word : 0;
	*to_p = end - rs->first_word < rs->n_words ? end - rs->first_word : rs->n_words;
	return true;
}

/* Call op(rs, from, to, bits) for each block that may have something; bits as of word from. */
static bool for_each_block(struct kvm_ring *kr, uint32_t region, uint64_t first_page,
			   uint64_t n_pages, uint64_t *bits,
			   bool (*op)(struct ring_slot *, uint64_t, uint64_t, uint64_t *))
{
	uint64_t first_word = first_page / RJI_WORD_BITS, from, to;
	bool any = false;

	for (uint32_t i = 0; i < kr->n_slots; i++) {
		struct ring_slot *rs = &kr->slots[i];

		if (!words_in_range(rs, region, first_page, n_pages, &from, &to))
			continue;
		while (from < to) {
			uint64_t block = from / BLOCK_WORDS, end = (block + 1) * BLOCK_WORDS;

			if (end > to)
				end = to;
			/* pairs with note(): the bits are there */
			if (atomic_load_explicit(&rs->may_find[block], memory_order_acquire))
				any |= op(rs, from, end, bits + rs->first_word + from - first_word);
			from = end;
		}
	}
	return any;
}

static bool report_words(struct ring_slot *rs, uint64_t from, uint64_t to, uint64_t *bits)
{
	for (uint64_t i = from; i < to; i++) {
		uint64_t word = atomic_load_explicit(&rs->found[i], memory_order_relaxed);

		if (word) /* rearm orders */
			bits[i - from] |= word;
	}
	return true;
}

/*
 * The block's byte is taken before its bits, so that a bit set too late for us sets it again; and
 * put back if these are not all of its words.
 */
static bool take_words(struct ring_slot *rs, uint64_t from, uint64_t to, uint64_t *bits)
{
	_Atomic uint8_t *may = &rs->may_find[from / BLOCK_WORDS];
	bool any = false;

	atomic_exchange_explicit(may, 0, memory_order_acq_rel);
	if (from % BLOCK_WORDS || (to % BLOCK_WORDS && to != rs->n_words))
		atomic_store_explicit(may, 1, memory_order_release);
	for (uint64_t i = from; i < to; i++) {
		if (!atomic_load_explicit(&rs->found[i], memory_order_relaxed))
			continue;
		bits[i - from] |= atomic_exchange_explicit(&rs->found[i], 0, memory_order_acquire);
		any = true;
	}
	return any;
}

static int ring_collect(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
			uint64_t *bits)
{
	int ret = take_out_all(t);

	for_each_block(t, region, first_page, n_pages, bits, report_words);
	return nothing_lost(t, ret);
}

static int ring_rearm(void *t, uint32_t region, uint64_t first_page, uint64_t n_pages,
		      uint64_t *bits)
{
	int ret = take_out_all(t);

	if (ret >= 0 && for_each_block(t, region, first_page, n_pages, bits, take_words))
		ret = reset(t);
	return nothing_lost(t, ret);
}

static void ring_destroy(void *t)
{
	struct kvm_ring *kr = t;
	struct vcpu_ring *r = first_ring(kr);

	ring_stop(kr);
	while (r) {
		struct vcpu_ring *next = r->next;

		munmap(r->gfns, r->n_gfns * sizeof(*r->gfns));
		pthread_mutex_destroy(&r->lock);
		free(r);
		r = next;
	}
	for (uint32_t i = 0; i < kr->n_slots; i++)
		free_found(&kr->slots[i]);
	pthread_mutex_destroy(&kr->reset_lock);
	free(kr);
}

static const struct rj_tracker_ops ring_ops = {
	.size = sizeof(ring_ops),
	.name = "kvm dirty ring",
	.attach = ring_attach,
	.start = ring_start,
	.stop = ring_stop,
	.collect = ring_collect,
	.rearm = ring_rearm,
	.destroy = ring_destroy,
};

/* The largest ring this KVM makes, in bytes; 0: none. */
static int max_ring_bytes(rji_kvm_ioctl kvm, int vm_fd)
{
	static const uintptr_t caps[] = { KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL };
	int max = 0;

	for (int i = 0; i < 2 && max <= 0; i++)
		max = kvm(vm_fd, KVM_CHECK_EXTENSION, (void *)caps[i]);
	return max > 0 ? max : 0;
}

/*
 * With the ring and without its bitmap, KVM_GET_DIRTY_LOG says ENXIO before it looks at the slot.
 */
static bool ring_enabled(rji_kvm_ioctl kvm, int vm_fd, uint32_t slot)
{
	struct kvm_dirty_log get = { .slot = slot };

	return kvm(vm_fd, KVM_GET_DIRTY_LOG, &get) == -ENXIO;
}

int rji_kvm_ring_create(rji_kvm_ioctl kvm, int vm_fd, const struct rj_kvm_slot *slots,
			uint32_t n_slots, struct rj_tracker **tracker_p)
{
	struct kvm_ring *kr;
	int ret;

	if (!slots || !n_slots || !tracker_p)
		return -EINVAL;
	for (uint32_t i = 0; i < n_slots; i++)
		if (!rji_kvm_slot_valid(&slots[i]))
			return -EINVAL;
	if (!max_ring_bytes(kvm, vm_fd))
		return -ENOTSUP;
	if (!ring_enabled(kvm, vm_fd, slots[0].slot))
		return -ENXIO;
	kr = calloc(1, sizeof(*kr) + n_slots * sizeof(kr->slots[0]));
	if (!kr)
		return -ENOMEM;
	kr->kvm = kvm;
	kr->vm_fd = vm_fd;
	kr->n_slots = n_slots;
	pthread_mutex_init(&kr->reset_lock, NULL);
	for (uint32_t i = 0; i < n_slots; i++)
		rji_kvm_slot_init(&kr->slots[i].k, &slots[i]);
	ret = rj_tracker_create(&ring_ops, kr, tracker_p);
	if (ret < 0) {
		pthread_mutex_destroy(&kr->reset_lock);
		free(kr);
	}
	return ret;
}

int rj_kvm_ring_create(int vm_fd, const struct rj_kvm_slot *slots, uint32_t n_slots,
		       struct rj_tracker **tracker_p)
{
	return rji_kvm_ring_create(rji_kvm_ioctl_really, vm_fd, slots, n_slots, tracker_p);
}

/* --- vCPUs --- */

/* Is page number n of a mapping there? EFAULT: touching it would be a SIGBUS. */
static int page_there(char *map, uint32_t n)
{
	if (!madvise(map + n * RJI_KVM_PAGE_BYTES, RJI_KVM_PAGE_BYTES, MADV_POPULATE_READ))
		return 1;
	return errno == EFAULT ? 0 : errno == EINVAL ? -ENOTSUP : -errno;
}

/* KVM does not say how large the ring was made; its pages do. */
static int map_ring(int vcpu_fd, size_t max_bytes, struct vcpu_ring *r)
{
	char *map = mmap(NULL, max_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, MAP_OFFSET);
	size_t bytes = RJI_KVM_PAGE_BYTES;
	int ret;

	if (map == MAP_FAILED)
		return -errno;
	ret = page_there(map, 0);
	if (!ret)
		ret = -ENXIO;
	while (ret > 0 && bytes < max_bytes) {
		ret = page_there(map, (uint32_t)(bytes / RJI_KVM_PAGE_BYTES));
		if (ret > 0)
			bytes *= 2;
	}
	if (ret < 0) {
		munmap(map, max_bytes);
		return ret;
	}
	if (bytes < max_bytes)
		munmap(map + bytes, max_bytes - bytes);
	r->gfns = (struct kvm_dirty_gfn *)map;
	r->n_gfns = (uint32_t)(bytes / sizeof(*r->gfns));
	return 0;
}

static struct kvm_ring *ring_of(const struct rj_tracker *tracker)
{
	return tracker && tracker->ops.destroy == ring_destroy ? tracker->t : NULL;
}

static struct vcpu_ring *find_ring(const struct kvm_ring *kr, int vcpu_fd)
{
	struct vcpu_ring *r = first_ring(kr);

	while (r && r->vcpu_fd != vcpu_fd)
		r = r->next;
	return r;
}

static void push_ring(struct kvm_ring *kr, struct vcpu_ring *r)
{
	struct vcpu_ring *head = first_ring(kr);

	do
		r->next = head;
	while (!atomic_compare_exchange_weak_explicit(&kr->rings, &head, r, memory_order_release,
						      memory_order_acquire));
}

/* Entries that somebody else took out, and may reset behind our back. */
static bool in_use(const struct vcpu_ring *r)
{
	for (uint32_t i = 0; i < r->n_gfns; i++)
		if (flags_of(entry(r, i)) & KVM_DIRTY_GFN_F_RESET)
			return true;
	return false;
}

int rj_kvm_ring_add_vcpu(struct rj_tracker *tracker, int vcpu_fd)
{
	struct kvm_ring *kr = ring_of(tracker);
	struct vcpu_ring *r;
	int ret;

	if (!kr)
		return -EINVAL;
	if (find_ring(kr, vcpu_fd))
		return -EEXIST;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->vcpu_fd = vcpu_fd;
	ret = map_ring(vcpu_fd, (size_t)max_ring_bytes(kr->kvm, kr->vm_fd), r);
	if (ret < 0) {
		free(r);
		return ret;
	}
	if (in_use(r)) {
		munmap(r->gfns, r->n_gfns * sizeof(*r->gfns));
		free(r);
		return -EBUSY;
	}
	pthread_mutex_init(&r->lock, NULL);
	push_ring(kr, r);
	return 0;
}

int rj_kvm_ring_full(struct rj_tracker *tracker, int vcpu_fd)
{
	struct kvm_ring *kr = ring_of(tracker);
	struct vcpu_ring *r = kr ? find_ring(kr, vcpu_fd) : NULL;
	uint64_t before;
	int ret;

	if (!r)
		return -EINVAL;
	before = n_reset(kr);
	fill_hole(kr, r);
	ret = take_out(kr, r);
	if (!ret)
		ret = reset(kr);
	r->idle = n_reset(kr) == before ? r->idle + 1 : 0;
	return r->idle < IDLE_MAX ? ret : -EOVERFLOW;
}

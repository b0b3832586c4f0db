/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_SESSION_H
#define RAMJET_SESSION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <ramjet/env.h>
#include <ramjet/event.h>
#include <ramjet/region.h>
#include <ramjet/stats.h>
#include <ramjet/tracker.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rj_session;

#define RJ_MAX_LANES 64
#define RJ_MAX_REGIONS 256
#define RJ_MAX_BLOB_BYTES (1u << 20)

/*
 * When guest memory is registered with an RDMA device, and thereby pinned; over file: with io_uring, as
 * registered buffers.
 */
enum rj_registration {
	RJ_REGISTER_ALL = 0,  /* all of it, in the background; sending begins with what is ready */
	RJ_REGISTER_LAZY = 1, /* windows of it, ahead of the lanes; least recently used go first
			       * when pin_cap_bytes says so. Not with a peer whose library does
			       * not know it (RJ_E_VERSION) */
	/*
	 * rdma: all. file: none. There RJ_REGISTER_ALL has a source register each piece of memory right
	 * before it is written, some 32 MiB a lane at once: only MAP_SHARED tmpfs or memfd (rj_region.fd),
	 * whose holes are known, and of no guest that userfaultfd tracks. What cannot be registered
	 * goes without, with a warning; rj_stats.registered_buffers tells. It seldom pays: see
	 * docs/tuning.md. A destination never does.
	 */
	RJ_REGISTER_DEFAULT = 2,
};

enum rj_on_timeout {
	RJ_ON_TIMEOUT_CANCEL = 0,
	RJ_ON_TIMEOUT_STOP_ANYWAY = 1, /* stop the guest after the round under way, however long
					* that will take: max_downtime_ms does not hold then */
};

/*
 * What is not sent, or sent shorter. Each is tried where it can pay, leaves off where it does not, and
 * counts what it saved and what it cost (struct rj_stats). Those which transport or peer cannot do are
 * left out silently: rdma and null have no delta and no zstd, a file has hole, zero and free only.
 */
enum rj_filter {
	RJ_FILTER_HOLE =
		1 << 0, /* never touched pages of MAP_SHARED tmpfs or memfd (rj_region.fd) are
				   * not read, and with lazy registration not registered */
	RJ_FILTER_FREE = 1 << 1, /* heed rj_mark_free() */
	RJ_FILTER_ZERO = 1 << 2, /* pages of zeros go as a short message, or not at all */
	RJ_FILTER_SAME =
		1 << 3, /* a page whose content did not change since it was sent is not sent
				   * again: 128-bit hashes, 16 bytes a page where it is used */
	RJ_FILTER_DELTA =
		1 << 4, /* send what differs from what the destination has; keeps old pages,
				   * see delta_cache_bytes. Needs RJ_FILTER_SAME */
	RJ_FILTER_ZSTD = 1 << 5, /* compress while the link is slower than that */
	RJ_FILTER_ALL = 0x3f,
};
#define RJ_N_FILTERS 6 /* bits of them */

/* For file: URIs, in rj_opts.file_flags. */
enum rj_file_flags {
	RJ_FILE_STOPPED = 1 << 0, /* source: pause the guest at once, and save it standing still;
				       * max_downtime_ms is not heeded */
	RJ_FILE_STAY_PAUSED = 1 << 1, /* source: after a good save do not resume the guest: it is in
				       * the file now (RJ_RUNS_AT_DESTINATION). After a bad one it
				       * resumes all the same */
	RJ_FILE_LAZY =
		1 << 2, /* destination: the guest runs before its memory is in; see snapshot.h */
};

/*
 * What a session is to do. Fill in defaults with rj_opts_init(), then change what you need; strings
 * and arrays are copied by open, descriptors are duplicated.
 */
struct rj_opts {
	size_t size;
	/*
	 * rdma://HOST:PORT, tcp://HOST:PORT, unix:///PATH or null://HOST:PORT; HOST is a name, an
	 * IPv4 address or a bracketed IPv6 address, empty at a destination: any address. Port 0 at
	 * a destination: any free port, told by rj_local_uri(). null moves no pages (a bench of
	 * everything else). Not needed with control_fd over tcp and unix.
	 * file:///PATH has no peer: a source saves a snapshot, a destination restores it; see
	 * snapshot.h.
	 */
	const char *uri;
	const char *data_addrs; /* destination: "HOST[,HOST…]", where lanes shall connect; NULL:
				 * where control came in */
	int control_fd;		/* a connected stream socket for control instead of connecting or
				 * listening; -1: none */
	int listen_fd;		/* destination: a listening stream socket; -1: made from uri */
	const int *lane_fds;	/* connected stream sockets for the lanes, same order on both
				 * sides; not with rdma; NULL: connect */
	uint32_t n_lane_fds;
	uint32_t n_lanes;	     /* source: 1 to RJ_MAX_LANES; 0: chosen for this machine */
	uint32_t max_downtime_ms;    /* 300 */
	uint32_t strict_downtime;    /* 1: rather resume at the source than overrun: then another
				      * round and another try, or, where the destination has loaded
				      * and cannot undo it (RJ_RQ_RESET), the end by RJ_E_DOWNTIME.
				      * Only after COMMIT can the limit be overrun. Default 1 */
	uint32_t timeout_ms;	     /* source: do on_timeout when not stopped for switchover by
				      * then; 0: never. Default 0 */
	uint32_t on_timeout;	     /* enum rj_on_timeout. Default RJ_ON_TIMEOUT_CANCEL */
	uint32_t slow_answer_ms;     /* warn when the VMM takes longer to answer a request; 0:
				      * never. 1000 */
	uint32_t peer_timeout_ms;    /* a peer silent for this long is gone. 5000 */
	uint32_t connect_timeout_ms; /* source: reaching the peer; either: the handshake and lanes.
				      * 10000 */
	uint32_t request_timeout_ms; /* for the VMM to answer a request. 30000 */
	uint32_t outcome_keep_ms;    /* how long each side keeps asking or answering for the outcome
				      * after losing the peer. 8000 */
	const char
		*cpus; /* "0-3,8": the library's threads of this session stay on these CPUs; NULL:
			   * on those that the thread which opened the environment might run on.
			   * Lanes are placed within, near memory or port; rj_get_lane_plan() */
	uint64_t bandwidth_bytes_per_s; /* cap on the lanes together; 0: none */
	uint64_t state_bytes;	  /* expected size of the device state, for the prediction; 0: not
				   * known */
	uint64_t state_max_bytes; /* destination: more device state than this is refused. 1 GiB */
	uint32_t registration;	  /* rdma, file: enum rj_registration, this side's.
				   * RJ_REGISTER_DEFAULT */
	uint64_t pin_cap_bytes; /* rdma: registered by this side at once at most; 0: no cap. Lazily
				   * every lane needs some 2 MiB of it: too little for n_lanes is
				   * RJ_E_MEMLOCK, at a destination fewer lanes */
	int gid_index;		/* rdma: -1: chosen */
	int traffic_class;	/* rdma: type of service of the lanes; -1: default */
	uint32_t file_flags;	/* enum rj_file_flags */
	/*
	 * Source: while the guest dirties memory about as fast as the link carries it, have the VMM
	 * slow it down (RJ_RQ_THROTTLE): by 20 %, and by 10 more each time that this did not help,
	 * up to so much, at most 99. It stays so through rollbacks, until the session ends. 0, the
	 * default: never.
	 */
	uint32_t throttle_max_percent;
	uint32_t lane_nice; /* 0 to 19: threads that move pages are at least so nice (nice(2)), so
			     * that vCPUs on the same CPUs come first. 0 */
	uint32_t filters;   /* source: enum rj_filter, or'ed. RJ_FILTER_ALL */
	uint64_t delta_cache_bytes; /* source: at most so much of old pages is kept for
				     * RJ_FILTER_DELTA; 0: 512 MiB. Never more than the guest has,
				     * and taken only as pages are kept, where that pays */
};

RJ_API void rj_opts_init(struct rj_opts *o);

/*
 * Open a session in the role of source or destination. Nothing is sent or listened to yet.
 *
 * Return 0; RJ_E_URI; -EINVAL for options that contradict each other; -ENOMEM.
 */
RJ_API int rj_source_open(struct rj_env *env, const struct rj_opts *o, struct rj_session **s_p);
RJ_API int rj_destination_open(struct rj_env *env, const struct rj_opts *o,
			       struct rj_session **s_p);

/*
 * Add a piece of guest RAM. Source: all of them before rj_start(). Destination: before rj_start(),
 * or while a request RJ_RQ_REGION for that name is unanswered. region_p (may be NULL) gets its
 * number, the same on both sides at the source's.
 *
 * Return 0; -EINVAL for a bad or missing field; -EEXIST for a name already there; -ENOSPC past
 * RJ_MAX_REGIONS; RJ_E_STATE; -ENOMEM.
 */
RJ_API int rj_add_region(struct rj_session *s, const struct rj_region *r, uint32_t *region_p);

/*
 * Add a tracker, source only, before rj_start(). It stays the caller's and must outlive the
 * session. -EINVAL, RJ_E_STATE, -ENOSPC (16).
 */
RJ_API int rj_add_tracker(struct rj_session *s, struct rj_tracker *t);

/*
 * Name something whose writes to guest RAM nobody can track (a VFIO device without dirty tracking,
 * guest_memfd). The start is then refused with RJ_E_UNTRACKED and this reason (the last one, of
 * several). Source, before rj_start(). The reason is copied. RJ_E_STATE; -EINVAL; -ENOMEM.
 */
RJ_API int rj_add_blocker(struct rj_session *s, const char *reason);

/*
 * Source, before rj_start(): what the destination's VMM is to judge in RJ_RQ_SETUP (machine, CPU
 * model, devices). Copied. At most RJ_MAX_BLOB_BYTES. RJ_E_STATE; -EINVAL; -ENOMEM.
 */
RJ_API int rj_set_setup_blob(struct rj_session *s, const void *blob, size_t len_bytes);

/*
 * Destination, while RJ_RQ_SETUP is unanswered: what the source's VMM can read by
 * rj_get_setup_reply() from state RJ_STATE_BULK on. Copied. RJ_E_STATE; -EINVAL; -ENOMEM.
 */
RJ_API int rj_set_setup_reply(struct rj_session *s, const void *blob, size_t len_bytes);

/*
 * Source: copy up to len_bytes of the reply. Return its whole length; RJ_E_STATE before it came.
 * Any thread.
 */
RJ_API ssize_t rj_get_setup_reply(struct rj_session *s, void *blob, size_t len_bytes);

/*
 * Begin. The destination listens when this returns. Everything else happens in the library's
 * threads and is told by events.
 *
 * Return 0; RJ_E_STATE if started before; source: -EINVAL without a region, RJ_E_REGION for memory
 * that is not mapped or not readable, RJ_E_UNTRACKED, RJ_E_MEMLOCK for a cap that is too small; destination: RJ_E_CONNECT for a host that is
 * not known, -EADDRINUSE, -EACCES, -EADDRNOTAVAIL …; -EAGAIN: no thread. rj_error_detail() says why
 * and what to do. What only shows once the peer is there (RJ_E_NO_RDMA, RJ_E_MEMLOCK, RJ_E_CONNECT
 * at a source …) is told by RJ_EV_DONE.
 */
RJ_API int rj_start(struct rj_session *s);

/*
 * Destination, after rj_start(): the URI it listens at, with the real port. Its host is the one it
 * was opened with: empty or a wildcard, the caller puts in an address that the source can reach.
 * -ENOSPC: buf too small; RJ_E_STATE: it does not listen.
 */
RJ_API int rj_local_uri(const struct rj_session *s, char *buf, size_t buf_bytes);

/*
 * Give up. Any thread; returns at once; the end is told by RJ_EV_DONE. Before COMMIT the guest goes
 * on at the source; after it this call changes nothing.
 */
RJ_API void rj_cancel(struct rj_session *s);

/* Where a lane runs and why. */
struct rj_lane_plan {
	size_t size;
	int32_t node;	/* the kernel's number of the memory node it is near; -1: none */
	char cpus[124]; /* where it may run, "0-3,8"; "..." at the end: and more */
	char port[64];	/* RDMA device and port, "mlx5_0/1"; "" without one */
	char why[128];
};

/*
 * How a lane is, or would be, placed. Source: before rj_start(), lane 0 makes the plan of what is
 * known by then (options, regions, URI; over rdma it looks up the way to the host, up to 0.5 s), the
 * other lanes read it. From the time that lanes connect, the plan they follow, at both ends. Lanes
 * are numbered from 0.
 *
 * Return 0; -ENOENT: there is no such lane; RJ_E_STATE: there is no plan yet; -EINVAL, also for
 * cpus that rj_start() would refuse; -ENOMEM.
 */
RJ_API int rj_get_lane_plan(struct rj_session *s, uint32_t lane, struct rj_lane_plan *lp_p);

enum rj_param {
	RJ_PARAM_BANDWIDTH_BYTES_PER_S = 1,
	RJ_PARAM_MAX_DOWNTIME_MS = 2,
	RJ_PARAM_HOLD_SWITCHOVER = 3, /* source. 1: do not stop the guest: when it could be, tell
				       * RJ_EV_READY, and keep it so by a round ten times a second.
				       * 0: go on, when it fits. Time that it is ready and held
				       * does not count for timeout_ms. Without effect on
				       * RJ_FILE_STOPPED and once the switchover has begun */
};

/* Change a setting, from open on and while the session runs. Any thread, never waits. -EINVAL. */
RJ_API int rj_set(struct rj_session *s, enum rj_param param, uint64_t value);

/*
 * After RJ_EV_DONE with RJ_RUNS_UNKNOWN: somebody looked. Only records it: the state becomes
 * completed or failed. The VMM then resumes or destroys its guest itself. RJ_E_STATE in any other
 * state; -EINVAL.
 */
RJ_API int rj_resolve(struct rj_session *s, enum rj_outcome runs);

/*
 * End a session and free it; *s_p becomes NULL; NULL is fine. Not from inside a callback. Cancels
 * what is running and waits for it: requests still open are taken as failed, so no answer is
 * needed. At a destination that had been prepared and lost its source it waits until
 * outcome_keep_ms after the loss, so that the source can still ask (rj_linger_ms() tells how long).
 * A source that has sent COMMIT waits for the answer as if it were not being closed.
 */
RJ_API void rj_close(struct rj_session **s_p);

/* How many milliseconds rj_close() would wait to answer a lost source. Any thread. */
RJ_API uint32_t rj_linger_ms(const struct rj_session *s);

/*
 * Say that [offset, offset + len_bytes) of a region was written by something its trackers do not
 * see. Call it after the write, and before RJ_RQ_PAUSE or RJ_RQ_SAVE is answered for writes they
 * cause. Any thread, wait-free; partial pages count whole. No-op when the session is over.
 *
 * Destination: only between RJ_RQ_LOAD and the answer to RJ_RQ_RESET, for what loading the device
 * state wrote; without effect when no RJ_RQ_RESET comes. Waits for a lock.
 *
 * Return 0; -EINVAL for a range outside the region; RJ_E_STATE at a destination that is not asked to
 * load or reset.
 */
RJ_API int rj_mark_dirty(struct rj_session *s, uint32_t region, uint64_t offset,
			 uint64_t len_bytes);

#define RJ_FREE_REPORTED 0ull

/*
 * Source, while it runs: the guest has given up [offset, offset + len_bytes), so that nothing in it is
 * worth sending. offset and len_bytes are multiples of the region's page_bytes. A page that is written
 * after the guest gave it up is sent all the same. What was free when the guest stopped has, at the
 * destination, zeros or an older content of this guest.
 *
 * generation says by which protocol:
 *   RJ_FREE_REPORTED   the guest cannot use the pages again before this call returns (free page
 *                      reporting, VIRTIO 1.2 section 5.5, F_PAGE_REPORTING): the trackers are re-armed within.
 *   from rj_free_begin()  the guest gave the pages up after that call had returned, and may use them
 *                      again at any time (free page hinting, ibid., F_FREE_PAGE_HINT): only what was dirty
 *                      before, and is not sent yet, can be left out.
 *
 * Any thread; takes a lock that the library holds for milliseconds, and 0.2 ms for 64 MiB.
 *
 * Return the number of pages that need not be sent for now; 0 also when the session is over, or does
 * not heed hints; -EINVAL for a range outside the region or unaligned, for another generation than the
 * last, at a destination; -ENOMEM; RJ_E_TRACKER.
 */
RJ_API int rj_mark_free(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes,
			uint64_t generation);

/*
 * Source, in the states RJ_STATE_BULK and RJ_STATE_DIRTY: ask the guest for free pages from now on. Re-arms the trackers for all that is to be sent
 * (0.2 ms for 64 MiB, in slices), so that each later write is seen, then gives a generation. Earlier
 * ones are void. Any thread.
 *
 * Return 0; RJ_E_STATE; -EINVAL; -ENOMEM; RJ_E_TRACKER.
 */
RJ_API int rj_free_begin(struct rj_session *s, uint64_t *generation_p);

/*
 * Around anything that takes pages away from under the library while the source's guest runs:
 * balloon inflation, MADV_DONTNEED, hole punching, remap. After begin returned, the range
 * is neither read nor registered; after end it may be again, and counts as dirty. RDMA
 * registrations pin pages: without this the NIC would go on reading the old ones. begin waits until
 * the lanes have left the range (milliseconds; with rdma also for a registration under way), end
 * only, with rdma, for registering again. Any thread but those answering RJ_RQ_PAUSE; a range held
 * over switchover delays it.
 * Ranges may not overlap.
 *
 * begin returns 0; -EINVAL; -EBUSY: overlaps a range already held, or the destination's role;
 * -ENOSPC: 64 are held. end returns 0; -EINVAL, also in the destination's role; -ENOENT: without
 * begin; with rdma why the range could not be registered again: it is held on, end may be tried
 * anew.
 */
RJ_API int rj_discard_begin(struct rj_session *s, uint32_t region, uint64_t offset,
			    uint64_t len_bytes);
RJ_API int rj_discard_end(struct rj_session *s, uint32_t region, uint64_t offset,
			  uint64_t len_bytes);

/*
 * A descriptor that is readable while an event waits. The session's: poll it, do not read or close
 * it.
 */
RJ_API int rj_event_fd(const struct rj_session *s);

/* Take the next event. 1, or 0: none waits. ev_p->size must be set: -EINVAL. */
RJ_API int rj_next_event(struct rj_session *s, struct rj_event *ev_p);

/*
 * Answer a request: 0 or a count for success, negative: it could not be done. -ENOENT: no such
 * request (any more). Any thread.
 */
RJ_API int rj_answer(struct rj_session *s, uint64_t request, int status);

/*
 * Between RJ_RQ_SAVE and its answer: append to the device state. May wait for the link. Return 0;
 * RJ_E_STATE; -ENOTCONN when the session failed meanwhile.
 */
RJ_API int rj_state_write(struct rj_session *s, const void *p, size_t len_bytes);

/* Between RJ_RQ_LOAD and its answer: read on. Return the bytes read, 0 at the end, RJ_E_STATE. */
RJ_API ssize_t rj_state_read(struct rj_session *s, void *p, size_t len_bytes);

/*
 * The VMM's side as functions: one for each request, and one for the events that only tell. A NULL
 * hook answers 0 (pause: RJ_WAS_RUNNING; region, reset, throttle: -ENOSYS). A hook returns what
 * rj_answer() is to be given.
 */
struct rj_hooks {
	size_t size;
	int (*setup)(void *arg, struct rj_session *s, const void *blob, size_t len_bytes);
	int (*region)(void *arg, struct rj_session *s, const struct rj_event *ev);
	int (*pause)(void *arg, struct rj_session *s);
	int (*save)(void *arg, struct rj_session *s);
	int (*load)(void *arg, struct rj_session *s);
	int (*release)(void *arg, struct rj_session *s);
	int (*reclaim)(void *arg, struct rj_session *s);
	int (*acquire)(void *arg, struct rj_session *s);
	int (*resume)(void *arg, struct rj_session *s, int run);
	int (*drop)(void *arg, struct rj_session *s);
	int (*reset)(void *arg, struct rj_session *s);
	int (*throttle)(void *arg, struct rj_session *s, uint32_t percent);
	void (*event)(void *arg, struct rj_session *s, const struct rj_event *ev);
};

/*
 * Start the session if it is not yet, and run it in this thread until RJ_EV_DONE, calling hooks.
 * Return what RJ_EV_DONE said: 0 or negative.
 */
RJ_API int rj_run(struct rj_session *s, const struct rj_hooks *h, void *arg);

/* A snapshot of the figures, at any time, from any thread, never waits. st_p->size must be set. */
RJ_API int rj_stats(const struct rj_session *s, struct rj_stats *st_p);

enum rj_locality { RJ_LOCALITY_UNKNOWN = 0, RJ_LOCAL = 1, RJ_REMOTE = 2 };

/* What a lane has sent of one node's memory. */
struct rj_lane_bytes {
	size_t size;
	uint32_t lane;
	int32_t node;	   /* the kernel's number; -1: memory of which nobody knew */
	uint32_t locality; /* enum rj_locality: of the lane to that memory */
	uint32_t reserved;
	uint64_t planned_bytes; /* in a round that sends everything */
	uint64_t sent_bytes;	/* pages, of all rounds */
	uint64_t busy_bytes;	/* of these, while each lane had memory of its own nodes to send */
};

/*
 * Source, any thread, any time: sent bytes by lane and memory node. index counts from 0, for each
 * node of the machine and, where there are several, last for memory of which nobody knew where it
 * lies.
 *
 * Return 1; 0: no more; -ENOENT: there is no such lane; RJ_E_STATE before lanes connect, and at a
 * destination; -EINVAL.
 */
RJ_API int rj_get_lane_bytes(struct rj_session *s, uint32_t lane, uint32_t index,
			     struct rj_lane_bytes *lb_p);

/* What went wrong; code 0 if nothing did. Any thread, any time. */
RJ_API int rj_error_detail(const struct rj_session *s, struct rj_error *e_p);

#ifdef __cplusplus
}
#endif
#endif

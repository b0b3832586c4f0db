/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_TRANSPORT_TRANSPORT_H
#define RJI_TRANSPORT_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"
#include "base/host.h"
#include "base/stop.h"

/*
 * What a transport is, both ends: the data path from the pages of the source to the same pages at
 * the destination. The control channel is not its business, nor which pages are sent when.
 *
 *   source                                  destination
 *   create                                  create
 *   reg every region                        reg every region (writable), export_keys
 *   import_keys                             listen: announce where lanes shall connect
 *   connect, one call a lane       ──────►  accept: all lanes, each admitted by token, session
 *                                           and number
 *   post, post, post … fence       ──────►  serve, one call and thread a lane: place what arrives,
 *                                           answer fences
 *   close lanes, destroy                    withdraw: from here on nothing the peer does reaches
 *                                           memory. destroy
 *
 * Promises every transport keeps:
 *   - post() may read the pages any time until a later drain() or fence() returns: the caller
 *     re-armed the trackers before.
 *   - Nothing orders two posts, not even on one lane, except a fence between them (relaxed
 *     ordering).
 *   - fence() returns only when the destination has said that everything posted on this lane before
 *     is in its memory. Local completion is not that word (InfiniBand Architecture Specification
 *     vol. 1, o9-20: completion of an RDMA write at the requester says nothing about the
 *     responder's memory).
 *   - A failed lane stays failed; what it posted since its last answered fence is of unknown fate.
 *   - After withdraw() returned no byte of guest memory changes by this transport.
 *   - Every call that can last returns -ECANCELED soon after stop is set.
 *
 * Calls on one lane come from one thread, of different lanes from different threads at once. Errors
 * are recorded in err by rji_fail() with a text for the operator.
 */

#define RJI_TOKEN_BYTES 32
#define RJI_SESSION_ID_BYTES 16
#define RJI_ADDR_BYTES 128
#define RJI_MAX_ADDRS 8

/* Guest memory as a transport sees it. */
struct rji_memory {
	uint32_t region;
	const char *name;
	void *host;
	uint64_t len_bytes;
};

/*
 * A run of pages, contiguous in one region: [offset, offset + len). Never crosses a span, so len
 * fits.
 */
struct rji_extent {
	uint64_t offset_bytes;
	uint32_t len_bytes;
	uint32_t region;
};

/* How the bytes of a coded change make its pages. Numbers are on the wire. */
enum rji_coding {
	RJI_CODING_ZEROS = 1,  /* no bytes: the pages are zero */
	RJI_CODING_XBZRLE = 2, /* differences from what is there: one page */
	RJI_CODING_ZSTD = 3,   /* a zstd frame */
};

/* Pages that are not sent as they are. Never more than RJI_CODED_PAGES_BYTES, but for zeros. */
struct rji_coded {
	struct rji_extent extent;
	uint16_t coding; /* enum rji_coding */
	uint32_t len_bytes;
	const void *bytes;
};

#define RJI_CODED_PAGES_BYTES (64u << 10)
#define RJI_CODED_ZEROS_BYTES 4096u /* zeros are multiples of it, and so is where they begin */

/*
 * The destination's half of what is coded, from the layer above: a transport knows where bytes go, not
 * what they mean. One context a lane. apply changes [page, page + len_bytes), which is guest memory, and
 * must survive any code: RJ_E_PROTOCOL.
 */
struct rji_apply_ops {
	int (*create)(void **ctx_p);
	int (*apply)(void *ctx, unsigned int coding, const void *code, uint32_t code_bytes,
		     void *page, uint32_t len_bytes, struct rj_error *err);
	void (*destroy)(void **ctx_p);
};

/*
 * By this the destination knows a lane: it must show the token that only the control channel told.
 */
struct rji_admission {
	uint8_t session_id[RJI_SESSION_ID_BYTES];
	uint8_t token[RJI_TOKEN_BYTES];
	uint32_t n_lanes;
	uint64_t
		there; /* destination: lanes that it has already, by bit; the others are waited for */
};

/* Where the lanes connect: "host port" pairs in text, from the destination's announcement. */
struct rji_addrs {
	uint32_t n;
	char addr[RJI_MAX_ADDRS][RJI_ADDR_BYTES]; /* "10.0.9.1:7471", "[fd00::1]:7471",
						   * "/run/x.sock" */
};

struct rji_topology;

/* What is pinned; kept by the transport, read by anybody. */
struct rji_pins {
	_Atomic uint64_t now_bytes, peak_bytes;
	_Atomic uint64_t there_bytes; /* source: what it has keys for at the destination */
	_Atomic uint64_t register_ns; /* of the registering threads, added up */
	_Atomic uint64_t wait_ns;     /* of the lanes, for registrations; the same */
	_Atomic uint64_t evictions;   /* given back to make room for others */
	_Atomic uint64_t cpu_ns;      /* of the registering threads */
};

struct rji_transport_opts {
	const struct rji_host *host;
	struct rji_stop *stop;
	bool is_destination;
	/* rdma: where CPUs and memory are, so that threads register what is near; NULL: of no interest. */
	const struct rji_topology *topology;
	/* rdma: see rdma/registration.h. All of them 0: reg() registers all at once. */
	bool lazy;		/* register what is needed when it is */
	bool background;	/* reg() returns at once; say() and hear() are called */
	uint64_t pin_cap_bytes; /* registered at once at most; 0: no cap */
	uint32_t n_lanes;	/* 0: not known */
	int wake_fd;		/* with background: an eventfd, written when say() has something */
	struct rji_pins *pins;	/* NULL: nobody wants to know */
	const char *devices;	/* rdma: allowed devices; NULL: all */
	/*
	 * rdma, destination: where lanes will come in, "HOST,HOST", if that is known: memory is
	 * registered with the devices of these only. NULL or "": with all that are allowed.
	 */
	const char *data_hosts;
	int gid_index;	   /* rdma: -1: chosen */
	int traffic_class; /* rdma: -1: default */
	uint32_t peer_timeout_ms;
	const int *lane_fds; /* sockets: connected lanes handed in, owned by the caller; NULL:
			      * connect or accept */
	uint32_t n_lane_fds;
	const struct rji_apply_ops *apply; /* destination; NULL: nothing coded comes */
	void *arg;			   /* for transports made by tests */
};

/* Where a destination listens for lanes. */
struct rji_listen {
	int control_listen_fd;	/* the listening socket control came in by, -1: none; sockets use
				 * it for lanes as well */
	const char *host;	/* address control came in at, in this machine */
	uint16_t port;		/* of control */
	const char *data_addrs; /* "HOST,HOST" asked for by the VMM, or NULL */
};

struct rji_lane_stats {
	uint64_t sent_bytes; /* payload and headers which have left (completed, for rdma) */
	/* of post(); 0 where a transport has no such thing */
	uint64_t requests;  /* what extents were made into: work requests, frames */
	uint64_t posts;	    /* calls that hand requests over: doorbells, sendmsg() */
	uint64_t polls;	    /* of the completion queue */
	uint64_t signalled; /* requests which are to give a completion */
};

struct rji_transport; /* each transport has its own, and casts */
struct rji_lane;      /* the same */

struct rji_transport_ops {
	const char *name;
	bool moves_data; /* false: null, nothing arrives */

	int (*create)(const struct rji_transport_opts *o, struct rj_error *err,
		      struct rji_transport **tp_p);
	/* Lanes closed before. NULL is fine. */
	void (*destroy)(struct rji_transport **tp_p);

	/* --- memory; from one thread at a time --- */

	/*
	 * Make a region known, and reachable for this side's part: at the source for reading, at
	 * the destination for the peer's writes. May take seconds (pinning); done counts bytes as
	 * they become ready.
	 */
	int (*reg)(struct rji_transport *tp, const struct rji_memory *m, _Atomic uint64_t *done,
		   struct rj_error *err);
	/* Give all memory back. Lanes closed or withdrawn before. */
	void (*dereg_all)(struct rji_transport *tp);
	/*
	 * Source: [offset, offset + len) is about to lose its pages (rj_discard_begin). Lanes are
	 * drained and do not post in it. unpin widens the range to what it has to let go of; repin
	 * makes it usable again. NULL: nothing is pinned.
	 */
	int (*unpin)(struct rji_transport *tp, uint32_t region, uint64_t *offset_bytes,
		     uint64_t *len_bytes, struct rj_error *err);
	int (*repin)(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		     uint64_t len_bytes, struct rj_error *err);
	/*
	 * What the source must know to reach a region (RDMA keys), as bytes of this transport's own
	 * making. export returns the length written to buf, or -ENOSPC. import must survive any
	 * bytes. NULL: nothing to know.
	 */
	int (*export_keys)(struct rji_transport *tp, uint32_t region, void *buf, size_t buf_bytes,
			   struct rj_error *err);
	int (*import_keys)(struct rji_transport *tp, uint32_t region, const void *keys,
			   size_t len_bytes, struct rj_error *err);

	/*
	 * What both ends of this transport tell each other while it works, over the control channel:
	 * say() fills buf with what there is to tell, and is asked after wake_fd was written. It
	 * returns the length, 0 for nothing, negative when registering has failed in the background.
	 * hear() takes what the peer's say() gave and must survive any bytes. One thread calls both,
	 * while others may call anything else. NULL: nothing to tell.
	 */
	int (*say)(struct rji_transport *tp, void *buf, size_t buf_bytes, struct rj_error *err);
	int (*hear)(struct rji_transport *tp, const void *bytes, size_t len_bytes,
		    struct rj_error *err);
	/*
	 * Source, between rounds: pages of [offset, offset + len) are going to be posted in the
	 * next one. A hint by which memory is registered ahead of the lanes. NULL: no use for it.
	 */
	void (*expect)(struct rji_transport *tp, uint32_t region, uint64_t offset_bytes,
		       uint64_t len_bytes);

	/* --- lanes, destination --- */

	/* Start listening; addrs is what the source is told. */
	int (*listen)(struct rji_transport *tp, const struct rji_listen *l, struct rji_addrs *addrs,
		      struct rj_error *err);
	/*
	 * Wait until the lanes 0 … n_lanes - 1 are all there, or deadline. Connections that cannot
	 * show the admission are refused, logged and not counted. lanes has n_lanes entries; those
	 * not in adm->there are filled on success. A second call is for lanes that were cut and
	 * closed, and only for transports that have cut().
	 */
	int (*accept)(struct rji_transport *tp, const struct rji_admission *adm,
		      uint64_t deadline_ns, struct rji_lane **lanes, struct rj_error *err);
	/*
	 * Place what arrives and answer fences, until the source closes the lane, the lane is
	 * withdrawn or stop is set (each 0), or something is wrong (negative). Everything the peer
	 * says is checked against the regions.
	 */
	int (*serve)(struct rji_lane *lane, struct rj_error *err);
	/*
	 * Take away the peer's way into memory, on all lanes, from any thread, for good; quick
	 * (queue pairs to ERR, sockets shut down). serve() returns soon after and is joined by the
	 * caller; only then is the promise complete.
	 */
	void (*withdraw)(struct rji_transport *tp);

	/* --- lanes, source --- */

	int (*connect)(struct rji_transport *tp, uint32_t lane, const struct rji_addrs *addrs,
		       const struct rji_admission *adm, uint64_t deadline_ns,
		       struct rji_lane **lane_p, struct rj_error *err);
	/* Send n extents; returns when all are taken, which may wait for room. */
	int (*post)(struct rji_lane *lane, const struct rji_extent *e, uint32_t n,
		    struct rj_error *err);
	/*
	 * Send what stands in a copy instead: from[i] has the bytes of e[i], in memory that staging()
	 * gave, and is read until a later drain() or fence() returns. staging() gives at least len_bytes
	 * that are the lane's until it is closed; NULL: no memory. Both NULL: it cannot.
	 */
	void *(*staging)(struct rji_lane *lane, size_t len_bytes);
	int (*post_staged)(struct rji_lane *lane, const struct rji_extent *e,
			   const void *const *from, uint32_t n, struct rj_error *err);
	/*
	 * Send n changes that are not the pages themselves; their bytes are not needed any more when
	 * it returns. codings says which of enum rji_coding it can, by bit. They are finished before a
	 * fence behind them is answered. NULL: none.
	 */
	uint32_t codings;
	int (*post_coded)(struct rji_lane *lane, const struct rji_coded *c, uint32_t n,
			  struct rj_error *err);
	/* Wait until nothing posted is still read from memory. */
	int (*drain)(struct rji_lane *lane, struct rj_error *err);
	/*
	 * All posted before is placed at the destination, by its word. deadline 0: the peer timeout
	 * only.
	 */
	int (*fence)(struct rji_lane *lane, uint64_t deadline_ns, struct rj_error *err);

	/* --- lanes, both --- */

	/*
	 * End one lane, from any thread while it is not closed: calls on it fail soon, whatever they
	 * wait for. At the destination, once serve() has returned after it, no byte of guest memory
	 * changes by this lane. NULL: a lane that failed cannot be replaced.
	 */
	void (*cut)(struct rji_lane *lane);
	void (*stats)(const struct rji_lane *lane, struct rji_lane_stats *st); /* any thread */
	/*
	 * Source: an orderly end after a fence, else an abort. Destination: after serve() returned.
	 * NULL is fine.
	 */
	void (*close)(struct rji_lane **lane_p);
};

extern const struct rji_transport_ops rji_tcp_transport; /* also unix: the addresses tell */
extern const struct rji_transport_ops rji_null_transport;
extern const struct rji_transport_ops rji_file_transport; /* a source only */

#endif

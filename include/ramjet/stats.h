/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_STATS_H
#define RAMJET_STATS_H

#include <stddef.h>
#include <stdint.h>

#include <ramjet/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The downtime cut into consecutive pieces of one timeline; all in nanoseconds. They add up to the
 * downtime. What overlaps counts once: save is the wait for the VMM's answer, send what the lanes
 * still needed after it.
 */
struct rj_downtime_terms {
	uint64_t pause_ns;    /* RJ_RQ_PAUSE until its answer */
	uint64_t harvest_ns;  /* collecting from the trackers */
	uint64_t send_ns;     /* pages of the stop phase */
	uint64_t fence_ns;    /* until every lane's fence is answered */
	uint64_t save_ns;     /* RJ_RQ_SAVE until its answer */
	uint64_t load_ns;     /* RJ_RQ_LOAD until its answer, at the destination */
	uint64_t revoke_ns;   /* taking away the peer's access to the memory */
	uint64_t handover_ns; /* messages, RJ_RQ_RELEASE and RJ_RQ_ACQUIRE */
	uint64_t resume_ns;   /* RJ_RQ_RESUME until its answer, at the destination */
};

/*
 * Pages by what became of them; a page sent in three rounds counts three times. Units: pages of the
 * region's page_bytes.
 */
struct rj_page_counts {
	uint64_t normal;     /* sent as they are */
	uint64_t zero;	     /* found zero: not sent, or cleared */
	uint64_t hole;	     /* never allocated and not sent */
	uint64_t free_pages; /* given up by the guest and not sent */
	uint64_t same;	     /* unchanged since last sent and not sent */
	uint64_t delta;	     /* sent as a difference */
	uint64_t compressed; /* sent compressed */
};

/* What one of enum rj_filter did, in this session so far. Its pages are in struct rj_page_counts. */
struct rj_filter_stats {
	uint64_t saved_bytes; /* of pages, that were not sent for it */
	uint64_t cost_ns;     /* time of the lanes, added up */
	uint32_t on_percent;  /* of the pages that came to it, those it was applied to */
	uint32_t reserved;
};

/* One pass over what was dirty; round 1 is the bulk round. */
struct rj_round {
	uint32_t round;
	uint64_t pages;		     /* dealt with in it */
	uint64_t bytes;		     /* sent for them */
	struct rj_page_counts kinds; /* of these pages */
	uint64_t duration_ns;
	uint64_t rate_bytes_per_s; /* bytes / duration */
	uint64_t dirty_pages;	   /* pending when it was over */
	uint64_t dirty_bytes;
	uint64_t dirty_rate_bytes_per_s; /* distinct pages that became dirty while it ran, per
					  * second */
	uint64_t predicted_downtime_ns;	 /* if the guest were stopped now */
	uint64_t eta_ns;		 /* as in struct rj_stats; 0 also: now */
};

/*
 * A snapshot; each field is read on its own, so that fields may be some microseconds apart. Times
 * in nanoseconds.
 */
struct rj_stats {
	size_t size;
	uint32_t state;	 /* enum rj_state */
	uint32_t rounds; /* begun; the stop phase is not one */
	uint32_t n_lanes;
	char transport[16];
	uint64_t guest_bytes; /* all regions */
	uint64_t setup_ns;    /* rj_start(), at a destination the source's arrival, until the bulk
			    * round begins */
	uint64_t total_ns;    /* from there until the end, or now */
	uint64_t downtime_ns; /* source: RJ_RQ_PAUSE until RUNNING came; 0 before */
	uint64_t predicted_downtime_ns; /* the prediction on which the guest was stopped; before
					 * that the newest */
	uint64_t
		predicted_p99_ns; /* and what it was hardly to exceed: on this the guest is stopped */
	struct rj_downtime_terms downtime, predicted;
	uint64_t transferred_bytes;	 /* payload and headers, all lanes */
	uint64_t throughput_bytes_per_s; /* pages of the bulk and dirty rounds per second of
					  * these */
	uint64_t dirty_rate_bytes_per_s;
	uint64_t remaining_bytes; /* dirty and not sent yet, as far as known */
	uint64_t
		eta_ns; /* source, in the bulk and dirty rounds: until the guest is stopped, if rates
			  * stay as they are; in the bulk round without what is dirtied meanwhile,
			  * which is not known yet. 0: not known, or never at these rates */
	struct rj_page_counts pages;
	struct rj_filter_stats filter[6]; /* source; by the number of its bit in enum rj_filter */
	uint64_t cleared_pages;		  /* zero, and had to be cleared at the destination */
	uint64_t request_max_ns;	  /* slowest answer of the VMM */
	uint32_t request_max_type;	  /* enum rj_event_type of it */
	uint32_t rollbacks;		  /* switchovers that were given up */
	uint32_t throttle_percent;	  /* asked for now */
	uint32_t throttle_peak_percent;
	uint64_t throttled_ns;	     /* as long as any was asked for */
	uint64_t throttle_cost_ns;   /* of that, what was taken away from each vCPU */
	uint64_t lanes_replaced;     /* times that lanes failed and the session went on */
	uint32_t direct_io;	     /* file: 1: around the page cache */
	uint32_t registered_buffers; /* file, source: 1: pages went from registered buffers, and the
				      * kernel refused none */
	uint64_t collect_max_ns; /* slowest collect: all regions, all trackers, and the counting */
	uint64_t rearm_max_ns;	 /* slowest re-arming of a window by all its trackers */
	uint64_t tracker_start_ns; /* starting and stopping all trackers */
	uint64_t tracker_stop_ns;
	uint64_t metadata_bytes; /* memory the session uses for bitmaps and tables; source: also for
				  * what filters remember of pages, and a lane's room for copies, for
				  * codes (1 MiB each) and of zstd, where its filters want these */
	uint64_t cpu_ns;	 /* CPU time of the library's threads in this process, user and
				  * system */
	/* registration with RDMA devices, at this side */
	uint64_t registered_bytes;	/* now */
	uint64_t peer_registered_bytes; /* source: now, at the destination, as far as told */
	uint64_t pinned_peak_bytes;	/* the most at once */
	uint64_t register_ns; /* spent on it, its threads added up; they work while lanes send */
	uint64_t register_wait_ns; /* source: lanes waited so long for registrations, added up */
	uint64_t evictions;	   /* windows given back to make room for others */
	uint64_t state_bytes;	   /* device state */
	uint64_t resumed_at_ns;	   /* destination: CLOCK_MONOTONIC when RJ_RQ_RESUME was answered;
				 * source: when it sent RJ_RQ_PAUSE */
	/* RJ_FILE_LAZY: pages that somebody waited for, and the longest that one of them took */
	uint64_t faults, fault_max_ns;
};

#ifdef __cplusplus
}
#endif
#endif

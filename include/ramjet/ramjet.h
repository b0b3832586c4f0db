/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAMJET_RAMJET_H
#define RAMJET_RAMJET_H

/*
 * ramjet moves the memory of a running virtual machine to another host and hands the guest over.
 *
 * Objects
 *   struct rj_env      what sessions of a process share: log, threads, RDMA devices.
 *   struct rj_session  one migration, one side of it: source or destination. Used once; a second
 *                      attempt is a new one.
 *   struct rj_region   a piece of guest RAM; named by (region, offset) on both sides.
 *   struct rj_tracker  knows which pages were written. Any number; they add up.
 *
 * A source's life: rj_env_open, rj_source_open, rj_add_region…, rj_add_tracker…, rj_start, events
 * until RJ_EV_DONE, rj_close.
 * A destination's: rj_env_open, rj_destination_open, rj_start, events until RJ_EV_DONE, rj_close.
 *
 * Threads. The library calls the VMM only to log, to make threads and to use trackers. Everything
 * else is an event which the VMM fetches when rj_event_fd() is readable, and requests among them
 * are answered by rj_answer() when done, so that a VMM with one big lock or an event loop can use
 * it without deadlock. rj_run() makes a table of functions of it. Each function says which threads
 * may call it; where nothing is said: any, but not two at once on one session.
 *
 * Which side runs the guest. The source until it sends COMMIT, which it does only when the
 * destination holds everything and has loaded it. Whatever fails before leaves the guest to the
 * source. The destination never runs it without COMMIT. If the connection breaks after COMMIT the
 * source asks for the outcome; if no answer comes it is unknown, and nobody resumes by himself.
 *
 * Guest RAM. From rj_start() to RJ_EV_DONE the source's regions stay mapped; what the VMM takes
 * away from them goes through rj_discard_begin() and rj_discard_end(). After RJ_RQ_PAUSE is
 * answered nothing may write guest RAM but the saving of device state.
 *
 * Manners. No signals, no SIGPIPE, no atexit, no environment variables, nothing on stdout or
 * stderr; threads have names ("rj-control", "rj-lane-0"). A fork() while a session is open: the
 * child may only exec or _exit.
 */

#include <ramjet/env.h>
#include <ramjet/error.h>
#include <ramjet/event.h>
#include <ramjet/export.h>
#include <ramjet/probe.h>
#include <ramjet/region.h>
#include <ramjet/session.h>
#include <ramjet/snapshot.h>
#include <ramjet/stats.h>
#include <ramjet/tracker.h>
#include <ramjet/version.h>

#endif

# SPDX-License-Identifier: BSD-2-Clause
"""Ends that die or are told to stop: the guest runs on one side, and both sides say which in time."""

import os
import signal
import time

from migrate import HAS_KVM, Running, check, listen, main, run

GUEST = "kvm" if HAS_KVM else "synthetic"
# Slow enough to be caught in the middle: 64 MiB at 16 MiB/s.
SLOW = ["--guest", GUEST, "--size", "64M", "--bandwidth", "16M", "--workload", "uniform:4M", "--json"]
MAX_DOWNTIME_S = 0.3


def start(*more):
    destination, uri = listen()
    source = Running("--to", uri, *SLOW, "--verbose", *more)
    check(source.wait_for("source: bulk"), "no bulk round")  # it takes 4 s
    return source, destination


def runs_at_source(end, within_s, since):
    check(end.status == 1 and end.json["status"] == "failed", end)
    check(end.json["runs_at"] == "source", end)
    check(end.json["counter_after"] > 0, end)
    check(time.monotonic() - since < within_s, end)


def second_attempt_works():
    destination, uri = listen("--verify")
    source = run("--to", uri, "--guest", GUEST, "--size", "64M", "--verify", "--json")
    check(source.status == 0 and source.json["verified"], source)
    check(destination.end().status == 0, "the destination of the second attempt")


def case_destination_killed_in_the_bulk_round():
    source, destination = start()
    since = time.monotonic()
    destination.signal(signal.SIGKILL)
    # The program then watches the guest run on for 0.2 s.
    runs_at_source(source.end(), MAX_DOWNTIME_S + 1, since)
    second_attempt_works()


def case_destination_stopped_is_noticed_as_silent():
    source, destination = start()
    since = time.monotonic()
    destination.signal(signal.SIGSTOP)
    end = source.end()
    destination.signal(signal.SIGKILL)
    runs_at_source(end, 8, since)


def case_source_killed_in_the_bulk_round():
    source, destination = start()
    since = time.monotonic()
    source.signal(signal.SIGKILL)
    end = destination.end()
    check(end.status == 1 and end.json["status"] == "failed" and end.json["runs_at"] == "source", end)
    check(end.json["counter_after"] == 0, "the guest ran: %r" % end)
    check(time.monotonic() - since < 10, end)


def case_source_cancelled():
    source, destination = start()
    since = time.monotonic()
    source.signal(signal.SIGINT)
    end = source.end()
    check(end.status == 4 and end.json["status"] == "cancelled", end)
    check(end.json["runs_at"] == "source" and end.json["counter_after"] > 0, end)
    check(time.monotonic() - since < MAX_DOWNTIME_S + 1, end)
    end = destination.end()
    check(end.status == 1 and "cancelled" in end.json["error"], end)
    second_attempt_works()


def case_destination_cancelled():
    source, destination = start()
    since = time.monotonic()
    destination.signal(signal.SIGTERM)
    runs_at_source(source.end(), MAX_DOWNTIME_S + 1, since)
    check(destination.end().status == 4, "the destination says cancelled")


def kill_at(side, line, signal_number):
    """Kill one side as soon as the source says line; where does the guest run?"""
    destination, uri = listen("--verbose")
    source = Running("--to", uri, "--guest", GUEST, "--size", "64M", "--workload", "uniform:20M",
                     "--json", "--verbose")
    watched = destination if side == "destination" else source
    if watched.wait_for(line, 60):
        (source if side == "source" else destination).signal(signal_number)
    ends = source.end(), destination.end()
    runs = [bool(ends[1].json) and ends[1].json["counter_after"] > 0,
            bool(ends[0].json) and ends[0].json["runs_at"] == "source" and ends[0].json["counter_after"] > 0]
    check(not all(runs), "the guest ran on both sides: %r" % (ends,))
    return ends


def case_killed_around_the_switchover_never_runs_twice():
    for line in ("stopping", "prepared", "committed"):
        source, destination = kill_at("destination", line, signal.SIGKILL)
        # It ended before the signal came, or the source knows what it knows.
        check(source.status in (0, 1, 3), source)
        check(source.status != 1 or source.json["runs_at"] == "source", source)
        source, destination = kill_at("source", line, signal.SIGKILL)
        check(destination.status in (0, 1), destination)


if __name__ == "__main__":
    main(globals())

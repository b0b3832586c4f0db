#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Does a guest that migrates stall?

    migrate_gaps.py [N] [--long] [--guest kvm|synthetic] [--size BYTES] [--warm-up MS] [--keep FILE] [--qemu]

N migrations over tcp (1; with --long 10, of 4 GiB) of a guest whose memory is half zero, which runs for a while
before: the gaps of its heartbeat then, and while it migrates. With --qemu also those of the same guest standing
by while QEMU moves a guest of that size by multifd. With --long they are judged: while migrating 99 of 100 are at
most 10 ms, and all at most 100 ms. The short form, for any machine, only prints them. --keep FILE goes on from what FILE has, and appends to it.
"""

import argparse
import json
import os
import signal
import statistics
import sys

import migrate

P99_MS, MAX_MS = 10, 100


def options():
    parser = argparse.ArgumentParser(description="Migrate, and judge the gaps of the guest's heartbeat.")
    parser.add_argument("n", type=int, nargs="?")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--guest", default="kvm" if migrate.HAS_KVM else "synthetic")
    parser.add_argument("--size")
    parser.add_argument("--workload", default="uniform:50M")
    parser.add_argument("--warm-up", type=int, metavar="MS")
    parser.add_argument("--keep", metavar="FILE")
    parser.add_argument("--qemu", action="store_true")
    o = parser.parse_args()
    o.n = o.n if o.n is not None else 10 if o.long else 1
    o.size = o.size or ("4G" if o.long else "128M")
    o.warm_up = o.warm_up or (5000 if o.long else 200)
    return o


def arguments(o, *more):
    return ["--transport", "tcp", "--guest", o.guest, "--size", o.size, "--workload", o.workload, "--json",
            "--progress", "auto", *more]


def one(o):
    end = migrate.run(*arguments(o, "--warm-up", str(o.warm_up)), timeout=300)
    migrate.check(end.status == 0, end)
    return end.json


def beside_qemu(o):
    """The same guest, warming up, while QEMU migrates another."""
    import qemu
    from processes import free_port

    size = int(o.size[:-1]) << {"M": 20, "G": 30}[o.size[-1]]

    class Half(qemu.Machine):
        def fill(self, whole):
            super().fill(whole // 2)  # the rest is zero
            self.beside = migrate.Running(*arguments(o, "--warm-up", "3600000"))
            migrate.check(self.beside.wait_for("warming up"), "no warm-up")

    qemu.Machine, seen = Half, {}

    class Timed(qemu.Qemu):
        @staticmethod
        def _total_s(source, destination, whole, timeout_s):
            seconds = qemu.Qemu._total_s(source, destination, 0, timeout_s)
            source.beside.signal(signal.SIGTERM)
            end = source.beside.end(300)
            migrate.check(end.status == 4, end)
            seen.update(end.json)
            return seconds

    seconds = Timed(None).migrate("tcp:127.0.0.1:%d" % free_port(), size, "shared", ("multifd",), 2)
    return seconds, seen


def column(name, values):
    print("  %-46s median %7.2f, worst %7.2f ms" % (name, statistics.median(values), max(values)))


def report(kept):
    for what, key in (("not migrating", "guest_gap_before"), ("migrating", "guest_gap")):
        for name, end in (("99 of 100 gaps are at most", "_p99_ms"), ("the longest gap", "_max_ms")):
            column("%s, %s" % (what, name), [j[key + end] for j in kept])


def main():
    o, kept, failures = options(), [], 0
    if o.keep and os.path.exists(o.keep):
        with open(o.keep) as file:
            kept = [json.loads(line) for line in file]
    for _ in range(o.n):
        kept.append(one(o))
        j = kept[-1]
        good = j["guest_gap_p99_ms"] <= P99_MS and j["guest_gap_max_ms"] <= MAX_MS
        failures += o.long and not good
        print("%2d before: p99 %6.2f, longest %6.2f ms; migrating: p99 %6.2f, longest %6.2f ms; bulk %.2f s, downtime %.1f ms"
              % (len(kept), j["guest_gap_before_p99_ms"], j["guest_gap_before_max_ms"], j["guest_gap_p99_ms"],
                 j["guest_gap_max_ms"], j["total_time_ms"] / 1e3, j["downtime_ms"]), flush=True)
        if o.keep:
            with open(o.keep, "a") as file:
                file.write(json.dumps(j) + "\n")
    if kept:
        report(kept)
    if o.qemu:
        seconds, j = beside_qemu(o)
        print("beside QEMU's multifd, which took %.2f s: p99 %.2f, longest %.2f ms" %
              (seconds, j["guest_gap_before_p99_ms"], j["guest_gap_before_max_ms"]))
    print("%d passed, %d failed" % (len(kept) - failures, failures))
    sys.exit(1 if failures or not (kept or o.qemu) else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Is the downtime kept, and was it predicted?

    migrate_downtime.py [N] [--long] [--guest kvm|synthetic] [--size BYTES]

N migrations over tcp (9; with --long 200), in turn over three workloads and three limits. A limit may only be
broken by what comes after COMMIT. A migration that could not keep it is still iterating when its time is up,
or was rolled back, with the guest at the source. Under --long two figures are judged as well: the limit is
broken in at most one of 200, and the median of |predicted - actual| is at most 25 % or 5 ms, whichever is
more. They say something about this machine too, so the short form, for any machine, only prints them.
"""

import argparse
import itertools
import statistics
import sys

import migrate

WORKLOADS = ["idle", "hot:64M:400M", "uniform:50M"]
LIMITS_MS = [30, 100, 300]
BEFORE_COMMIT = ["pause", "harvest", "send", "fence", "save", "load"]


def options():
    parser = argparse.ArgumentParser(description="Run many migrations and judge their downtime.")
    parser.add_argument("n", type=int, nargs="?")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--guest", default="kvm" if migrate.HAS_KVM else "synthetic")
    parser.add_argument("--size", default="512M")
    parser.add_argument("--timeout", type=int, default=20, help="seconds for each to get to its end")
    o = parser.parse_args()
    o.n = o.n or (200 if o.long else 9)
    return o


def one(o, number, workload, limit):
    """Run it. The JSON object, or a complaint."""
    ended = migrate.run("--transport", "tcp", "--guest", o.guest, "--size", o.size, "--verify",
                        "--workload", workload, "--max-downtime", str(limit), "--seed", str(number + 1),
                        "--timeout", str(o.timeout), "--progress", "never", "--json")
    j = ended.json
    if not j:
        return None, "printed no JSON: %r" % ended
    if j["status"] == "completed":
        return j, None if j["verified"] else "memory differs: %s" % j["verify_text"]
    if j["status"] == "cancelled" and j["runs_at"] == "source":
        return j, None
    return j, "%s: %s" % (j["status"], j["error"])


def tell(number, workload, limit, j):
    print("%4d %-13s %4d ms: %-9s %7.2f ms, predicted %7.2f, at worst %7.2f; %3d rounds, %d rolled back%s"
          % (number, workload, limit, j["status"], j["downtime_ms"], j["predicted_downtime_ms"],
             j["predicted_p99_ms"], j["rounds"], j["rollbacks"], "  OVERSHOOT" if j["overshoot"] else ""),
          flush=True)


def off(j):
    """By how much the prediction was wrong, in units of what is allowed."""
    return (abs(j["predicted_downtime_ms"] - j["downtime_ms"])
            / max(0.25 * j["downtime_ms"], 5))


def main():
    o, failures, over, done, cancelled = options(), [], 0, [], 0
    cases = itertools.cycle(itertools.product(LIMITS_MS, WORKLOADS))
    for number in range(o.n):
        limit, workload = next(cases)
        j, complaint = one(o, number, workload, limit)
        if j:
            tell(number, workload, limit, j)
        if complaint:
            failures.append("migration %d (%s, %d ms): %s" % (number, workload, limit, complaint))
            continue
        if j["status"] == "cancelled":
            cancelled += 1
            continue
        done.append(j)
        if j["overshoot"]:
            over += 1
            before = sum(j["downtime_terms"][term] for term in BEFORE_COMMIT)
            if before > limit:
                failures.append("migration %d: %.1f ms of %d had passed before COMMIT" % (number, before, limit))
    allowed = max(1, o.n // 200)
    median = statistics.median(off(j) for j in done) if done else float("inf")
    print("%d completed, %d still iterating when time was up, %d rolled back on the way" %
          (len(done), cancelled, sum(j["rollbacks"] for j in done)))
    print("overshoot in %d, of %d allowed; median error %.2f of what is allowed, %.2f ms" %
          (over, allowed, median,
           statistics.median(abs(j["predicted_downtime_ms"] - j["downtime_ms"]) for j in done) if done else -1))
    if o.long and over > allowed:
        failures.append("the limit was broken in %d" % over)
    if o.long and median > 1:
        failures.append("the prediction is off by more than 25 % and 5 ms in the median")
    if not done:
        failures.append("not one completed")
    for failure in failures:
        print("FAILED %s" % failure)
    print("%d passed, %d failed" % (o.n - len(failures), len(failures)))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Is the downtime kept, and was it predicted?

    migrate_downtime.py [N] [--long] [--guest kvm|synthetic] [--size BYTES] [--keep FILE]

N migrations over tcp (9; with --long 200), in turn over three workloads and three limits. With --keep their
figures are appended to FILE, those already there are gone on from, and all of them are judged: so many
migrations can be run in parts. A limit may only be
broken by what comes after COMMIT. A migration that could not keep it is still iterating when its time is up,
or was rolled back, with the guest at the source. Under --long two figures are judged as well: the limit is
broken in at most one of 200, and the median of |predicted - actual| is at most 25 % or 5 ms, whichever is
more. They say something about this machine too, so the short form, for any machine, only prints them.
"""

import argparse
import itertools
import json
import os
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
    parser.add_argument("--keep", metavar="FILE", help="append to FILE, and judge all that is in it")
    parser.add_argument("--timeout", type=int, default=20, help="seconds for each to get to its end")
    o = parser.parse_args()
    o.n = o.n or (200 if o.long else 9)
    return o


def one(o, number, workload, limit):
    """Run it. Its figures, with "complaint" where something is wrong."""
    ended = migrate.run("--transport", "tcp", "--guest", o.guest, "--size", o.size, "--verify",
                        "--workload", workload, "--max-downtime", str(limit), "--seed", str(number + 1),
                        "--timeout", str(o.timeout), "--progress", "never", "--json")
    j = ended.json or {"status": "none", "error": "printed no JSON: %r" % ended}
    j.update(number=number, workload=workload, limit=limit, complaint=complaint(j))
    return j


def complaint(j):
    if j["status"] == "completed":
        return None if j["verified"] else "memory differs: %s" % j["verify_text"]
    if j["status"] == "cancelled" and j["runs_at"] == "source":
        return None
    return "%s: %s" % (j["status"], j["error"])


def tell(j):
    if j["status"] not in ("completed", "cancelled"):
        return
    print("%4d %-13s %4d ms: %-9s %7.2f ms, predicted %7.2f, at worst %7.2f; %3d rounds, %d rolled back%s"
          % (j["number"], j["workload"], j["limit"], j["status"], j["downtime_ms"], j["predicted_downtime_ms"],
             j["predicted_p99_ms"], j["rounds"], j["rollbacks"], "  OVERSHOOT" if j["overshoot"] else ""),
          flush=True)


def off(j):
    """By how much the prediction was wrong, in units of what is allowed."""
    return (abs(j["predicted_downtime_ms"] - j["downtime_ms"])
            / max(0.25 * j["downtime_ms"], 5))


def off_ms(done):
    return statistics.median(abs(j["predicted_downtime_ms"] - j["downtime_ms"]) for j in done)


def run_all(o):
    """All figures: of the file, and new ones."""
    kept = []
    if o.keep and os.path.exists(o.keep):
        with open(o.keep) as file:
            kept = [json.loads(line) for line in file]
    cases = itertools.islice(itertools.cycle(itertools.product(LIMITS_MS, WORKLOADS)), len(kept), None)
    for number, (limit, workload) in zip(range(len(kept), len(kept) + o.n), cases):
        kept.append(one(o, number, workload, limit))
        tell(kept[-1])
        if o.keep:
            with open(o.keep, "a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
    return kept


def overshoots(done, failures):
    over = [j for j in done if j["overshoot"]]
    for j in done:
        before = sum(j["downtime_terms"][term] for term in BEFORE_COMMIT)
        if before > j["limit"]:
            failures.append("migration %d: %.1f ms of %d had passed before COMMIT" % (j["number"], before, j["limit"]))
        if j["overshoot"] != (j["downtime_ms"] > j["limit"]):
            failures.append("migration %d: %.1f ms of %d, and overshoot is %s" %
                            (j["number"], j["downtime_ms"], j["limit"], j["overshoot"]))
    return over


def summarise(all_of_them, done, over, allowed):
    print("%d completed, %d still iterating when time was up, %d rolled back on the way" %
          (len(done), sum(j["status"] == "cancelled" for j in all_of_them), sum(j["rollbacks"] for j in done)))
    for limit, workload in itertools.product(LIMITS_MS, WORKLOADS):
        some = [j for j in done if (j["limit"], j["workload"]) == (limit, workload)]
        if some:
            print("  %4d ms %-13s: %3d completed, downtime median %6.2f ms, most %6.2f, prediction off by %5.2f ms "
                  "in the median" % (limit, workload, len(some), statistics.median(j["downtime_ms"] for j in some),
                                     max(j["downtime_ms"] for j in some), off_ms(some)))
    print("overshoot in %d, of %d allowed; median error %.2f of what is allowed, %.2f ms" %
          (len(over), allowed, statistics.median(map(off, done)), off_ms(done)))


def main():
    o, failures = options(), []
    all_of_them = run_all(o)
    failures += ["migration %d (%s, %d ms): %s" % (j["number"], j["workload"], j["limit"], j["complaint"])
                 for j in all_of_them if j["complaint"]]
    done = [j for j in all_of_them if j["status"] == "completed" and not j["complaint"]]
    over, allowed = overshoots(done, failures), max(1, len(all_of_them) // 200)
    if done:
        summarise(all_of_them, done, over, allowed)
    else:
        failures.append("not one completed")
    if o.long and len(over) > allowed:
        failures.append("the limit was broken in %d" % len(over))
    if o.long and done and statistics.median(map(off, done)) > 1:
        failures.append("the prediction is off by more than 25 % and 5 ms in the median")
    for failure in failures:
        print("FAILED %s" % failure)
    print("%d passed, %d failed" % (len(all_of_them) - len(failures), len(failures)))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: BSD-2-Clause
"""Many migrations in a row with random sizes, lanes and workloads: each completes, or ends in a clear error."""

import os
import random
import sys

from migrate import HAS_KVM, check, random_args, run


def main():
    long = os.environ.get("RJ_TEST_LONG")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50 if long else 12
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    tracker = sys.argv[3] if len(sys.argv) > 3 else None  # only kvm guests with this one
    rng = random.Random(seed)
    bad = completed = 0
    print("seed %d" % seed, flush=True)
    for i in range(count):
        args = random_args(rng, HAS_KVM)
        while tracker and tracker not in args:
            args = random_args(rng, HAS_KVM)
        end = run(*args, "--verify", "--json", "--progress", "never", timeout=300)
        j = end.json
        try:
            check(j and end.n_lines == 1, end)
            check("Sanitizer" not in end.err and "runtime error" not in end.err, end)
            if end.status == 0:
                check(j["verified"] is True and j["counter_after"] > j["counter_before"], end)
                completed += 1
            else:
                check(j["error"] and j["verified"] is not False, end)
            print("%2d/%d exit %d, %s, downtime %.1f ms: %s" % (
                i + 1, count, end.status, j["error"] or "verified", j["downtime_ms"], " ".join(args)), flush=True)
        except AssertionError as failure:
            bad += 1
            print("FAILED %s: %s" % (" ".join(args), failure), flush=True)
    print("%d of %d completed" % (completed, count))
    print("%d passed, %d failed" % (count - bad, bad))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

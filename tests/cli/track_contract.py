# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-track as scripts use it: its keys, that it measured something, and one-line errors for bad input."""

import json
import os
import subprocess

from migrate import BUILD, HAS_KVM, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-track")
WALK = ["--size", "80G", "--touched", "32M", "--repeat", "1"]
COST = ["--measure", "cost", "--size", "64M", "--duration", "50", "--interval", "10", "--repeat", "1"]


def run(*args):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout, p.stderr


def results(*args):
    status, out, err = run("--json", *args)
    check(status == 0, (args, out, err))
    return [json.loads(line) for line in out.splitlines()]


def case_walk_measures_each_tracker_pattern_and_share():
    if not HAS_KVM:
        return
    found = results(*WALK, "--dirty", "1,50")
    check([(r["tracker"], r["pattern"], r["dirty_percent"]) for r in found] ==
          [(t, p, d) for t in ("log", "ring") for p in ("scattered", "runs") for d in (1, 50)], found)
    for r in found:
        check(r["guest_gib"] == 80 and r["dirty_pages"] >= 8192 * r["dirty_percent"] // 100, r)
        check(all(r[k] > 0 for k in r if k.endswith("_us")), r)


def case_cost_compares_with_a_guest_that_is_not_tracked():
    if not HAS_KVM:
        return
    found = results(*COST, "--rates", "0,1000")
    check([(r["wanted_pages_per_s"], r["tracker"]) for r in found] ==
          [(n, t) for n in (0, 1000) for t in ("none", "log", "ring")], found)
    check(all(r["beats_per_s"] > 0 and r["vcpu_cpu_ms_per_s"] > 0 for r in found), found)
    check(all((r["tracking_cpu_ms_per_s"] > 0) for r in found if r["tracker"] != "none"), found)


def case_table_has_a_head_and_a_row_each():
    if not HAS_KVM:
        return
    status, out, _ = run(*WALK, "--tracker", "log", "--dirty", "1")
    check(status == 0 and len(out.splitlines()) == 3 and out.startswith("tracker"), out)


def case_usage_errors_exit_2_with_one_line():
    for args, word in ((["--dirty", "1,,2"], "--dirty"), (["--dirty", "51"], "--dirty"),
                       (["--rates", "x"], "--rates"), (["--tracker", "uffd"], "--tracker"),
                       (["--size", "1G", "--touched", "1G"], "--touched"), (["stray"], "stray")):
        status, out, err = run(*args)
        check(status == 2 and word in err and len(err.splitlines()) == 1 and not out, (args, out, err))


main(globals())

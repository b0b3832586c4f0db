#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Does sending less send less, and does the guest's memory arrive all the same?

    migrate_filters.py [--long] [--repeat N] [CASE ...]

The short form takes small guests, and judges bytes and memory only. --long takes the sizes that are asked of the
library, and judges time as well: medians of N runs (3) with and without, in turn. Case link needs root, for a
shaped link between two network namespaces; it is run under --long only, and so are the cases cost.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys

import migrate
from machine import meminfo, touch_memory  # by migrate's path
from migrate import check

MIB = 1 << 20
PAGE = 4096
OPTS = None


def options():
    parser = argparse.ArgumentParser(description="Migrate guests that need not be sent whole, and count.")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("cases", nargs="*")
    return parser.parse_args()


def scale(short, long):
    return long if OPTS.long else short


def kinds():
    return ["kvm", "synthetic"] if migrate.HAS_KVM else ["synthetic"]


def run(*args, timeout=400):
    """Both ends by one command. The JSON object of a migration that came to an end of its own."""
    ended = migrate.run("--json", "--progress", "never", *[str(arg) for arg in args], timeout=timeout)
    check(ended.json, ended)
    return ended.json


def arrived(*args, **more):
    j = run("--verify", *args, **more)
    check(j["status"] == "completed" and j["verified"] is True, j)
    return j


def percent_but(size, used):
    """The rest of a guest, for --zero and --free."""
    return "%.12f" % (100 * (size - used) / size)


def tell(text, *args):
    print("       " + text % args, flush=True)


# --- an idle guest of which little is used ---

def idle_memory(size, used):
    """By the one filter that is to find it out: how the memory looks that is not used. What is free is full of what was
    there before."""
    rest = percent_but(size, used)
    return {
        "hole": [],
        "zero": ["--zero", rest],
        "free": ["--free", rest, "--reuse", "0"],
    }


def sent_little(name, j, size, used):
    check(j["status"] == "completed", j)
    check(j["pages"][name] > 0.9 * (size - used) / PAGE, j["pages"])
    check(j["transferred_bytes"] <= 1.02 * used,
          "%s: %.3f of what is used was sent" % (name, j["transferred_bytes"] / used))
    tell("%-4s %.4f of the used bytes, %.0f ms, metadata %d bytes", name, j["transferred_bytes"] / used,
         j["total_time_ms"], j["metadata_bytes"])
    return j


def case_an_idle_guest_costs_what_it_uses():
    size, used = scale((512 * MIB, 80 * MIB), (8192 * MIB, 350 * MIB))
    # What lanes have begun with (64 MiB each) goes out before the guest has told that it is free.
    cap = scale(["--bandwidth", "256M", "--lanes", "1"], [])
    for name, memory in idle_memory(size, used).items():
        args = ["--size", size, "--used", used, "--workload", "idle", "--transport", "tcp", *memory, *cap]
        sent_little(name, arrived("--filters", name, *args), size, used)
        if OPTS.long:  # without --verify, whose comparison is in the time
            with_it, without, values = paired(lambda: sent_little(name, run("--filters", name, *args), size, used),
                                              lambda: run("--filters", "none", *args), "total_time_ms")
            tell("%-4s %.3f of the time with none: %s", name, with_it / without, values)
            check(with_it / without <= (1 / 5 if name == "zero" else 1 / 10),
                  "%s: %.3f of the time" % (name, with_it / without))


def case_all_filters_together_leave_out_all_that():
    for kind in kinds():
        j = arrived("--guest", kind, "--size", "512M", "--used", "80M", "--free", "40", "--zero", "20",
                    "--workload", "uniform:8M", "--bandwidth", "256M", "--lanes", "1")
        check(all(j["pages"][name] > 0 for name in ("hole", "free", "zero")), j["pages"])
        check(j["transferred_bytes"] < 120 * MIB, j)


# --- writes that change nothing, or little ---

def case_writes_that_change_nothing_do_not_keep_it_from_converging():
    size, rate, link, limit_s = scale(("32M", "64M", "16M", 8), ("512M", "200M", "32M", 120))
    args = ["--size", size, "--workload", "same:" + rate, "--bandwidth", link, "--transport", "tcp",
            "--timeout", limit_s]
    j = run("--filters", "none", *args)
    check(j["status"] == "cancelled" and j["runs_at"] == "source", "it converges all by itself: %r" % j)
    j = arrived("--filters", "same", *args)
    all_pages = sum(j["pages"].values())
    check(j["pages"]["same"] > 0, j)
    tell("%.1f s, %d rounds; %.3f of the pages were the same", j["total_time_ms"] / 1e3, j["rounds"],
         j["pages"]["same"] / all_pages)


def case_contents_that_come_back_arrive():
    """The content that a hash stands for must be the one that was sent."""
    n, rng = scale(3, 50), random.Random(5)
    for transport in ("tcp", "unix"):
        for i in range(n):
            kind = rng.choice(kinds())
            arrived("--guest", kind, "--size", "32M", "--workload", "aba:%dM" % rng.choice([50, 200, 400]),
                    "--transport", transport, "--seed", rng.randrange(1 << 30), "--lanes", rng.choice([1, 2, 3]),
                    "--bandwidth", rng.choice(["64M", "128M", "512M"]), "--max-downtime", 2000)
    tell("%d migrations", 2 * n)


def case_a_few_bytes_of_a_page_go_as_a_difference():
    size, rate, link = scale(("64M", "32M", "32M"), ("512M", "100M", "64M"))
    for kind in kinds():
        j = arrived("--guest", kind, "--size", size, "--workload", "sparse:64:" + rate, "--bandwidth", link,
                    "--transport", "tcp", "--filters", "same,delta")
        pages, saved = j["pages"]["delta"], j["filters"]["delta"]["saved_bytes"]
        check(pages > 0, j)
        share = 1 - saved / (pages * PAGE)
        tell("%s: %d pages by %.3f of their bytes; %d went whole after the first round", kind, pages, share,
             j["pages"]["normal"] - j["guest_bytes"] // PAGE)
        check(share <= 0.15, "%.3f of the bytes" % share)


# --- free pages that are used again ---

def backings(size):
    """Of two guests; huge pages only where somebody has set enough aside."""
    huge = meminfo("HugePages_Free", 0) * meminfo("Hugepagesize", 0) * 1024
    return ["memfd", "anon", "thp"] + (["hugetlb"] if huge >= 2 * size else [])


def case_pages_freed_and_used_again_arrive():
    n, rng = scale(1, 25), random.Random(7)
    for kind in kinds():
        for hints in ("reporting", "balloon"):
            taken = 0
            for _ in range(n):
                j = arrived("--guest", kind, "--size", "256M", "--used", "64M", "--free", "60", "--hints", hints,
                            "--reuse", "32M", "--workload", "uniform:16M", "--bandwidth", "256M", "--lanes", 1,
                            "--backing", rng.choice(backings(256 * MIB)),
                            "--transport", rng.choice(["tcp", "unix"]), "--seed", rng.randrange(1 << 30),
                            "--filters", rng.choice(["free", "free,zero", "free,same", "hole,free,zero,same,delta,zstd"]))
                check(j["free_pages"] > 0 and "hold zeros" in j["verify_text"], j)
                check(j["hints"]["refused"] == 0 or hints == "balloon", j["hints"])
                taken += j["hints"]["taken_pages"]
            check(taken > n * 0.3 * 256 * MIB / PAGE, "%s: %d pages were left out" % (hints, taken))
            tell("%s, %s: %d migrations, %d pages left out", kind, hints, n, taken)


def case_without_hints_free_pages_are_like_others():
    j = arrived("--size", "64M", "--used", "16M", "--free", "50", "--hints", "none", "--reuse", "16M",
                "--transport", "tcp")
    check(j["pages"]["free"] == 0 and "free" not in j["verify_text"], j)
    check(j["hints"]["taken_pages"] == 0, j)


# --- what it costs where there is nothing to be saved; only measured ---

def paired(first, second, key, touch_bytes=0):
    """Medians of a figure of two kinds of runs, in turn; touch_bytes: of memory that the machine has touched before each."""
    values = ([], [])
    for i in range(OPTS.repeat):
        for k in ((0, 1), (1, 0))[i % 2]:
            touch_memory(touch_bytes)
            j = (first, second)[k]()
            values[k].append(j[key] if isinstance(key, str) else key(j))
    return statistics.median(values[0]), statistics.median(values[1]), values


def throughput(j):
    """Of the rounds, in bytes per second."""
    return j["transferred_bytes"] / (j["total_time_ms"] - j["setup_time_ms"]) * 1e3


def case_cost_of_filters_that_find_nothing():
    if not OPTS.long:
        return
    args = ["--size", "2G", "--fill", "random", "--workload", "idle", "--transport", "tcp"]
    on, off, values = paired(lambda: run(*args), lambda: run("--filters", "none", *args), "total_time_ms", 5 << 30)
    tell("idle: %.0f ms with all filters, %.0f with none: %.3f; %s", on, off, on / off, values)
    check(on / off <= 1.05, "it takes %.3f of the time" % (on / off))


def case_cost_of_a_same_test_that_switches_itself_off():
    """Into memory that is there, so that nothing but the lanes limits it."""
    if not OPTS.long:
        return
    args = ["--size", "4G", "--fill", "random", "--workload", "uniform:100M", "--transport", "tcp", "--prefault"]
    on, off, values = paired(lambda: run("--filters", "same", *args), lambda: run("--filters", "none", *args),
                             throughput, 9 << 30)
    tell("uniform: %.2f GB/s with it, %.2f without: %.3f; %s", on / 1e9, off / 1e9, on / off,
         [["%.2f" % (x / 1e9) for x in kind] for kind in values])
    check(on / off >= 0.97, "%.3f of the throughput" % (on / off))


# --- a link of 1 Gb/s ---

def ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True)


@contextlib.contextmanager
def shaped_link():
    """Two network namespaces, and what is put before a command to have it in the one or the other."""
    names = ["rj%d%s" % (os.getpid(), end) for end in "sd"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "l0", "netns", names[0], "type", "veth", "peer", "name", "l0", "netns", names[1])
        for i, name in enumerate(names):
            ip("-n", name, "addr", "add", "10.99.0.%d/24" % (i + 1), "dev", "l0")
            ip("-n", name, "link", "set", "l0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("netns", "exec", name, "tc", "qdisc", "add", "dev", "l0", "root", "tbf", "rate", "1gbit",
               "burst", "256k", "latency", "50ms")
        yield [["netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def over_the_link(inside, *args, verify=()):
    """verify: ["--verify"], whose comparison counts as time."""
    destination = migrate.Running(*inside[1], migrate.PROGRAM, "--listen", "tcp://10.99.0.2:0", *verify,
                                  program="ip")
    uri = destination.wait_for(r"listening at (\S+);")
    check(uri, "the destination does not listen")
    source = migrate.Running(*inside[0], migrate.PROGRAM, "--to", uri.group(1), "--json", "--progress", "never",
                             *verify, *args, program="ip").end()
    destination.end()
    check(source.json and source.json["status"] == "completed", source)
    check(not verify or source.json["verified"] is True, source)
    return source.json


def case_link_of_a_gigabit_and_text():
    if not OPTS.long:
        return
    args = ["--size", "1G", "--fill", "text", "--workload", "uniform:10M"]
    with shaped_link() as inside:
        over_the_link(inside, *args, verify=["--verify"])
        on, off, values = paired(lambda: over_the_link(inside, *args),
                                 lambda: over_the_link(inside, "--filters", "none", *args), "total_time_ms")
    tell("%.0f ms with all filters, %.0f with none: %.3f; %s", on, off, on / off, values)
    check(on / off <= 0.5, "it takes %.3f of the time" % (on / off))


if __name__ == "__main__":
    OPTS = options()
    found = [(name[5:], f) for name, f in globals().items() if name.startswith("case_")]
    sys.exit(migrate.Cases().run(found, OPTS.cases))

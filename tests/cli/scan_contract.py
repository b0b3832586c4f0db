# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-scan as scripts use it: its keys, that each stage measured something, and one-line errors for bad input."""

import json
import os
import subprocess
import sys

from migrate import BUILD, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-scan")
SMALL = ["--size", "1M", "--repeat", "1", "--levels", "-5,1"]
KEYS = {"stage", "variant", "level", "data", "change", "threads", "pages", "gb_per_s", "all_gb_per_s",
        "ns_per_page", "ratio", "share_of_read_rate"}

# Writes one byte of each page of 2 MiB, over and over.
CHILD = """
import sys
m = bytearray(2 << 20)
print("ready", flush=True)
n = 0
while True:
    n += 1
    m[n * 4096 % len(m)] = n % 251
"""


def run(*args):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=200)
    return p.returncode, p.stdout, p.stderr


def results(*args):
    status, out, err = run("--json", *SMALL, *args)
    check(status == 0 and not err, (args, out, err))
    first, *lines = [json.loads(line) for line in out.splitlines()]
    check(first["program"] == "ramjet-scan" and first["cpu"] and first["size_bytes"] >= 1 << 20, first)
    for r in lines:
        check(set(r) == KEYS, r)
        check(r["gb_per_s"] > 0 and r["ns_per_page"] > 0 and r["share_of_read_rate"] > 0, r)
        check((r["ratio"] is not None) == (r["stage"] in ("encode", "decode")), r)
        # The same fact twice.
        check(abs(r["gb_per_s"] * r["ns_per_page"] / 4096 - 1) < 0.001, r)
    return lines


def one(found, **wanted):
    match = [r for r in found if all(r[k] == v for k, v in wanted.items())]
    check(len(match) == 1, (wanted, match))
    return match[0]


def case_each_stage_and_kind_is_measured():
    found = results()
    for data in ("zero", "random", "text"):
        for stage, variant in (("read", "words"), ("copy", "memcpy"), ("zero", "library"), ("zero", "run"),
                               ("hash", "xxh3-128"), ("hash", "sha1")):
            check(one(found, stage=stage, variant=variant, data=data)["pages"] == 256, (stage, data))
        for change in ("few", "half", "all"):
            one(found, stage="encode", variant="xbzrle", data=data, change=change)
            for level in (-5, 1):
                for variant in ("zstd prefix", "xbzrle or zstd"):
                    one(found, stage="encode", variant=variant, data=data, change=change, level=level)


def case_ratios_are_those_of_the_data():
    found = results()
    check(one(found, stage="encode", variant="zstd", level=1, data="zero")["ratio"] < 0.01, found)
    check(one(found, stage="encode", variant="zstd", level=1, data="random")["ratio"] == 1, found)
    check(0.2 < one(found, stage="encode", variant="zstd", level=1, data="text")["ratio"] < 0.6, found)
    for data in ("zero", "random", "text"):
        ratio = {c: one(found, stage="encode", variant="xbzrle", data=data, change=c)["ratio"]
                 for c in ("few", "half", "all")}
        check(ratio["few"] < 0.02 and 0.4 < ratio["half"] < 0.6 and 0.8 < ratio["all"] <= 1, (data, ratio))
    # Nothing was coded, so that there is nothing to decode.
    check(not [r for r in found if r["stage"] == "decode" and r["variant"] == "zstd" and r["data"] == "random"], found)


def case_threads_share_the_pages():
    found = results("--threads", "2", "--data", "zero")
    r = one(found, stage="read", variant="words")
    check(r["threads"] == 2 and r["pages"] == 256 and r["all_gb_per_s"] > r["gb_per_s"], r)


def case_a_process_is_read_twice_and_only_its_changes_are_coded():
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as child:
        check(child.stdout.readline() == "ready\n", "child")
        found = results("--pid", str(child.pid), "--interval", "200", "--size", "64M")
        child.kill()
    check({r["data"] for r in found} == {"process"}, found)
    whole = one(found, stage="encode", variant="zstd", level=1, change=None)["pages"]
    delta = one(found, stage="encode", variant="xbzrle", change="sampled")
    check(0 < delta["pages"] < whole and delta["ratio"] < 0.9, (whole, delta))


def case_usage_errors_exit_2_with_one_line():
    for args, word in ((["--data", "zero,noise"], "--data"), (["--data", ""], "--data"),
                       (["--data", "zero,"], "--data"), (["--levels", "1,x"], "--levels"),
                       (["--levels", "23"], "--levels"), (["--size", "4K"], "--size"),
                       (["--memory", "large"], "--memory"), (["--threads", "0"], "--threads"),
                       (["stray"], "stray")):
        status, out, err = run(*args)
        check(status == 2 and word in err and len(err.splitlines()) == 1 and not out, (args, out, err))


def case_a_process_that_is_not_there_is_said():
    status, _, err = run("--json", *SMALL, "--pid", "4194305")
    check(status == 1 and "4194305" in err and len(err.splitlines()) == 1, err)


main(globals())

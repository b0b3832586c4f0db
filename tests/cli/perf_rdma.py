# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-perf over verbs, inside the test machine."""

import json
import os
import subprocess
import tempfile

from migrate import BUILD, Running, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-perf")
ADDR = os.environ["RAMJET_RDMA_ADDR"]
QUICK = ["--memory", "16M", "--duration", "1", "--repeat", "1", "--warmup", "0", "--progress", "never", "--json"]


def run(*args):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=200)
    cases = [json.loads(line) for line in p.stdout.splitlines()]
    check(p.returncode == 0, (p, cases))
    return cases


def case_auto_takes_rdma_and_all_arrives():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "report.json")
        cases = run("--sizes", "4K,1M", "--lanes", "1,2", "--report", path, *QUICK)
        with open(path, encoding="utf-8") as f:
            report = json.load(f)
    check(len(cases) == 8 and all(c["transport"] == "rdma" for c in cases), cases)
    check("rxe0" in report["source"]["rdma_devices"] and report["route"]["software"], report)
    for c in cases:
        pages = min(c["message_bytes"], 128 << 10) // 4096
        check(abs(c["requests_per_page"] - 1 / pages) < 0.01, c)  # cut at 128K, and at a chunk's end
        check(0 < c["posts_per_page"] <= max(c["requests_per_page"] / 4, 1 / 64), c)
        check(0 < c["polls_per_page"] <= 0.1 and 0 < c["signalled_share"] <= 1, c)
        check(c["port_rate_bytes_per_s"] is None, "what software claims means nothing: %r" % c)
        check(c["destination_cpu_s"] < 0.1 * c["seconds"], "it sleeps while the port writes: %r" % c)


def case_two_ends():
    end = Running("--listen", "rdma://%s:0" % ADDR, program=PROGRAM)
    at = end.wait_for(r"--to (\S+)")
    check(at, "does not listen")
    run("--to", at[1], "--sizes", "64K", "--pattern", "scattered", "--lanes", "2", *QUICK)
    check(end.end().status == 0, "the destination")


main(globals())

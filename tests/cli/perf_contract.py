# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-perf as scripts use it: keys, what adds up, two processes, and one-line errors for bad input."""

import json
import os
import socket
import struct
import subprocess
import tempfile

from migrate import BUILD, Running, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-perf")
QUICK = ["--duration", "1", "--repeat", "3", "--warmup", "0", "--progress", "never", "--json"]
SMALL = ["--memory", "16M", *QUICK]
PROMISED = {"transport", "pattern", "message_bytes", "lanes", "bytes_per_s", "ns_per_page",
            "port_rate_bytes_per_s"}


class Ended:
    """A run that ended, with every object it printed."""

    def __init__(self, status, out, err):
        self.status, self.err = status, err
        self.cases = [json.loads(line) for line in out.splitlines()]

    def __repr__(self):
        return "exit %s\n%s\nstderr: %s" % (self.status, self.cases, self.err)


def run(*args):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=120)
    return Ended(p.returncode, p.stdout, p.stderr)


def listen(uri):
    end = Running("--listen", uri, program=PROGRAM)
    found = end.wait_for(r"--to (\S+)")
    check(found, "does not listen at %s" % uri)
    return end, found[1]


def measured(end, n):
    check(end.status == 0 and len(end.cases) == n, end)
    for c in end.cases:
        check(PROMISED <= set(c) and c["error"] is None, c)
        check(abs(c["ns_per_page"] * c["bytes_per_s"] / 4096e9 - 1) < 0.01, c)
        check(c["bytes_per_s_min"] <= c["bytes_per_s"] <= c["bytes_per_s_max"], c)
        check(sorted(c["repetitions"])[1] == c["bytes_per_s"] and len(c["repetitions"]) == 3, c)
        check(c["source_cpu_s"] > 0 and c["seconds"] > 0, c)
    return end.cases


def pages_a_round(c):
    return c["pages"] // c["rounds"]


def case_every_case_has_its_line():
    cases = measured(run("--transport", "null", "--memory", "64M", "--sizes", "4K,1M", "--lanes", "1,3",
                         *QUICK), 8)
    check([(c["lanes"], c["pattern"], c["message_bytes"]) for c in cases] ==
          [(lanes, pattern, size) for lanes in (1, 3) for pattern in ("contiguous", "scattered")
           for size in (4096, 1 << 20)], cases)


def case_patterns_dirty_what_they_say():
    for pattern, least, most in (("contiguous", 1, 1), ("scattered", 0.5, 0.5), ("random", 0.4, 0.6)):
        for c in measured(run("--transport", "null", "--memory", "64M", "--sizes", "4K,64K",
                              "--pattern", pattern, *QUICK), 2):
            check(least <= pages_a_round(c) / 16384 <= most, c)
            requests = c["requests_per_page"] * c["message_bytes"] / 4096
            # random: neighbours that are both dirty are one message, unless they would be too long
            check(abs(requests - 1) < 0.01 or pattern == "random" and requests <= 1.01, c)
            check(c["posts_per_page"] <= 1 / 200, c)  # batches, and what is left over in each lane


def case_memory_arrives_by_every_transport():
    for transport in ("tcp", "unix"):
        for c in measured(run("--transport", transport, "--sizes", "4K,256K", "--lanes", "2", *SMALL), 4):
            check(c["transport"] == transport and c["destination_cpu_s"] > 0, c)
            check(c["port_rate_bytes_per_s"] is None, "loopback has no rate: %r" % c)


def case_two_processes():
    for uri in ("tcp://127.0.0.1:0", "tcp://[::1]:0", "unix:///tmp/ramjet-perf-%d.sock" % os.getpid(),
                "null://127.0.0.1:0"):
        end, at = listen(uri)
        measured(run("--to", at, "--sizes", "64K", "--pattern", "contiguous", "--lanes", "1,2", *SMALL), 2)
        end = end.end()
        check(end.status == 0, end)


def case_report_has_both_ends():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "report.json")
        end = run("--transport", "tcp", "--sizes", "64K", "--report", path, *SMALL)
        cases = measured(end, 2)
        with open(path, encoding="utf-8") as f:
            report = json.load(f)
    check(report["results"] == cases, report)
    check(report["source"] == dict(report["destination"]["host"], settings=report["source"]["settings"],
                                   nodes=report["source"]["nodes"]), "one machine: %r" % report)
    for key in ("kernel", "cpu_model", "nodes", "rdma_devices", "interfaces", "limits", "settings"):
        check(report["source"][key] is not None, report)
    check(report["command_line"][1:3] == ["--transport", "tcp"] and report["error"] is None, report)
    check(report["settings"]["sizes"] == [65536], report)


def case_table_for_people():
    p = subprocess.run([PROGRAM, "--transport", "null", "--memory", "64M", "--sizes", "64K", *QUICK[:-1]],
                       capture_output=True, text=True, timeout=60)
    check(p.returncode == 0 and len(p.stdout.splitlines()) == 3 and p.stderr == "", p)


def case_memory_and_lanes_go_where_they_are_told():
    cpu = min(os.sched_getaffinity(0))
    (c,) = measured(run("--transport", "tcp", "--nodes", "0", "--cpus", str(cpu), "--lanes", "2", "--sizes",
                        "64K", "--pattern", "contiguous", *SMALL), 1)
    check(c["nodes"] == "0" and c["lane_cpus"] == [str(cpu)] * 2, c)
    end = run("--transport", "tcp", "--nodes", "1023", "--sizes", "64K", *SMALL)
    check(end.status == 1 and "1023" in end.cases[0]["error"], end)


def case_cap_is_kept():
    (c,) = measured(run("--transport", "null", "--memory", "16M", "--bandwidth", "64M", "--sizes", "64K",
                        "--pattern", "contiguous", *QUICK), 1)
    check(c["bytes_per_s_max"] < 1.2 * (64 << 20), c)


def case_usage_errors_exit_2_with_one_line():
    for args, word in (
            (["--sizes", "3K"], "--sizes"),
            (["--sizes", "2K"], "--sizes"),
            (["--sizes", "2M"], "--sizes"),
            (["--sizes", "4K,,8K"], "--sizes"),
            (["--sizes", ""], "--sizes"),
            (["--sizes", ",".join(["4K"] * 17)], "--sizes"),
            (["--lanes", "0"], "--lanes"),
            (["--lanes", "1,65"], "--lanes"),
            (["--memory", "1M"], "--memory"),
            (["--memory", "16777217"], "--memory"),
            (["--pattern", "plaid"], "--pattern"),
            (["--nodes", "east"], "--nodes"),
            (["--cpus", "3-1"], "--cpus"),
            (["--repeat", "0"], "--repeat"),
            (["--transport", "pigeon"], "--transport"),
            (["--to", "tcp://127.0.0.1"], "://"),
            (["--listen", "tcp://127.0.0.1:0", "--to", "tcp://127.0.0.1:1"], "--listen"),
            (["--transport", "tcp", "--to", "unix:///tmp/x"], "--transport"),
            (["stray"], "stray")):
        for json_too in (False, True):
            end = run(*args, *(["--json"] if json_too else []))
            check(end.status == 2 and word in end.err and len(end.err.splitlines()) == 1, end)
            check(len(end.cases) == json_too, end)
            check(not json_too or end.cases[0]["error"] and PROMISED <= set(end.cases[0]), end)


def failed(end, word):
    check(end.status == 1 and len(end.cases) == 1 and word in end.cases[0]["error"], end)
    check(len(end.err.splitlines()) == 1, end)


def case_failures_say_what_to_do():
    failed(run("--to", "tcp://127.0.0.1:1", *SMALL), "listening")
    failed(run("--to", "tcp://no.such.host.invalid:7472", *SMALL), "no.such.host")
    end = run("--transport", "null", "--sizes", "4K", "--report", "/no/such/folder/x", *SMALL)
    check(end.status == 1 and len(end.cases) == 3 and "/no/such" in end.cases[2]["error"], end)
    end, at = listen("tcp://127.0.0.1:0")
    failed(run("--to", at, "--memory", "8192T", *QUICK), "--memory")
    check(end.end().status == 1, "the destination gave up as well")
    end, at = listen("tcp://127.0.0.1:0")
    failed(run("--to", at.replace("tcp:", "null:"), *SMALL), "null")
    end.end()


def greeted(at):
    """A connection to a destination, past its greeting."""
    host, port = at[len("tcp://"):].rsplit(":", 1)
    s = socket.create_connection((host, int(port)), 10)
    s.sendall(struct.pack("<8sHHI16s32s", b"RAMJET\r\n", 1, 1, 0, b"", b""))
    return s


def case_a_stranger_ends_nothing_but_its_run():
    for words in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\4\0\0\0nope", b"\2\0\0\0[]", b"\2\0\0\0{}",
                  b'\x0d\0\0\0{"op":"open"}', b'\x0c\0\0\0{"op":"cpu"}',
                  json_message(op="hello", transport="tcp", memory_bytes=-4096),
                  json_message(op="hello", transport="tcp", memory_bytes=4097),
                  json_message(op="hello", transport="tcp", memory_bytes=16 << 20) +
                  json_message(op="open", lanes=65)):
        end, at = listen("tcp://127.0.0.1:0")
        with greeted(at) as s:
            s.sendall(words)
            s.shutdown(socket.SHUT_WR)
            end = end.end()
            check(end.status == 1 and len(end.err.strip().splitlines()) == 2, (words, end))


def json_message(**o):
    text = json.dumps(o).encode()
    return struct.pack("<I", len(text)) + text


main(globals())

# SPDX-License-Identifier: BSD-2-Clause
"""What the command-line tests share: run ramjet-migrate, one or both ends, and read what it prints."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

# What bench/peers measures with, for tests that measure alike.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/side_by_side"))

BUILD = os.environ.get("RJ_BUILD_DIR", os.path.join(os.path.dirname(__file__), "../../build/dev"))
PROGRAM = os.path.join(BUILD, "bench/ramjet-migrate")
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)

KEYS = {
    "status", "error", "transport", "guest", "guest_bytes", "lanes", "rounds", "setup_time_ms",
    "total_time_ms", "downtime_ms", "max_downtime_ms", "predicted_downtime_ms", "downtime_terms",
    "predicted_terms", "verify_ms", "verified", "transferred_bytes", "pages",
    "throughput_bytes_per_s", "dirty_rate_bytes_per_s", "guest_gap_max_ms", "guest_gap_p99_ms",
    "guest_gap_before_max_ms", "guest_gap_before_p99_ms",
    "request_max_us", "collect_max_us", "rearm_max_us", "metadata_bytes", "source_cpu_s",
    "destination_cpu_s", "lanes_plan", "node_bytes", "local_bytes", "remote_bytes",
    "rollbacks", "lanes_replaced", "predicted_p99_ms", "overshoot",
    "throttle_percent", "throttled_ms", "throttle_cost_ms", "filters", "cleared_pages", "free_pages",
    "hints",
}
TERMS = {"pause", "harvest", "send", "fence", "save", "load", "revoke", "handover", "resume"}
FILTERS = {"hole", "free", "zero", "same", "delta", "zstd"}
FIGURES = {"pages", "saved_bytes", "cost_ns", "on_percent"}
PAGES = {"normal", "zero", "hole", "free", "same", "delta", "compressed"}


class Ended:
    """A program that ended: status, the one JSON object, and what it said."""

    def __init__(self, status, out, err, seconds):
        self.status, self.out, self.err, self.seconds = status, out, err, seconds
        lines = [line for line in out.splitlines() if line.strip()]
        self.json = json.loads(lines[0]) if len(lines) == 1 and lines[0][0] == "{" else None
        self.n_lines = len(lines)

    def __repr__(self):
        return "exit %s after %.1f s\nstdout: %s\nstderr: %s" % (
            self.status, self.seconds, self.out, self.err)


class Running:
    """A program that runs; its stderr is watched line by line."""

    def __init__(self, *args, program=None, preexec_fn=None, stdin=None):
        self.began = time.monotonic()
        self.process = subprocess.Popen([program or PROGRAM, *args], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, stdin=stdin, text=True, preexec_fn=preexec_fn)
        self.lines, self.seen = [], threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self.seen:
                self.lines.append(line)
                self.seen.notify_all()
        with self.seen:
            self.lines.append(None)
            self.seen.notify_all()

    def wait_for(self, pattern, timeout=60):
        """The first line of stderr that matches; None when it ended or took too long without."""
        end, at = time.monotonic() + timeout, 0
        while True:
            with self.seen:
                while at == len(self.lines):
                    if not self.seen.wait(max(0, end - time.monotonic())):
                        return None
                line = self.lines[at]
            at += 1
            if line is None:
                return None
            found = re.search(pattern, line)
            if found:
                return found

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, timeout=120):
        watchdog = threading.Timer(timeout, self.process.kill)
        watchdog.start()
        out = self.process.stdout.read()
        status = self.process.wait()
        watchdog.cancel()
        self.reader.join(10)
        return Ended(status, out, "".join(line for line in self.lines if line),
                     time.monotonic() - self.began)


def run(*args, timeout=120):
    return Running(*args).end(timeout)


def listen(*args, uri="tcp://127.0.0.1:0"):
    """A destination, and the URI it listens at."""
    end = Running("--listen", uri, "--json", *args)
    found = end.wait_for(r"listening at (\S+);")
    if not found:
        raise AssertionError("does not listen: %r" % end.end())
    return end, found.group(1)


class Cases:
    """Runs functions named case_…, prints what failed, counts."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, cases, names):
        for name, case in cases:
            if names and name not in names:
                continue
            began = time.monotonic()
            try:
                case()
            except Exception as failure:  # a test that breaks has failed
                self.failed += 1
                print("FAILED %s: %s" % (name, failure), flush=True)
            else:
                self.passed += 1
                print("ok     %s (%.1f s)" % (name, time.monotonic() - began), flush=True)
        print("%d passed, %d failed" % (self.passed, self.failed))
        return 1 if self.failed or not self.passed else 0


def main(namespace):
    cases = [(name[5:], f) for name, f in namespace.items() if name.startswith("case_")]
    sys.exit(Cases().run(cases, sys.argv[1:]))


def check(condition, about):
    if not condition:
        raise AssertionError(about)


def random_args(rng, kvm, largest_mib=256):
    """Options of a migration nobody has thought of."""
    mib = 1 << 20
    size = rng.randrange(16, largest_mib + 1) * mib
    workload = rng.choice([
        "idle",
        "uniform:%dM" % rng.choice([1, 20, 100]),
        "hot:%dM:%dM" % (rng.randrange(1, max(2, size // mib // 4)), rng.choice([10, 100, 400])),
        "sweep:%dM" % rng.choice([5, 50]),
        "same:%dM" % rng.choice([20, 100]),
        "aba:%dM" % rng.choice([20, 100]),
        "sparse:%d:%dM" % (rng.choice([8, 64, 512]), rng.choice([20, 100])),
    ])
    guest = "kvm" if kvm and rng.random() < 0.6 else "synthetic"
    tracker = ["--tracker", rng.choice(["log", "ring"])] if guest == "kvm" else []
    parts = []
    if size >= 32 * mib and rng.random() < 0.5:
        parts = ["--zero", "%.2f" % rng.uniform(0, 30), "--free", "%.2f" % rng.uniform(1, 50),
                 "--hints", rng.choice(["reporting", "balloon", "none"]), "--reuse", rng.choice(["0", "4M", "32M"])]
    return ["--guest", guest, *tracker, "--size", str(size), *parts,
            "--workload", workload, "--lanes", str(rng.choice([1, 2, 3, 4, 7])),
            "--seed", str(rng.randrange(1 << 30)), "--transport", rng.choice(["tcp", "unix"])]

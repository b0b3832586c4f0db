# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-migrate --timeline, and bench/plot that draws it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from migrate import TERMS, Running, check, main, run

PLOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/plot")
SYNTHETIC = ["--guest", "synthetic", "--transport", "tcp", "--progress", "never", "--json"]
# A second of bulk round.
SLOW = [*SYNTHETIC, "--size", "32M", "--bandwidth", "32M"]
SAMPLE = {"t_ms", "state", "round", "sent_bytes", "remaining_bytes", "rate_bytes_per_s",
          "dirty_rate_bytes_per_s", "gap_max_ms", "gap_p99_ms", "eta_ms"}


class Folder(tempfile.TemporaryDirectory):
    def __enter__(self):
        return lambda name: os.path.join(self.name, name)


def read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def wait_until(condition):
    end_by = time.monotonic() + 30
    while not condition():
        check(time.monotonic() < end_by, "it did not begin")
        time.sleep(0.01)


def of(kind, lines):
    return [line for line in lines if line["kind"] == kind]


def plot(*args, path=None):
    env = dict(os.environ, PATH=path) if path is not None else None
    return subprocess.run([sys.executable, PLOT, *args], env=env, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def case_the_file_tells_samples_rounds_and_the_end():
    with Folder() as at:
        end = run("--timeline", at("t"), "--workload", "uniform:4M", *SLOW)
        check(end.status == 0, end)
        lines, j = read(at("t")), end.json
    check(lines[0]["kind"] == "start" and lines[0]["guest_bytes"] == 32 << 20, lines[0])
    check(lines[-1]["kind"] == "end" and len(of("end", lines)) == 1, lines[-1])
    times = [line["t_ms"] for line in lines]
    check(times == sorted(times), times)
    check([r["round"] for r in of("round", lines)] == list(range(1, j["rounds"] + 1)), lines)
    bulk = of("round", lines)[0]
    check(bulk["pages"] == (32 << 20) // 4096 == sum(bulk["kinds"].values()), bulk)
    check(0 < bulk["bytes"] <= 32 << 20, bulk)
    states = [s["state"] for s in of("state", lines)]
    check(states[-4:] == ["stopping", "prepared", "committed", "completed"], states)
    last = lines[-1]
    for key in ("status", "rounds", "downtime_ms", "predicted_downtime_ms", "downtime_terms", "predicted_terms"):
        check(last[key] == j[key], "%s: %r and %r" % (key, last[key], j[key]))
    check(set(last["downtime_terms"]) == TERMS, last)


def case_samples_come_each_100_ms_and_add_up():
    with Folder() as at:
        end = run("--timeline", at("t"), "--workload", "idle", *SLOW)
        check(end.status == 0, end)
        lines = read(at("t"))
    samples = of("sample", lines)
    check(all(SAMPLE <= set(s) for s in samples), samples)
    check(len(samples) >= 8, samples)  # of a second
    sent = [s["sent_bytes"] for s in samples]
    check(sent == sorted(sent) and sent[-1] == end.json["transferred_bytes"], sent)
    check(samples[-1]["remaining_bytes"] == 0 and samples[-1]["state"] == "completed", samples[-1])
    check(samples[-1]["eta_ms"] == 0, samples[-1])
    stopping = [s["t_ms"] for s in of("state", lines) if s["state"] == "stopping"][-1]
    etas = [(s["eta_ms"], stopping - s["t_ms"]) for s in samples if s["state"] == "bulk"]
    check(any(abs(eta - left) < left / 2 for eta, left in etas), etas)
    before = {"t_ms": 0, "sent_bytes": 0}
    for s in samples:
        took = s["t_ms"] - before["t_ms"]
        rate = (s["sent_bytes"] - before["sent_bytes"]) / max(took, .001) * 1000
        # times are told in microseconds
        check(took < 10 or abs(rate - s["rate_bytes_per_s"]) <= rate / 100 + 1, (before, s))
        before = s


def case_a_cancelled_migration_has_an_end_too():
    with Folder() as at:
        source = Running("--timeline", at("t"), "--workload", "idle", "--guest", "synthetic", "--transport", "tcp",
                         "--json", "--progress", "never", "--size", "256M", "--bandwidth", "8M")
        wait_until(lambda: os.path.exists(at("t")) and '"bulk"' in open(at("t")).read())
        source.signal(signal.SIGINT)
        check(source.end().status == 4, "not cancelled")
        check(read(at("t"))[-1]["status"] == "cancelled", "no end")


def case_files_that_cannot_be_are_refused():
    end = run("--timeline", "/nowhere/t", *SLOW)
    check(end.status == 1 and "--timeline: cannot write /nowhere/t" in end.json["error"], end)
    end = run("--timeline", "/tmp/t", "--listen", "tcp://127.0.0.1:0", "--json")
    check(end.status == 2 and "--timeline is the source's" in end.json["error"], end)


def case_a_full_disk_is_told_and_the_guest_arrives():
    end = run("--timeline", "/dev/full", "--workload", "idle", *SLOW)
    check(end.status == 0 and "/dev/full is not whole" in end.err, end)


def made_up(path, cut=False):
    """A timeline with a rollback, of a migration that goes on."""
    lines = [{"kind": "start", "t_ms": 0, "guest_bytes": 1 << 30, "workload": "it's: uniform",
              "bandwidth_bytes_per_s": 0, "max_downtime_ms": 300},
             {"kind": "state", "t_ms": 5, "state": "stopping"}, {"kind": "state", "t_ms": 7, "state": "dirty"}]
    lines += [dict.fromkeys(SAMPLE, 1) | {"kind": "sample", "t_ms": t, "state": "dirty"} for t in (100, 200)]
    with open(path, "w") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + ('{"kind":"sam' if cut else ""))


def case_a_timeline_is_drawn():
    with Folder() as at:
        if not shutil.which("gnuplot"):
            print("no gnuplot here: nothing drawn")
            return
        end = run("--timeline", at("t"), "--workload", "uniform:4M", *SLOW)
        check(end.status == 0, end)
        for name, begins in (("t.svg", b"<?xml"), ("t.png", b"\x89PNG")):
            done = plot(at("t"), "-o", at(name))
            check(done.returncode == 0 and done.stdout.strip() == at(name) and not done.stderr, done)
            with open(at(name), "rb") as file:
                picture = file.read()
            check(picture.startswith(begins), picture[:80])
            if name == "t.svg":
                for word in ("handover", "predicted", "heartbeat", "a round is over", "completed"):
                    check(word.encode() in picture, "not in the picture: " + word)
        for cut in (False, True):
            made_up(at("half"), cut)
            done = plot(at("half"))
            check(done.returncode == 0 and os.path.getsize(at("half.svg")), done)


def case_without_gnuplot_it_says_what_to_install():
    with Folder() as at:
        made_up(at("t"))
        done = plot(at("t"), path=at("."))
        check(done.returncode == 1 and "not installed: apt-get install gnuplot-nox" in done.stderr, done)


def case_what_is_no_timeline_is_refused_in_one_line():
    with Folder() as at:
        for text in ("", "hello\nworld\n", '{"kind":"start"}\n{}\n', "[1]\n[2]\n"):
            with open(at("t"), "w") as file:
                file.write(text)
            done = plot(at("t"))
            check(done.returncode == 1 and done.stderr.count("\n") == 1 and at("t") in done.stderr, done)
        check(plot(at("none")).returncode == 1, "a file that is not there")
        check(plot(at("t"), "-o", at("t.gif")).returncode == 2, "a kind that is not there")


main(globals())

# SPDX-License-Identifier: BSD-2-Clause
"""bench/peers as scripts use it: with peers that are absent, made up, or real and tiny; what it leaves behind."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from migrate import BUILD, check, main

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PEERS = os.path.join(SOURCE, "bench/peers")
PAGE = os.path.join(SOURCE, "docs/man/ramjet-peers.1")
KEYS = {"case", "transport", "peer", "peer_version", "ours", "theirs", "unit", "ratio", "pairs"}
TCP = ["--json", "--size", "32M", "--programs", os.path.join(BUILD, "bench")]

FAKE_IPERF3 = r"""#!/bin/sh
case "$*" in
*--version*) echo "iperf 9.99 (fake)" ;;
*-s*) echo "Server listening on some port"; while :; do sleep 0.1; done ;;
*) %s ;;
esac
"""
ANSWER = """echo '{"end": {"sum_received": {"bits_per_second": 8e9}}}'"""
WAIT = "while :; do sleep 0.1; done"


def peers(*args, path=None):
    """Run it; path: where it looks for peers."""
    env = dict(os.environ)
    if path is not None:
        env["PATH"] = path
    began = time.monotonic()
    done = subprocess.run([sys.executable, PEERS, *args], env=env, text=True, timeout=280,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done.seconds = time.monotonic() - began
    done.json = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done


class Fakes:
    """A folder of made-up programs, in front of everything else there is to find."""

    def __init__(self, **programs):
        self.folder = tempfile.mkdtemp(prefix="ramjet-fakes.")
        for name, text in programs.items():
            path = os.path.join(self.folder, name)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def path(self):
        return self.folder + ":" + os.environ["PATH"]

    def alive(self):
        """Processes with this folder in their environment: all that were started with path()."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path) as environ:
                    if self.folder in environ.read():
                        found.append(path)
            except OSError:
                pass
        return found


def await_true(condition, about, timeout=30):
    end = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < end, about)
        time.sleep(0.02)


def case_list_names_every_case():
    done = peers("--list")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    check(names == ["rdma-64k", "rdma-64k-one-lane", "rdma-4k-scattered", "rdma-lazy", "rdma-qemu", "rdma-qemu-pin-all",
                    "rdma-receiver-cpu", "tcp-present", "tcp-fresh-qemu", "file-save", "file-restore",
                    "file-restore-fresh"], done)
    with open(PAGE) as page:
        in_page = re.findall(r"^\.It Li (\S+)$", page.read(), re.M)
    check(in_page == names, "the manual page has other cases: %s" % in_page)


def case_manual_page_has_every_option_and_key():
    options = set(re.findall(r"^  --([a-z-]+)", peers("--help").stdout, re.M))
    with open(PAGE) as page:
        text = page.read()
    check(len(options) > 10, options)
    in_page = set(re.findall(r"^\.It Fl \\-([a-z-]+)", text, re.M))
    check(options == in_page, "only in one: %s" % (options ^ in_page))
    check(all(re.search(r"\b%s\b" % key, text) for key in KEYS), "keys missing")


def case_usage_errors_exit_2():
    for args in (["rdma-128k"], ["--pairs", "0"], ["--pairs", "x"], ["--size", "1"],
                 ["--size", "16M1"], ["--memory", "flash"], ["--channels", "1,,2"], ["--pair", "3"]):
        done = peers(*args)
        check(done.returncode == 2 and not done.stdout, (args, done))


def case_a_peer_that_is_absent_is_named_and_nothing_is_printed():
    with Fakes() as empty:
        for case, package in (("tcp-present", "iperf3"), ("file-save", "fio"), ("tcp-fresh-qemu", "qemu-system-x86")):
            done = peers(*TCP, case, path=empty.folder)
            check(done.returncode == 3 and not done.stdout, done)
            check("%s skipped: " % case in done.stderr and "apt-get install " + package in done.stderr,
                  done)


FAKE_FIO = r"""#!/bin/sh
for arg; do
    case $arg in
    --version) echo fio-9.99; exit ;;
    --filename=*) : >"${arg#*=}" ;;
    --size=*) size=${arg#*=} ;;
    --fixedbufs=*) rate=$((1000000000 * (1 + ${arg#*=}))) ;;
    esac
done
echo '{"jobs": [{"error": 0,'
echo " \"write\": {\"io_bytes\": $size, \"bw_bytes\": $rate}, \"read\": {\"io_bytes\": $size, \"bw_bytes\": $rate}}]}"
"""


def case_files_against_a_made_up_fio():
    with Fakes(fio=FAKE_FIO) as fakes, tempfile.TemporaryDirectory() as folder:
        done = peers(*TCP, "--pairs", "1", "--directory", folder, "file-save", "file-restore", "file-restore-fresh",
                     path=fakes.path())
        check(done.returncode == 0 and len(done.json) == 3, done)
        for result in done.json:
            check(KEYS <= set(result) and result["transport"] == "file" and result["ours"] > 1e6, result)
            check(0 < result["metadata_bytes"] <= result["peak_memory_bytes"] + 65536, result)
        for result in done.json[:2]:
            check(result["theirs"] == 2e9 and result["theirs_setting"] == "registered", result)
        check(0 < done.json[2]["theirs"] <= 2e9, done.json[2])  # no faster than pages are given
        check(not os.listdir(folder), "left behind: %s" % os.listdir(folder))
        done = peers(*TCP, "--directory", folder + "/none", "file-save", path=fakes.path())
        check(done.returncode == 3 and "--directory" in done.stderr, done)


def case_our_own_programs_absent():
    with Fakes(iperf3=FAKE_IPERF3 % ANSWER) as fakes:
        done = peers("--size", "32M", "--programs", fakes.folder, "tcp-present", path=fakes.path())
        check(done.returncode == 3 and "no ramjet-migrate in" in done.stderr, done)


def case_no_rdma_device_says_how_to_get_one():
    if glob.glob("/sys/class/infiniband/*"):
        return
    done = peers("--json", "rdma-64k")
    check(done.returncode == 3 and not done.stdout and "tests/vm/run" in done.stderr, done)


def case_figures_of_a_made_up_peer():
    with Fakes(iperf3=FAKE_IPERF3 % ANSWER) as fakes:
        done = peers(*TCP, "--pairs", "2", "--streams", "1,2", "tcp-present", path=fakes.path())
        check(done.returncode == 0 and len(done.json) == 1, done)
        result = done.json[0]
        check(KEYS <= set(result), KEYS - set(result))
        check(result["case"] == "tcp-present" and result["transport"] == "tcp", result)
        check(result["peer"] == "iperf3" and result["peer_version"] == "9.99", result)
        check(result["theirs"] == 2e9 and result["theirs_setting"] == "2 processes", result)
        check(result["unit"] == "bytes/s" and result["pairs"] == 2, result)
        # Of two, the median is the mean; theirs is always the same.
        check(abs(result["ratio"] - result["ours"] / 2e9) < 1e-9 and result["ours"] > 1e6, result)
        check(done.stderr.count("ours ") == 6, "a pair to warm up and two that count, two settings each")
        check(not fakes.alive(), fakes.alive())


def case_a_table_for_people():
    with Fakes(iperf3=FAKE_IPERF3 % ANSWER) as fakes:
        done = peers(*TCP[1:], "--pairs", "1", "--streams", "1", "tcp-present", path=fakes.path())
        check(done.returncode == 0, done)
        lines = done.stdout.splitlines()
        check(lines[0].split()[:4] == ["case", "ours", "theirs", "ratio"], done)
        check(lines[1].startswith("tcp-present ") and "1.00 GB/s (1 process)" in lines[1], done)


def case_a_peer_that_fails_fails_the_case():
    for broken in ("echo '{\"error\": \"made up\"}'; exit 1", "exit 7", "echo nonsense"):
        with Fakes(iperf3=FAKE_IPERF3 % broken) as fakes:
            done = peers(*TCP, "--pairs", "1", "--streams", "1", "tcp-present", path=fakes.path())
            check(done.returncode == 1 and not done.stdout, done)
            check("tcp-present failed: " in done.stderr and "Traceback" not in done.stderr, done)
            check(not fakes.alive(), fakes.alive())


def case_real_qemu_tiny():
    if not shutil.which("qemu-system-x86_64"):
        return
    done = peers(*TCP, "--pairs", "1", "--channels", "2", "--memory", "shared", "tcp-fresh-qemu")
    check(done.returncode == 0 and len(done.json) == 1, done)
    result = done.json[0]
    check(result["peer"] == "QEMU multifd" and result["unit"] == "s", result)
    check(result["ours"] > 0 and result["theirs"] > 0, result)
    check(abs(result["ratio"] - result["ours"] / result["theirs"]) < 1e-9, result)


def case_nothing_outlives_it():
    """At the first program it starts, which touches memory, and while both ends of a peer run."""
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        for n_processes, size in ((2, "512M"), (3, "32M")):
            with Fakes(iperf3=FAKE_IPERF3 % WAIT) as fakes:
                process = subprocess.Popen(
                    [sys.executable, PEERS, *TCP, "--size", size, "--streams", "1", "tcp-present"],
                    env=dict(os.environ, PATH=fakes.path()), stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
                await_true(lambda: len(fakes.alive()) >= n_processes, "nothing was started")
                process.send_signal(number)
                check(process.wait(30) == status, "%s: status %s" % (number, process.returncode))
                # Whom SIGKILL left no time to end in order: the destination sees that its source is gone.
                await_true(lambda: not fakes.alive(), "left behind after %s: %s" % (number, fakes.alive()),
                           20 if number == signal.SIGKILL else 1)


def case_pairs_alternate_and_medians_are_taken_pair_by_pair():
    sys.dont_write_bytecode = True
    import pairs
    pairs.say = lambda text: None
    order = []

    def side(name, **figures):
        def take(setting, left):
            order.append(name + setting)
            return left.pop(0)

        return pairs.Side({setting: lambda setting=setting, left=list(values): take(setting, left)
                           for setting, values in figures.items()})

    ours = side("o", a=[99, 10, 20, 90], b=[99, 1, 1, 1])
    theirs = side("t", c=[1, 10, 40, 30])
    pairs.measure_pairs(ours, theirs, 3, 1, "s")
    check(order == "oa ob tc tc oa ob oa ob tc tc oa ob".split(), order)
    result = pairs.compare(ours, theirs, more_is_better=True)
    check(result == {"ours": 20, "theirs": 30, "ratio": 1.0, "ratio_min": 0.5, "ratio_max": 3.0,
                     "pairs": 3, "ours_setting": "a", "theirs_setting": "c"}, result)
    check(pairs.compare(ours, theirs, more_is_better=False)["ours_setting"] == "b", "less is better")


def case_installed_it_finds_its_parts_and_our_programs():
    with tempfile.TemporaryDirectory() as prefix:
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True,
                       stdout=subprocess.DEVNULL)
        with Fakes(iperf3=FAKE_IPERF3 % ANSWER) as fakes:
            env = {key: value for key, value in os.environ.items() if key != "RJ_BUILD_DIR"}
            done = subprocess.run(
                [os.path.join(prefix, "bin/ramjet-peers"), "--json", "--size", "32M", "--pairs", "1",
                 "--streams", "1", "tcp-present"], env=dict(env, PATH=fakes.path()), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
            check(done.returncode == 0 and json.loads(done.stdout)["theirs"] == 1e9, done)


if __name__ == "__main__":
    main(globals())

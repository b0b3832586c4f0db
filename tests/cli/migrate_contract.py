# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-migrate as scripts use it: keys, exit status, and one-line errors for bad input."""

import os
import signal
import socket
import subprocess
import time

from migrate import (FIGURES, FILTERS, HAS_KVM, KEYS, PAGES, PROGRAM, TERMS, Ended, Running, check, listen, main, run)
from threads import ran_outside, run_watched

SMALL = ["--size", "32M", "--progress", "never", "--json"]


def completed(end, **expected):
    check(end.status == 0 and end.json, end)
    check(end.json["status"] == "completed" and end.json["error"] is None, end)
    for key, value in expected.items():
        check(end.json[key] == value, "%s is not %r: %r" % (key, value, end))


def check_keys(j):
    check(KEYS <= set(j), "keys missing: %s" % (KEYS - set(j)))
    check(set(j["downtime_terms"]) == TERMS and set(j["predicted_terms"]) == TERMS, j)
    check(set(j["pages"]) == PAGES, j)
    check(set(j["filters"]) == FILTERS and all(set(f) == FIGURES for f in j["filters"].values()), j)


def case_json_has_every_key_and_the_terms_add_up():
    end = run("--guest", "synthetic", "--transport", "tcp", "--verify", "--filters", "none", *SMALL)
    completed(end, verified=True, transport="tcp", guest="synthetic", guest_bytes=32 << 20)
    check_keys(end.json)
    check(abs(sum(end.json["downtime_terms"].values()) - end.json["downtime_ms"]) < 1, end)
    check(end.json["transferred_bytes"] >= 32 << 20, end)
    check(end.json["source_cpu_s"] > 0 and end.json["destination_cpu_s"] > 0, end)
    check(end.json["counter_after"] > end.json["counter_before"], end)


def case_no_thread_leaves_the_cpus_given():
    last = max(os.sched_getaffinity(0))
    end, seen = run_watched("--guest", "synthetic", "--transport", "tcp", "--lanes", "2", "--cpus", str(last),
                            "--workload", "idle", "--bandwidth", "64M", *SMALL)
    completed(end)
    check({"rj-control", "rj-lane-1", "rj-recv-1"} <= set(seen), seen)
    check(not ran_outside(seen, {last}), seen)
    check([lane["cpus"] for lane in end.json["lanes_plan"]] == [str(last)] * 2, end)
    check(end.json["local_bytes"] + end.json["remote_bytes"] in (0, sum(
        part["bytes"] for part in end.json["node_bytes"])), end)


def case_cpus_that_cannot_be_are_refused():
    for cpus, text in (("4000", "this process may not run on 4000"), ("0-", "no list of CPUs"),
                       ("all", "no list of CPUs")):
        end = run("--guest", "synthetic", "--transport", "tcp", "--cpus", cpus, *SMALL)
        check(end.status == 1 and text in end.json["error"], end)
    end = run("--guest", "synthetic", "--memory-nodes", "0;1", *SMALL)
    check(end.status == 2 and "memory nodes" in end.json["error"], end)


def case_kvm_guest_arrives_and_its_counters_go_on():
    if not HAS_KVM:
        return
    end = run("--guest", "kvm", "--transport", "tcp", "--lanes", "3", "--verify",
              "--workload", "uniform:20M", *SMALL)
    completed(end, verified=True, guest="kvm", lanes=3)
    check(end.json["counter_after"] > end.json["counter_before"], end)


def case_kvm_guest_tracked_by_the_dirty_ring_arrives():
    if not HAS_KVM:
        return
    end = run("--guest", "kvm", "--transport", "tcp", "--lanes", "3", "--verify", "--tracker", "ring",
              "--workload", "uniform:200M", *SMALL)
    completed(end, verified=True, guest="kvm")
    check(end.json["counter_after"] > end.json["counter_before"], end)


def case_each_kind_of_memory_and_filling_arrives():
    for backing in ("memfd", "anon", "thp"):
        for more in ([], ["--prefault", "--fill", "random"], ["--fill", "text"]):
            completed(run("--guest", "synthetic", "--transport", "tcp", "--backing", backing, "--verify",
                          "--workload", "uniform:20M", *more, *SMALL), verified=True)
    end = run("--guest", "marked", "--transport", "null", "--prefault", *SMALL)
    check(end.status == 2 and "--prefault needs real memory" in end.json["error"], end)


def case_prefaulted_memory_is_there_long_before_its_content():
    end, uri = listen("--prefault")
    source = Running("--to", uri, "--guest", "synthetic", "--workload", "idle", "--bandwidth", "1M",
                     *SMALL)
    end_by = time.monotonic() + 25  # the content takes 32 s
    while resident(end.process.pid) < 32 << 10:
        check(time.monotonic() < end_by, "the destination's memory does not appear")
        time.sleep(0.01)
    source.signal(signal.SIGINT)
    check(source.end().status == 4, "not cancelled")
    end.end()


def resident(pid):
    with open("/proc/%d/status" % pid) as status:
        return int(next(line for line in status if line.startswith("RssShmem")).split()[1])


def case_paused_guest_arrives_paused():
    for guest in ("kvm", "synthetic") if HAS_KVM else ("synthetic",):
        end = run("--guest", guest, "--transport", "tcp", "--verify", "--paused", "--workload",
                  "uniform:200M", *SMALL)
        completed(end, verified=True, guest=guest)
        check(end.json["counter_before"] == end.json["counter_after"] == 0, end)
        check(end.json["dirty_rate_bytes_per_s"] == 0, end)
        check(end.json["guest_gap_max_ms"] == 0, end)


def case_vmm_device_writes_are_missed_when_not_announced():
    if not HAS_KVM:
        return
    end = run("--guest", "kvm", "--transport", "tcp", "--verify", "--break", "device-tracking",
              "--workload", "idle", *SMALL)
    check(end.json and end.json["verified"] is False and end.status == 1, end)


def case_every_transport_by_one_command():
    for transport in ("tcp", "unix"):
        completed(run("--guest", "synthetic", "--transport", transport, "--verify", *SMALL),
                  transport=transport, verified=True)
    completed(run("--guest", "marked", "--transport", "null", "--size", "64G", "--json",
                  "--progress", "never"), transport="null", verified=None)


def case_two_machines_print_one_object_each():
    destination, uri = listen("--verify")
    source = run("--to", uri, "--guest", "synthetic", "--verify", *SMALL)
    destination = destination.end()
    completed(source, role="source", verified=True)
    completed(destination, role="destination", verified=True)
    check_keys(destination.json)


def case_ipv6_and_unix_two_machines():
    for uri in ("tcp://[::1]:0", "unix:///tmp/ramjet-test-%d.sock" % os.getpid()):
        destination, at = listen(uri=uri)
        completed(run("--to", at, "--guest", "synthetic", *SMALL))
        completed(destination.end())


def case_usage_errors_exit_2_with_one_line():
    for args, word in (
            (["--to", "foo://127.0.0.1:1"], "://"),
            (["--to", "tcp://127.0.0.1"], "://"),
            (["--to", "tcp://127.0.0.1:99999"], "://"),
            (["--to", "unix://relative"], "://"),
            (["--to", ""], "://"),
            (["--size", "3"], "--size"),
            (["--size", "1X"], "--size"),
            (["--size", "99999999999T"], "--size"),
            (["--lanes", "0"], "--lanes"),
            (["--lanes", "65"], "--lanes"),
            (["--max-downtime", "0"], "--max-downtime"),
            (["--workload", "uniform"], "workload"),
            (["--workload", "hot:1:1"], "hot"),
            (["--workload", "sparse:3:1M"], "sparse"),
            (["--transport", "pigeon"], "--transport"),
            (["--filters", "hole,holes"], "--filters"),
            (["--filters", ""], "--filters"),
            (["--zero", "101"], "--zero"),
            (["--free", "-1"], "--free"),
            (["--free", "nan"], "--free"),
            (["--hints", "balloon"], "--hints"),
            (["--reuse", "1M", "--zero", "5"], "--reuse"),
            (["--zero", "60", "--free", "60"], "zero"),
            (["--used", "2G"], "uses"),
            (["--guest", "marked", "--zero", "5"], "memory that is there"),
            (["--transport", "null", "--verify"], "--verify"),
            (["--guest", "synthetic", "--tracker", "ring"], "--tracker"),
            (["--listen", "tcp://127.0.0.1:0", "--to", "tcp://127.0.0.1:1"], "--listen"),
            (["--transport", "tcp", "--to", "unix:///tmp/x"], "--transport"),
            (["--bogus"], "--bogus"),
            (["stray"], "stray")):
        for json_too in (False, True):
            end = run(*args, *(["--json"] if json_too else []))
            check(end.status == 2, "%s: %r" % (args, end))
            check(word in end.err and len(end.err.strip().splitlines()) == 1, "%s: %r" % (args, end))
            check(bool(end.json) == json_too and end.n_lines == json_too, "%s: %r" % (args, end))
            check(not json_too or end.json["status"] == "failed" and end.json["error"], end)


def failed(end, word):
    check(end.status == 1 and end.json and end.json["status"] == "failed", end)
    check(word in end.json["error"] and "\n" not in end.json["error"], end)


def case_nobody_listens():
    failed(run("--to", "tcp://127.0.0.1:1", "--guest", "synthetic", *SMALL), "listening")


def case_no_such_host():
    failed(run("--to", "tcp://no.such.host.invalid:7471", "--guest", "synthetic", *SMALL), "no.such.host")


def case_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed(run("--listen", "tcp://127.0.0.1:%d" % taken.getsockname()[1], "--json"), "another port")


def case_not_our_address():
    failed(run("--listen", "tcp://192.0.2.1:7471", "--json"), "address")


def case_rdma_without_a_device_says_so():
    if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
        return
    failed(run("--transport", "rdma", "--guest", "synthetic", *SMALL), "RDMA")
    failed(run("--to", "rdma://127.0.0.1:7471", "--guest", "synthetic", *SMALL), "RDMA")


def case_no_permission_for_kvm():
    if os.geteuid() != 0 or not os.path.exists("/dev/kvm"):
        return
    process = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", PROGRAM, "--guest", "kvm",
         "--transport", "tcp", *SMALL], capture_output=True, text=True, timeout=60)
    end = Ended(process.returncode, process.stdout, process.stderr, 0)
    failed(end, "/dev/kvm")


def case_guest_larger_than_memory():
    end = run("--guest", "synthetic", "--transport", "tcp", "--size", "900T", "--json", "--progress", "never")
    check(end.status == 1 and end.json["error"], end)


def case_garbage_on_the_port_harms_nobody():
    destination, uri = listen()
    port = int(uri.rsplit(":", 1)[1])
    silent = socket.create_connection(("127.0.0.1", port))
    for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, os.urandom(4096), b"RAMJET\r\n",
                 b"RAMJET\r\n\x01\x00\x02\x00" + b"\0" * 52,      # a lane of no session
                 b"RAMJET\r\n\x01\x00\x03\x00" + b"\0" * 52):     # asks for an outcome
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(junk)
    completed(run("--to", uri, "--guest", "synthetic", *SMALL))
    completed(destination.end())
    silent.close()


def case_another_major_is_refused_and_the_wait_goes_on():
    destination, uri = listen()
    port = int(uri.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(b"RAMJET\r\n\x63\x00\x01\x00" + b"\0" * 52)
        other.settimeout(10)
        reply = b""
        while True:
            part = other.recv(4096)
            if not part:
                break
            reply += part
        check(b"protocol version" in reply, reply)
    completed(run("--to", uri, "--guest", "synthetic", *SMALL))
    completed(destination.end())


def case_a_control_connection_that_stops_after_hello_fails_in_time():
    destination, uri = listen()
    port = int(uri.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(b"RAMJET\r\n\x01\x00\x01\x00" + b"\0" * 52 + os.urandom(64))
        end = destination.end()
        check(end.status == 1 and end.json["error"] and end.seconds < 20, end)


def case_timeout_cancels():
    began = time.monotonic()
    end = run("--guest", "synthetic", "--transport", "tcp", "--size", "64M", "--bandwidth", "4M",
              "--workload", "uniform:100M", "--timeout", "2", "--json", "--progress", "never")
    check(end.status == 4 and end.json["status"] == "cancelled", end)
    check(2 <= time.monotonic() - began < 8, end)


def case_help_and_version():
    for option in ("--help", "--version"):
        end = run(option)
        check(end.status == 0 and "ramjet-migrate" in end.out, end)


def case_faster_than_the_link_is_cancelled_or_stopped_anyway():
    capped = ["--transport", "tcp", "--guest", "synthetic", "--size", "32M", "--workload", "uniform:60M",
              "--bandwidth", "30M", "--max-downtime", "30", "--timeout", "4", "--filters", "none",
              "--progress", "never", "--json"]
    ended = run(*capped)
    check(ended.status == 4 and ended.json["runs_at"] == "source", ended)
    check(ended.json["rounds"] > 1, "it did not iterate: %r" % ended)
    ended = run(*capped, "--on-timeout", "stop-anyway", "--verify")
    check(ended.status == 0 and ended.json["verified"], ended)
    check(ended.json["overshoot"] == (ended.json["downtime_ms"] > 30), ended)


def case_cancelled_before_the_ends_met_it_does_not_linger():
    source = Running("--guest", "synthetic", "--transport", "tcp", "--size", "32M", "--bandwidth", "1M", "--json")
    check(source.wait_for("lanes 0|lane "), "it did not begin")
    source.signal(signal.SIGINT)
    ended = source.end()
    check(ended.status == 4 and ended.seconds < 30, ended)


def case_faster_than_the_link_arrives_throttled():
    capped = ["--guest", "kvm" if HAS_KVM else "synthetic", "--transport", "tcp", "--size", "16M", "--workload",
              "uniform:60M", "--bandwidth", "30M", "--max-downtime", "150", "--filters", "none", "--progress", "never",
              "--json"]
    ended = run(*capped, "--throttle", "on", "--timeout", "100", "--verify")
    completed(ended, verified=True)
    check(20 <= ended.json["throttle_percent"] <= 99, ended)
    check(0 < ended.json["throttle_cost_ms"] < ended.json["throttled_ms"] < ended.json["total_time_ms"], ended)
    ended = run(*capped, "--throttle", "25", "--timeout", "5")
    check(ended.status == 4 and ended.json["runs_at"] == "source", ended)
    check(ended.json["throttle_percent"] == 25, ended)
    ended = run("--guest", "synthetic", "--transport", "tcp", *SMALL)
    completed(ended, throttle_percent=0, throttled_ms=0, throttle_cost_ms=0)
    for text in ("0", "100", "much", ""):
        ended = run("--throttle", text, *SMALL)
        check(ended.status == 2 and "--throttle" in ended.json["error"], ended)


if __name__ == "__main__":
    main(globals())

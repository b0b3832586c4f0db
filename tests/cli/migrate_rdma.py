# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-migrate over verbs, inside the test machine: a real device, if only in software."""

import os
import random
import resource
import signal
import time

from migrate import HAS_KVM, Running, check, listen, main, random_args, run

ADDR = os.environ["RAMJET_RDMA_ADDR"]
ADDR6 = os.environ["RAMJET_RDMA_ADDR6"]
# An emulated machine is some fifty times slower: the limit that matters natively is not this test's.
PATIENT = ["--max-downtime", "5000", "--json", "--progress", "never"]


def completed(end, **expected):
    check(end.status == 0 and end.json and end.json["status"] == "completed", end)
    for key, value in expected.items():
        check(end.json[key] == value, "%s is not %r: %r" % (key, value, end))
    return end


def case_kvm_guest_over_rdma_several_lanes():
    check(HAS_KVM, "no /dev/kvm in the test machine")
    end = completed(run("--transport", "rdma", "--guest", "kvm", "--size", "48M", "--workload", "uniform:4M",
                        "--lanes", "4", "--verify", *PATIENT), transport="rdma", verified=True, lanes=4)
    check(end.json["counter_after"] > end.json["counter_before"], end)


def case_auto_takes_rdma_here():
    end = completed(run("--guest", "synthetic", "--size", "32M", "--verify", *PATIENT), verified=True)
    check(end.json["transport"] == "rdma", end)


def case_two_ends_over_ipv4_and_ipv6():
    for host in (ADDR, "[%s]" % ADDR6):
        destination, uri = listen("--verify", uri="rdma://%s:0" % host)
        completed(run("--to", uri, "--guest", "synthetic", "--size", "32M", "--workload", "uniform:4M",
                      "--lanes", "2", "--verify", *PATIENT), verified=True)
        completed(destination.end())


def case_listening_at_any_address():
    destination, uri = listen(uri="rdma://:7471")
    completed(run("--to", "rdma://%s:7471" % ADDR, "--guest", "synthetic", "--size", "16M", *PATIENT))
    completed(destination.end())


def case_rdma_asked_for_never_becomes_tcp():
    destination, uri = listen(uri="tcp://%s:0" % ADDR)
    end = run("--to", uri.replace("tcp://", "rdma://"), "--guest", "synthetic", "--size", "16M", *PATIENT)
    check(end.status == 1 and "tcp" in end.json["error"] and "rdma" in end.json["error"], end)
    check(destination.end().status == 1, "the destination as well")


def case_an_address_no_device_has():
    end = run("--to", "rdma://127.0.0.1:7471", "--guest", "synthetic", "--size", "16M", *PATIENT)
    check(end.status == 1 and "127.0.0.1" in end.json["error"], end)


def case_memlock_too_low():
    def starve():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))

    process = Running("--reuid", "65534", "--regid", "65534", "--clear-groups",
                      os.path.join(os.environ["RJ_BUILD_DIR"], "bench/ramjet-migrate"), "--transport", "rdma",
                      "--guest", "synthetic", "--size", "32M", *PATIENT, program="/usr/bin/setpriv",
                      preexec_fn=starve)
    end = process.end()
    check(end.status == 1 and end.json, end)
    check("memory" in end.json["error"] and ("limit" in end.json["error"] or "memlock" in end.json["error"]), end)


def vm_pin(pid):
    """What the kernel counts as pinned by a process, in bytes; 0 when it is gone."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return next((int(line.split()[1]) * 1024 for line in f if line.startswith("VmPin:")), 0)
    except OSError:
        return 0


def ends_with_pins(*ends):
    """Wait for all of them; the most each had pinned, sampled from the kernel while they ran."""
    most = [0] * len(ends)
    while any(e.process.poll() is None for e in ends):
        most = [max(m, vm_pin(e.process.pid)) for m, e in zip(most, ends)]
        time.sleep(0.002)
    return [e.end() for e in ends], most


def lazy(cap_mib):
    return ["--register", "lazy", "--pin-cap", "%dM" % cap_mib]


def case_lazy_registration_under_a_cap():
    """Guests of several times the cap, which dirty their memory; neither side pins more, by the kernel's count."""
    for cap, size in ((32, 256), (5, 48)) if os.environ.get("RJ_TEST_LONG") else ((12, 96), (5, 32)):
        destination, uri = listen("--verify", *lazy(cap), uri="rdma://%s:0" % ADDR)
        source = Running("--to", uri, "--guest", "synthetic", "--size", "%dM" % size, "--workload", "uniform:6M",
                         "--lanes", "2", "--verify", *lazy(cap), *PATIENT)
        (there, here), pins = ends_with_pins(destination, source)
        for end, pin in ((completed(there), pins[0]), (completed(here, verified=True, lanes=2), pins[1])):
            check(0 < pin <= cap << 20, "%d bytes pinned: %r" % (pin, end))
            check(0 < end.json["pinned_peak_bytes"] <= cap << 20, end)
            check(end.json["evictions"] > 0 and end.json["register_ms"] > 0, end)


def case_each_side_registers_as_it_likes():
    for there, here in ((lazy(12), []), ([], lazy(12)), (["--register", "lazy"], [])):
        destination, uri = listen("--verify", *there, uri="rdma://%s:0" % ADDR)
        end = completed(run("--to", uri, "--guest", "synthetic", "--size", "48M", "--workload", "hot:4M:4M", "--lanes",
                            "2", "--verify", *here, *PATIENT), verified=True)
        check(bool(here) == (end.json["pinned_peak_bytes"] <= 12 << 20), end)
        end = completed(destination.end())
        check((there == lazy(12)) == (end.json["pinned_peak_bytes"] <= 12 << 20), end)


def case_caps_that_are_too_small():
    # At the source it is told before anything begins, with the least that would do.
    end = run("--transport", "rdma", "--guest", "synthetic", "--size", "32M", "--lanes", "4", *lazy(4), *PATIENT)
    check(end.status == 1 and "8404992" in end.json["error"] and "lanes" in end.json["error"], end)
    end = run("--transport", "rdma", "--guest", "synthetic", "--size", "32M", "--pin-cap", "16M", *PATIENT)
    check(end.status == 1 and "--register lazy" in end.json["error"], end)
    # At the destination there are fewer lanes.
    destination, uri = listen(*lazy(5), uri="rdma://%s:0" % ADDR)
    completed(run("--to", uri, "--guest", "synthetic", "--size", "16M", "--lanes", "4", *PATIENT), lanes=2)
    completed(destination.end())


def case_lazy_under_a_memlock_limit():
    """Without a cap the limit is one."""
    def starve():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (12 << 20, 12 << 20))

    process = Running("--reuid", "65534", "--regid", "65534", "--clear-groups",
                      os.path.join(os.environ["RJ_BUILD_DIR"], "bench/ramjet-migrate"), "--transport", "rdma",
                      "--guest", "synthetic", "--size", "48M", "--lanes", "2", "--verify", "--register", "lazy",
                      *PATIENT, program="/usr/bin/setpriv", preexec_fn=starve)
    end = completed(process.end(), verified=True)
    check(end.json["pinned_peak_bytes"] <= 12 << 20 and end.json["destination_pinned_peak_bytes"] <= 12 << 20, end)


def case_killed_and_cancelled_while_lazy():
    for who, number in (("destination", signal.SIGKILL), ("source", signal.SIGKILL), ("source", signal.SIGTERM)):
        destination, uri = listen(*lazy(8), uri="rdma://%s:0" % ADDR)
        source = Running("--to", uri, "--guest", "synthetic", "--size", "64M", "--bandwidth", "8M", "--workload",
                         "uniform:1M", "--json", "--verbose", "--lanes", "2", *lazy(8))
        check(source.wait_for("source: bulk", 60), "no bulk round")
        time.sleep(0.5)
        since = time.monotonic()
        (destination if who == "destination" else source).signal(number)
        if number != signal.SIGKILL or who == "destination":
            end = source.end()
            check(end.status in (1, 4) and end.json["runs_at"] == "source" and end.json["counter_after"] > 0, end)
        else:
            source.end()
        if who == "source":
            end = destination.end()
            check(end.status == 1 and end.json["runs_at"] == "source", end)
        else:
            destination.end()
        check(time.monotonic() - since < 10, "%.1f s to end" % (time.monotonic() - since))


def case_destination_killed_over_rdma():
    destination, uri = listen(uri="rdma://%s:0" % ADDR)
    source = Running("--to", uri, "--guest", "synthetic", "--size", "64M", "--bandwidth", "8M", "--workload",
                     "uniform:1M", "--json", "--verbose")
    check(source.wait_for("source: bulk", 60), "no bulk round")
    time.sleep(0.5)
    since = time.monotonic()
    destination.signal(signal.SIGKILL)
    end = source.end()
    check(end.status == 1 and end.json["runs_at"] == "source" and end.json["counter_after"] > 0, end)
    check(time.monotonic() - since < 8, "%.1f s to notice" % (time.monotonic() - since))


def case_source_killed_over_rdma():
    destination, uri = listen(uri="rdma://%s:0" % ADDR)
    source = Running("--to", uri, "--guest", "synthetic", "--size", "64M", "--bandwidth", "8M", "--workload",
                     "uniform:1M", "--json", "--verbose")
    check(source.wait_for("source: bulk", 60), "no bulk round")
    since = time.monotonic()
    source.signal(signal.SIGKILL)
    end = destination.end()
    check(end.status == 1 and end.json["runs_at"] == "source" and end.json["counter_after"] == 0, end)
    check(time.monotonic() - since < 10, "%.1f s to notice" % (time.monotonic() - since))


def case_random_migrations_over_rdma():
    rng = random.Random(int(os.environ.get("RAMJET_SEED", "1")))
    for i in range(20 if os.environ.get("RJ_TEST_LONG") else 3):
        args = random_args(rng, HAS_KVM, largest_mib=48)
        args[args.index("--transport") + 1] = "rdma"
        args[args.index("--workload") + 1] = rng.choice(["idle", "uniform:2M", "hot:4M:8M", "sweep:1M"])
        completed(run(*args, "--verify", *PATIENT, timeout=300), verified=True)


def case_contents_that_come_back_over_rdma():
    """The content that a hash stands for must be the one that was sent: what the device reads is the copy."""
    same, rng = 0, random.Random(6)
    for i in range(100 if os.environ.get("RJ_TEST_LONG") else 4):
        guest = "kvm" if HAS_KVM and i % 2 else "synthetic"
        end = completed(run("--transport", "rdma", "--guest", guest, "--size", "32M", "--workload", "aba:64M", "--lanes",
                            str(rng.choice([1, 2, 3])), "--filters", rng.choice(["same", "same,delta"]), "--seed",
                            str(rng.randrange(1 << 30)), "--verify", *PATIENT, timeout=300),
                        transport="rdma", verified=True)
        same += end.json["pages"]["same"]
    check(same > 0, "no page came back unchanged, so nothing was shown")


if __name__ == "__main__":
    main(globals())

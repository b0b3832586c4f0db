# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-probe as scripts use it: keys, exit statuses, and what it says on a machine whatever that machine has."""

import json
import os

from migrate import BUILD, Running, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-probe")
KEYS = {"would_go", "error", "route", "machine", "devices", "problems"}
PROBLEM_KEYS = {"severity", "problem", "why", "fix"}
ROUTE_KEYS = {"uri", "transport", "why", "device", "port", "gid_index", "address", "netdev", "netdev_mtu_bytes", "lanes",
              "lane_places",              "rate_bytes_per_s"}
HAS_DEVICE = os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband")


def probe(*args):
    return Running(*args, program=PROGRAM).end(30)


def whole(end, status):
    """The object of a probe that could look, with everything a script may count on."""
    check(end.status == status and end.json and set(end.json) == KEYS, end)
    check(end.json["would_go"] == (status == 0) and end.json["error"] is None, end)
    check(end.json["machine"]["cpus"] >= 1 and end.json["machine"]["memory_bytes"] > 1 << 20, end)
    order = ["stops", "slows", "note"]
    severities = [p["severity"] for p in end.json["problems"]]
    check(severities == sorted(severities, key=order.index), "the worst first: %r" % end)
    for problem in end.json["problems"]:
        check(set(problem) == PROBLEM_KEYS and all(problem.values()), problem)
    check(("stops" in severities) == (status == 1), end)
    return end.json


def case_without_a_uri():
    end = whole(probe("--json"), 0)
    check(end["route"] is None, end)
    if not HAS_DEVICE:
        check(end["devices"] == [], end)
        said = end["problems"][0]
        check("no RDMA device" in said["problem"] and "rdma link add rxe0 type rxe netdev" in said["fix"], said)


def case_text_says_the_same():
    end = probe()
    check(end.status == 0 and end.out.startswith("machine\n") and not end.err, end)
    if not HAS_DEVICE:
        check("no RDMA device\n" in end.out and "\n  fix        " in end.out, end)


def case_tcp_goes():
    route = whole(probe("tcp://127.0.0.1:7471", "--json"), 0)["route"]
    check(set(route) == ROUTE_KEYS, route)
    check(route["transport"] == "tcp" and route["address"] == "127.0.0.1" and route["netdev"] == "lo", route)
    check(len(route["lane_places"]) == route["lanes"] and all(p["cpus"] and p["why"] for p in route["lane_places"]), route)
    check(route["lanes"] >= 1 and route["device"] is None and route["gid_index"] is None, route)


def case_unix_goes():
    check(whole(probe("unix:///tmp/x.sock", "--json"), 0)["route"]["transport"] == "unix", "unix")


def case_auto_falls_back_and_says_why():
    route = whole(probe("--json", "auto://127.0.0.1:7471"), 0)["route"]
    check(route["transport"] == "tcp" and "RDMA" in route["why"], route)


def case_rdma_to_where_no_device_leads():
    end = whole(probe("rdma://127.0.0.1:7471", "--json"), 1)
    check(end["route"]["transport"] is None, end)
    check(end["problems"][0]["severity"] == "stops" and "rdma://127.0.0.1:7471" in end["problems"][0]["problem"], end)
    text = probe("rdma://127.0.0.1:7471")
    check(text.status == 1 and "would not go" in text.out and "STOPS: " in text.out, text)


def case_a_host_nobody_knows():
    end = whole(probe("tcp://no-such-host.invalid:7471", "--json"), 1)
    check("no-such-host.invalid" in end["problems"][0]["why"], end)


def case_usage():
    for args in (["http://x:1"], ["tcp://a:1", "tcp://b:1"], ["--size", "much"], ["--nonsense"], ["tcp://:70000"],
                 ["--devices", "no-such-device"]):
        end = probe(*args)
        check(end.status == 2 and not end.out and len(end.err.splitlines()) >= 1, (args, end))
        end = probe(*args, "--json")
        check(end.status == 2 and end.json and set(end.json) == KEYS, (args, end))
        check(end.json["error"] and not end.json["would_go"] and end.json["machine"] is None, (args, end))


def case_help_and_version():
    end = probe("--help")
    check(end.status == 0 and "[URI]" in end.out.splitlines()[0] and "--json" in end.out, end)
    end = probe("--version")
    check(end.status == 0 and end.out.startswith("ramjet-probe "), end)


def case_json_is_one_line():
    end = probe("--json")
    check(end.n_lines == 1 and json.loads(end.out) == end.json, end)


if __name__ == "__main__":
    main(globals())

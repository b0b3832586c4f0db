# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-probe inside the test machine, where there is a device: rxe0 on v0, whose other end is v1."""

import os
import re
import resource
import subprocess

from migrate import Running, check, main
from probe_contract import PROGRAM, probe, whole

ADDR = os.environ["RAMJET_RDMA_ADDR"]
ADDR6 = os.environ["RAMJET_RDMA_ADDR6"]


def sh(command):
    subprocess.run(command, shell=True, check=True)


def set_mtu(mtu):
    sh("ip link set dev v0 mtu %d && ip link set dev v1 mtu %d" % (mtu, mtu))


def look(*args, status=0):
    return whole(probe("--json", *args), status)


def problems(found, part):
    return [p for p in found["problems"] if part in p["problem"]]


def keys_of(thing):
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield key
            yield from keys_of(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from keys_of(value)


def case_the_manual_has_every_key():
    with open(os.path.join(os.path.dirname(__file__), "../../docs/man/ramjet-probe.1"), encoding="utf-8") as page:
        words = set(re.findall(r"[a-z_0-9]+", page.read()))
    keys = set(keys_of(look("rdma://%s:1" % ADDR)))
    check(len(keys) > 60 and keys <= words, "%d keys, not in the manual: %s" % (len(keys), keys - words))


def case_the_device():
    found = look()
    check(len(found["devices"]) == 1, found)
    device = found["devices"][0]
    check(device["device"] == "rxe0" and device["software"] and device["opened"] and device["allowed"], device)
    check(device["pcie"] is None and device["node"] is None, device)
    check(device["limits"]["max_qp_wr"] > 0 and device["limits"]["max_mr_bytes"] > 0, device)
    port, = device["ports"]
    check(port["port"] == 1 and port["transport"] == "RoCE" and port["state"] == "ACTIVE", port)
    check(port["netdev"] == "v0" and port["netdev_up"] and port["netdev_mtu_bytes"] == 4200, port)
    check(port["active_mtu_bytes"] == port["max_mtu_bytes"] == 4096, port)
    check(port["mtu_lost_percent"] == 1.9626 and port["netdev_mtu_wanted_bytes"] is None, port)
    check(port["rate_bits_per_s"] > port["rate_bytes_per_s"] * 8 > 0, port)
    addresses = {gid["address"]: gid for gid in port["gids"]}
    check(addresses[ADDR]["type"] == "RoCE v2" and addresses[ADDR]["chosen"] and ADDR6 in addresses, port)
    check([g for g in port["gids"] if g["chosen"]] == [addresses[ADDR]], port)
    check(len(problems(found, "rxe0 is software RDMA")) == 1, found)


def case_routes():
    for scheme, address in (("auto", ADDR), ("rdma", "[%s]" % ADDR6)):
        found = look("%s://%s:7471" % (scheme, address))
        route = found["route"]
        check(route["transport"] == "rdma" and route["device"] == "rxe0" and route["port"] == 1, route)
        check(route["address"] == address.strip("[]") and route["netdev"] == "v0", route)
        chosen, = [g for g in found["devices"][0]["ports"][0]["gids"] if g["chosen"]]
        check(chosen["address"] == address.strip("[]") and chosen["index"] == route["gid_index"], found)


def case_what_it_says_is_what_migrate_takes():
    route = look("auto://%s:7471" % ADDR)["route"]
    end = Running("--to", "auto://%s:7471" % ADDR, "--guest", "synthetic", "--size", "16M", "--json",
                  program=PROGRAM.replace("ramjet-probe", "ramjet-migrate")).end(60)
    check(end.status == 1 and end.json["transport"] == route["transport"], end)


def case_the_usual_mtu_costs():
    set_mtu(1500)
    try:
        found = look()
        port = found["devices"][0]["ports"][0]
        check(port["active_mtu_bytes"] == 1024 and port["mtu_lost_percent"] == 7.4141, port)
        said, = problems(found, "carry 1024 bytes, not 4096")
        check(said["severity"] == "slows", said)
        command = said["fix"].split(",")[0]
        check(command == "ip link set dev v0 mtu 4200", said)
        sh(command)  # it does mend it
        sh(command.replace("v0", "v1"))
        found = look()
        check(found["devices"][0]["ports"][0]["active_mtu_bytes"] == 4096, found)
        check(not problems(found, "carry"), found)
    finally:
        set_mtu(4200)


def case_a_netdev_that_is_down():
    sh("ip link set dev v0 down")
    try:
        found = look("rdma://%s:7471" % ADDR, status=1)
        said, = problems(found, "port 1 of rxe0 is DOWN")
        check(said["fix"].startswith("ip link set dev v0 up;"), said)
        check(look("auto://%s:7471" % ADDR)["route"]["transport"] == "tcp", "auto falls back")
        check(not look()["devices"][0]["ports"][0]["netdev_up"], "it is down")
    finally:
        sh("ip link set dev v0 up && ip address replace %s/64 dev v0 nodad" % ADDR6)


def case_locked_memory():
    def starve():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))

    def as_nobody(*args):
        return Running("--reuid", "65534", "--regid", "65534", "--clear-groups", PROGRAM, "--json", *args,
                       program="/usr/bin/setpriv", preexec_fn=starve).end(30)

    uri = "rdma://%s:7471" % ADDR
    found = whole(as_nobody(uri, "--size", "1G"), 1)
    check("8388608 bytes" in found["problems"][0]["problem"], found)
    check("ulimit -l 1048576" in found["problems"][0]["fix"], found)
    check(found["machine"]["memlock_bytes"] == 8 << 20 and not found["machine"]["ipc_lock"], found)
    whole(as_nobody(uri, "--size", "8M"), 0)
    check(look(uri, "--size", "1G")["machine"]["ipc_lock"], "root has it")


def case_without_the_device():
    sh("rdma link delete rxe0")
    try:
        found = look("rdma://%s:7471" % ADDR, status=1)
        said = found["problems"][0]
        check(found["devices"] == [] and "rdma link add rxe0 type rxe netdev v0" in said["fix"], found)
        sh("rdma link add rxe0 type rxe netdev v0")  # as it said
        check(look("rdma://%s:7471" % ADDR)["route"]["device"] == "rxe0", "there again")
    finally:
        subprocess.run("rdma link add rxe0 type rxe netdev v0 2>/dev/null", shell=True)


def case_devices_that_may_be_used():
    check(look("--devices", "rxe0")["devices"][0]["allowed"], "named")


if __name__ == "__main__":
    main(globals())

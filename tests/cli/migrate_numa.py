# SPDX-License-Identifier: BSD-2-Clause
"""Where ramjet-migrate's lanes run, inside a test machine of two nodes with two CPUs each."""

import os
import subprocess

from migrate import check, main
from threads import ran_outside, run_watched

ADDR = os.environ["RAMJET_RDMA_ADDR"]
SIZE = 96 << 20  # a window of 64 MiB has some of both halves
SMALL = ["--guest", "synthetic", "--size", str(SIZE), "--fill", "random", "--workload", "idle",
         "--max-downtime", "5000", "--json"]
HALVES = ["--memory-nodes", "0,1", *SMALL]
NODE_CPUS = {0: {0, 1}, 1: {2, 3}}


def completed(end):
    check(end.status == 0 and end.json and end.json["status"] == "completed", end)
    return end.json


def by_node(j, key):
    sums = {}
    for part in j["node_bytes"]:
        sums[part["node"]] = sums.get(part["node"], 0) + part[key]
    return sums


def check_plan_is_followed(j):
    """Each node's half is planned and sent, and while both lanes have work it is by the lane near it."""
    check({lane["node"]: lane["cpus"] for lane in j["lanes_plan"]} == {0: "0-1", 1: "2-3"}, j)
    for node in (0, 1):
        check(abs(by_node(j, "planned_bytes")[node] - SIZE / 2) < 0.05 * SIZE / 2, j["node_bytes"])
        check(abs(by_node(j, "bytes")[node] - SIZE / 2) < 0.05 * SIZE / 2, j["node_bytes"])
    busy = [part for part in j["node_bytes"] if part["busy_bytes"]]
    near = sum(part["busy_bytes"] for part in busy if part["local"])
    check(near >= 0.95 * sum(part["busy_bytes"] for part in busy), j["node_bytes"])
    check(near > SIZE / 4, "hardly anything was sent while both had work: %r" % j["node_bytes"])
    known = sum(part["bytes"] for part in j["node_bytes"] if part["local"] is not None)
    check(j["local_bytes"] + j["remote_bytes"] == known >= 0.95 * SIZE, j)


def case_lanes_follow_memory_on_both_nodes_and_stay_there():
    end, seen = run_watched("--transport", "tcp", "--lanes", "2", "--verify", *HALVES)
    check_plan_is_followed(completed(end))
    check(end.json["verified"], end)
    for lane in end.json["lanes_plan"]:
        name = "rj-lane-%d" % lane["lane"]
        check(seen.get(name), "%s was never seen: %r" % (name, seen))
        check(seen[name] <= NODE_CPUS[lane["node"]], "%s ran on %r" % (name, seen[name]))


def case_over_software_rdma_as_well():
    end, _ = run_watched("--transport", "rdma", "--lanes", "2", *HALVES)
    check_plan_is_followed(completed(end))
    check(all(lane["port"] == "rxe0/1" for lane in end.json["lanes_plan"]), end)


def case_threads_that_register_stay_on_a_node_each():
    end, seen = run_watched("--transport", "rdma", "--lanes", "2", "--register", "all", *HALVES)
    completed(end)
    registering = [cpus for name, cpus in seen.items() if name.startswith("rj-register ")]
    for near in NODE_CPUS.values():  # at both ends
        check(len([cpus for cpus in registering if cpus <= near]) >= 2, seen)
    check(all(cpus <= NODE_CPUS[0] or cpus <= NODE_CPUS[1] for cpus in registering), seen)


def case_lanes_go_out_by_every_port_in_turn():
    second = ("ip link add v2 mtu 4200 type veth peer name v3 mtu 4200; ip link set v2 up; ip link set v3 up;"
              "ip addr add 10.0.10.1/24 dev v2; rdma link add rxe1 type rxe netdev v2")
    subprocess.run(second, shell=True, check=True)
    end, _ = run_watched("--transport", "rdma", "--lanes", "4", "--data-addrs", ADDR + ",10.0.10.1", *HALVES)
    ports = [lane["port"] for lane in completed(end)["lanes_plan"]]
    check(ports == ["rxe0/1", "rxe1/1"] * 2, ports)
    for lane in range(4):
        check(sum(part["bytes"] for part in end.json["node_bytes"] if part["lane"] == lane) > 0, end)


def case_no_thread_leaves_the_set_that_was_given():
    end, seen = run_watched("--transport", "tcp", "--lanes", "4", "--cpus", "1,3", *HALVES)
    completed(end)
    check(len([name for name in seen if name.startswith(("rj-lane", "rj-recv"))]) == 8, seen)
    check(not ran_outside(seen, {1, 3}), seen)


def case_memory_of_a_node_left_out_is_sent_from_the_other():
    end, seen = run_watched("--transport", "tcp", "--lanes", "2", "--cpus", "0-1", *HALVES)
    j = completed(end)
    check([lane["node"] for lane in j["lanes_plan"]] == [0, 0], j)
    check("node 1" in j["lanes_plan"][1]["why"], j["lanes_plan"])
    check(by_node(j, "bytes")[1] > 0.45 * SIZE and j["remote_bytes"] > 0.45 * SIZE, j)
    check(not ran_outside(seen, {0, 1}), seen)


def case_memory_of_one_node_takes_all_lanes_there():
    end, _ = run_watched("--transport", "tcp", "--lanes", "2", "--memory-nodes", "1", *SMALL)
    j = completed(end)
    check([lane["node"] for lane in j["lanes_plan"]] == [1, 1], j)
    check(j["remote_bytes"] == 0 and j["local_bytes"] >= 0.95 * SIZE, j)


def case_a_set_the_process_may_not_use_is_refused():
    end, _ = run_watched("--transport", "tcp", "--cpus", "1-3", *SMALL,
                         preexec_fn=lambda: os.sched_setaffinity(0, {0, 1}))
    check(end.status == 1 and "may not run on 2-3, only on 0-1" in end.json["error"], end)


def case_the_test_machine_has_two_nodes():
    nodes = subprocess.run("cat /sys/devices/system/node/node[01]/cpulist", shell=True, check=True,
                           capture_output=True, text=True).stdout.split()
    check(nodes == ["0-1", "2-3"], nodes)


if __name__ == "__main__":
    main(globals())

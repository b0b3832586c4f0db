# SPDX-License-Identifier: BSD-2-Clause
"""What can be changed while ramjet-migrate runs, line by line on its stdin."""

import re
import subprocess

from migrate import Running, check, main

SOURCE = ["--guest", "synthetic", "--transport", "tcp", "--json", "--verify"]


class Controlled(Running):
    def __init__(self, *args):
        super().__init__(*SOURCE, *args, stdin=subprocess.PIPE)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def said(self):
        return [line for line in self.lines if line]


def arrived(end):
    check(end.status == 0 and end.json["verified"], end)
    return end.json


def case_the_guest_runs_on_before_the_switchover_until_told():
    source = Controlled("--size", "64M", "--workload", "uniform:4M", "--pause-before-switchover", "--timeout", "60")
    check(source.wait_for(r"^ready "), "never ready")
    for _ in range(3):  # a round ten times a second
        check(source.wait_for(r"^round +%d " % (len(re.findall(r"(?m)^(?:bulk|round) ", "".join(source.said()))) + 1)),
              "no further round")
    check(not any(line.startswith("switchover ") for line in source.said()), source.said())
    source.say("switchover")
    j = arrived(source.end())
    check(j["rounds"] >= 4, j)
    check("".join(source.said()).count("ready  ") == 1, source.said())


def case_bandwidth_can_be_given_meanwhile():
    source = Controlled("--size", "256M", "--workload", "idle", "--bandwidth", "1M", "--control")
    check(source.wait_for(r"listening"), "it does not begin")
    source.say("bandwidth none")
    check(arrived(source.end())["total_time_ms"] < 60000, "as slow as before")


def case_max_downtime_can_be_given_meanwhile():
    source = Controlled("--size", "64M", "--workload", "idle", "--max-downtime", "1", "--control")
    check(source.wait_for(r"^round +5 "), "it stops though nothing fits into 1 ms")
    source.say("max-downtime 5000")
    j = arrived(source.end())
    check(j["rounds"] >= 5 and not j["overshoot"] or j["downtime_ms"] < 5000, j)


def case_it_completes_by_itself_when_the_load_stops():
    source = Controlled("--size", "64M", "--workload", "hot:32M:400M", "--bandwidth", "16M", "--filters", "none",
                        "--max-downtime", "100", "--control", "--timeout", "100")
    check(source.wait_for(r"^round +3 "), "no rounds")
    check(not any(line.startswith("switchover ") for line in source.said()), source.said())
    source.say("load none")
    j = arrived(source.end())
    check(j["downtime_ms"] <= 100 or j["overshoot"], j)


def case_cancel():
    source = Controlled("--size", "64M", "--workload", "idle", "--bandwidth", "1M", "--control")
    check(source.wait_for(r"listening"), "it does not begin")
    source.say("cancel")
    end = source.end()
    check(end.status == 4 and end.json["runs_at"] == "source", end)


def case_what_is_not_understood_is_told_and_changes_nothing():
    source = Controlled("--size", "64M", "--workload", "idle", "--pause-before-switchover")
    for line in ("go", "bandwidth fast", "max-downtime", "max-downtime 0", "switchover now", "load x"):
        source.say(line)
        check(source.wait_for("not understood: '%s'" % line), line)
    source.say("switchover")
    arrived(source.end())


def case_the_destination_is_not_controlled():
    for option in ("--control", "--pause-before-switchover"):
        end = Running("--listen", "tcp://127.0.0.1:0", option, "--json").end()
        check(end.status == 2 and "are the source's" in end.json["error"], end)


main(globals())

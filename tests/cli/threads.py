# SPDX-License-Identifier: BSD-2-Clause
"""On which CPUs the library's threads of ramjet-migrate run, seen from outside."""

import os
import threading
import time

from migrate import Running

PROCESSOR = 36  # field of /proc/PID/task/TID/stat after the name, from 0: proc(5) counts it 39th


def family(pid):
    """The process and, in a run of both ends, its destination."""
    pids = [pid]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                pids += [int(child) for child in f.read().split()]
    except OSError:
        pass  # it has ended
    return pids


def look(pid, seen):
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/stat" % (pid, task)) as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
            if name == "rj-register":
                name += " " + task  # several have that name
            if name.startswith("rj-"):
                seen.setdefault(name, set()).add(int(rest.split()[PROCESSOR]))
    except OSError:
        pass


def run_watched(*args, preexec_fn=None, timeout=300):
    """What came of it, and for each of the library's threads the CPUs it was seen on."""
    program, seen, over = Running(*args, preexec_fn=preexec_fn), {}, threading.Event()

    def watch():
        while not over.is_set():
            for pid in family(program.process.pid):
                look(pid, seen)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        end = program.end(timeout)
    finally:
        over.set()
        watcher.join()
    return end, seen


def ran_outside(seen, allowed):
    return {name: cpus - allowed for name, cpus in seen.items() if cpus - allowed}

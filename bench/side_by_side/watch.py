# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel tells of a migration's two processes while they run."""

import os
import re
import threading
import time

from processes import Failed, descendants

EVERY_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Asks again and again, in a thread, until it is closed."""

    def __init__(self, program):
        super().__init__(daemon=True)
        self.pid = program.pid
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        while not self.over.wait(EVERY_S):
            try:
                self.look()
            except OSError:  # a process or thread ended meanwhile
                pass


class PinnedBytes(Watch):
    """The most that either process had pinned at a time, by the kernel's count."""

    def __init__(self, program):
        super().__init__(program)
        self.peak = {"source": 0, "destination": 0}

    def look(self):
        for pid, end in [(self.pid, "source")] + [(p, "destination") for p in descendants(self.pid)]:
            self.peak[end] = max(self.peak[end], pinned_bytes(pid))


def pinned_bytes(pid):
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith("VmPin:"):
                return int(line.split()[1]) * 1024
    return 0


class ReceiverCpu(Watch):
    """CPU time of the library's threads at the destination: utime and stime, by the moment."""

    def __init__(self, program):
        super().__init__(program)
        self.of_thread = {}
        self.samples = []

    def look(self):
        for pid in descendants(self.pid):
            for task in os.listdir("/proc/%d/task" % pid):
                try:
                    name, seconds = thread_cpu("/proc/%d/task/%s" % (pid, task))
                except OSError:
                    continue
                if name.startswith("rj-"):
                    self.of_thread[pid, task] = seconds
        self.samples.append((time.monotonic(), sum(self.of_thread.values())))

    def at(self, when):
        """Interpolated."""
        before = after = None
        for sample in self.samples:
            if sample[0] <= when:
                before = sample
            elif after is None:
                after = sample
        if not before:
            raise Failed("the destination was not seen before its data phase: take a larger --size")
        if not after:
            return before[1]
        part = (when - before[0]) / (after[0] - before[0])
        return before[1] + part * (after[1] - before[1])

    def share(self, program):
        """Of the bulk round; the source says on stderr when that was over and how long it took."""
        for when, line in program.lines:
            found = re.match(r"bulk .* sent in +(\d+) ms", line)
            if found:
                duration = int(found.group(1)) / 1e3
                if duration < 10 * EVERY_S:
                    raise Failed("the data phase took only %.2f s: take a larger --size" % duration)
                return (self.at(when) - self.at(when - duration)) / duration
        raise Failed("ramjet-migrate did not say when its bulk round was over")


def thread_cpu(task):
    with open(task + "/comm") as comm:
        name = comm.read().strip()
    with open(task + "/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return name, (int(fields[11]) + int(fields[12])) / TICKS_PER_S

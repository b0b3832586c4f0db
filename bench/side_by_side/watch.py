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
                    self.of_thread[pid, task, re.sub(r"-\d+$", "", name)] = seconds
        self.samples.append((time.monotonic(), dict(self.of_thread)))

    def at(self, when):
        """Seconds by the thread, interpolated. One that is not there yet has had none."""
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
        return {thread: before[1].get(thread, 0) + part * (seconds - before[1].get(thread, 0))
                for thread, seconds in after[1].items()}

    def shares(self, program):
        """Of the bulk round, by names; the source says on stderr when that was over and how long it took."""
        for when, line in program.lines:
            found = re.match(r"bulk .* sent in +(\d+) ms", line)
            if found:
                return self._shares(when, int(found.group(1)) / 1e3)
        raise Failed("ramjet-migrate did not say when its bulk round was over")

    def _shares(self, end, duration):
        if duration < 10 * EVERY_S:
            raise Failed("the data phase took only %.2f s: take a larger --size" % duration)
        begin, shares = self.at(end - duration), {}
        for thread, seconds in self.at(end).items():
            spent = (seconds - begin.get(thread, 0)) / duration
            shares[thread[2]] = shares.get(thread[2], 0) + spent
        return shares


def thread_cpu(task):
    with open(task + "/comm") as comm:
        name = comm.read().strip()
    with open(task + "/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return name, (int(fields[11]) + int(fields[12])) / TICKS_PER_S

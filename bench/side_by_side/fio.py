# SPDX-License-Identifier: BSD-2-Clause
"""fio on a file, and what else a restore can be no faster than: having the memory there."""

import json
import os
import re
import sys

from processes import Failed, Missing, Program, find_program, run

# 1 MiB at a time, 16 in flight, around the page cache; with buffers made known to the kernel ahead, or not.
SETTINGS = {"plain": 0, "registered": 1}

POPULATE = """
import ctypes, mmap, os, sys, threading, time
size, n = int(sys.argv[1]), len(os.sched_getaffinity(0))
fd = os.memfd_create("populate")
os.ftruncate(fd, size)
memory = mmap.mmap(fd, size)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
madvise = ctypes.CDLL(None, use_errno=True).madvise
part, failed = size // n // 4096 * 4096, []

def populate(i):
    length = part if i + 1 < n else size - part * (n - 1)
    if madvise(ctypes.c_void_p(start + i * part), ctypes.c_size_t(length), 23):  # MADV_POPULATE_WRITE
        failed.append(ctypes.get_errno())

threads = [threading.Thread(target=populate, args=(i,)) for i in range(n)]
began = time.monotonic()
for t in threads: t.start()
for t in threads: t.join()
took = time.monotonic() - began
if failed: sys.exit("MADV_POPULATE_WRITE: " + os.strerror(failed[0]))
print(size / took)
"""


class Fio:
    name = "fio"

    def __init__(self, directory):
        self.program = find_program("fio", "fio")
        self.file = os.path.join(directory, "peers-fio-%d" % os.getpid())

    def version(self):
        return re.search(r"fio-(\S+)", run(self.program, "--version")).group(1)

    def write(self, size, registered):
        """Bytes a second into a new file, with the sync at the end."""
        self.remove()
        return self._rate("write", size, registered, "--end_fsync=1")

    def read(self, size, registered):
        if not os.path.exists(self.file):
            self.write(size, 0)
        return self._rate("read", size, registered)

    def remove(self):
        if os.path.exists(self.file):
            os.remove(self.file)

    def _rate(self, what, size, registered, *more):
        program = Program(self.program, "--name=peers", "--filename=" + self.file, "--rw=" + what, "--size=%d" % size,
                          "--bs=1M", "--iodepth=16", "--direct=1", "--ioengine=io_uring",
                          "--fixedbufs=%d" % registered, "--output-format=json", *more)
        status, out = program.wait(900)
        try:
            job = json.loads(out[out.index("{"):])["jobs"][0]
        except (ValueError, LookupError):
            raise program.failed("ended with status %d" % status) from None
        if status or job["error"]:
            raise program.failed("ended with status %d" % status)
        if not job[what]["io_bytes"] >= size or not job[what]["bw_bytes"]:
            raise Failed("fio: %d of %d bytes" % (job[what]["io_bytes"], size))
        return job[what]["bw_bytes"]


def populate_rate(size):
    """Bytes a second at which this machine gives a fresh memfd its pages, asked by a thread on each CPU."""
    return float(run(sys.executable, "-c", POPULATE, size, timeout_s=300))


def need_room(directory, size):
    try:
        room = os.statvfs(directory)
    except OSError as why:
        raise Missing("cannot look at %s (%s): name a directory on the disk by --directory"
                      % (directory, why.strerror)) from None
    if room.f_bavail * room.f_frsize < size:
        raise Missing("%s has no room for %d MiB: take a smaller --size, or another --directory"
                      % (directory, size >> 20))

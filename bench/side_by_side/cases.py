# SPDX-License-Identifier: BSD-2-Clause
"""The comparisons: what is measured on either side, and the target it is held against."""

import os
from statistics import median

from fio import SETTINGS, Fio, need_room, populate_rate
from machine import SPARE_BYTES, need_memory, rdma_address, touch_memory
from iperf3 import Iperf3
from pairs import Side
from perftest import WriteBandwidth
from qemu import Qemu
from ramjet import Ramjet
from watch import PinnedBytes, ReceiverCpu

MIB = 1 << 20
GIB = 1 << 30

BACKING = {"shared": "memfd", "private": "anon", "huge": "thp"}  # as ramjet-migrate calls them


class Case:
    """prepare() finds what is needed, else raises Missing; then ours and theirs can be measured."""

    transport, unit, n_dropped, default_size = "rdma", "bytes/s", 0, GIB
    peer_name, at_most = None, None

    def __init__(self, opts):
        self.opts = opts
        self.size = opts.size or self.default_size
        self.ramjet = Ramjet(opts.programs)
        self.extra = {}

    def start(self, *more, progress=False):
        return self.ramjet.start_migration(self.transport, self.size, "--backing",
                                           BACKING[self.opts.memory], *more, progress=progress)

    def migrate(self, *more):
        """Both ends here. Every figure it prints."""
        return self.ramjet.finish_migration(self.start(*more))

    @property
    def more_is_better(self):
        return self.unit == "bytes/s"

    def is_met(self, result):
        return result["ratio"] >= self.target if self.more_is_better else result["ratio"] <= self.target

    def describe_peer(self):
        return self.peer.name, self.peer.version()

    def finish(self):
        """Whatever comes after prepare(): leave nothing behind."""


class Rdma(Case):
    def prepare(self):
        self.address = rdma_address(self.opts.address)
        need_memory(self.size)
        self.prepare_peer()
        # Once: in a machine as small as the test machine later runs find what this and those before them touched.
        touch_memory(4 * self.size, SPARE_BYTES // 4)

    def prepare_peer(self):
        self.peer = WriteBandwidth(self.address)


class Rdma64K(Rdma):
    name, target = "rdma-64k", 0.97
    summary = "the bulk round of incompressible memory, against ib_write_bw -s 65536"
    lanes = ()

    def sides(self):
        def ours():
            return self.migrate(*self.lanes)["throughput_bytes_per_s"]

        return Side({"": ours}), Side({"": lambda: self.peer.rate(65536, self.size)})


class Rdma64KOneLane(Rdma64K):
    name, lanes = "rdma-64k-one-lane", ("--lanes", 1)
    summary = "the same with one lane, which has one queue pair as ib_write_bw has"


class Rdma4KScattered(Rdma):
    name, target, default_size = "rdma-4k-scattered", 0.90, 256 * MIB
    summary = "scattered single pages of 4 KiB by ramjet-perf, against ib_write_bw -s 4096"

    def prepare_peer(self):
        super().prepare_peer()
        self.ramjet.program("ramjet-perf")

    def sides(self):
        def ours():
            # Every second page: half of the memory is written in a pass.
            return self.ramjet.perf("--transport", "rdma", "--pattern", "scattered", "--sizes", "4K",
                                    "--memory", 2 * self.size, "--repeat", 1)[0]["bytes_per_s"]

        return Side({"": ours}), Side({"": lambda: self.peer.rate(4096, self.size)})


class RdmaTotal(Rdma):
    """Total times: set-up, registration, memory, switchover."""

    unit = "s"

    def total(self, *more):
        return self.migrate(*more)["total_time_ms"] / 1e3


class RdmaLazy(RdmaTotal):
    name, target = "rdma-lazy", 1.05
    summary = "total time with --register lazy under a pin cap, against --register all"

    def prepare_peer(self):
        self.ramjet.need_option("ramjet-migrate", "register")
        self.cap = self.opts.pin_cap or self.size // 4
        self.extra = {"pin_cap_bytes": self.cap, "pinned_peak_bytes": {"source": 0, "destination": 0}}

    def describe_peer(self):
        return "ramjet-migrate --register all", self.ramjet.version()

    def watched(self, *more):
        """Both sides alike: looking takes CPU time that a run would have."""
        program = self.start("--register", *more)
        with PinnedBytes(program) as pinned:
            figures = self.ramjet.finish_migration(program)
        return figures["total_time_ms"] / 1e3, pinned.peak

    def lazy(self):
        total, pinned = self.watched("lazy", "--pin-cap", self.cap)
        peak = self.extra["pinned_peak_bytes"]
        for end in peak:
            peak[end] = max(peak[end], pinned[end])
        return total

    def sides(self):
        return Side({"": self.lazy}), Side({"": lambda: self.watched("all")[0]})

    def is_met(self, result):
        peak = max(self.extra["pinned_peak_bytes"].values())
        return super().is_met(result) and 0 < peak <= self.cap


class RdmaQemu(RdmaTotal):
    name, target, pin_all = "rdma-qemu", 0.45, False
    summary = "total time, against QEMU's rdma: as it is by default"

    def prepare_peer(self):
        self.peer = Qemu(self.opts.qemu)

    def describe_peer(self):
        return "QEMU rdma:" + (" rdma-pin-all" if self.pin_all else ""), self.peer.version()

    def sides(self):
        def theirs():
            return self.peer.migrate_rdma(self.size, self.opts.memory, self.address, self.pin_all)

        return Side({"": self.total}), Side({"": theirs})


class RdmaQemuPinAll(RdmaQemu):
    name, target, pin_all = "rdma-qemu-pin-all", 0.60, True
    summary = "total time, against QEMU's rdma: with all memory pinned first"


class RdmaReceiverCpu(Rdma):
    name, target, unit = "rdma-receiver-cpu", 1.0, "share"
    summary = "CPU time of the destination's library threads in the bulk round, against a limit of 2 %"
    limit = 0.02

    def prepare_peer(self):
        self.ramjet.program("ramjet-migrate")
        self.shares, self.fresh_shares = [], []

    def describe_peer(self):
        return "limit", None

    def measure(self, shares, *more):
        program = self.start(*more, progress=True)
        with ReceiverCpu(program) as cpu:
            self.ramjet.finish_migration(program)
        shares.append(cpu.shares(program))
        return sum(shares[-1].values())

    def ours(self):
        """Into memory that is there. Making pages of memory that is not is told apart."""
        self.measure(self.fresh_shares)
        share = self.measure(self.shares, "--prefault")
        self.extra = {"by_thread": by_thread(self.shares), "fresh_by_thread": by_thread(self.fresh_shares)}
        return share

    def sides(self):
        return Side({"": self.ours}), Side({"": lambda: self.limit})


def by_thread(shares):
    """Medians, by the names of threads."""
    names = sorted({name for share in shares for name in share})
    return {name: median(share.get(name, 0) for share in shares) for name in names}


class Tcp(Case):
    transport, n_dropped, default_size = "tcp", 1, 4 * GIB

    def prepare(self):
        need_memory(self.size)
        self.prepare_peer()
        self.ramjet.program("ramjet-migrate")

    def settings(self, one, many, counts, measure):
        """A setting for each count, called "2 lanes"; memory is touched before each run."""
        def touched(n):
            touch_memory(2 * self.size + GIB // 2)
            return measure(n)

        return Side({"%d %s" % (n, one if n == 1 else many) if n else "": lambda n=n: touched(n)
                     for n in counts})


class TcpPresent(Tcp):
    name, target = "tcp-present", 0.95
    summary = "the bulk round into memory already present, against N iperf3 processes; best N each"

    def prepare_peer(self):
        self.peer = Iperf3()

    def ours(self, lanes):
        return self.migrate("--prefault", "--lanes", lanes)["throughput_bytes_per_s"]

    def sides(self):
        return (self.settings("lane", "lanes", self.opts.streams, self.ours),
                self.settings("process", "processes", self.opts.streams,
                              lambda n: self.peer.rate(n, self.opts.seconds)))


class TcpFreshQemu(Tcp):
    name, target, unit = "tcp-fresh-qemu", 0.7, "s"
    summary = "total time into fresh memory, against QEMU multifd at its best number of channels"

    def prepare_peer(self):
        self.peer = Qemu(self.opts.qemu)

    def describe_peer(self):
        return "QEMU multifd", self.peer.version()

    def ours(self, _):
        return self.migrate()["total_time_ms"] / 1e3

    def sides(self):
        return (self.settings("lane", "lanes", [None], self.ours),
                self.settings("channel", "channels", self.opts.channels,
                              lambda n: self.peer.migrate_multifd(self.size, self.opts.memory, n)))


class File(Case):
    """A guest of random memory in a file on a disk."""

    transport, n_dropped, default_size, target = "file", 1, 4 * GIB, 0.92

    def prepare(self):
        need_memory(self.size)
        self.ramjet.program("ramjet-snapshot")
        self.peer = Fio(self.opts.directory)
        need_room(self.opts.directory, 2 * self.size + GIB // 2)
        self.file = os.path.join(self.opts.directory, "peers-snapshot-%d" % os.getpid())
        self.extra = {"peak_memory_bytes": 0, "metadata_bytes": 0}

    def finish(self):
        self.peer.remove()
        if os.path.exists(self.file):
            os.remove(self.file)

    def snapshot(self, command, *more):
        figures = self.ramjet.snapshot(command, self.file, *more)
        for key in self.extra:
            self.extra[key] = max(self.extra[key], figures[key])
        return figures["bytes_per_s"]

    def save(self):
        if os.path.exists(self.file):
            os.remove(self.file)
        return self.snapshot("save", "--guest", "synthetic", "--size", self.size, "--fill", "random", "--workload",
                             "idle", "--stopped")

    def fio(self, measure):
        return Side({name: lambda n=n: measure(self.size, n) for name, n in SETTINGS.items()})

    def is_met(self, result):
        return super().is_met(result) and self.extra["peak_memory_bytes"] <= 64 * MIB + self.extra["metadata_bytes"]


class FileSave(File):
    name = "file-save"
    summary = "a guest that stands still into a new file, synced, against fio, synced"

    def sides(self):
        return Side({"": self.save}), self.fio(self.peer.write)


class FileRestore(File):
    name, memory = "file-restore", ["--prefault"]
    summary = "a file into memory already present, against fio"

    def prepare(self):
        super().prepare()
        self.save()

    def ours(self):
        touch_memory(self.size * 9 // 8)
        return self.snapshot("restore", *self.memory)

    def theirs(self, size, n):
        touch_memory(self.size * 9 // 8)
        return self.peer.read(size, n)

    def sides(self):
        return Side({"": self.ours}), self.fio(self.theirs)


class FileRestoreFresh(FileRestore):
    name, memory, target = "file-restore-fresh", [], 0.85
    summary = "a file into a memfd not touched before, against the slower of fio and having a memfd's pages there"

    def theirs(self, size, n):
        read = super().theirs(size, n)
        touch_memory(self.size * 9 // 8)
        return min(read, populate_rate(size))


CASES = [Rdma64K, Rdma64KOneLane, Rdma4KScattered, RdmaLazy, RdmaQemu, RdmaQemuPinAll, RdmaReceiverCpu, TcpPresent,
         TcpFreshQemu, FileSave, FileRestore, FileRestoreFresh]

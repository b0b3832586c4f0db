# SPDX-License-Identifier: BSD-2-Clause
"""ramjet-snapshot as scripts use it: save, restore, verify, info; what a killed or failed save leaves; damage."""

import base64
import contextlib
import ctypes
import errno
import os
import random
import resource
import shutil
import struct
import subprocess
import tempfile
import time
import zlib

import snapshot_reader
from migrate import BUILD, HAS_KVM, Running, check, main

PROGRAM = os.path.join(BUILD, "bench/ramjet-snapshot")
LONG = os.environ.get("RJ_TEST_LONG") == "1"
KEYS = {"status", "error", "guest_bytes", "file_bytes", "disk_bytes", "total_time_ms", "bytes_per_s",
        "direct_io", "peak_memory_bytes", "verified", "registered_buffers"}
SMALL = ["--guest", "synthetic", "--size", "32M", "--workload", "idle"]
MIB = 1 << 20
CAP_IPC_LOCK, PR_CAPBSET_DROP = 14, 24


def start(*args, progress=False, **more):
    return Running(*args, "--json", *([] if progress else ["--progress", "never"]), program=PROGRAM, **more)


def run(*args, **more):
    return start(*args, **more).end()


def good(end, **expected):
    check(end.status == 0 and end.json and end.json["status"] == "completed", end)
    check(KEYS <= set(end.json), "keys missing: %s" % (KEYS - set(end.json)))
    for key, value in expected.items():
        check(end.json[key] == value, "%s is not %r: %r" % (key, value, end))
    return end.json


def bad(end, *words):
    check(end.status == 1 and end.json and end.json["status"] == "failed", end)
    for word in words:
        check(word in end.json["error"], "%r is not said: %r" % (word, end))
    return end.json


class Place:
    """A directory that goes away, and the snapshot in it."""

    def __init__(self, within=None):
        self.dir = tempfile.mkdtemp(prefix="rj-snapshot-", dir=within)
        self.file = os.path.join(self.dir, "guest.snap")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def others(self):
        return sorted(set(os.listdir(self.dir)) - {"guest.snap"})


def flip(path, offset, bit):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 1 << bit]))


def case_a_stopped_guest_comes_back():
    with Place() as place:
        j = good(run("save", place.file, *SMALL, "--stopped", "--verify"), verified=True, guest_bytes=32 * MIB)
        check(32 * MIB < j["file_bytes"] < 34 * MIB and j["disk_bytes"] <= j["file_bytes"], j)
        check(j["file_bytes"] == os.path.getsize(place.file), j)
        check(j["peak_memory_bytes"] < 64 * MIB and j["counter_after"] > j["counter_before"], j)
        j = good(run("restore", place.file, "--verify"), verified=True, guest_bytes=32 * MIB)
        check(j["counter_after"] > j["counter_before"], "it does not run: %s" % j)
        good(run("verify", place.file), verified=True)
        check(not place.others(), place.others())


def case_a_live_guest_comes_back():
    for guest in ["synthetic"] + (["kvm"] if HAS_KVM else []):
        with Place() as place:
            good(run("save", place.file, "--guest", guest, "--size", "128M", "--workload", "uniform:50M",
                     "--fill", "random", "--verify"), verified=True)
            check(os.path.getsize(place.file) < 130 * MIB, "the file grew")
            good(run("restore", place.file, "--verify"), verified=True)
            good(run("restore", place.file, "--verify", "--memory", "private", "--prefault"), verified=True)


def case_private_memory_is_saved_as_it_is():
    with Place() as place:
        good(run("save", place.file, *SMALL, "--memory", "private", "--verify"), verified=True)
        good(run("restore", place.file, "--verify"), verified=True)


def case_a_guest_that_dirties_faster_than_the_file_takes_it_is_stopped():
    with Place() as place:
        j = good(run("save", place.file, "--guest", "synthetic", "--size", "64M", "--workload", "uniform:200M",
                     "--max-downtime", "1", "--bandwidth", "64M", "--verify"), verified=True)
        check(j["downtime_ms"] > 1, j)
        good(run("restore", place.file, "--verify"), verified=True)


def case_it_stays_paused_if_asked_to():
    with Place() as place:
        j = good(run("save", place.file, *SMALL, "--stay"))
        check(j["counter_after"] <= j["counter_before"], j)
        good(run("restore", place.file, "--verify"), verified=True)


def case_untouched_memory_takes_no_room():
    with Place() as place:
        j = good(run("save", place.file, "--guest", "synthetic", "--size", "1G", "--used", "16M", "--fill", "random",
                     "--workload", "idle", "--verify"), verified=True)
        used = 16 * MIB
        check(used * 0.8 < j["disk_bytes"] < used * 1.02, j)
        good(run("restore", place.file, "--verify"), verified=True)


def case_free_pages_take_no_room():
    with Place() as place:
        j = good(run("save", place.file, "--size", "512M", "--used", "64M", "--free", "448M", "--fill", "random",
                     "--workload", "idle", "--lanes", "1", "--bandwidth", "256M"))
        # What the lane had begun with (64 MiB) when the guest told.
        check(j["disk_bytes"] < (64 + 64) * MIB * 1.1, j)
        good(run("restore", place.file, "--verify"), verified=True)


def case_another_reader_finds_the_same_memory():
    with Place() as place:
        good(run("save", place.file, *SMALL, "--seed", "7"))
        snapshot = snapshot_reader.load(place.file)
        check([(r.name, r.length) for r in snapshot.regions] == [("ram", 32 * MIB)], snapshot.regions)
        check(snapshot.flags == 1 and len(snapshot.setup) == 80 and snapshot.state, snapshot.__dict__.keys())
        memory = snapshot.memory[0]
        zero = [i for i in range(32) if not any(memory[i * MIB:(i + 1) * MIB])]
        check(zero == [30, 31], "zero MiBs: %s" % zero)  # a block in sixteen is left alone
        page = memory[4 * MIB:4 * MIB + 4096]
        check(page[:8] == bytes(8) and any(page[8:]), "not the guest's filling")


def golden_memory():
    """What the golden file's two regions hold: pages 2, 5 and 9 are zero."""
    def page(i):
        return bytes(4096) if i in (2, 5, 9) else bytes((i * 31 + k * 7 + k // 256) % 256 for k in range(4096))
    return [b"".join(page(i) for i in range(8)), b"".join(page(i) for i in range(8, 11))]


def case_a_file_of_version_1_is_read_for_ever():
    with open(os.path.join(os.path.dirname(__file__), "snapshot_v1.txt"), encoding="ascii") as f:
        data = zlib.decompress(base64.b64decode("".join(f.readlines()[1:])))
    with Place() as place:
        with open(place.file, "wb") as f:
            f.write(data)
        snapshot = snapshot_reader.load(place.file)
        check([bytes(m) for m in snapshot.memory] == golden_memory(), "the memory differs")
        check((snapshot.setup, snapshot.state, snapshot.id[:6]) == (b"set-up", b"device state", b"golden"),
              snapshot.setup)
        j = good(run("verify", place.file), verified=True, guest_bytes=11 * 4096)
        check(j["transferred_bytes"] == 8 * 4096, j)
        bad(run("restore", place.file), "did not describe a bench guest")


def case_info_draws_it():
    with Place() as place:
        good(run("save", place.file, *SMALL))
        out = subprocess.run([PROGRAM, "info", place.file], capture_output=True, text=True, check=True).stdout
        for words in ("format 1.0", "guest 32.0 MiB, was running", "region ram: 32.0 MiB", "█", "·"):
            check(words in out, out)
        good(run("info", place.file), guest_bytes=32 * MIB)


def case_usage_errors_are_told():
    for args in ((), ("frob", "x"), ("save",), ("save", "x", "--size", "1M"), ("save", "x", "y"),
                 ("save", "x", "--used", "2G"), ("save", "x", "--register", "lazy"), ("restore", "x", "--register")):
        end = run(*args)
        check(end.status == 2 and end.err and end.json["status"] == "failed", end)


def case_what_is_not_there_or_no_snapshot_is_refused():
    with Place() as place:
        for command in ("restore", "verify", "info"):
            bad(run(command, place.file), "cannot open", place.file)
        with open(place.file, "wb") as f:
            f.write(bytes(8192))
        for command in ("restore", "verify", "info"):
            bad(run(command, place.file), place.file, "not a snapshot")
        bad(run("save", place.dir, *SMALL), "not a regular file")
        j = bad(run("save", "/proc/guest.snap", *SMALL), "/proc/guest.snap")
        check(j["counter_after"] > j["counter_before"], "the guest does not go on: %s" % j)


def case_a_bit_flipped_anywhere_is_found():
    rng = random.Random(1)
    with Place() as place:
        good(run("save", place.file, "--guest", "synthetic", "--size", "16M", "--workload", "idle"))
        length = os.path.getsize(place.file)
        offsets = [0, 20, 4095, 4096 + 70, 8192 + 5, 12288, 16384 + 100, length - 1]
        offsets += [rng.randrange(length) for _ in range(500 if LONG else 12)]
        for offset in offsets:
            bit = rng.randrange(8)
            flip(place.file, offset, bit)
            bad(run("verify", place.file))
            for lazily in ([], ["--lazy"]):  # the place of an absent page is never read
                end = run("restore", place.file, "--verify", *lazily)
                check(end.json["error"] if end.status else end.json["verified"] is True,
                      "offset %d bit %d: %r" % (offset, bit, end))
            flip(place.file, offset, bit)
        good(run("verify", place.file))


def can_lazily(place):
    """userfaultfd for faults of the kernel's; where it is refused that must be said."""
    end = run("restore", place.file, "--lazy")
    if end.status == 0:
        return True
    bad(end, "cannot restore lazily")
    return False


def case_a_guest_runs_while_its_memory_comes():
    for guest in ["synthetic"] + (["kvm"] if HAS_KVM else []):
        with Place() as place:
            good(run("save", place.file, "--guest", guest, "--size", "128M", "--workload", "uniform:20M"))
            if not can_lazily(place):
                return
            for memory in ("shared", "private", "huge"):
                j = good(run("restore", place.file, "--lazy", "--verify", "--memory", memory), verified=True, lazy=True)
                check(j["counter_after"] > j["counter_before"], "it does not run: %s" % j)
                check(j["resumed_ms"] < j["first_beat_ms"] < j["total_time_ms"] + 100 and j["faults"], j)
            j = good(run("restore", place.file, "--lazy", "--verify", "--prefault"), verified=True)
            check(j["peak_memory_bytes"] < 64 * MIB, j)


def case_a_sparse_guest_stays_sparse_when_it_comes_lazily():
    with Place() as place:
        good(run("save", place.file, "--guest", "synthetic", "--size", "1G", "--used", "16M", "--workload", "idle"))
        if can_lazily(place):
            j = good(run("restore", place.file, "--lazy", "--verify"), verified=True)
            check(j["transferred_bytes"] <= 16 * MIB, j)


def case_a_damaged_page_stops_a_guest_that_runs_already():
    for guest in ["synthetic"] + (["kvm"] if HAS_KVM else []):
        with Place() as place:
            good(run("save", place.file, "--guest", guest, "--size", "64M", "--workload", "sweep:50M"))
            if not can_lazily(place):
                return
            region = snapshot_reader.load(place.file).regions[0]
            for page in (0x200, 0x900, 0x3000):  # of the guest's low memory, and of what it writes
                offset = region.pages + page * 4096
                flip(place.file, offset + 99, 3)
                bad(run("restore", place.file, "--lazy", "--verify"), place.file, "offset %d" % offset, "'ram'")
                flip(place.file, offset + 99, 3)
            good(run("restore", place.file, "--lazy", "--verify"), verified=True)


def case_a_damaged_page_is_named():
    with Place() as place:
        good(run("save", place.file, *SMALL))
        region = snapshot_reader.load(place.file).regions[0]
        offset = region.pages + 5 * MIB + 4096
        flip(place.file, offset + 99, 3)
        for command in ("verify", "restore"):
            bad(run(command, place.file), place.file, "offset %d" % offset, "0x501000", "'ram'")


@contextlib.contextmanager
def small_disk():
    """A tmpfs of 24 MiB; None where we may not mount."""
    where = tempfile.mkdtemp(prefix="rj-disk-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", where], capture_output=True)
    try:
        yield where if not done.returncode else None
    finally:
        if not done.returncode:
            subprocess.run(["umount", where], check=True)
        os.rmdir(where)


def case_a_full_disk_is_told_and_leaves_the_old_file():
    with small_disk() as disk:
        if not disk:
            return
        with Place(within=disk) as place:
            good(run("save", place.file, "--guest", "synthetic", "--size", "64M", "--used", "8M",
                     "--workload", "idle"))
            j = bad(run("save", place.file, *SMALL, "--stopped"), "No space left", "free space", place.file)
            check(j["counter_after"] > j["counter_before"], "the guest does not go on: %s" % j)
            check(not place.others(), "left behind: %s" % place.others())
            good(run("restore", place.file, "--verify"), verified=True, guest_bytes=64 * MIB)


def case_a_disk_that_may_only_be_read_is_told():
    with small_disk() as disk:
        if not disk:
            return
        with Place(within=disk) as place:
            good(run("save", place.file, "--guest", "synthetic", "--size", "16M", "--workload", "idle"))
            for options, allowed in (("remount,ro", False), ("remount,rw", True)):
                subprocess.run(["mount", "-o", options, disk], check=True)
                if allowed:
                    continue
                j = bad(run("save", place.file, *SMALL), "Read-only file system", place.file)
                check(j["counter_after"] > j["counter_before"], "the guest does not go on: %s" % j)
                good(run("restore", place.file, "--verify"), verified=True, guest_bytes=16 * MIB)


class Filter(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_char_p)]


IO_URING_SETUP, PWRITE64, FSYNC, FDATASYNC = 425, 18, 74, 75


def fail(*calls, error=errno.EIO):
    """A seccomp filter under which these system calls fail."""
    def lines():
        yield 0x20, 0, 0, 0
        for number in calls:
            yield 0x15, 0, 1, number
            yield 0x06, 0, 0, 0x00050000 | error
        yield 0x06, 0, 0, 0x7fff0000

    def in_child():
        code = [struct.pack("<HBBI", *line) for line in lines()]
        libc = ctypes.CDLL(None, use_errno=True)
        filters = Filter(len(code), b"".join(code))
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filters), 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    return in_child


def forbid_io_uring():
    """As containers do."""
    fail(IO_URING_SETUP, error=errno.EPERM)()


def case_a_disk_that_fails_is_told_and_leaves_the_old_file():
    with Place() as place:
        good(run("save", place.file, "--guest", "synthetic", "--size", "16M", "--workload", "idle"))
        for calls in ([FSYNC], [FDATASYNC], [IO_URING_SETUP, PWRITE64]):
            for how in ([], ["--stopped"], ["--stay"]):
                j = bad(start("save", place.file, *SMALL, *how, preexec_fn=fail(*calls)).end(), "Input/output error",
                        place.file)
                check(j["counter_after"] > j["counter_before"], "the guest does not go on: %s" % j)
                check(not place.others(), "left behind: %s" % place.others())
                good(run("restore", place.file, "--verify"), verified=True, guest_bytes=16 * MIB)


def case_without_io_uring_it_takes_its_time_but_works():
    with Place() as place:
        good(start("save", place.file, *SMALL, "--verify", preexec_fn=forbid_io_uring).end(), verified=True)
        good(start("restore", place.file, "--verify", preexec_fn=forbid_io_uring).end(), verified=True)
        if can_lazily(place):
            good(start("restore", place.file, "--lazy", "--verify", preexec_fn=forbid_io_uring).end(), verified=True)


def little_locked_memory():
    """A limit of one page, and no capability to pass it."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
    libc = ctypes.CDLL(None, use_errno=True)
    head, caps = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(head, caps) == 0:
        for i in range(2):  # effective, permitted
            caps[i] &= ~(1 << CAP_IPC_LOCK)
        libc.capset(head, caps)
        libc.prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)


def case_registered_buffers_are_used_where_they_do_no_harm():
    live = ["--size", "64M", "--workload", "uniform:20M", "--register", "all", "--verify"]
    with Place() as place:
        for guest in ["synthetic"] + (["kvm"] if HAS_KVM else []):
            end = run("save", place.file, "--guest", guest, *live, progress=True)
            used = guest == "kvm"
            good(end, verified=True, registered_buffers=used)
            check(used or "userfaultfd tracks its writes" in end.err, end)
            good(run("restore", place.file, "--verify"), verified=True, registered_buffers=False)
        end = run("save", place.file, "--guest", "kvm" if HAS_KVM else "synthetic", *live, "--memory", "private",
                  progress=True)
        good(end, verified=True, registered_buffers=False)
        check(not HAS_KVM or "is no shared tmpfs or memfd" in end.err, end)
        if not HAS_KVM:
            return
        for limit, words in ((little_locked_memory, "the limit of locked memory is 4096 bytes"),
                             (forbid_io_uring, "cannot be registered")):
            end = start("save", place.file, "--guest", "kvm", *live, progress=True, preexec_fn=limit).end()
            good(end, verified=True, registered_buffers=False)
            check(words in end.err, end)
            good(run("restore", place.file, "--verify"), verified=True)


def case_a_cancelled_save_leaves_nothing():
    with Place() as place:
        end = start("save", place.file, *SMALL, "--bandwidth", "1M", "--timeout", "1").end()
        check(end.status == 4 and end.json["status"] == "cancelled", end)
        check(end.json["counter_after"] > end.json["counter_before"], end)
        check(not os.listdir(place.dir), os.listdir(place.dir))


def case_a_killed_save_leaves_the_old_file_or_the_new_one():
    rng = random.Random(2)
    args = ("--guest", "synthetic", "--size", "32M", "--workload", "idle", "--fill", "random", "--stopped")
    with Place() as place:
        began = time.monotonic()
        good(run("save", place.file, *args, "--seed", "0"))
        takes = time.monotonic() - began
        seen = {"old": 0, "new": 0}
        old = snapshot_reader.load(place.file).id
        for i in range(1, 201 if LONG else 11):
            saving = start("save", place.file, *args, "--seed", str(i))
            time.sleep(rng.uniform(0, 1.2 * takes))
            saving.process.kill()
            saving.end()
            now = snapshot_reader.load(place.file)  # compares every checksum, and the layout
            seen["old" if now.id == old else "new"] += 1
            if now.id == old:
                continue
            old = now.id
            good(run("restore", place.file, "--verify"), verified=True)
        good(run("restore", place.file, "--verify"), verified=True)
        check(seen["old"], "no kill came before the end: %s" % seen)
        check(len(place.others()) <= 1, "left behind: %s" % place.others())


if __name__ == "__main__":
    main(globals())

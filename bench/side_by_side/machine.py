# SPDX-License-Identifier: BSD-2-Clause
"""This machine: its memory, and addresses that reach an RDMA device of it."""

import glob
import ipaddress
import sys

from processes import Failed, Missing, run

SPARE_BYTES = 1 << 30
TOUCH = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
try:
    memory.madvise(mmap.MADV_HUGEPAGE)
    memory.madvise(23)  # MADV_POPULATE_WRITE
except OSError:  # an older kernel, or one without huge pages
    memory[::4096] = bytes(len(memory) // 4096)
"""


def meminfo(name, otherwise=None):
    """A figure of /proc/meminfo, as it stands there: KiB, or a number of huge pages; otherwise: where it is not told."""
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    if otherwise is None:
        raise Failed("/proc/meminfo does not tell " + name)
    return otherwise


def available_bytes():
    return meminfo("MemAvailable") * 1024


def need_memory(size):
    """Two guests and a little."""
    if available_bytes() < 2 * size + SPARE_BYTES // 4:
        raise Missing("two guests of %d MiB do not fit: %d MiB are available; take a smaller --size"
                      % (size >> 20, available_bytes() >> 20))


def touch_memory(size, spare_bytes=SPARE_BYTES):
    """
    Have the memory of a run touched before it. In a virtual machine a page's first touch may cost the host's share as
    well, several times the guest's, and a machine that reports free pages soon loses them to the host again: so this
    comes right before each run, of both sides alike.
    """
    n = min(size, available_bytes() - spare_bytes)
    if n <= 0:
        return
    run(sys.executable, "-c", TOUCH, n, timeout_s=300)


def rdma_address(asked_for):
    """An IPv4 address of this machine that has an RDMA device behind it."""
    if asked_for:
        return asked_for
    if not glob.glob("/sys/class/infiniband/*"):
        raise Missing("no RDMA device here; with software RDMA in the test machine: "
                      "tests/vm/run --mem 4096 --timeout 3600 -- bench/peers CASE")
    for path in sorted(glob.glob("/sys/class/infiniband/*/ports/*/gids/*")):
        with open(path) as gid:
            address = ipaddress.IPv6Address(gid.read().strip()).ipv4_mapped
        if address:
            return str(address)
    raise Missing("no RDMA device here has an IPv4 address: give its interface one, or name one "
                  "by --address")

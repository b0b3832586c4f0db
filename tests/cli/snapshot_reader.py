#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""snapshot_reader.py FILE [OUT]

Read a snapshot after docs/snapshot-format.md, with nothing of ramjet's: compare all checksums, rebuild the
memory of each region, print a line on each, and write the memory of all of them, one after the other, to OUT.
"""

import ctypes
import struct
import sys

XXHASH = ctypes.CDLL("libxxhash.so.0")
XXHASH.XXH3_64bits.restype = ctypes.c_uint64
XXHASH.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

PAGE = 4096
MAGIC = b"\x89RJSNAP\n"


class Damaged(Exception):
    pass


def checksum(data):
    return XXHASH.XXH3_64bits(bytes(data), len(data))


def check(good, what):
    if not good:
        raise Damaged(what)


def up(n, align):
    return (n + align - 1) // align * align


class Area:
    def __init__(self, data, at):
        self.offset, self.length, self.sum = struct.unpack_from("<QQQ", data, at)

    def read(self, data, what):
        got = data[self.offset:self.offset + self.length]
        check(len(got) == self.length, f"{what} is cut off")
        check(not got or checksum(got) == self.sum, f"{what}: checksum")
        return got


class Region:
    def __init__(self, entry):
        self.name = entry[:64].rstrip(b"\0").decode()
        self.length, self.gpa, self.page, zero, self.present, self.pages = \
            struct.unpack_from("<QQIIQQ", entry, 64)
        self.bitmap, self.sums = Area(entry, 104), Area(entry, 128)
        check(zero == 0 and not any(entry[152:]), f"region {self.name}: reserved bytes")

    def memory(self, data):
        n = self.length // PAGE
        bits = int.from_bytes(self.bitmap.read(data, "bitmap"), "little")
        sums = struct.unpack(f"<{n}Q", self.sums.read(data, "page checksums"))
        check(bits >> n == 0, "bits past the last page")
        check(bin(bits).count("1") == self.present, "number of present pages")
        memory = bytearray(self.length)
        for page in range(n):
            at = self.pages + page * PAGE
            bytes_ = data[at:at + PAGE]
            if bits >> page & 1:
                check(checksum(bytes_) == sums[page], f"page {page} at offset {at}: checksum")
                memory[page * PAGE:(page + 1) * PAGE] = bytes_
            else:
                check(not any(bytes_) and sums[page] == 0, f"page {page}: absent, but not zero")
        return memory


class Snapshot:
    def __init__(self, data):
        check(data[:8] == MAGIC, "magic")
        check(checksum(data[:4088]) == struct.unpack_from("<Q", data, 4088)[0], "header checksum")
        (self.major, self.minor, header, length, self.guest_bytes, self.created, self.id,
         self.flags, n) = struct.unpack_from("<HHIQQQ16sII", data, 8)
        check((self.major, header, length) == (1, PAGE, len(data)), "header")
        check(not any(data[136:4088]), "reserved bytes of the header")
        table = Area(data, 64)
        setup, state = Area(data, 88), Area(data, 112)
        entries = table.read(data, "region table")
        self.regions = [Region(entries[i * 192:(i + 1) * 192]) for i in range(n)]
        self.check_layout(table, setup, state, len(data))
        self.setup, self.state = setup.read(data, "set-up blob"), state.read(data, "device state")
        self.memory = [r.memory(data) for r in self.regions]

    def check_layout(self, table, setup, state, length):
        at = PAGE
        for area in [table, setup] + [r.bitmap for r in self.regions] + [r.sums for r in self.regions]:
            check(area.offset == up(at, PAGE), "an area lies elsewhere")
            at = area.offset + area.length
        for r in self.regions:
            check(r.pages == up(at, 1 << 20), "pages lie elsewhere")
            at = r.pages + r.length
        check(state.offset == up(at, PAGE), "the device state lies elsewhere")
        check(state.offset + state.length == length, "length")
        check(sum(r.length for r in self.regions) == self.guest_bytes, "guest bytes")


def load(path):
    with open(path, "rb") as f:
        return Snapshot(f.read())


def main():
    try:
        snapshot = load(sys.argv[1])
    except Damaged as why:
        print(f"{sys.argv[1]}: {why}")
        return 1
    for region in snapshot.regions:
        print(f"{region.name}: {region.length} bytes, {region.present} pages present")
    if len(sys.argv) > 2:
        with open(sys.argv[2], "wb") as out:
            for memory in snapshot.memory:
                out.write(memory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

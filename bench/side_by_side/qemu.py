# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's own migration between two processes of this machine, guests stopped before their first instruction."""

import json
import os
import re
import socket
import time

from processes import Failed, Program, await_true, find_program, free_port, run

BLOCK_BYTES = 64 << 20
PACKAGE = "qemu-system-x86"


class Machine:
    """One QEMU with a guest that does not run, and its QMP on a socket of ours."""

    def __init__(self, program, size, memory, incoming=False):
        ours, its = socket.socketpair()
        with its:
            self.program = Program(
                program, *place_of_data(program), "-nodefaults", "-display", "none", "-S",
                "-accel", "tcg", *memory_options(size, memory), "-chardev",
                "socket,id=qmp,fd=%d" % its.fileno(), "-mon", "chardev=qmp,mode=control",
                *(["-incoming", "defer"] if incoming else []),
                env=libraries_of(program), pass_fds=(its.fileno(),), huge_pages=memory != "private")
        self.socket = ours
        self.qmp = ours.makefile("rw")
        ours.settimeout(120)
        self._read()  # the greeting
        self.do("qmp_capabilities")

    def _read(self):
        try:
            line = self.qmp.readline()
        except OSError:
            line = ""
        if not line:
            time.sleep(0.2)
            raise self.program.failed("does not answer")
        return json.loads(line)

    def do(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise Failed("QEMU refuses %s: %s" % (command, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]

    def set_capabilities(self, *names):
        if names:
            self.do("migrate-set-capabilities",
                    capabilities=[{"capability": name, "state": True} for name in names])

    def fill(self, size):
        """Random bytes in all of its RAM, from outside: the guest never runs."""
        said = self.do("human-monitor-command", **{"command-line": "gpa2hva 0"})
        found = re.search(r"is (0x[0-9a-f]+)", said)
        if not found:
            raise Failed("QEMU does not say where its RAM is: %s" % said.strip())
        block = memoryview(os.urandom(min(size, BLOCK_BYTES)))
        memory = os.open("/proc/%d/mem" % self.program.pid, os.O_WRONLY)
        try:
            at, end = int(found.group(1), 16), int(found.group(1), 16) + size
            while at < end:
                at += os.pwrite(memory, block[:end - at], at)
        finally:
            os.close(memory)

    def end(self):
        self.qmp.close()
        self.socket.close()
        self.program.end()


def memory_options(size, memory):
    if memory == "shared":
        return ["-object", "memory-backend-memfd,id=ram0,share=on,size=%d" % size,
                "-machine", "pc,memory-backend=ram0", "-m", "size=%dM" % (size >> 20)]
    return ["-machine", "pc", "-m", "size=%dM" % (size >> 20)]


def unpacked_root(program):
    """Where a QEMU that was unpacked, not installed, has its libraries and data; None: installed."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(program))))
    return root if root != "/" and os.path.isdir(os.path.join(root, "usr/share")) else None


def libraries_of(program):
    root = unpacked_root(program)
    if not root:
        return None
    folder = os.path.join(root, "usr/lib/x86_64-linux-gnu")
    return dict(os.environ, LD_LIBRARY_PATH=folder)


def place_of_data(program):
    root = unpacked_root(program)
    if not root:
        return []
    return [option for folder in ("qemu", "seabios", "../lib/ipxe/qemu")
            for option in ("-L", os.path.join(root, "usr/share", folder))]


class Qemu:
    def __init__(self, program):
        self.program = program or find_program("qemu-system-x86_64", PACKAGE)

    def version(self):
        out = run(self.program, "--version", env=libraries_of(self.program))
        return re.search(r"version (\S+)", out).group(1)

    def migrate(self, uri, size, memory, capabilities=(), channels=None, timeout_s=900):
        """Total time in seconds, as query-migrate has it: set-up, memory and switchover."""
        source = Machine(self.program, size, memory)
        try:
            destination = Machine(self.program, size, memory, incoming=True)
            try:
                source.fill(size)
                for end in (destination, source):
                    end.set_capabilities(*capabilities)
                    if channels:
                        end.do("migrate-set-parameters", **{"multifd-channels": channels})
                source.do("migrate-set-parameters", **{"max-bandwidth": 1 << 50})
                destination.do("migrate-incoming", uri=uri)
                source.do("migrate", uri=uri)
                return self._total_s(source, destination, size, timeout_s)
            finally:
                destination.end()
        finally:
            source.end()

    @staticmethod
    def _total_s(source, destination, size, timeout_s):
        def is_over():
            nonlocal state
            state = source.do("query-migrate")
            # A moment after it says that it completed, it knows the time.
            return (state["status"] == "completed" and state["total-time"] > 0
                    or state["status"] in ("failed", "cancelled"))

        state = {}
        await_true(is_over, "QEMU's migration ends", timeout_s, 0.05)
        if state["status"] != "completed":
            raise Failed("QEMU's migration %s: %s" % (state["status"], state.get(
                "error-desc", "; ".join(line for _, line in source.program.lines[-2:] +
                                        destination.program.lines[-2:]))))
        if state["ram"]["normal-bytes"] < size:
            raise Failed("QEMU sent %d bytes of pages, its RAM has %d"
                         % (state["ram"]["normal-bytes"], size))
        return state["total-time"] / 1e3

    def migrate_multifd(self, size, memory, channels):
        return self.migrate("tcp:127.0.0.1:%d" % free_port(), size, memory, ("multifd",), channels)

    def migrate_rdma(self, size, memory, address, pin_all):
        return self.migrate("rdma:%s:%d" % (address, free_port()), size, memory,
                            ("rdma-pin-all",) if pin_all else ())

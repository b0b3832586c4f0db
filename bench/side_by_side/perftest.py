# SPDX-License-Identifier: BSD-2-Clause
"""ib_write_bw of perftest, both ends on one device of this machine."""

import re
import time

from processes import Failed, Program, find_program, free_port, run

MIB = 1 << 20
CONNECT_S = 60


class WriteBandwidth:
    name = "ib_write_bw"

    def __init__(self, address):
        self.program = find_program("ib_write_bw", "perftest")
        self.address = address

    def version(self):
        # Its exit status for this is 1.
        program = Program(self.program, "--version")
        _, out = program.wait(30)
        found = re.search(r"(\d+\.\d+\S*)", out)
        return found.group(1) if found else "unknown"

    def rate(self, message_bytes, total_bytes):
        """Bytes a second of writing total_bytes in messages, one queue pair, as it is by default."""
        port = free_port()
        how = ["-R", "-F", "--noPeak", "-s", message_bytes, "-n", max(5, total_bytes // message_bytes),
               "-p", port]
        server = Program(self.program, *how)
        try:
            return self._average(self._run_client(server, how), message_bytes)
        finally:
            server.end()

    def _run_client(self, server, how):
        """The server does not say when it listens: try until it does."""
        end = time.monotonic() + CONNECT_S
        while True:
            client = Program(self.program, *how, self.address)
            status, out = client.wait(3600)
            if not status:
                return out
            if time.monotonic() > end or not server.is_running():
                raise client.failed("ended with status %d" % status)
            time.sleep(0.3)

    @staticmethod
    def _average(out, message_bytes):
        found = re.search(r"^ *%d +\d+ +\S+ +(\S+)" % message_bytes, out, re.M)
        if not found or float(found.group(1)) <= 0:
            raise Failed("ib_write_bw printed no bandwidth")
        return float(found.group(1)) * MIB

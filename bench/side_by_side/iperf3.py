# SPDX-License-Identifier: BSD-2-Clause
"""iperf3 over loopback: single-stream processes, as versions before 3.16 run all streams in one thread."""

import json
import re

from processes import Failed, Program, await_true, find_program, free_port, run


class Iperf3:
    name = "iperf3"

    def __init__(self):
        self.program = find_program("iperf3", "iperf3")

    def version(self):
        return re.search(r"iperf (\S+)", run(self.program, "--version")).group(1)

    def rate(self, n_processes, seconds):
        """Bytes a second that n single-stream pairs of processes receive together."""
        ports = [free_port() for _ in range(n_processes)]
        servers = [Program(self.program, "-s", "-1", "-p", port, "--forceflush") for port in ports]
        clients = []
        try:
            for server in servers:
                await_true(lambda: self._listens(server), "iperf3 -s listens", 10)
            clients = [Program(self.program, "-c", "127.0.0.1", "-p", port, "-t", seconds, "-J")
                       for port in ports]
            return sum(self._received(client, seconds) for client in clients)
        finally:
            for program in clients + servers:
                program.end()

    @staticmethod
    def _listens(server):
        if not server.is_running():
            raise server.failed("does not listen")
        return any("listening" in line for line in server.out)

    @staticmethod
    def _received(client, seconds):
        status, out = client.wait(seconds + 30)
        try:
            figures = json.loads(out)
        except ValueError:
            raise client.failed("ended with status %d" % status) from None
        if "error" in figures or status:
            raise Failed("iperf3: %s" % figures.get("error", "status %d" % status))
        return figures["end"]["sum_received"]["bits_per_second"] / 8

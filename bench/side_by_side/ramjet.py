# SPDX-License-Identifier: BSD-2-Clause
"""Our side: ramjet-migrate and ramjet-perf."""

import json
import os
import subprocess

from processes import Failed, Missing, Program

HERE = os.path.dirname(os.path.abspath(__file__))


def places(asked_for):
    """Where the programs may be: beside ramjet-peers where installed, else in the build tree."""
    if asked_for:
        return [asked_for]
    root = os.path.join(HERE, "../..")
    build = os.environ.get("RJ_BUILD_DIR", os.path.join(root, "build/release"))
    return [os.path.join(build, "bench"), os.path.join(root, "../bin")]


class Ramjet:
    def __init__(self, programs):
        self.places = places(programs)

    def program(self, name):
        for place in self.places:
            path = os.path.normpath(os.path.join(place, name))
            if os.access(path, os.X_OK):
                return path
        raise Missing("no %s in %s: cmake --preset release && cmake --build --preset release, or "
                      "say where it is by --programs"
                      % (name, " or ".join(map(os.path.normpath, self.places))))

    def version(self):
        return subprocess.run([self.program("ramjet-migrate"), "--version"], text=True,
                              stdout=subprocess.PIPE, check=True).stdout.split()[-1]

    def need_option(self, name, option):
        out = subprocess.run([self.program(name), "--help"], text=True, stdout=subprocess.PIPE).stdout
        if "--" + option + " " not in out:
            raise Missing("this %s has no --%s: build a newer one" % (name, option))

    def start_migration(self, transport, size, *more, progress=False):
        return Program(self.program("ramjet-migrate"), "--transport", transport, "--guest",
                       "synthetic", "--paused", "--fill", "random", "--size", size,
                       "--max-downtime", 10000, "--json", "--progress",
                       "auto" if progress else "never", *more)

    def finish_migration(self, program, timeout_s=900):
        status, out = program.wait(timeout_s)
        try:
            figures = json.loads(out)
        except ValueError:
            raise program.failed("ended with status %d" % status) from None
        if status or figures["status"] != "completed":
            raise Failed("ramjet-migrate: %s" % (figures.get("error") or figures["status"]))
        return figures

    def snapshot(self, command, file, *more, timeout_s=900):
        program = Program(self.program("ramjet-snapshot"), command, file, "--json", "--progress", "never", *more)
        status, out = program.wait(timeout_s)
        try:
            figures = json.loads(out)
        except ValueError:
            raise program.failed("ended with status %d" % status) from None
        if status:
            raise Failed("ramjet-snapshot: %s" % (figures.get("error") or figures["status"]))
        return figures

    def perf(self, *args, timeout_s=900):
        """The figures of one run of ramjet-perf."""
        program = Program(self.program("ramjet-perf"), "--json", *args)
        status, out = program.wait(timeout_s)
        if status or not out.strip():
            raise program.failed("ended with status %d" % status)
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

# SPDX-License-Identifier: BSD-2-Clause
"""Programs started and ended: none outlives this process, however it ends."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
PR_SET_THP_DISABLE = 41
libc = ctypes.CDLL(None, use_errno=True)
running = []


class Missing(Exception):
    """A case cannot run here: what is missing, and what to do about it."""


class Failed(Exception):
    """A program that was started did not do what it was started for."""


def say(text):
    print("peers: " + text, file=sys.stderr, flush=True)


def find_program(name, package):
    for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/usr/local/sbin"]:
        path = os.path.join(folder, name)
        if folder and os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise Missing("%s is not installed: apt-get install %s (cmake/install-deps peers has all peers)"
                  % (name, package))


class Program:
    """A running program; what it says is read as it comes, stderr's lines with their times."""

    def __init__(self, *args, env=None, pass_fds=(), huge_pages=True):
        def in_child():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if not huge_pages:
                libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)

        self.args = [str(arg) for arg in args]
        self.name = os.path.basename(self.args[0])
        self.out, self.lines = [], []
        with signals.whole():
            # A session of its own: Ctrl-C reaches this process only, which ends all others in order.
            self.process = subprocess.Popen(
                self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=env, pass_fds=pass_fds, preexec_fn=in_child, start_new_session=True)
            running.append(self)
            self.pid = self.process.pid
            self.readers = [threading.Thread(target=read, daemon=True)
                            for read in (self._read_stdout, self._read_stderr)]
            for reader in self.readers:
                reader.start()

    def _read_stdout(self):
        for line in self.process.stdout:
            self.out.append(line)

    def _read_stderr(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip()))

    def is_running(self):
        return self.process.poll() is None

    def failed(self, what):
        said = [line for _, line in self.lines] + [line.strip() for line in self.out]
        said = [line for line in said if line][-4:]
        return Failed("%s %s%s" % (self.name, what, ": " + " / ".join(said) if said else ""))

    def wait(self, timeout_s):
        """All it printed on stdout, and its exit status, once it has ended by itself."""
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failed("did not end within %d s" % timeout_s) from None
        finally:
            self.end()
        return status, "".join(self.out)

    def end(self):
        """It and what it started are gone when this returns."""
        if self in running:
            with signals.whole():
                self._end()

    def _end(self):
        family = [(pid, started_at(pid)) for pid in descendants(self.pid)]
        if self.is_running():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for pid, started in family:
            if started and started_at(pid) == started:
                os.kill(pid, signal.SIGKILL)
        for reader in self.readers:
            reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        running.remove(self)


def run(*args, timeout_s=120, **how):
    """What a program prints that ends well."""
    program = Program(*args, **how)
    status, out = program.wait(timeout_s)
    if status:
        raise program.failed("ended with status %d" % status)
    return out


def end_all():
    for program in list(running):
        program.end()


class Signals:
    """SIGINT, SIGTERM and SIGHUP end this process through every finally, but never half-way into a whole()."""

    def __init__(self):
        self.depth, self.pending, self.leaving = 0, None, False

    def catch(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._came)

    def _came(self, number, _):
        self.pending = self.pending or number
        self._leave_if_asked()

    def _leave_if_asked(self):
        if self.pending and not self.depth and not self.leaving:
            self.leaving = True
            sys.exit(128 + self.pending)

    @contextlib.contextmanager
    def whole(self):
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self._leave_if_asked()


signals = Signals()


def started_at(pid):
    """Tells a process from a later one of the same number; None when it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def descendants(pid):
    """Children, their children and so on."""
    found = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as children:
                for child in map(int, children.read().split()):
                    found += [child] + descendants(child)
    except OSError:  # gone meanwhile
        pass
    return found


def free_port(address="127.0.0.1"):
    """A TCP port nobody listens at, now."""
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


def await_true(condition, what, timeout_s=60, every_s=0.02):
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise Failed("%s: not within %d s" % (what, timeout_s))
        time.sleep(every_s)

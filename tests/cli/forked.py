"""`coord` without its start: a process that has imported the command line forks a child for each command.

The interpreter's start and the imports take 0.25 s of CPU, most of what a command takes, and the tests run hundreds of
commands. A forked one is a process all the same: it has its own pid, process state, signals, exit status, environment,
folder and standard streams, and it leaves by exec or exit as others do. It differs in how it starts: its command line
in /proc and its parent are those of the fork server, and what it has imported does not depend on the command. So these
start as a user starts them (see `Shell.start`): commands in tests with the mark ``own_interpreter``, which look at
that or are about signals, guards and job control; commands under another program; those started with more than
standard streams; and those whose environment changes how an interpreter starts.

Run as a script, ``forked.py DESCRIPTOR``, it is the server. Each message on that socket brings four descriptors: the
command's stdin, stdout and stderr, and a socket. From the latter the child reads its request, and to it the server
writes the child's pid, and then its exit status.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from select import select
from typing import IO, Any, NoReturn

import coord

__all__ = ["WARNINGS", "Forked", "Forks"]

# A warning is an error.
WARNINGS = ("-W", "error")

# Variables that interpreters, or libraries at their start, read.
_AT_THE_START = ("LANG", "LC_", "LD_", "LOCPATH", "PYTHON")
_NUMBER = 4
_NOT_USED = ("coord.cli.__main__", "coord.testing")


class Forked:
    """A forked command; what tests use of `subprocess.Popen`."""

    stdin: None = None

    def __init__(self, wire: socket.socket, stdout: IO[bytes] | None, stderr: IO[bytes] | None) -> None:
        self._wire = wire
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self.pid = self._answer()

    def poll(self) -> int | None:
        """Return the exit status, as `subprocess.Popen` does, or `None` while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status."""
        status = self._look(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("coord", timeout)
        return status

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select([self._wire], [], [], timeout)[0]:
            with self._wire:
                self.returncode = self._answer()
        return self.returncode

    def _answer(self) -> int:
        data = self._wire.recv(_NUMBER, socket.MSG_WAITALL)
        assert data, "the fork server has gone"
        return int.from_bytes(data, "big", signed=True)


class Forks:
    """Starts forked commands; the server starts with the first one."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @staticmethod
    def serve(env: Mapping[str, str]) -> bool:
        """Whether a command with this environment starts as our own interpreter did."""
        return _at_the_start(env) == _at_the_start(os.environ)

    def start(self, argv: tuple[str, ...], *, env: Mapping[str, str], stdin: Any, stdout: Any, stderr: Any) -> Forked:
        """Start ``coord ARGV``; the streams are files, descriptors or `subprocess.PIPE`."""
        ours, theirs = socket.socketpair()
        out, its_out = _pipe_for(stdout)
        err, its_err = _pipe_for(stderr)
        with theirs:
            descriptors = [_descriptor(stream) for stream in (stdin, its_out, its_err)]
            socket.send_fds(self._connected(), [b"1"], [*descriptors, theirs.fileno()])
        for stream, its in ((out, its_out), (err, its_err)):
            if stream is not None:
                os.close(its)
        ours.sendall(json.dumps([argv, dict(env), str(Path.cwd())]).encode())
        ours.shutdown(socket.SHUT_WR)
        return Forked(ours, out, err)

    def _connected(self) -> socket.socket:
        if self._server is not None and self._server.poll() is not None:
            # One test's misfortune must not become that of all that follow.
            self.end()
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                words = (sys.executable, "-P", *WARNINGS, __file__, str(theirs.fileno()))
                self._server = subprocess.Popen(words, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        return self._control

    def end(self) -> None:
        """Let the server go."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            self._server.wait()
            self._server = None


def _at_the_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_THE_START)}


def _pipe_for(stream: Any) -> tuple[IO[bytes] | None, Any]:
    """Return our end, if the stream is to be a pipe, and the command's."""
    if stream != subprocess.PIPE:
        return None, stream
    ours, theirs = os.pipe()
    return os.fdopen(ours, "rb"), theirs


def _descriptor(stream: Any) -> int:
    return stream if isinstance(stream, int) else int(stream.fileno())


# The server.


def _serve(control: socket.socket) -> list[int]:
    """Fork a child for each message, and report how it ended; return its descriptors in a child, none at the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _report(*key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, 1, 4)
                if not message:
                    return []
                pid = os.fork()
                if pid == 0:
                    return descriptors
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, _started(pid, descriptors)))


def _started(pid: int, descriptors: list[int]) -> int:
    """Send the pid of a child; return the descriptor of its socket."""
    *streams, wire = descriptors
    for stream in streams:
        os.close(stream)
    os.write(wire, pid.to_bytes(_NUMBER, "big", signed=True))
    return wire


def _report(pid: int, wire: int) -> None:
    """Reap a child that has ended, and send its exit status on."""
    _, status = os.waitpid(pid, 0)
    # Nobody may wait for it any more.
    with suppress(BrokenPipeError):
        os.write(wire, os.waitstatus_to_exitcode(status).to_bytes(_NUMBER, "big", signed=True))
    os.close(wire)


def _become_coord(streams: list[int], wire: int) -> NoReturn:
    """Do what ``coord`` does."""
    with os.fdopen(wire, "rb") as request:
        argv, environment, folder = json.load(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _open_streams()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = argv
    from coord.cli import main

    main()


def _open_streams() -> None:
    """Open the standard streams as the interpreter does: of those of the server, a file's position may be known."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _import_all() -> None:
    """Import what commands use, without the reactor: it opens descriptors when it is imported, and txredisapi does."""
    reactor: Any = "twisted.internet.reactor"
    modules: Any = sys.modules
    modules[reactor] = None
    names = (each.name for each in walk_packages(coord.__path__, "coord."))
    for name in ("twisted.internet.default", "hiredis", *names):
        if not name.startswith(_NOT_USED):
            with suppress(ImportError):
                import_module(name)
    del modules[reactor]
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    from coord.cli._utf8 import use_utf8

    use_utf8()
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as control_:
        descriptors_ = _serve(control_)
    if descriptors_:
        _become_coord(descriptors_[:3], descriptors_[3])

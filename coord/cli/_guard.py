"""The guard of a command: a process between coord and CMD, which ends CMD, and all that CMD started, when coord ends.

Run as a script, ``_guard.py DESCRIPTOR [HELD...]``, without site-packages. Starting an interpreter takes longer than
most commands, so one process forks a guard for each command. It receives a socket for each over the DESCRIPTOR, and
ends when that is closed. It is in no process group that a terminal or a user of coord signals. The HELD descriptors
stay open until it and its guards have ended; CMD does not get them.

A guard talks to coord over its own socket. First it receives a request: the length in four bytes, and (ARGV,
ENVIRONMENT, STDIN, TERMINAL) as `marshal` writes it. Later it may receive lines:

- ``end SECONDS``: end CMD with SIGTERM, and after so many seconds kill what is left with SIGKILL;
- ``kill``: do that now.

If the socket closes, coord has ended, and the guard kills CMD. The guard answers with lines:

- ``refused ERRNO``: CMD could not be run;
- ``started PID``: CMD runs, as the leader of a process group;
- ``stopped SIGNAL``: CMD was stopped;
- ``ended STATUS``: CMD has ended, with this status of ``waitpid``.

Then it closes the socket: at once if CMD ended by itself, so that processes it left behind live on; else when no
process of CMD is left. On Linux that includes processes that left CMD's group, as orphans become the guard's children.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

# Signals that a shell or a terminal sends to whole sessions, or to the groups in them.
_LEFT_ALONE = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2")
_PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
# Seconds between checks for processes that cannot be waited for.
_LOOK_AGAIN = 0.05


class Guard:
    """Runs one command, and ends it when coord says so or has ended."""

    def __init__(self, wire: int) -> None:
        self._wire = wire
        self._heard = b""
        self._group = 0
        self._ended = self._alone = False
        self._kill_at: float | None = None
        self._child_changed, waking = os.pipe()
        os.set_blocking(waking, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if LINUX and _prctl is not None:
            _prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (1, 0, 0, 0)))

    def serve(self) -> None:
        """Receive the request, and run the command."""
        request = b""
        while len(request) < 4 or len(request) < 4 + int.from_bytes(request[:4], "big"):
            data = os.read(self._wire, 1 << 16)
            if not data:
                return
            request += data
        self.run(*marshal.loads(request[4:]))  # noqa: S302 - from coord

    def run(self, argv: list[bytes], environment: dict[bytes, bytes], data: bytes, terminal: bool) -> None:
        """Run the command to its end."""
        try:
            self._group = start(argv, environment, data, terminal)
        except OSError as error:
            self._say(b"refused %d" % (error.errno or 0))
            return
        self._say(b"started %d" % self._group)
        listening = True
        while not self._over():
            descriptors = [self._child_changed, *([self._wire] if listening else [])]
            ready, _, _ = select.select(descriptors, [], [], self._patience())
            if self._child_changed in ready:
                os.read(self._child_changed, 4096)
            if self._wire in ready:
                listening = self._listen()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                kill_all(self._group)

    def _patience(self) -> float | None:
        if self._kill_at is None:
            return None
        left = max(self._kill_at - time.monotonic(), _LOOK_AGAIN)
        # On other systems the rest of the group are not our children, and no signal reports their end.
        return left if LINUX else min(left, _LOOK_AGAIN)

    def _listen(self) -> bool:
        """Do what coord says; return whether coord is still running."""
        try:
            data = os.read(self._wire, 4096)
        except OSError:
            data = b""
        *orders, self._heard = (self._heard + data).split(b"\n") if data else (b"kill", b"")
        for order in orders:
            word, *seconds = order.split()
            if self._kill_at is None:
                end_all(self._group)
            self._kill_at = time.monotonic() + (float(seconds[0]) if word == b"end" else 0.0)
        return bool(data)

    def _over(self) -> bool:
        """Reap ended processes and report the command's status; return whether nothing is left to do."""
        try:
            while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                self._report(*found)
        except ChildProcessError:
            self._alone = True
        return self._ended and (self._kill_at is None or (self._alone and (LINUX or not is_there(self._group))))

    def _report(self, pid: int, status: int) -> None:
        if pid != self._group:
            return
        if os.WIFSTOPPED(status):
            self._say(b"stopped %d" % os.WSTOPSIG(status))
        else:
            self._ended = True
            self._say(b"ended %d" % status)

    def _say(self, line: bytes) -> None:
        with suppress(OSError):
            os.write(self._wire, line + b"\n")


def start(argv: list[bytes], environment: dict[bytes, bytes], data: bytes, terminal: bool) -> int:
    """Start a command with ``data`` on stdin, in the ``terminal``'s foreground or not; return its pid and group."""
    trouble, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            become(argv, environment, data, terminal)
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or 0))
        finally:
            os._exit(127)
    os.close(tell)
    errno = os.read(trouble, 20)  # Empty once the child has become the command.
    os.close(trouble)
    if errno:
        os.waitpid(pid, 0)
        raise OSError(int(errno), os.strerror(int(errno)))
    return pid


def become(argv: list[bytes], environment: dict[bytes, bytes], data: bytes, terminal: bool) -> None:
    """Become the command."""
    os.setpgid(0, 0)
    if terminal:
        take_terminal()
    stdin = file_of(data)
    os.dup2(stdin, 0)
    # Python ignores these, and an exec keeps ignored signals ignored.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvpe(argv[0], argv, environment)  # noqa: S606 - the user's own command


def take_terminal() -> None:
    """Make this process's group the terminal's foreground, as a shell does with each job."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        os.tcsetpgrp(terminal, os.getpgrp())
        os.close(terminal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])


def file_of(data: bytes) -> int:
    """Return a nameless file that holds ``data``, to be read from its start.

    Not a pipe: a command that does not read its input must not block us.
    """
    if hasattr(os, "memfd_create"):  # Works even if no directory is writable.
        file = os.memfd_create("record")
    else:
        import tempfile

        with tempfile.TemporaryFile(buffering=0) as temporary:
            file = os.dup(temporary.fileno())
    while data:
        data = data[os.write(file, data) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def end_all(group: int) -> None:
    """Send SIGTERM to the command's group and to processes that left it, and SIGCONT so that stopped ones act on it."""
    left = descendants(os.getpid())
    for signum in (signal.SIGTERM, signal.SIGCONT):
        with suppress(OSError):
            os.killpg(group, signum)
        for pid in left:
            with suppress(OSError):
                if os.getpgid(pid) != group:
                    os.kill(pid, signum)


def kill_all(group: int) -> None:
    """Kill the command's group and the processes that left it; new orphans are our children next time."""
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def is_there(group: int) -> bool:
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process; none if the kernel hides them."""
    found = children(pid)
    for each in found:
        found += children(each)
    return found


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a Path takes long to import
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def main(descriptor: str, *held: str) -> None:
    """Fork a guard for each socket received."""
    for each in held:
        os.set_inheritable(int(each), False)
    for name in _LEFT_ALONE:
        number = getattr(signal, name)
        # Install a handler, because CMD would inherit SIG_IGN. Keep the signals that our parent ignores.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # The kernel reaps the guards.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as control:
        control.set_inheritable(False)
        while wires := socket.recv_fds(control, 1, 1)[1]:
            # If CMD held it open, coord would not notice the guard's end.
            os.set_inheritable(wires[0], False)
            try:
                child = os.fork()
            except OSError as error:
                os.write(wires[0], b"refused %d\n" % (error.errno or 0))
                child = -1
            if not child:
                control.close()
                Guard(wires[0]).serve()
                os._exit(0)
            os.close(wires[0])


if __name__ == "__main__":
    main(*sys.argv[1:])

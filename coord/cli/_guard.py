"""The guard of a command: a process between coord and CMD, which ends CMD, and all that CMD started, when coord ends.

Run as a script, ``_guard.py DESCRIPTOR EXCLUSIVE [HELD...]``, without site-packages. Starting an interpreter takes
longer than most commands, so one process, the *keeper*, forks a guard for each command. It receives a socket for each
over the DESCRIPTOR, and ends when that is closed. Both are in no process group that a terminal or a user of coord
signals. The HELD descriptors stay open until they have ended; CMD does not get them.

A guard talks to coord over its own socket. First it receives a request: the length in four bytes, and (ARGV,
ENVIRONMENT, STDIN, TERMINAL, CLOCK, DEADLINE, GRACE) as `marshal` writes it; without a STDIN, CMD has coord's. Later it
may receive lines:

- ``end SECONDS``: end CMD with SIGTERM, and after so many seconds kill what is left with SIGKILL;
- ``kill``: do that now;
- ``deadline TIME``: the DEADLINE is now that time of the CLOCK, in seconds.

GRACE seconds before the deadline the guard ends CMD by itself, and at the deadline it kills what is left. If the socket
closes, coord has ended, and the guard kills CMD. The guard answers with lines:

- ``refused ERRNO``: CMD could not be run;
- ``started PID``: CMD runs, as the leader of a process group;
- ``stopped SIGNAL``: CMD was stopped;
- ``due 0``: the deadline is so near that it ends CMD;
- ``ended STATUS``: CMD has ended, with this status of ``waitpid``;
- ``left COUNT``: so many processes of CMD have not, and it ends them;
- ``gone 0``: no process of CMD is left.

Then it closes the socket: at once if CMD ended by itself, so that processes it left behind live on; else when no
process of CMD is left. On Linux that includes processes that left CMD's group, as orphans become the guard's children.

If EXCLUSIVE is 1, no process of CMD may outlive its time, whatever happens to coord, the keeper or the guard. What CMD
leaves behind is ended too. The keeper kills all that is below it when coord or a guard has died, and continues a guard
that was stopped; coord does the same if the guard has died, or has not ended CMD by the deadline. On Linux orphans
become children of the nearest of the three that is left.
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
from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Takes long to import.
    from collections.abc import Collection

# Signals that a shell or a terminal sends to whole sessions, or to the groups in them.
_LEFT_ALONE = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
# Seconds between looks at processes that cannot be waited for, or that SIGKILL does not end yet.
_LOOK_AGAIN = 0.05
# Seconds between looks at the clock: a time-out of select() does not count while the machine sleeps.
_TICK = 1.0
# Seconds in which what a command has left behind may end by itself.
_LEAVING = 0.5
# Rounds of SIGKILL without a pause, for what forks faster than it is found.
_ROUNDS = 200


class Reaper:
    """Waits for a socket and for its children; kills all that is below it."""

    def __init__(self) -> None:
        self._group = 0
        self._alone = True
        self._child_changed, waking = os.pipe()
        for end in (self._child_changed, waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def wait(self, wire: int, patience: float | None = None) -> bool:
        """Wait for the socket, a child or so many seconds; return whether the socket can be read."""
        ready, _, _ = select.select([wire, self._child_changed], [], [], patience)
        with suppress(BlockingIOError):
            os.read(self._child_changed, 4096)
        return wire in ready

    def reap(self) -> None:
        """Reap ended children, and handle what happened to others."""
        self._alone = False
        try:
            while (found := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                self._changed(*found)
        except ChildProcessError:
            self._alone = True

    def _changed(self, pid: int, status: int) -> None:
        """Handle the new status of a child."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill all descendants, until none is left."""
        for rounds in range(sys.maxsize):
            kill_descendants(self._group)
            self.reap()
            if self.none_left():
                return
            if rounds >= _ROUNDS:
                time.sleep(_LOOK_AGAIN)

    def none_left(self) -> bool:
        """Whether there is no descendant; elsewhere than on Linux, none in the command's group."""
        return self._alone and (LINUX or not self._group or not is_there(self._group))


class Keeper(Reaper):
    """Forks guards, and watches over them."""

    def __init__(self, *, exclusive: bool) -> None:
        super().__init__()
        self._exclusive = exclusive
        self._failed = False
        if exclusive:
            adopt_orphans()

    def serve(self, control: socket.socket) -> None:
        """Fork a guard for each socket that is received."""
        while True:
            wires = socket.recv_fds(control, 1, 1)[1] if self.wait(control.fileno()) else None
            self.reap()
            if self._exclusive and (self._failed or wires == []):
                self.kill()
            if wires:
                self._fork(control, wires[0])
            elif wires is not None:
                return

    def _changed(self, pid: int, status: int) -> None:
        if os.WIFSTOPPED(status):
            os.kill(pid, signal.SIGCONT)
        else:
            self._failed |= status != 0

    def _fork(self, control: socket.socket, wire: int) -> None:
        # If CMD held it open, coord would not notice the guard's end.
        os.set_inheritable(wire, False)
        try:
            child = os.fork()
        except OSError as error:
            os.write(wire, b"refused %d\n" % (error.errno or 0))
            child = -1
        if not child:
            control.close()
            Guard(wire, exclusive=self._exclusive).serve()
            os._exit(0)
        os.close(wire)


class Guard(Reaper):
    """Runs one command, and ends it when coord says so or has ended, or its time is over."""

    def __init__(self, wire: int, *, exclusive: bool) -> None:
        super().__init__()
        self._wire = wire
        self._exclusive = exclusive
        self._heard = b""
        self._ending = self._ended = False
        self._deadline = self._kill_at = self._left_at = inf
        self._grace = 0.0
        adopt_orphans()

    def serve(self) -> None:
        """Receive the request, and run the command."""
        request = b""
        while len(request) < 4 or len(request) < (size := 4 + int.from_bytes(request[:4], "big")):
            data = os.read(self._wire, 1 << 16)
            if not data:
                return
            request += data
        # Orders may have come with it.
        self._heard = request[size:]
        *what, self._clock, self._deadline, self._grace = marshal.loads(request[4:size])  # noqa: S302 - from coord
        self.run(*what)
        self.reap()
        if self.none_left():
            self._say(b"gone 0")

    def run(self, argv: list[bytes], environment: dict[bytes, bytes], data: bytes | None, terminal: bool) -> None:
        """Run the command to its end."""
        # Coord may be stopped, and read nothing.
        os.set_blocking(self._wire, False)
        if self._overdue():
            return
        try:
            self._group = start(argv, environment, data, terminal)
        except OSError as error:
            self._say(b"refused %d" % (error.errno or 0))
            return
        self._say(b"started %d" % self._group)
        self._obey(b"")
        while not self._over():
            if self.wait(self._wire, self._patience()):
                self._listen()
            if self._overdue():
                self._end(self._grace)
            if self._ending and self._now() >= self._kill_at:
                self.kill()

    def _now(self) -> float:
        return time.clock_gettime(self._clock)

    def _overdue(self) -> bool:
        """Return whether it is time to end the command or what it left behind, and say so the first time."""
        if self._ending or self._now() < self._end_at():
            return False
        self._say(b"left %d" % len(descendants(os.getpid())) if self._ended else b"due 0")
        return True

    def _end_at(self) -> float:
        return min(self._deadline - self._grace, self._left_at)

    def _patience(self) -> float | None:
        at = self._kill_at if self._ending else self._end_at()
        if at == inf:
            return None
        # On other systems the rest of the group are not our children, and no signal reports their end.
        return min(max(at - self._now(), 0.0), _TICK if LINUX or not self._ending else _LOOK_AGAIN)

    def _listen(self) -> None:
        """Do what coord says; kill the command if coord has ended."""
        data = b""
        with suppress(OSError):
            data = os.read(self._wire, 4096)
        if not data:
            self._end(0)
        self._obey(data)

    def _obey(self, data: bytes) -> None:
        """Do what the lines say of which these are the next bytes."""
        *orders, self._heard = (self._heard + data).split(b"\n")
        for order in orders:
            word, *number = order.split()
            if word != b"deadline":
                self._end(float(number[0]) if word == b"end" else 0.0)
            elif not self._ending:
                self._deadline = float(number[0])

    def _end(self, grace: float) -> None:
        if not self._ending:
            end_all(self._group)
        self._ending = True
        self._kill_at = min(self._now() + grace, self._deadline)

    def _over(self) -> bool:
        """Reap ended processes; return whether nothing is left to do."""
        self.reap()
        if self._ended and self._exclusive and self._left_at == inf:
            self._left_at = self._now() + _LEAVING
        return self._ended and (self.none_left() or not (self._ending or self._exclusive))

    def _changed(self, pid: int, status: int) -> None:
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


def start(argv: list[bytes], environment: dict[bytes, bytes], data: bytes | None, terminal: bool) -> int:
    """Start a command with ``data`` on stdin, or with ours; return its pid, which is its group's too.

    :param terminal: make it the foreground of the terminal.
    """
    trouble, tell = os.pipe()
    guard = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            die_with(guard)
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


def become(argv: list[bytes], environment: dict[bytes, bytes], data: bytes | None, terminal: bool) -> None:
    """Become the command."""
    os.setpgid(0, 0)
    if terminal:
        take_terminal()
    if data is not None:
        os.dup2(file_of(data), 0)
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


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs; Linux only."""
    if LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; Linux only, and only until a set-user-ID program."""
    if LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)


def _prctl(option: int, value: int) -> None:
    function = getattr(ctypes.CDLL(None), "prctl", None)
    if function is not None:
        function(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))


def end_all(group: int) -> None:
    """Send SIGTERM to the command's group and to processes that left it, and SIGCONT so that stopped ones act on it."""
    left = descendants(os.getpid())
    for signum in (signal.SIGTERM, signal.SIGCONT):
        signal_all(signum, group, left)


def kill_descendants(group: int = 0, spared: Collection[int] = ()) -> bool:
    """Kill all descendants of this process, a process group of theirs at once; return whether there were any.

    New orphans become our children, and are found the next time. The ``spared`` children and theirs live on.
    """
    found = descendants(os.getpid(), spared)
    signal_all(signal.SIGKILL, group, found)
    return bool(found)


def signal_all(signum: int, group: int, pids: list[int]) -> None:
    """Send a signal to a group, and to those of the processes that are not in it."""
    groups = {pid: group_of(pid) for pid in pids}
    # A group without a process may be another's by now; but the kernel may hide them.
    if group and (group in groups.values() or not groups):
        with suppress(OSError):
            os.killpg(group, signum)
    for pid, its_group in groups.items():
        if its_group != group:
            with suppress(OSError):
                os.kill(pid, signum)


def group_of(pid: int) -> int:
    """Return the process group of a process; -1 if it has gone."""
    with suppress(OSError):
        return os.getpgid(pid)
    return -1


def is_there(group: int) -> bool:
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def descendants(pid: int, spared: Collection[int] = ()) -> list[int]:
    """Return all descendants of a process but for the ``spared`` children and theirs; none if the kernel hides them."""
    found = [child for child in children(pid) if child not in spared]
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


def main(descriptor: str, exclusive: str, *held: str) -> None:
    """Fork a guard for each socket received."""
    for each in held:
        os.set_inheritable(int(each), False)
    for name in _LEFT_ALONE:
        number = getattr(signal, name)
        # Install a handler, because CMD would inherit SIG_IGN. Keep the signals that our parent ignores.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    with socket.socket(fileno=int(descriptor)) as control:
        control.set_inheritable(False)
        Keeper(exclusive=exclusive == "1").serve(control)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A command that runs under a guard: coord's side of the protocol (`coord.cli._guard` is the other)."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from twisted.internet import defer, process
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from coord.cli import _guard
from coord.cli._children import cannot_run, present, reap_orphans
from coord.cli._exits import CannotRun
from coord.cli._notify import OURS
from coord.cli._talk import say
from coord.clock.descriptors import CLOCK
from coord.core.quoting import quoted
from coord.link.one_shot import OneShot

__all__ = ["GuardedCommand", "Guards"]

# Seconds for the guard beyond the grace: it may be stopped, or wait for a process that SIGKILL does not end yet.
_PATIENCE = 5.0
# Seconds between two rounds of SIGKILL.
_LOOK_AGAIN = 0.02
_KILLED = -signal.SIGKILL


class Guards:
    """The process that forks guards.

    :param held: descriptors that they have open too, as long as their commands run.
    :param exclusive: no process of a command outlives its time, whatever happens to one of us.
    """

    def __init__(self, held: Sequence[int] = (), *, exclusive: bool = False) -> None:
        self.exclusive = exclusive
        # A shell that became coord may have left us some.
        self.others = frozenset(_guard.children(os.getpid()))
        if exclusive:
            _guard.adopt_orphans()
        self._control, theirs = socket.socketpair()
        with theirs:
            words = [str(theirs.fileno()), str(int(exclusive)), *map(str, held)]
            words[:0] = [sys.executable, "-I", "-S", _guard.__file__]
            descriptors = [theirs.fileno(), *held]
            try:
                # Its own group, out of reach of Ctrl-C; but the same session, so that CMD can have the terminal.
                self._popen = subprocess.Popen(words, pass_fds=descriptors, process_group=0)  # noqa: S603
            except OSError as error:
                raise CannotRun(words[0], error.strerror or str(error)) from None
        process.registerReapProcessHandler(self._popen.pid, self)

    def make(self, wire: socket.socket) -> None:
        """Start a guard that talks over ``wire``; raise `CannotRun`."""
        try:
            socket.send_fds(self._control, [b"+"], [wire.fileno()])
        except OSError as error:
            raise CannotRun(sys.executable, f"no guard for CMD: {error.strerror}") from None

    def close(self) -> None:
        """End it; its guards live as long as their commands."""
        self._control.close()
        if self._popen.returncode is None:
            process.unregisterReapProcessHandler(self._popen.pid, self)
            self._popen.kill()
            self._popen.wait()

    def reapProcess(self) -> None:
        """Check whether it has ended: Twisted calls this on every SIGCHLD."""
        pid, status = os.waitpid(self._popen.pid, os.WNOHANG)
        if pid:
            process.unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """Keep its exit status."""
        self._popen.returncode = os.waitstatus_to_exitcode(status)


@implementer(IReadDescriptor)
class GuardedCommand:
    """A command that runs under a guard.

    ``ended`` fires with the command's exit code as a shell reports it, or fails with `CannotRun`; ``gone`` fires once
    the guard has ended, and if the guards are exclusive, no process of the command is left. If the guard dies, coord
    ends the command; if coord dies, the guard does.

    :param on_stop: called with the signal each time a signal stops the command.
    :param on_due: called when the guard ends it, because the deadline is near.
    """

    def __init__(
        self, reactor: Any, guards: Guards, on_stop: Callable[[int], None], on_due: Callable[[], None]
    ) -> None:
        self.ended: Deferred[int] = Deferred()
        self.pid: int | None = None
        self.gone: OneShot[None] = OneShot()
        self._reactor = reactor
        self._exclusive, self._others = guards.exclusive, guards.others
        self._on_stop = on_stop
        self._on_due = on_due
        self._argv: Sequence[str] = ()
        self._variables: Mapping[str, str | None] = {}
        self._none_left = self._is_lost = False
        self._overdue: Any = None
        self._heard = b""
        self._wire, theirs = socket.socketpair()
        with theirs:
            guards.make(theirs)
        reactor.addReader(self)

    def run(
        self,
        argv: Sequence[str],
        variables: Mapping[str, str | None],
        data: bytes | None,
        *,
        terminal: bool,
        deadline: float,
        grace: float,
    ) -> None:
        """Run ``argv`` with ``data`` on its stdin; with `None`, it has coord's. A variable that is `None` is unset.

        :param terminal: make it the foreground of the terminal.
        :param deadline: the time on the reactor by which it is killed, infinity for never.
        :param grace: seconds before the deadline, and after it has left processes behind, to SIGTERM.
        """
        environment = {os.fsencode(name): os.fsencode(text) for name, text in present({**OURS, **variables}).items()}
        self._argv, self._variables = argv, variables
        words = [os.fsencode(word) for word in argv]
        request = marshal.dumps((words, environment, data, terminal, CLOCK, deadline, grace))
        self._wire.settimeout(_PATIENCE)
        self._watch(deadline)
        self._send(len(request).to_bytes(4, "big") + request)
        self._wire.setblocking(False)

    def extend(self, deadline: float) -> None:
        """Move the deadline, unless the guard has begun to end it."""
        if not self._is_lost:
            self._watch(deadline)
            self._send(b"deadline %r\n" % deadline)

    def _watch(self, deadline: float) -> None:
        """Kill it at the deadline if the guard does not."""
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = None
        if deadline < inf:
            left = max(0.0, deadline - self._reactor.seconds())
            self._overdue = self._reactor.callLater(left, self._on_overdue)

    def _on_overdue(self) -> None:
        self._overdue = None
        self._kill()
        self._on_due()

    def signal(self, signum: int) -> None:
        """Send a signal to the command's group."""
        if self.pid is not None and not self.ended.called:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    async def end(self, grace: float) -> None:
        """End it, and all processes that it started, with SIGTERM.

        Those left after ``grace`` seconds, or when this is cancelled, get SIGKILL.
        """
        if self.gone.fired:
            return
        self._send(b"end %f\n" % grace)
        try:
            await self._until_gone(grace + _PATIENCE)
        except defer.CancelledError:
            self._send(b"kill\n")
            await self._until_gone(_PATIENCE)
        if not self.gone.fired:
            self._kill()
            if self._exclusive:
                await self._until_gone(_PATIENCE)

    async def _until_gone(self, patience: float) -> None:
        with suppress(defer.TimeoutError):
            await self.gone.wait().addTimeout(patience, self._reactor)

    def _kill(self) -> None:
        """End the command without its guard."""
        if self._exclusive:
            _guard.kill_descendants(spared=self._others)
        if self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _send(self, data: bytes) -> None:
        try:
            self._wire.sendall(data)
        except OSError:
            # The guard has gone, or does not read.
            self._reactor.callLater(0, self._lost)

    # Messages from the guard.

    def doRead(self) -> Exception | None:
        """Read the guard's messages."""
        try:
            data = self._wire.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._lost()
            return None
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            word, number = line.decode().split()
            getattr(self, f"_{word}")(int(number))
        return None

    def _started(self, pid: int) -> None:
        self.pid = pid

    def _refused(self, errno: int) -> None:
        error = OSError(errno, os.strerror(errno))
        self._settle(Failure(cannot_run(self._argv, self._variables, error)))

    def _stopped(self, signum: int) -> None:
        self._on_stop(signum)

    def _due(self, _: int) -> None:
        self._on_due()

    def _left(self, count: int) -> None:
        say(f"{quoted(self._argv[0])} has ended; ending what it left behind ({count} process{'es' * (count > 1)})")

    def _ended(self, status: int) -> None:
        self._settle(status=os.waitstatus_to_exitcode(status))

    def _settle(self, failure: Failure | None = None, status: int = 0) -> None:
        if self.ended.called:
            return
        if failure is not None:
            self.ended.errback(failure)
        else:
            self.ended.callback(status if status >= 0 else 128 - status)

    def _gone(self, _: int) -> None:
        self._none_left = True

    def _lost(self) -> None:
        """The guard has ended: as it should, or killed."""
        if self._is_lost:
            return
        self._is_lost = True
        self._reactor.removeReader(self)
        self._wire.close()
        self._watch(inf)
        if self._argv and not self.ended.called:
            self._kill()
        self._kill_rest()

    def _kill_rest(self) -> None:
        """Report the end once nothing is left that must not be."""
        if self._exclusive and not self._none_left and _guard.kill_descendants(spared=self._others):
            reap_orphans()
            self._reactor.callLater(_LOOK_AGAIN, self._kill_rest)
            return
        if self._argv:
            self._settle(status=_KILLED)
        self.gone.fire(None)

    # Called by the reactor.

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._wire.fileno()

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return "guard"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is stopping."""
